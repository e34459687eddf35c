"""Which file becomes which: the inputs as a list of jobs, checked before anything is written."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from urllib.parse import urlsplit

from deidcli.engine.archives import Member, Packed, check_target, is_archive
from deidcli.engine.archives.packing import CARRIED, surveyed
from deidcli.engine.buckets import WEB, Object, Url, is_url, object_at, objects, place_of
from deidcli.engine.stored import Stored
from deidcli.engine.survey import MEDIA, SIDECAR, UNKNOWN, is_own, kind_of_stored, real_path, survey
from deidcli.errors import UsageError, one_line
from deidcli.media import sniff

STREAM = "-"
SHOWN = 300  # letters of a name in an error
SHEET = ".tracks.png"
UNKNOWN_FILES = ("skip", "copy", "fail")


@dataclass(frozen=True)
class Job:
    """One file, or one folder that is read as a sequence, or one member of an archive.

    source, target: where it lies and where it goes, None for standard input and output. The target of a member lies
    below that of its archive.

    name: its path relative to the folder that was given, with "/" on every system; it names the file in the manifest
    and in draws, so that a result does not depend on where a folder lies.
    """

    source: Path | Stored | None
    target: Path | None
    name: str

    @property
    def unit(self) -> str:
        """What is written whole or not at all, and by one process: the archive that it is a member of, or itself."""
        return self.source.packed.name if isinstance(self.source, Member) else self.name

    @property
    def place(self) -> Path | None:
        """The file that it becomes, or becomes a part of."""
        return self.source.packed.target if isinstance(self.source, Member) else self.target

    def written(self, there: Mapping[str, Stored] | None = None) -> Path | Stored | None:
        """Its output as an earlier run left it. there: what lies in the output, where that is a folder of a bucket."""
        if isinstance(self.source, Member):
            return made_members(self.source.packed).get(self.source.entry.path)
        if not isinstance(self.target, Url):
            return self.target
        return object_at(self.target) if there is None else there.get(str(self.target))


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
    columns: Sequence[str] = (),
) -> Listing:
    """The files of `inputs` (files, folders, "-") and where each goes under `output`; None where nothing is written.

    sequences: whether a folder of numbered pictures counts as one file. listed: further inputs; a file of them keeps
    the folders that its name stands with, as far as they lie below the working folder. unknown: what happens to files
    that are neither pictures nor videos: "skip"; "copy" them as they are, sidecars too; or "fail", which makes jobs
    of those of unknown kind, that are going to fail. sidecars: "copy" for texts beside pictures, whatever `unknown` is.
    columns: of tables, those that hold pictures.

    One folder's content goes straight into the output; of several inputs a folder keeps its own name. The order is
    sorted within folders. Raises UsageError if an input does not exist, the output is an input, two inputs share an
    output, or a link leads out of the output folder.
    """
    for text in (*inputs, *listed, *([output] if output is not None else [])):
        if not text or "\0" in text:
            raise UsageError(f"{text!r}: there is no such file or folder", "check where the name came from")
    count = len(inputs) + len(listed)
    if STREAM in (*inputs, *listed) and count > 1:
        raise UsageError("standard input (-) cannot be combined with other inputs", "give - and nothing else as input")
    root = None if output in (None, STREAM) else place_of(str(output))
    if isinstance(root, Url) and urlsplit(str(root)).scheme.lower() in WEB:
        raise UsageError(f"{root}: pages of the web can only be read", "name another output")
    notes: list[str] = []
    found = [pair for text in inputs for pair in _found(text, root, count == 1, sequences, notes)]
    found += [pair for text in listed for pair in _listed(text, root, sequences, notes)]
    read = (MEDIA, UNKNOWN) if unknown == "fail" else (MEDIA,)
    copied = (UNKNOWN, SIDECAR) if unknown == "copy" else (SIDECAR,) if sidecars == "copy" else ()
    packs = {job for job, kind in found if _is_archive(job, kind, columns)}
    _check([job for job, kind in found if kind in (*read, *copied) or job in packs], root)
    if packs:
        found = [pair for each in found for pair in (_members(each[0], output, columns, unknown, notes)
                                                     if each[0] in packs else [each])]  # fmt: skip
    jobs, copies = ([job for job, kind in found if kind in kinds] for kinds in (read, copied))
    if output == STREAM and len(jobs) > 1:
        raise UsageError(f"{len(jobs)} pictures for one standard output", "name an output folder")
    left_out: dict[str, list[str]] = {}
    for job, kind in found:
        if kind not in (*read, *copied, CARRIED):
            left_out.setdefault(kind, []).append(job.name)
    return Listing(tuple(jobs), tuple(copies), {k: tuple(v) for k, v in sorted(left_out.items())}, tuple(notes))


def _is_archive(job: Job, kind: str, columns: Sequence[str]) -> bool:
    source = job.source
    if source is None or not (isinstance(source, Stored) or source.is_file()):
        return False
    return kind in (MEDIA, UNKNOWN) and is_archive(source.name, columns)


def _members(
    job: Job, output: str | None, columns: Sequence[str], unknown: str, notes: list[str]
) -> Iterator[tuple[Job, str]]:
    """The members of an archive, each with its kind."""
    check_target(job.name, job.target, output == STREAM)
    assert job.source is not None
    pictures = 0
    for member, kind in surveyed(job.source, job.name, job.target, columns, unknown, kind_of_stored):
        pictures += kind == MEDIA
        if isinstance(member, Member):
            path = member.entry.path
            yield Job(member, job.target and job.target / path, f"{job.name}/{path}"), kind
        else:
            yield Job(member, job.target, job.name), kind
    if not pictures:
        notes.append(f"{job.name} holds no picture, and is not written")


@lru_cache(maxsize=4)
def made_members(packed: Packed) -> dict[str, Member]:
    """See `Packed.written`; one archive is asked for all its members in a row."""
    return packed.written()


def list_jobs(
    inputs: Sequence[str], output: str | None, sequences: bool = False, listed: Sequence[str] = ()
) -> list[Job]:
    """The jobs of `list_files`, for a command that leaves out all other files."""
    return list(list_files(inputs, output, sequences, listed).jobs)


def shard(jobs: Sequence[Job], index: int, count: int) -> list[Job]:
    """The jobs of part `index` of `count` (1-based): a share by name, the same however many files there are."""
    return [job for job in jobs if _number(job.unit) % count == index - 1]


def _number(name: str) -> int:
    # Names that are no UTF-8 are held as surrogates, which stand for their bytes.
    return int(sha256(name.encode("utf-8", "surrogateescape")).hexdigest(), 16)


def _found(text: str, root: Path | None, alone: bool, sequences: bool, notes: list[str]) -> Iterator[tuple[Job, str]]:
    """The files of one input, each with its kind; a file that is named itself counts as media."""
    if text == STREAM:
        yield Job(None, _single_target(root, Path("stdin")), STREAM), MEDIA
        return
    if is_url(text):
        yield from _remote(text, root, alone)
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


def _remote(text: str, root: Path | None, alone: bool) -> Iterator[tuple[Job, str]]:
    """The objects below a URL, each with its kind; https:// names one."""
    place = place_of(text)
    if urlsplit(text).scheme.lower() not in WEB:
        found = list(objects(place))
        if found:
            prefix = Path() if alone else Path(place.name)
            for path, stored in found:
                name, last = (prefix / path).as_posix(), path.rpartition("/")[2]
                if is_own(last) or (root not in (None, place) and Url(f"{place}/{path}").is_relative_to(root)):
                    continue
                yield Job(stored, root and root / name, name), _kind_of_object(path, stored)
            return
    try:
        single = object_at(text)
    except OSError as error:
        raise UsageError(one_line(error), "check the URL and who may read there") from error
    if single is None:
        raise UsageError(f"{text[:SHOWN]}: there is no such file or folder", "check the URL")
    target = _single_target(root, Path(single.name)) if alone else root and root / single.name
    yield Job(single, target, single.name), MEDIA


