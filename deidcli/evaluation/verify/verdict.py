"""Verdict: the figures of a second look, and what they mean in plain words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deidcli.engine.manifest import FAILED, SKIPPED
from deidcli.evaluation.verify.findings import WRONG, Finding, Look, findings, to_look_at
from deidcli.evaluation.verify.measure import UNKNOWN, Check, Judge, Seen
from deidcli.evaluation.verify.records import UNTOLD, Records
from deidcli.faces.recognisers import Recogniser

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
