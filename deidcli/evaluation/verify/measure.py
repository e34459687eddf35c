"""Measure: a second look at a written file, beside its original where that is at hand."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

import numpy as np

from deidcli.engine.files import digest
from deidcli.errors import one_line
from deidcli.evaluation.verify.records import Known, Record
from deidcli.faces.detect import Detector
from deidcli.faces.embed import Recogniser
from deidcli.faces.landmarks import locate
from deidcli.faces.suppress import same
from deidcli.media.open import open_reader
from deidcli.methods import available
from deidcli.values import Box, Face, Frame

UNKNOWN = "unknown"
FRAMES = 8  # of a video or an animation that are looked at, spread over its first READ frames
READ = 1000
OVERLAP = 0.3  # intersection over union of two detectors' boxes of one face
REACH = 1.2  # a face whose centre lies in a known box grown by this is that face
# A new face may make its neighbourhood look like a face. Where so large a share of a box differs by so many levels from
# the original, what was there is not in the clear.
CHANGED, LEVELS = 0.25, 24


@dataclass(frozen=True)
class Seen:
    """A face of a written file. action: "replaced", "covered", or "unknown" for one that the manifest does not know.

    method: what made it. said: its distance to the original by the manifest, distance: by this look; None where not
    measured. descriptors: of the original and the new face, (length,) each.
    """

    frame: int
    box: Box
    track: int
    action: str
    method: str
    said: float | None = None
    distance: float | None = None
    reason: str = ""
    descriptors: tuple[np.ndarray, np.ndarray] | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Check:
    """What a second look at a file found. frames: looked at. altered: the result is not what the run wrote.

    other: the original is not what the run read. error: why it could not be looked at, or not wholly; one line.
    """

    record: Record
    frames: int = 0
    faces: tuple[Seen, ...] = ()
    altered: bool = False
    other: bool = False
    error: str = ""


@dataclass(frozen=True)
class Examiner:
    """Looks at one file after the other. threshold: of the recogniser's distance, at and below which two faces count
    as one person.
    """

    detector: Detector
    judge: Recogniser
    threshold: float

    def __call__(self, record: Record) -> Check:
        """The second look at a file that was written; one that cannot be read has an error and no faces."""
        try:
            return self._check(record)
        except Exception as error:
            return Check(record, error=one_line(error))

    def _check(self, record: Record) -> Check:
        altered = bool(record.output_sha256) and digest(record.after) != record.output_sha256
        other = record.before is not None and bool(record.sha256) and digest(record.before) != record.sha256
        before = None if other else record.before
        check = Check(record, altered=altered, other=other)
        for index, old, new in _pairs(before, record.after, _wanted(record)):
            known = [face for face in record.faces if face.frame == index]
            check = replace(check, frames=check.frames + 1, faces=check.faces + tuple(self._faces(old, new, known)))
        return check

    def _faces(self, old: Frame | None, new: Frame, known: Sequence[Known]) -> Iterator[Seen]:
        faces = [Face(face.box, track=face.track) for face in known]
        found = self.detector.detect([new.pixels])[0]
        unknown = [face for face in found if not any(_is(face.box, other.box) for other in known)]
        unknown = [face for face in unknown if old is None or _changed(old, new, face.box) < CHANGED]
        seen = [Seen(new.index, k.box, k.track, k.action, k.method, k.said, reason=k.reason) for k in known]
        seen += [Seen(new.index, face.box, face.track, UNKNOWN, "") for face in unknown]
        yield from self._compared(old, new, seen, [*faces, *unknown]) if old else seen

    def _compared(self, old: Frame, new: Frame, seen: Sequence[Seen], faces: Sequence[Face]) -> Iterator[Seen]:
        """Each face with its distance to the original at the same place, where there are landmarks to find it by."""
        # A solid colour is no face, and its distance means nothing.
        shown = [index for index, one in enumerate(seen) if not _removes_face(one.method)]
        placed = zip(shown, locate(old.pixels, [faces[index] for index in shown]), strict=True)
        usable = {index: face for index, face in placed if face.landmarks is not None}
        described = self._described(old, new, list(usable.values())) if usable else []
        measured = dict(zip(usable, described, strict=True))
        for index, one in enumerate(seen):
            if index in measured:
                pair = measured[index]
                distance = float(self.judge.distance(pair[0][None], pair[1][None])[0])
                one = replace(one, distance=round(distance, 4), descriptors=pair)
            yield one

    def _described(self, old: Frame, new: Frame, faces: Sequence[Face]) -> list[tuple[np.ndarray, np.ndarray]]:
        # The original's landmarks for both: a new face that only hides its landmarks has not protected anyone.
        chips = [self.judge.chips(frame.pixels, [face])[0] for frame in (old, new) for face in faces]
        rows = self.judge.embed(np.stack(chips))
        return list(zip(rows[: len(faces)], rows[len(faces) :], strict=True))


def examined(
    records: Sequence[Record], examiner: Callable[[Record], Check], limit: int, seconds: float
) -> Iterator[Check]:
    """The checks of the `records` that `chosen` picks, until `seconds` are over; 0 stands for no limit of either."""
    end = time.monotonic() + seconds if seconds else float("inf")
    for record in chosen(records, limit):
        yield examiner(record)
        if time.monotonic() > end:
            return


def chosen(records: Sequence[Record], limit: int) -> list[Record]:
    """The written files in the order in which they are looked at, at most `limit` of them (0: all).

    By turns the one that is most suspicious by the manifest and one of an even spread, so that however early it ends
    both have been seen.
    """
    there = [record for record in records if record.written and record.after]
    suspects = iter(sorted(there, key=_suspicion))
    # Every 1/phi-th: evenly spread whatever the number that is reached.
    spread = iter(sorted(range(len(there)), key=lambda index: index * 0.6180339887 % 1))
    order = (record for pair in zip(suspects, (there[i] for i in spread), strict=True) for record in pair)
    unique = list({record.name: record for record in order}.values())
    return unique[:limit] if limit else unique


def _suspicion(record: Record) -> float:
    """The smaller, the sooner it is looked at: the closest distance of the manifest, then faces never measured."""
    return min((face.said if face.said is not None else 0.5 for face in record.faces), default=0.7)


def _wanted(record: Record) -> set[int]:
    """The frames to look at."""
    count = max(1, min(record.frames, READ))
    return {round(step * (count - 1) / max(1, FRAMES - 1)) for step in range(FRAMES)}


def _pairs(before: Path | None, after: Path, wanted: set[int]) -> Iterator[tuple[int, Frame | None, Frame]]:
    """Index, original and result of the wanted frames."""
    olds: Iterator[Frame | None] = _frames(before, wanted) if before else iter([None] * len(wanted))
    for new, old in zip(_frames(after, wanted), olds, strict=False):
        yield new.index, old if old is None or old.pixels.shape == new.pixels.shape else None, new


def _frames(path: Path, wanted: set[int]) -> Iterator[Frame]:
    with open_reader(path) as reader:
        yield from (frame for frame in islice(reader.frames(), max(wanted) + 1) if frame.index in wanted)


def _removes_face(name: str) -> bool:
    """Whether the method that a manifest names leaves nothing of a face; False for one that is not installed."""
    kind = available().get(name)
    return kind is not None and kind.removes_face


def _is(found: Box, known: Box) -> bool:
    x, y = found.center
    around = known.scaled(REACH)
    inside = around.left <= x <= around.right and around.top <= y <= around.bottom
    return inside or same(found, known, OVERLAP)


def _changed(old: Frame, new: Frame, box: Box) -> float:
    """The share of pixels in a box that differ from the original's."""
    left, top, right, bottom = (max(0, round(side)) for side in (box.left, box.top, box.right, box.bottom))
    a, b = (frame.pixels[top:bottom, left:right].astype(np.int16) for frame in (old, new))
    return float(np.mean(np.abs(a - b).max(axis=2) > LEVELS)) if a.size else 0.0
