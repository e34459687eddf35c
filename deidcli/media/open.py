"""Open a file by its content: the one way into `media`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from deidcli.errors import MediaError
from deidcli.media import sniff
from deidcli.media.stream import Reader


def _image(head: bytes, source: Path | bytes, name: str) -> Reader | None:
    kind = sniff.image_kind(head)
    if kind is None:
        return None
    # Pillow and OpenCV are loaded here and not with the command line.
    from deidcli.media.image import open_image

    return open_image(source if isinstance(source, bytes) else _read(source, name), name, kind)


_OPENERS: tuple[Callable[[bytes, Path | bytes, str], Reader | None], ...] = (_image,)
_SNIFFERS: tuple[Callable[[bytes], object], ...] = (sniff.image_kind,)


def open_reader(source: Path | bytes | BinaryIO, name: str = "-") -> Reader:
    """A reader for whatever `source` holds. name: how errors call it; a path names itself.

    Raises MediaError for a file that cannot be read, is empty, damaged or of no known kind, and MissingDependency where
    its format needs an optional library.
    """
    if isinstance(source, Path):
        name = str(source) if name == "-" else name
        head = _read(source, name, sniff.HEAD)
    else:
        source = source if isinstance(source, bytes) else source.read()
        head = source[: sniff.HEAD]
    for opener in _OPENERS:
        reader = opener(head, source, name)
        if reader is not None:
            return reader
    raise _unknown(head, name)


def is_media(path: Path) -> bool:
    """Whether a file begins as one that `open_reader` knows; False for one that cannot be read."""
    try:
        head = _read(path, str(path), sniff.HEAD)
    except MediaError:
        return False
    return any(sniffer(head) for sniffer in _SNIFFERS)


def _read(path: Path, name: str, size: int = -1) -> bytes:
    try:
        if path.exists() and not (path.is_file()):
            raise MediaError(f"{name}: not a file", "name a picture, or a folder of pictures")
        with path.open("rb") as file:
            return file.read(size)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise MediaError(f"{name}: cannot be read: {reason}", "check the name and its permissions") from error


def _unknown(head: bytes, name: str) -> MediaError:
    if not head:
        return MediaError(f"{name}: not a picture: the file is empty", "get a whole copy of the file")
    shown = head[:12].decode("ascii", "replace") if head[:12].isascii() else head[:8].hex(" ")
    known = "JPEG, PNG, WebP, GIF, BMP, TIFF, HEIC or AVIF"
    return MediaError(f"{name}: not a picture: it begins with {shown!r}", f"give {known}; the suffix does not matter")
