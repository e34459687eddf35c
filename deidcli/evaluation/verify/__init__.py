"""Verify: how safe a written folder is, from a second look at its files, and its manifest where there is one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deidcli.engine.manifest import FAILED, SKIPPED
from deidcli.evaluation.verify.measure import UNKNOWN, Check, Judge, Seen
from deidcli.evaluation.verify.records import UNTOLD, Record, Records
from deidcli.faces.recognisers import Recogniser
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


LINKED = 2000  # faces that are compared with each other, at most: the work grows with the square
CERTAIN = 0.95


@dataclass(frozen=True)
class Verdict:
    """What is known of a folder.

    files, written, failed, skipped, missing: of the manifest. replaced, covered: its faces in written files.
    settings: how many files were made with which. looked: written files that were looked at again. measured: faces of
    them that were compared with their originals. closest, median: of the distances of replaced faces, None without any.
    linked: of `linkable` new faces those that lie nearer to their own original than to any other's. counts: findings by
    kind. look: which files to look at first. compared: whether the originals were at hand. listed: whether there was a
    manifest. unverified: replaced faces that the run itself had not compared. allowed: kinds of findings that are not
    wrong here.
    """

    files: int
    written: int
    failed: int
    skipped: int
    missing: int
    replaced: int
    covered: int
    unverified: int
    settings: dict[str, int]
    recogniser: str
    threshold: float
    detector: str
    compared: bool
    listed: bool
    looked: int
    measured: int
    closest: float | None
    median: float | None
    linked: int
    linkable: int
    counts: dict[str, int]
    look: tuple[Look, ...]
    allowed: tuple[str, ...] = ()

    @property
    def wrong(self) -> bool:
        """Whether something has to be seen to before the folder is given away."""
        return any(self.counts.get(kind) for kind in WRONG if kind not in self.allowed) or not self.looked

    @property
    def complete(self) -> bool:
        """Whether every file that was written was looked at again."""
        return self.looked == self.written

    @property
    def most(self) -> float:
        """The largest share of faces that may still be recognised when none of those measured was, at 95 %."""
        return 1 - (1 - CERTAIN) ** (1 / self.measured) if self.measured else 1.0


def judged(
    records: Records,
    checks: Sequence[Check],
    judges: Sequence[Judge],
    detector: str,
    count: int = 20,
    allowed: Sequence[str] = (),
) -> Verdict:
    """The verdict on `records` after `checks`. count: how many files to name, 0 for all. allowed: kinds of findings
    that are not wrong here.
    """
    found, judge = findings(records, checks), judges[0].recogniser
    faces = [(face, face.distance) for check in checks for face in check.faces]
    measured = [(face, distance) for face, distance in faces if distance is not None]
    replaced = [distance for face, distance in measured if _is_new(face)]
    linked, linkable = _linked(checks, judge)
    return Verdict(
        **_manifest(records),
        recogniser=" and ".join(each.recogniser.name for each in judges),
        threshold=judges[0].threshold,
        detector=detector,
        compared=records.compared,
        listed=records.listed,
        looked=sum(check.frames > 0 for check in checks),
        measured=len(measured),
        closest=min(replaced, default=None),
        median=round(float(np.median(replaced)), 4) if replaced else None,
        linked=linked,
        linkable=linkable,
        counts=_counts(found),
        look=tuple(to_look_at(found, count or len(found))),
        allowed=tuple(allowed),
    )


def _manifest(records: Records) -> dict:
    status = Counter(record.status for record in records.records)
    written = [record for record in records.records if record.written]
    faces = [face for record in written for face in record.faces]
    actions = Counter(face.action for face in faces)
    return {
        "files": len(records.records),
        "written": len(written),
        "failed": status[FAILED],
        "skipped": status[SKIPPED],
        "missing": sum(record.after is None for record in records.records if record.written or record.status == UNTOLD),
        "replaced": actions["replaced"],
        "covered": actions["covered"],
        "unverified": sum(face.said is None and face.action == "replaced" for face in faces),
        "settings": dict(Counter(record.settings for record in written).most_common()),
    }


def _is_new(face: Seen) -> bool:
    """Whether a face was replaced: by the manifest, or because it is another one than in the original."""
    return face.action == "replaced" or (face.action == UNKNOWN and face.kept is False)


def _counts(found: Sequence[Finding]) -> dict[str, int]:
    return dict(Counter(finding.kind for finding in found))


def _linked(checks: Sequence[Check], judge: Recogniser) -> tuple[int, int]:
    """How many new faces lie nearest to their own original among all originals, and of how many."""
    # One face of each track: a person in eight frames would be eight originals that are nearly alike.
    first: dict[tuple[str, int, int], Seen] = {}
    for check in checks:
        for face in check.faces:
            if face.descriptors is not None and _is_new(face):
                still = check.record.frames <= 1
                first.setdefault((check.record.name, face.track, face.frame if still else 0), face)
    pairs = [face.descriptors for face in first.values() if face.descriptors is not None][:LINKED]
    if len(pairs) < 2:
        return 0, 0
    originals = np.stack([old for old, _ in pairs])
    nearest = [int(np.argmin(judge.distance(originals, np.broadcast_to(new, originals.shape)))) for _, new in pairs]
    return sum(index == place for place, index in enumerate(nearest)), len(pairs)
