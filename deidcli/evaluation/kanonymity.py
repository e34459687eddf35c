"""k-anonymity: the manifest of a closed-set run is checked against its outputs and against the promised k.

Only people whose face is replaced count: one who is covered everywhere adds nothing to another's anonymity.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deidcli.engine.archives import member_at
from deidcli.engine.buckets import Url, place_of, saved
from deidcli.engine.files import digest
from deidcli.engine.manifest import DONE, SALVAGED, Row, left_alone
from deidcli.errors import UsageError

GUARANTEES = ("k", "diverse", "open")
MARKS = ("person", "surrogate", "group", "guarantee")
MOST_PROBLEMS = 20  # problems that are kept in words; all are counted


@dataclass(frozen=True)
class Verdict:
    """What was found. least: people behind the weakest surrogate (with --diverse: in the weakest group); 0 for none.

    guarantees: which ones the faces carry. found: how many problems. problems: the first of them, a line each.
    """

    k: int
    files: int
    people: int
    surrogates: int
    least: int
    guarantees: tuple[str, ...]
    found: int
    problems: tuple[str, ...]

    @property
    def holds(self) -> bool:
        return not self.found

    def line(self) -> str:
        """The verdict in one line."""
        counts = f"{self.people} people in {self.files} files share {self.surrogates} surrogates"
        if not self.people and self.holds:
            return f"no face is shown in {self.files} files"
        if not self.holds:
            more = f" (and {self.found - 1} more)" if self.found > 1 else ""
            return f"{self.k}-anonymity does not hold: {self.problems[0]}{more}"
        if self.guarantees == ("open",):
            return f"{counts}: made of other people; there is no number of people behind one"
        what = "group" if "diverse" in self.guarantees else "surrogate"
        return f"{self.k}-anonymity holds: {counts}, at least {self.least} people behind each {what}"


def check(manifests: Iterable[Path], k: int | None = None) -> Verdict:
    """Read the manifests of one closed-set run (several: the parts of --shard) and check all that they say.

    k: what is to hold; None for what the run promised. Raises UsageError for a file that cannot be read.
    """
    rows: dict[str, tuple[Path, dict]] = {}
    broken: list[str] = []
    for path in manifests:
        for number, row in _rows(path):
            if row is None:
                broken.append(f"{path}, line {number}: no row of a manifest")
            elif not (left_alone(row) and row["input"] in rows):
                rows[row["input"]] = path, row
    return check_rows(rows.values(), k, broken)


def check_run(manifest: Path | None, rows: Iterable[Row]) -> Verdict:
    """`check` for a run that has just ended: what its manifest says, or its rows where it has none."""
    if manifest is not None:
        return check([manifest])
    return check_rows((None, json.loads(row.as_json())) for row in rows)


def check_rows(rows: Iterable[tuple[Path | None, dict]], k: int | None = None, broken: Iterable[str] = ()) -> Verdict:
    """The same for rows, each with its manifest (None: it is in none)."""
    tally = _Tally(k)
    for line in broken:
        tally.problem(line)
    for manifest, row in rows:
        try:
            tally.add(manifest, row)
        except (TypeError, AttributeError, ValueError) as error:
            tally.problem(f"{row['input']}: the row is not understood: {error}")
    return tally.verdict()


class _Tally:
    """Counts rows, and remembers who was shown with what."""

    def __init__(self, k: int | None):
        self.asked, self.k, self.files, self.found = k, k or 0, 0, 0
        self.problems: list[str] = []
        self.runs: set[str | None] = set()
        self.guarantees: set[str] = set()
        self.surrogates: dict[str, set[str]] = defaultdict(set)  # of each person
        self.shown: dict[tuple[str, str], set[str]] = defaultdict(set)  # people of each (guarantee, surrogate)
        self.groups: dict[str, set[str]] = defaultdict(set)  # people of each group
        self.homes: dict[str, set[str]] = defaultdict(set)  # groups of each person

    def problem(self, text: str) -> None:
        self.found += 1
        if len(self.problems) < MOST_PROBLEMS:
            self.problems.append(text)

    def add(self, manifest: Path | None, row: dict[str, Any]) -> None:
        """A row; one that says that nothing was written has nothing to hide."""
        if row.get("status") not in (DONE, SALVAGED):
            return
        self.files += 1
        self.runs.add(row.get("settings"))
        if self.asked is None:
            self._promised(row)
        self._output(manifest, row)
        for face in row.get("faces") or ():
            self._face(row["input"], face, face.get("action") == "replaced")
        for track in row.get("tracks") or ():
            self._face(row["input"], track, bool(track.get("replaced")))

    def _promised(self, row: dict[str, Any]) -> None:
        k = (row.get("options") or {}).get("k")
        if not isinstance(k, int) or k < 2 or self.k not in (0, k):
            self.problem(f"{row['input']}: promises k = {k}" + (f", others {self.k}" if self.k else ""))
        else:
            self.k = k

    def _output(self, manifest: Path | None, row: dict[str, Any]) -> None:
        """The file that a row names is there and is what was written."""
        if row.get("output") is None:
            return  # went to standard output
        # A folder that was moved still has the manifest beside its files.
        places = [place_of(row["output"])] + ([manifest.parent / row["input"]] if manifest else [])
        there = [found for place in places if (found := member_at(place))]
        if not there:
            self.problem(f"{row['input']}: the output {row['output']} is not there")
        elif not any(digest(place) == row.get("output_sha256") for place in there):
            self.problem(f"{row['input']}: the output {there[0]} is not what was written")

    def _face(self, name: str, face: dict[str, Any], shown: bool) -> None:
        if not shown:
            return
        marks = [str(face.get(mark) or "") for mark in MARKS]
        if not all(marks) or marks[3] not in GUARANTEES:
            self.problem(f"{name}: a face has no person and surrogate; was it a run of a closed-set method?")
            return
        person, surrogate, group, guarantee = marks
        self.guarantees.add(guarantee)
        self.surrogates[person].add(surrogate)
        self.shown[guarantee, surrogate].add(person)
        self.groups[group].add(person)
        self.homes[person].add(group)

    def verdict(self) -> Verdict:
        self._judge()
        sizes = [len(people) for (word, _), people in self.shown.items() if word == "k"]
        sizes += [len(people) for people in self.groups.values()] if "diverse" in self.guarantees else []
        return Verdict(
            self.k, self.files, len(self.surrogates), len(self.shown), min(sizes, default=0),
            tuple(sorted(self.guarantees)), self.found, tuple(self.problems),
        )  # fmt: skip

    def _judge(self) -> None:
        if len(self.runs) > 1:
            self.problem("the rows are of runs with different inputs or settings, whose surrogates do not fit together")
        if len(self.guarantees) > 1:
            self.problem(f"the rows promise different things: {', '.join(sorted(self.guarantees))}")
        for person, own in self.surrogates.items():
            if len(own) > 1:
                self.problem(f"person {person} has {len(own)} surrogates")
        for person, homes in self.homes.items():
            if len(homes) > 1:
                self.problem(f"person {person} is in {len(homes)} groups")
        for (guarantee, surrogate), people in self.shown.items():
            if guarantee == "k" and len(people) < self.k:
                self.problem(f"surrogate {surrogate} is shown for {len(people)} people, not for {self.k}")
            if guarantee == "diverse" and len(people) > 1:
                self.problem(f"surrogate {surrogate} was to be one person's and is shown for {len(people)}")
        for group, people in self.groups.items() if "diverse" in self.guarantees else ():
            if len(people) < self.k:
                self.problem(f"group {group} has {len(people)} people, not {self.k}")


def _rows(path: Path) -> Iterator[tuple[int, dict | None]]:
    """(line number, row) of a manifest, None for a line that is no row."""
    try:
        lines = b"".join(saved(path)).splitlines() if isinstance(path, Url) else path.read_bytes().splitlines()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}", "give the manifest of a run") from error
    if not lines:
        raise UsageError(f"{path} is empty", "give the manifest of a run")
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        yield number, row if isinstance(row, dict) and isinstance(row.get("input"), str) else None
