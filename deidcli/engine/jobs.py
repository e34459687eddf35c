"""Which file becomes which: the inputs as a list of jobs, checked before anything is written."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from deidcli.errors import UsageError
from deidcli.media.numbered import numbered

STREAM = "-"
MANIFEST = "deid-manifest.jsonl"
SHEET = ".tracks.png"
_SUFFIXES = frozenset([
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".tif", ".tiff", ".bmp", ".dib", ".gif",
    ".heic", ".heif", ".avif",
    # Not .ts and .mts: they are known by their content, and more often hold the source code of programs.
    ".mp4", ".m4v", ".mov", ".qt", ".3gp", ".3g2", ".mkv", ".webm", ".avi", ".m2ts", ".flv", ".f4v", ".y4m", ".ogv",
    ".wmv", ".asf", ".mpg", ".mpeg", ".vob", ".mxf", ".nut", ".ivf",
])  # fmt: skip


@dataclass(frozen=True)
class Job:
    """One file, or one folder that is read as a sequence.

    source, target: where it lies and where it goes, None for standard input and output.

    name: its path relative to the folder that was given, with "/" on every system; it names the file in the manifest
    and in draws, so that a result does not depend on where a folder lies.
    """

    source: Path | None
    target: Path | None
    name: str


def list_jobs(
    inputs: Sequence[str], output: str | None, sequences: bool = False, listed: Sequence[str] = ()
) -> list[Job]:
    """The files of `inputs` (files, folders, "-") and where each goes under `output`; None where nothing is written.

    sequences: whether a folder of numbered pictures counts as one file. listed: further inputs; a file of them keeps
    the folders that its name stands with, as far as they lie below the working folder.

    One folder's content goes straight into the output; of several inputs a folder keeps its own name. The order is
    sorted within folders. Raises UsageError if an input does not exist, the output is an input, two inputs share an
    output, or a link leads out of the output folder.
    """
    count = len(inputs) + len(listed)
    if STREAM in (*inputs, *listed) and count > 1:
        raise UsageError("standard input (-) stands alone", "give - and nothing else as input")
    root = None if output in (None, STREAM) else Path(output)
    jobs = [job for text in inputs for job in _jobs(text, root, count == 1, sequences)]
    jobs += [job for text in listed for job in _listed(text, root, sequences)]
    _check(jobs, root)
    if output == STREAM and len(jobs) > 1:
        raise UsageError(f"{len(jobs)} pictures for one standard output", "name an output folder")
    return jobs


def shard(jobs: Sequence[Job], index: int, count: int) -> list[Job]:
    """The jobs of part `index` of `count` (1-based): a share by name, the same however many files there are."""
    return [job for job in jobs if _number(job.name) % count == index - 1]


def _number(name: str) -> int:
    # Names that are no UTF-8 are held as surrogates, which stand for their bytes.
    return int(sha256(name.encode("utf-8", "surrogateescape")).hexdigest(), 16)


def _jobs(text: str, root: Path | None, alone: bool, sequences: bool) -> Iterator[Job]:
    if text == STREAM:
        yield Job(None, _single_target(root, Path("stdin")), STREAM)
        return
    path = Path(text)
    if os.path.isdir(path):
        prefix = Path() if alone else Path(path.resolve().name)
        for found in walk(path, root, sequences):
            relative = prefix / found.relative_to(path)
            # The folder itself is one sequence.
            name = relative.as_posix() if relative.name else path.resolve().name
            yield Job(found, root / relative if root else None, name)
    elif not os.path.lexists(path):
        raise UsageError(f"{text}: there is no such file or folder", "check the name")
    else:
        yield Job(path, _single_target(root, path) if alone else root and root / path.name, path.name)


def _listed(text: str, root: Path | None, sequences: bool) -> Iterator[Job]:
    path = Path(text)
    if text == STREAM or os.path.isdir(path) or not os.path.lexists(path):
        yield from _jobs(text, root, False, sequences)
        return
    relative = Path(path.name) if path.is_absolute() or ".." in path.parts else path
    yield Job(path, root and root / relative, relative.as_posix())


def _single_target(root: Path | None, source: Path) -> Path | None:
    """One file goes into an output that is a folder, or to the very path that is given if that names a file."""
    if root is None:
        return None
    return root if root.suffix and not root.is_dir() else root / source.name


def walk(folder: Path, skip: Path | None = None, sequences: bool = False) -> Iterator[Path]:
    """Every file that could be a picture or a video under `folder`, sorted, links followed, loops left out.

    So is the folder `skip`.

    A file counts by its content or by its suffix: one that is called .jpg and is not a picture has to be reported, and
    so has a folder that cannot be listed, which stands for itself. Pipes and devices are left out.
    sequences: a folder of numbered pictures stands for itself.
    """
    banned = _real(skip) if skip and os.path.lexists(skip) else None
    yield from _walk(folder, banned, frozenset(), sequences)


def _walk(folder: Path, banned: Path | None, above: frozenset[Path], sequences: bool) -> Iterator[Path]:
    from deidcli.media.open import is_media

    real = _real(folder)
    if real in above or (real == banned and above):
        return
    try:
        entries = sorted(folder.iterdir(), key=lambda p: p.name)
    except OSError:
        yield folder
        return
    if sequences and numbered(entry.name for entry in entries):
        yield folder
        return
    for entry in entries:
        if entry.name == MANIFEST or entry.name.endswith(".deid-part"):
            continue
        if os.path.isdir(entry):
            yield from _walk(entry, banned, above | {real}, sequences)
        elif not _waits(entry) and (entry.suffix.lower() in _SUFFIXES or is_media(entry)):
            yield entry


def _waits(path: Path) -> bool:
    # A named pipe would wait for a writer for ever.
    try:
        return not stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return False


def _real(path: Path) -> Path:
    # Path.resolve raises for a link that points at itself; such a file has to fail alone.
    return Path(os.path.realpath(path))


def check_apart(path: Path, jobs: Iterable[Job]) -> None:
    """Raises UsageError if a file that is to be written, a manifest or a list, is the input or the output of a job."""
    taken = {_real(place) for job in jobs for place in (job.source, job.target) if place}
    if _real(path) in taken:
        raise UsageError(f"{path} is a picture of this run and would be written over", "name another file")


def sheet_path(target: Path) -> Path:
    """Where the sheet of a video's tracks lies: beside it."""
    return target.with_name(target.name + SHEET)


