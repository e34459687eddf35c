"""The bench: one set of originals, one recogniser and one detector, on which any number of subjects are measured."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import copy
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from deidcli import __version__
from deidcli.engine.frames import FileFrame, Source
from deidcli.engine.jobs import Job
from deidcli.engine.settings import RECOGNISER, Settings
from deidcli.errors import UsageError
from deidcli.evaluation.observe import (
    BATCH,
    ByFolder,
    ByMethod,
    Instruments,
    Maker,
    Outputs,
    Untouched,
    joined,
    observe,
)
from deidcli.evaluation.originals import Cache, Labeller, Originals, read_error
from deidcli.evaluation.results import Judge, Run
from deidcli.faces.detectors import DetectOptions, detector
from deidcli.faces.recognisers import Recogniser, recogniser
from deidcli.methods.base import Method

Progress = Callable[[Iterable, int, str], Iterator]
ORIGINAL, GIVEN = "original", "given"


def no_progress(items: Iterable, total: int, unit: str) -> Iterator:
    """Progress that is not shown."""
    yield from items


@dataclass(frozen=True)
class Study:
    """What is measured on, and how; a run can be repeated from it.

    folder: of the pictures, whose first folder names the person. data, split: how the report calls them. distance: the
    recogniser's threshold, None for its own. seed: of all draws, None for secret ones. verify: whether methods are
    escalated as in `deid anonymize`, or measured alone. verifier: the
    recogniser of that, "" for the one that measures. persona: for whom secrets are drawn (`Personas`). cache: a
    folder, None for none.
    """

    folder: Path
    data: str
    split: str = ""
    detect: DetectOptions = DetectOptions()
    recogniser: str = RECOGNISER
    distance: float | None = None
    seed: int | None = 1
    verify: bool = False
    verifier: str = ""
    persona: str = "track"
    cache: Path | None = None

    @property
    def draw(self) -> int:
        """The seed of random draws of the measurement itself, which need not be secret."""
        return self.seed or 0


@dataclass(frozen=True)
class Subject:
    """What is measured: a method, the folder of another tool's outputs, or (neither) the originals."""

    label: str
    method: Method | None = None
    folder: Path | None = None

    @property
    def kind(self) -> str:
        """The method's name as the report has it."""
        return self.method.name if self.method else GIVEN if self.folder else ORIGINAL


