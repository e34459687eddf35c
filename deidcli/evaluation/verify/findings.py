"""Findings: what deserves a look, file by file, the worst first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deidcli.engine.manifest import FAILED
from deidcli.evaluation.verify.measure import UNKNOWN, Check, Seen
from deidcli.evaluation.verify.records import UNTOLD, Record, Records
from deidcli.values import Box

# The worst first; those of WRONG end the command with status 1 unless they are allowed, the others only deserve a look.
WRONG = (
    "recognised", "untouched", "place", "thumbnail", "metadata", "track", "hidden", "stray", "unlisted", "altered",
    "unreadable", "failed", "suspect", "unlooked", "missing",
)  # fmt: skip
KINDS = (*WRONG, "changed", "resized", "beside", "left", "covered", "unmeasured", "close", "empty")


@dataclass(frozen=True)
class Finding:
    """Something about a file. kind: one of KINDS. text: what it is, in plain words. distance: of the face to its
    original, None where there is none. frame, box: where, None for the whole file. before, after: the files.
    """

    name: str
    kind: str
    text: str
    distance: float | None = None
    frame: int = 0
    box: Box | None = None
    before: Path | None = None
    after: Path | None = None

    @property
    def rank(self) -> tuple[int, float, str]:
        """The smaller, the sooner one should look."""
        return KINDS.index(self.kind), self.distance if self.distance is not None else 0.0, self.name


@dataclass(frozen=True)
class Look:
    """A file to look at, and why: its findings, the worst first."""

    name: str
    findings: tuple[Finding, ...]


def findings(records: Records, checks: Sequence[Check]) -> list[Finding]:
    """Everything that was found, the worst first."""
    checked = {check.record.name: check for check in checks}
    lone = "no manifest speaks of this picture" if records.listed else "it comes from no input"
    found = [Finding(name, "stray", f"{lone}; it may be an original") for name in records.strays]
    found += [Finding(name, "unlooked", "nobody can look into this file") for name in records.unlooked]
    found += [Finding(name, "beside", "a text beside the pictures: read it") for name in records.beside]
    found += [Finding(name, "unlisted", "this input is not in the manifest: nothing was done to it") for name in
              records.unlisted]  # fmt: skip
    for record in records.records:
        found += _of_record(record)
        found += _of_check(checked[record.name]) if record.name in checked else _of_rows(record)
    return sorted(found, key=lambda finding: finding.rank)


def to_look_at(found: Iterable[Finding], count: int) -> list[Look]:
    """The first `count` files of sorted findings."""
    files: dict[str, list[Finding]] = {}
    for finding in found:
        files.setdefault(finding.name, []).append(finding)
    return [Look(name, tuple(own)) for name, own in list(files.items())[:count]]


def _of_record(record: Record) -> Iterator[Finding]:
    if record.status == FAILED:
        yield Finding(record.name, "failed", f"it was not written: {record.error}")
    elif record.written and record.after is None:
        yield Finding(record.name, "missing", "the result is not where it was written", before=record.before)
    elif record.status == UNTOLD and record.after is None:
        yield Finding(record.name, "missing", "this input has no result", before=record.before)


def _of_rows(record: Record) -> Iterator[Finding]:
    """What the manifest alone says of a file that was not looked at again."""
    for face in record.faces if record.written else ():
        place: dict[str, Any] = {"frame": face.frame, "box": face.box, "before": record.before, "after": record.after}
        if face.action == "left":
            yield Finding(record.name, "left", f"a face was left as it is: {face.reason}", **place)
        elif face.action == "covered":
            yield Finding(record.name, "covered", _covered(face.reason), face.said, **place)
        elif face.said is not None:
            yield Finding(record.name, "close", f"distance {face.said:.2f} by the manifest", face.said, **place)


def _of_check(check: Check) -> Iterator[Finding]:
    record = check.record
    files: dict[str, Any] = {"before": None if check.other else record.before, "after": record.after}
    if check.error:
        yield Finding(record.name, "unreadable", f"it cannot be read again: {check.error}", **files)
    if check.altered:
        yield Finding(record.name, "altered", "the file is no longer the one that was written", **files)
    if check.other:
        yield Finding(record.name, "changed", "the original is no longer the one that was read", **files)
    if check.resized:
        yield Finding(record.name, "resized", "it has another size than its original", **files)
    for trace in check.traces:
        yield Finding(record.name, trace.kind, trace.text, **files)
    if not (check.faces or check.error):
        yield Finding(record.name, "empty", "no face was found: look whether there is one", **files)
    for face in check.faces:
        kind, text = _judged(face)
        yield Finding(record.name, kind, text, face.distance, face.frame, face.box, **files)


def _judged(face: Seen) -> tuple[str, str]:
    """The kind and the words of one face."""
    if face.action == UNKNOWN:
        return _unknown(face)
    if face.action == "left":
        return "left", f"a face was left as it is: {face.reason}"
    if face.matched:
        return (
            "recognised",
            f"a {face.action} face is still recognised by {face.matched} (distance {face.distance:.2f})",
        )
    if face.action == "covered":
        return "covered", _covered(face.reason)
    if face.distance is None and face.said is None:
        return "unmeasured", "a new face could not be compared with its original"
    if face.distance is None:
        return "close", f"distance {face.said:.2f} by the manifest"
    return "close", f"distance {face.distance:.2f} to the original"


def _unknown(face: Seen) -> tuple[str, str]:
    """Of a face that no manifest speaks of."""
    if face.matched and face.kept:
        return "untouched", f"a face that the run did not know is as it was (distance {face.distance:.2f})"
    if face.matched:
        return "recognised", f"a face is still recognised by {face.matched} (distance {face.distance:.2f})"
    if face.kept is False:
        return "close", "a face is another one now" if face.distance is None else f"distance {face.distance:.2f}"
    return "suspect", "the detector sees a face that the run did not know: look whether it is one"


def _covered(reason: str) -> str:
    return f"a face is covered: {reason}" if reason else "a face is covered"