def _kind_of_object(path: str, stored: Stored) -> str:
    if isinstance(stored, Object):
        return kind_of_stored(path, lambda: stored.head(sniff.HEAD), stored.size)
    return MEDIA


def _listed(text: str, root: Path | None, sequences: bool, notes: list[str]) -> Iterator[tuple[Job, str]]:
    path = Path(text)
    if text == STREAM or is_url(text) or os.path.isdir(path) or not os.path.lexists(path):
        yield from _found(text, root, False, sequences, notes)
        return
    relative = Path(path.name) if path.is_absolute() or ".." in path.parts else path
    yield Job(path, root and root / relative, relative.as_posix()), MEDIA


def _single_target(root: Path | None, source: Path) -> Path | None:
    """One file goes into an output that is a folder, or to the very path that is given if that names a file."""
    if root is None:
        return None
    return root if root.suffix and not root.is_dir() else root / source.name


def _places(job: Job) -> list[Path]:
    """The files of this machine that a job reads and writes."""
    source = job.source.packed.archive.place if isinstance(job.source, Member) else job.source
    return [place for place in (source, job.place) if isinstance(place, Path)]


def check_apart(path: Path, jobs: Iterable[Job]) -> None:
    """Raises UsageError if a file that is to be written, a manifest or a list, is the input or the output of a job."""
    taken = {real_path(place) for job in jobs for place in _places(job)}
    if real_path(path) in taken:
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
    taken = {real_path(place) for job in jobs for place in _places(job)}
    for job in jobs:
        if isinstance(job.source, Member):
            raise UsageError("--preview-sheet has no place in an archive", "leave it out")
        if job.target is None:
            raise UsageError("--preview-sheet lies beside the output", "name an output folder, not standard output")
        if real_path(sheet_path(job.target)) in taken:
            raise UsageError(f"{sheet_path(job.target)} is a picture of this run and a sheet", "rename the picture")


