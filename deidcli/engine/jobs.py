"""Which file becomes which: the inputs as a list of jobs, checked before anything is written."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from deidcli.errors import UsageError
from deidcli.media import sniff
from deidcli.media.numbered import numbered

STREAM = "-"
SHOWN = 300  # letters of a name in an error
MANIFEST = "deid-manifest.jsonl"
SHEET = ".tracks.png"
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
UNKNOWN_FILES = ("skip", "copy", "fail")


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


@dataclass(frozen=True)
class Listing:
    """What is to be done with the inputs of a run.

    jobs: what is read as pictures and videos. copies: what is copied as it is. left_out: the names of all other files
    of the folders, by kind: "unknown", "sidecar" (texts beside pictures), "shadow" (._NAME of a Mac), "system",
    "sound", and "special" (pipes and devices). notes: what the user should know, a line each.
    """

    jobs: tuple[Job, ...]
    copies: tuple[Job, ...] = ()
    left_out: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def list_files(
    inputs: Sequence[str],
    output: str | None,
    sequences: bool = False,
    listed: Sequence[str] = (),
    unknown: str = "skip",
    sidecars: str = "skip",
) -> Listing:
    """The files of `inputs` (files, folders, "-") and where each goes under `output`; None where nothing is written.

    sequences: whether a folder of numbered pictures counts as one file. listed: further inputs; a file of them keeps
    the folders that its name stands with, as far as they lie below the working folder. unknown: what happens to files
    that are neither pictures nor videos: "skip"; "copy" them as they are, sidecars too; or "fail", which makes jobs
    of those of unknown kind, that are going to fail. sidecars: "copy" for texts beside pictures, whatever `unknown` is.

    One folder's content goes straight into the output; of several inputs a folder keeps its own name. The order is
    sorted within folders. Raises UsageError if an input does not exist, the output is an input, two inputs share an
    output, or a link leads out of the output folder.
    """
    for text in (*inputs, *listed, *([output] if output is not None else [])):
        if not text or "\0" in text:
            raise UsageError(f"{text!r}: there is no such file or folder", "check where the name came from")
    count = len(inputs) + len(listed)
    if STREAM in (*inputs, *listed) and count > 1:
        raise UsageError("standard input (-) stands alone", "give - and nothing else as input")
    root = None if output in (None, STREAM) else Path(str(output))
    notes: list[str] = []
    found = [pair for text in inputs for pair in _found(text, root, count == 1, sequences, notes)]
    found += [pair for text in listed for pair in _listed(text, root, sequences, notes)]
    read = (MEDIA, UNKNOWN) if unknown == "fail" else (MEDIA,)
    copied = (UNKNOWN, SIDECAR) if unknown == "copy" else (SIDECAR,) if sidecars == "copy" else ()
    jobs, copies = ([job for job, kind in found if kind in kinds] for kinds in (read, copied))
    _check([*jobs, *copies], root)
    if output == STREAM and len(jobs) > 1:
        raise UsageError(f"{len(jobs)} pictures for one standard output", "name an output folder")
    left_out: dict[str, list[str]] = {}
    for job, kind in found:
        if kind not in (*read, *copied):
            left_out.setdefault(kind, []).append(job.name)
    return Listing(tuple(jobs), tuple(copies), {k: tuple(v) for k, v in sorted(left_out.items())}, tuple(notes))


def list_jobs(
    inputs: Sequence[str], output: str | None, sequences: bool = False, listed: Sequence[str] = ()
) -> list[Job]:
    """The jobs of `list_files`, for a command that leaves out all other files."""
    return list(list_files(inputs, output, sequences, listed).jobs)


def shard(jobs: Sequence[Job], index: int, count: int) -> list[Job]:
    """The jobs of part `index` of `count` (1-based): a share by name, the same however many files there are."""
    return [job for job in jobs if _number(job.name) % count == index - 1]


def _number(name: str) -> int:
    # Names that are no UTF-8 are held as surrogates, which stand for their bytes.
    return int(sha256(name.encode("utf-8", "surrogateescape")).hexdigest(), 16)


def _found(text: str, root: Path | None, alone: bool, sequences: bool, notes: list[str]) -> Iterator[tuple[Job, str]]:
    """The files of one input, each with its kind; a file that is named itself counts as media."""
    if text == STREAM:
        yield Job(None, _single_target(root, Path("stdin")), STREAM), MEDIA
        return
    path = Path(text)
    if os.path.isdir(path):
        prefix = Path() if alone else Path(path.resolve().name)
        for found, kind in survey(path, root, sequences, notes):
            relative = prefix / found.relative_to(path)
            # The folder itself is one sequence.
            name = relative.as_posix() if relative.name else path.resolve().name
            yield Job(found, root / relative if root else None, name), kind
    elif not os.path.lexists(path):
        shown = text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
        raise UsageError(f"{shown}: there is no such file or folder", "check the name")
    else:
        yield Job(path, _single_target(root, path) if alone else root and root / path.name, path.name), MEDIA


def _listed(text: str, root: Path | None, sequences: bool, notes: list[str]) -> Iterator[tuple[Job, str]]:
    path = Path(text)
    if text == STREAM or os.path.isdir(path) or not os.path.lexists(path):
        yield from _found(text, root, False, sequences, notes)
        return
    relative = Path(path.name) if path.is_absolute() or ".." in path.parts else path
    yield Job(path, root and root / relative, relative.as_posix()), MEDIA


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
    sequences: a folder of numbered pictures, and of nothing else that could be media, stands for itself.
    """
    return (path for path, kind in survey(folder, skip, sequences, []) if kind == MEDIA)