def check_sheets(jobs: Sequence[Job]) -> None:
    """Raises UsageError if the sheet of a video could lie where a picture of the run is read or written, or nowhere."""
    taken = {_real(place) for job in jobs for place in (job.source, job.target) if place}
    for job in jobs:
        if job.target is None:
            raise UsageError("--preview-sheet lies beside the output", "name an output folder, not standard output")
        if _real(sheet_path(job.target)) in taken:
            raise UsageError(f"{sheet_path(job.target)} is a picture of this run and a sheet", "rename the picture")


def _check(jobs: Iterable[Job], root: Path | None) -> None:
    taken: dict[str, Job] = {}
    sources = {_real(job.source) for job in jobs if job.source}
    top = _real(root) if root else None
    for job in jobs:
        if job.target is None:
            continue
        if _real(job.target) in sources:
            raise UsageError(f"{job.target} is an input and would be written over", "name another output folder")
        # A file is replaced even where it is a link; links among the folders above it are followed.
        place = _real(job.target.parent) / job.target.name
        if job.target != root and not place.is_relative_to(top):
            raise UsageError(f"{job.target} lies outside {root}: a link leads to {place}", "remove the link")
        # Case-insensitive systems would lose one of two names that differ in case only.
        other = taken.setdefault(os.path.normcase(str(place)), job)
        if other is not job:
            raise UsageError(f"{other.source} and {job.source} would both be written to {job.target}", "rename one")