def check_labels(jobs: Sequence[Job], copies: Sequence[Job], form: str) -> None:
    """Raises UsageError if labels of two files, or of one and another output, would lie in one place, or nowhere."""
    from deidcli.engine.labels import label_paths

    taken = {real_path(place): job for job in (*jobs, *copies) for place in _places(job)}
    for job in jobs:
        if isinstance(job.source, Member):
            raise UsageError("--labels have no place in an archive", "leave them out")
        if job.target is None:
            raise UsageError("--labels lie beside the output", "name an output folder, not standard output")
        for place in label_paths(form, job.target):
            other = taken.setdefault(real_path(place), job)
            if other is not job:
                raise UsageError(f"{place} would be of {other.name}, and the labels of {job.name}", "rename one")


def _check(jobs: Iterable[Job], root: Path | None) -> None:
    taken: dict[str, Job] = {}
    sources = {real_path(Url(source.url) if isinstance(source, Object) else source)
               for source in (job.source for job in jobs) if isinstance(source, (Path, Object))}  # fmt: skip
    top = real_path(root) if root else Path()
    for job in jobs:
        if job.target is None:
            continue
        if real_path(job.target) in sources:
            raise UsageError(f"{job.target} is an input and would be written over", "name another output folder")
        # A file is replaced even where it is a link; links among the folders above it are followed.
        place = real_path(job.target.parent) / job.target.name
        if job.target != root and not place.is_relative_to(top):
            raise UsageError(f"{job.target} lies outside {root}: a link leads to {place}", "remove the link")
        # Case-insensitive systems would lose one of two names that differ in case only.
        other = taken.setdefault(os.path.normcase(str(place)), job)
        if other is not job:
            raise UsageError(f"{other.source} and {job.source} would both be written to {job.target}", "rename one")