def survey(folder: Path, skip: Path | None, sequences: bool, notes: list[str]) -> Iterator[tuple[Path, str]]:
    """Every file under `folder`, as in `walk`, with its kind as in `Listing`. notes: takes what should be known."""
    banned = _real(skip) if skip and os.path.lexists(skip) else None
    yield from _walk(folder, banned, frozenset(), sequences, notes)


def _walk(
    folder: Path, banned: Path | None, above: frozenset[Path], sequences: bool, notes: list[str]
) -> Iterator[tuple[Path, str]]:
    real = _real(folder)
    if real in above or (real == banned and above):
        return
    try:
        entries = sorted(folder.iterdir(), key=lambda p: p.name)
    except OSError:
        yield folder, MEDIA
        return
    entries = [entry for entry in entries if not _is_own(entry.name)]
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
    """What a file is to a run, as in `Listing`; "media" for what could be a picture or a video."""
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


def _is_own(name: str) -> bool:
    """Whether a file was written by deid itself, beside its outputs."""
    return (name.startswith(MANIFEST.partition(".")[0]) and name.endswith(".jsonl")) or name.endswith(_OWN)


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


LONGEST_NAME = 255  # bytes, on every file system in common use


def sheet_path(target: Path) -> Path:
    """Where the sheet of a video's tracks lies: beside it, under its name.

    A name that leaves no room for the ending is cut short, and the sum of it keeps two such names apart.
    """
    name = os.fsencode(target.name)
    if len(name) + len(SHEET) > LONGEST_NAME:
        mark = sha256(name).hexdigest()[:8].encode()
        short = os.fsdecode(name[: LONGEST_NAME - len(SHEET) - len(mark) - 1])
        # A letter that was cut through goes whole.
        name = os.fsencode(short.encode("utf-8", "surrogateescape").decode("utf-8", "ignore")) + b"-" + mark
    return target.with_name(os.fsdecode(name) + SHEET)


def check_sheets(jobs: Sequence[Job]) -> None:
    """Raises UsageError if the sheet of a video could lie where a picture of the run is read or written, or nowhere."""
    taken = {_real(place) for job in jobs for place in (job.source, job.target) if place}
    for job in jobs:
        if job.target is None:
            raise UsageError("--preview-sheet lies beside the output", "name an output folder, not standard output")
        if _real(sheet_path(job.target)) in taken:
            raise UsageError(f"{sheet_path(job.target)} is a picture of this run and a sheet", "rename the picture")


def check_labels(jobs: Sequence[Job], copies: Sequence[Job], form: str) -> None:
    """Raises UsageError if labels of two files, or of one and another output, would lie in one place, or nowhere."""
    from deidcli.engine.labels import label_paths

    taken = {_real(place): job for job in (*jobs, *copies) for place in (job.source, job.target) if place}
    for job in jobs:
        if job.target is None:
            raise UsageError("--labels lie beside the output", "name an output folder, not standard output")
        for place in label_paths(form, job.target):
            other = taken.setdefault(_real(place), job)
            if other is not job:
                raise UsageError(f"{place} would be of {other.name}, and the labels of {job.name}", "rename one")


def _check(jobs: Iterable[Job], root: Path | None) -> None:
    taken: dict[str, Job] = {}
    sources = {_real(job.source) for job in jobs if job.source}
    top = _real(root) if root else Path()
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
