"""Open a file by its content: the one way into `media`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import BinaryIO

from deidcli.errors import MediaError, MissingDependency
from deidcli.media import sniff
from deidcli.media.stream import Reader, ReadOptions, SoundOnly, read_picture


def _image(head: bytes, source: Path | bytes, name: str, options: ReadOptions) -> Reader | None:
    kind = sniff.image_kind(head)
    if kind is None or _video_kind(head, source) is not None:
        return None
    # Pillow and OpenCV are loaded here and not with the command line.
    from deidcli.media.image.reader import open_image

    return open_image(source if isinstance(source, bytes) else _read(source, name), name, kind, options.salvage)


def _video(head: bytes, source: Path | bytes, name: str, options: ReadOptions) -> Reader | None:
    kind = _video_kind(head, source)
    if kind is None:
        return None
    # PyAV is loaded here and not with the command line.
    try:
        from deidcli.media.video import open_video
    except ImportError as error:
        said = f"{name}: videos need PyAV 18, which needs Python 3.11 or later: {error}"
        raise MissingDependency(said, "pip install 'av>=18'") from error

    return open_video(source, name, kind, options)


FIRST = 1 << 25  # bytes of a file of JPEGs that are looked at for those behind the first
_OPENERS: tuple[Callable[[bytes, Path | bytes, str, ReadOptions], Reader | None], ...] = (_image, _video)


class Format(ABC):
    """A format of another package, offered by the entry point `deidcli.formats`. What deid knows itself comes first."""

    @classmethod
    @abstractmethod
    def matches(cls, head: bytes) -> bool:
        """Whether a file that begins with `head` (`sniff.HEAD` bytes) is of this format."""

    @classmethod
    @abstractmethod
    def open(cls, data: bytes, name: str, options: ReadOptions) -> Reader:
        """A reader for the bytes of a file. Raises MediaError where it is damaged."""


@cache
def formats() -> dict[str, type[Format]]:
    """The formats that other packages offer, by name."""
    return {point.name: point.load() for point in metadata.entry_points(group="deidcli.formats")}


def open_reader(
    source: Path | bytes | BinaryIO,
    name: str = "-",
    options: ReadOptions = ReadOptions(),  # noqa: B008 - frozen
) -> Reader:
    """A reader for whatever `source` holds. name: how errors call it; a path names itself.

    A picture is read into memory; a video is read from its path as its frames are asked for. A folder is a sequence of
    numbered pictures.

    Raises MediaError for a file that cannot be read, is empty, damaged or of no known kind, and MissingDependency where
    its format needs an optional library.
    """
    if isinstance(source, Path):
        name = str(source) if name == "-" else name
        if source.is_dir():
            return _sequence(source, name, options)
        head = _read(source, name, sniff.HEAD)
    else:
        source = source if isinstance(source, bytes) else read_picture(source, name)
        head = source[: sniff.HEAD]
    for opener in _OPENERS:
        reader = opener(head, source, name, options)
        if reader is not None:
            return reader
    for other in formats().values():
        if other.matches(head):
            return other.open(source if isinstance(source, bytes) else _read(source, name), name, options)
    raise _unknown(head, name)


def is_media(path: Path) -> bool:
    """Whether a file begins as one that `open_reader` knows; False for one that cannot be read."""
    try:
        head = _read(path, str(path), sniff.HEAD)
    except MediaError:
        return False
    known = sniff.image_kind(head) is not None or _is_video(head, path)
    return known or any(other.matches(head) for other in formats().values())


def begins_as_media(head: bytes) -> bool:
    """Whether the first `sniff.HEAD` bytes are those of a picture, or of a container of videos."""
    known = sniff.image_kind(head) is not None or sniff.video_kind(head) is not None
    return known or any(other.matches(head) for other in formats().values())


def is_stream(path: Path) -> bool:
    """Whether a file is to be read from its path, bit by bit, since it may be of any length. Raises MediaError."""
    return path.is_dir() or _video_kind(_read(path, str(path), sniff.HEAD), path) is not None


def _video_kind(head: bytes, source: Path | bytes) -> str | None:
    """As `sniff.video_kind`, and "mjpeg" where JPEGs follow each other, which shows only behind the first of them."""
    if sniff.image_kind(head) != "jpeg":
        return sniff.video_kind(head)
    data = source[:FIRST] if isinstance(source, bytes) else _read(source, str(source), FIRST)
    return "mjpeg" if sniff.is_motion_jpeg(data) else None


def _is_video(head: bytes, path: Path) -> bool:
    """Containers of videos hold music as well, and that shows only when they are opened."""
    try:
        reader = _video(head, path, str(path), ReadOptions(salvage=True))
    except SoundOnly:
        return False
    except (MediaError, MissingDependency):
        return True
    return reader is not None


def _sequence(folder: Path, name: str, options: ReadOptions) -> Reader:
    from deidcli.media.image.reader import SequenceReader

    return SequenceReader(folder, name, options)


def _read(path: Path, name: str, size: int = -1) -> bytes:
    try:
        if path.exists() and not (path.is_file()):
            raise MediaError(f"{name}: not a file", "name a picture, or a folder of pictures")
        with path.open("rb") as file:
            return read_picture(file, name) if size < 0 else file.read(size)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise MediaError(f"{name}: cannot be read: {reason}", "check the name and its permissions") from error


def _unknown(head: bytes, name: str) -> MediaError:
    if not head:
        return MediaError(f"{name}: not a picture or a video: the file is empty", "get a whole copy of the file")
    shown = head[:12].decode("ascii", "replace") if head[:12].isascii() else head[:8].hex(" ")
    known = "JPEG, PNG, WebP, GIF, BMP, TIFF, JPEG 2000, HEIC, AVIF, or a video"
    said = f"{name}: not a picture or a video: it begins with {shown!r}"
    return MediaError(said, f"give {known}; the suffix does not matter")