class Bench:
    """Reads originals, measures subjects and makes Runs of that. Raises UsageError for a study that cannot be done."""

    def __init__(self, study: Study, progress: Progress = no_progress, labellers: Sequence[Labeller] = ()):
        if not study.folder.is_dir():
            raise UsageError(f"{study.folder} is no folder", "name the folder of the pictures")
        self.study, self.progress = study, progress
        self.judge = recogniser(study.recogniser)
        self.threshold = self.judge.threshold if study.distance is None else study.distance
        self.instruments = Instruments(detector(study.detect), tuple(labellers))
        cache = Cache(study.cache) if study.cache else None
        self.originals = Originals(study.folder, study.detect, self.judge, cache)
        self._prepared: list[tuple[Method, Any]] = []  # closed-set methods, each with its open census

    def read(self, names: Iterable[str]) -> list[str]:
        """Read originals; the names of those with a face. Raises MediaError where there is none."""
        wanted = list(dict.fromkeys(names))
        for _ in self.progress(self.originals.read(wanted), len(wanted), "original"):
            pass
        known = [name for name in wanted if name in self.originals.known]
        if not known:
            raise read_error(self.originals)
        return known

    def observe(self, subject: Subject, names: Sequence[str], instruments: Instruments | None = None) -> Outputs:
        """The outputs of `subject` for all known pictures among `names`. Raises MediaError where none is known."""
        known = [name for name in names if name in self.originals.known]
        if not known:
            raise read_error(self.originals)
        self.prepare(subject, known)
        parts = observe(self.originals, known, self.maker(subject, known), instruments or self.instruments)
        return joined(list(self.progress(parts, -(-len(known) // BATCH), f"batch of {subject.label}")))

    def prepare(self, subject: Subject, names: Sequence[str]) -> None:
        """Show a closed-set method the known pictures among `names`, once; to all others nothing is done.

        Raises UsageError where it cannot serve so few people.
        """
        method = subject.method
        if method is None or not method.closed or any(method is done for done, _ in self._prepared):
            return
        from deidcli.engine.census import take_census

        self._prepared.append((method, take_census(method, self.frames(names))))

    def by_each(self, outputs: Outputs) -> Iterator[tuple[str, Bench, Outputs]]:
        """For every recogniser that the bench's own is made of its name, and bench and outputs as it sees them."""
        end = 0
        for judge in self.judge.parts or (self.judge,):
            columns, end = slice(end, end + judge.length), end + judge.length
            seen = copy(self)
            seen.judge, seen.originals = judge, self.originals.seen_by(judge, columns)
            seen.threshold = judge.threshold if self.judge.parts else self.threshold
            yield judge.name, seen, replace(outputs, descriptors=outputs.descriptors[:, columns])

    def frames(self, names: Sequence[str]) -> Iterator[FileFrame]:
        """The known pictures among `names`, each with its face."""
        for name in names:
            if name in self.originals.known:
                source = Source(Job(self.study.folder / name, None, name), None, None, 0.0)
                yield FileFrame(source, self.originals.frame(name), True, (self.originals.known[name].face,))

    def maker(self, subject: Subject, names: Sequence[str]) -> Maker:
        """What makes the outputs of `subject`."""
        if subject.folder:
            return ByFolder(subject.folder)
        if subject.method is None:
            return Untouched()
        study = self.study
        settings = Settings(verify=study.verify, distance=study.distance, persona=study.persona)
        return ByMethod(subject.method, settings, self.verifier if settings.describes else None)

    @cached_property
    def verifier(self) -> Recogniser:
        """What new faces are verified by, where they are."""
        named = self.study.verifier or self.study.recogniser
        return self.judge if named == self.study.recogniser else recogniser(named)

    @cached_property
    def labelled(self) -> Outputs:
        """The originals under the labellers; everything that was read."""
        instruments = Instruments(None, self.instruments.labellers, likeness=False)
        return self.observe(Subject(ORIGINAL), sorted(self.originals.known), instruments)

    def run(self, subject: Subject, protocol: str, judge: Judge, seconds: float, **measured: Any) -> Run:
        """A run with its  measured: figures, curves, matrices and worst."""
        preset, checksum = weights_of(subject.method)
        return Run(
            label=subject.label,
            method=subject.kind,
            options=asdict(subject.method.options) if subject.method else {},
            preset=preset,
            checksum=checksum,
            protocol=protocol,
            data=self.study.data,
            split=self.study.split,
            seed=self.study.seed,
            version=VERSION,
            commit=commit(),
            judge=judge,
            seconds=round(seconds, 3),
            **measured,
        )


def person(name: str) -> str:
    """Whose picture it is: the first folder of its name; a picture that lies in none is a person of its own."""
    return name.split("/")[0]


def pictures_of(folder: Path) -> dict[str, list[str]]:
    """The pictures of each person of a folder with one sub-folder a person, all in order. Raises UsageError."""
    from deidcli.engine.survey import walk

    people: dict[str, list[str]] = {}
    for path in walk(folder) if folder.is_dir() else ():
        name = path.relative_to(folder).as_posix()
        if "/" in name:
            people.setdefault(person(name), []).append(name)
    if not people:
        raise UsageError(f"{folder} has no sub-folders with pictures", "give a folder with one sub-folder a person")
    return people


def evenly(items: Sequence, limit: int | None) -> list:
    """At most `limit` of `items`, spread evenly over all of them."""
    if limit is None or len(items) <= limit:
        return list(items)
    return [items[i * len(items) // limit] for i in range(limit)]


# --- Provenance: which code and which weights made a figure.

VERSION = __version__


@cache
def commit() -> str:
    """The commit of the checkout that this code lies in, with "+" behind it where files differ; empty outside one."""
    folder = Path(__file__).resolve().parents[2]
    if not (folder / ".git").exists():
        return ""
    try:
        head, changed = (_git(folder, *words) for words in (("rev-parse", "HEAD"), ("status", "--porcelain", "-uno")))
    except (OSError, subprocess.SubprocessError):
        return ""
    return head[:12] + ("+" if changed else "")


def weights_of(method: Method | None) -> tuple[str, str]:
    """Name and checksum of a method's preset, empty where it has none."""
    if method is None:
        return "", ""
    return method.preset, method.weights


def now() -> str:
    """This moment as UTC in ISO 8601."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z")


def _git(folder: Path, *words: str) -> str:
    command = ["git", "-C", str(folder), *words]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
