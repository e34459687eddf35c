"""What lies in a folder, and how a run treats each file: by its content, and by its suffix."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from deidcli.engine.buckets import PIECE
from deidcli.engine.files import LOCK
from deidcli.engine.stored import head_of, suffix_of
from deidcli.media import sniff
from deidcli.media.image.reader import numbered

MANIFEST = "deid-manifest.jsonl"
TEXT = 1024  # bytes; no face is shown by fewer
_OWN = (".deid-part", ".deid-lock")
_SUFFIXES = frozenset([
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".tif", ".tiff", ".bmp", ".dib", ".gif",
    ".heic", ".heif", ".avif", ".jp2", ".j2k", ".jpf", ".jpx", ".jph",
    # Not .ts and .mts: they are known by their content, and more often hold the source code of programs.
    ".mp4", ".m4v", ".mov", ".qt", ".3gp", ".3g2", ".mkv", ".webm", ".avi", ".m2ts", ".flv", ".f4v", ".y4m", ".ogv",
    ".wmv", ".asf", ".mpg", ".mpeg", ".vob", ".mxf", ".nut", ".ivf",
])  # fmt: skip


# Texts that tell of a picture beside it; they may name people, and are never copied without being asked for.
_SIDECARS = frozenset([
    ".txt", ".json", ".jsonl", ".xml", ".xmp", ".csv", ".tsv", ".md", ".html", ".htm", ".yaml", ".yml", ".toml", ".ini",
    ".log", ".srt", ".vtt", ".ass", ".sub", ".nfo", ".aae", ".thm", ".lrv", ".pp3", ".dop", ".sha256", ".md5", ".url",
])  # fmt: skip
_SOUNDS = frozenset([".mp3", ".m4a", ".aac", ".flac", ".wav", ".ogg", ".oga", ".opus", ".wma", ".aif", ".aiff", ".amr"])
_SYSTEM = frozenset([".ds_store", "thumbs.db", "desktop.ini", "ehthumbs.db", ".directory", ".picasa.ini"])
MEDIA, UNKNOWN, SIDECAR, SHADOW, SYSTEM, SOUND, SPECIAL = (
    "media", "unknown", "sidecar", "shadow", "system", "sound", "special",
)  # fmt: skip


def walk(folder: Path, skip: Path | None = None, sequences: bool = False) -> Iterator[Path]:
    """Every file that could be a picture or a video under `folder`, sorted, links followed, loops left out.

    So is the folder `skip`.

    A file counts by its content or by its suffix: one that is called .jpg and is not a picture has to be reported, and
    so has a folder that cannot be listed, which is listed itself. Pipes and devices are left out.
    sequences: a folder of numbered pictures, and of nothing else that could be media, is listed itself.
    """
    return (path for path, kind in survey(folder, skip, sequences, []) if kind == MEDIA)


def survey(folder: Path, skip: Path | None, sequences: bool, notes: list[str]) -> Iterator[tuple[Path, str]]:
    """Every file under `folder`, as in `walk`, with its kind as in `Listing`. notes: takes what should be known."""
    banned = real_path(skip) if skip and os.path.lexists(skip) else None
    yield from _walk(folder, banned, frozenset(), sequences, notes)


def _walk(
    folder: Path, banned: Path | None, above: frozenset[Path], sequences: bool, notes: list[str]
) -> Iterator[tuple[Path, str]]:
    real = real_path(folder)
    if real in above or (real == banned and above):
        return
    try:
        entries = sorted(folder.iterdir(), key=lambda p: p.name)
    except OSError:
        yield folder, MEDIA
        return
    entries = [entry for entry in entries if not is_own(entry.name)]
    inner = (banned, above | {real})
    if sequences and (frames := numbered(entry.name for entry in entries)):
        names = {name for _, name in frames}
        rest = [entry for entry in entries if entry.name not in names]
        beside = [each for entry in rest for each in _entry(entry, inner, sequences, notes)]
        media = [path for path, kind in beside if kind == MEDIA]
        if not media:
            yield folder, MEDIA
            yield from beside
            return
        # As a sequence the folder would become one output, in which nothing else has a place.
        notes.append(f"{folder} is not taken as one sequence, since {media[0].relative_to(folder)} lies in it too")
        yield from sorted([*beside, *((folder / name, MEDIA) for name in names)])
        return
    for entry in entries:
        yield from _entry(entry, inner, sequences, notes)


def _entry(
    entry: Path, inner: tuple[Path | None, frozenset[Path]], sequences: bool, notes: list[str]
) -> Iterator[tuple[Path, str]]:
    if os.path.isdir(entry):
        yield from _walk(entry, *inner, sequences, notes)
    else:
        yield entry, kind_of(entry)


def kind_of(path: Path) -> str:
    """How a run treats a file, as in `Listing`; "media" for what could be a picture or a video."""
    from deidcli.media.open import is_media

    if _waits(path):
        return SPECIAL
    name, suffix = path.name.lower(), path.suffix.lower()
    if name.startswith("._") and not is_media(path):
        return SHADOW
    if name in _SYSTEM:
        return SYSTEM
    if suffix in _SUFFIXES or is_media(path):
        return MEDIA
    if suffix in _SIDECARS:
        return SIDECAR
    return SOUND if suffix in _SOUNDS or _is_container(path) else UNKNOWN


def _is_container(path: Path) -> bool:
    """Whether a file begins as a container of videos does; it holds sound alone where `is_media` does not know it."""
    try:
        with path.open("rb") as file:
            return sniff.video_kind(file.read(sniff.HEAD)) is not None
    except OSError:
        return False


def is_own(name: str) -> bool:
    """Whether a file was written by deid itself, beside its outputs."""
    manifest = name.startswith(MANIFEST.partition(".")[0]) and (name.endswith(".jsonl") or PIECE in name)
    return manifest or name.endswith(_OWN) or name.startswith(LOCK)


def _waits(path: Path) -> bool:
    # A named pipe would wait for a writer for ever.
    try:
        return not stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return False


def real_path(path: Path) -> Path:
    """A path without links."""
    # Path.resolve raises for a link that points at itself; such a file has to fail alone.
    return Path(os.path.realpath(path))


def kind_of_stored(path: str, open_it: Callable[[], BinaryIO], size: int | None = None) -> str:
    """As `kind_of`, by the name and the first bytes of a file that lies in no folder.

    size: of an object, in bytes: a text of a few of them is believed to be one, since each look is a request.
    """
    from deidcli.media.open import begins_as_media

    name, suffix = path.rpartition("/")[2].lower(), suffix_of(path)
    if name in _SYSTEM:
        return SYSTEM
    if suffix in _SUFFIXES:
        return MEDIA if not name.startswith("._") or begins_as_media(head_of(open_it)) else SHADOW
    if suffix in _SOUNDS:
        return SOUND
    if suffix in _SIDECARS and size is not None and size <= TEXT:
        return SIDECAR
    if begins_as_media(head_of(open_it)):
        return MEDIA
    if name.startswith("._"):
        return SHADOW
    return SIDECAR if suffix in _SIDECARS else UNKNOWN
