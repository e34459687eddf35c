"""Measure: a second look at a written file, beside its original where that is at hand."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np

from deidcli.engine.files import digest
from deidcli.errors import one_line
from deidcli.evaluation.verify.records import Known, Record
from deidcli.evaluation.verify.traces import Trace, traces
from deidcli.faces.blend import face_size
from deidcli.faces.detectors import Detector
from deidcli.faces.landmarks import locate
from deidcli.faces.recognisers import Recogniser
from deidcli.faces.search import nms, same
from deidcli.media.open import open_reader
from deidcli.values import Box, Face, Frame

UNKNOWN = "unknown"
FRAMES = 8  # of a video or an animation that are looked at, spread over it
READ = 1000  # frames within which they lie where time is short
OVERLAP = 0.3  # intersection over union of two detectors' boxes of one face
REACH = 1.2  # a face whose centre lies in a known box grown by this is that face
# A face is as it was where its finest details are: it is shrunk to CELLS x CELLS, and what differs from the mean of the
# ROUGH x ROUGH cells about each is compared. Of the original's detail so much must be left, and what is there must be
# so much alike. Recompression leaves more than .9 of both; blur and mosaics leave less than half of the first, and
# .87 and .90 (faces of examples/in, 109 to 322 pixels).
CELLS, ROUGH = 32, 9
KEPT, ALIKE = 0.7, 0.93
FLAT = 2.0  # levels of detail below which a face is one colour, and no recogniser can be asked
ASPECT = 0.03  # by which the shape of a picture may differ that another tool has made larger or smaller


@dataclass(frozen=True)
class Seen:
    """A face of a written file. action: "replaced", "covered", or "unknown" for one that the manifest does not know.

    method: what made it. said: its distance to the original by the manifest, distance: by this look; None where not
    measured. matched: the recogniser that takes both for one person, empty where none does. kept: whether its details
    are those of the original, None where there is none. descriptors: of the original and the new face, (length,) each.
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
    matched: str = ""
    kept: bool | None = None


@dataclass(frozen=True)
class Check:
    """What a second look at a file found. frames: looked at. altered: the result is not what the run wrote.

    other: the original is not what the run read. traces: what else of the original it holds, or tells of people.
    resized: whether original and result have another shape, so that they cannot be laid over each other. error: why it
    could not be looked at, or not wholly; one line.
    """

    record: Record
    frames: int = 0
    faces: tuple[Seen, ...] = ()
    altered: bool = False
    other: bool = False
    traces: tuple[Trace, ...] = ()
    resized: bool = False
    error: str = ""


@dataclass(frozen=True)
class Judge:
    """A recogniser, and the distance at and below which two large faces count as one person."""

    recogniser: Recogniser
    threshold: float

    def compared(self, a: np.ndarray, b: np.ndarray, face: Face) -> tuple[float, bool]:
        """How far two descriptors (length,) are apart, and whether they are of one person, where both faces have this
        one's size; any other threshold than the recogniser's own counts at all sizes."""
        given = None if self.threshold == self.recogniser.threshold else self.threshold
        apart, known = self.recogniser.compared(a[None], b[None], face_size(face), given)
        return float(apart[0]), bool(known[0])


@dataclass(frozen=True)
class Examiner:
    """Looks at one file after the other.

    detectors: whose faces count together. judges: the first one's distances are told; a face that any of them takes
    for its original is recognised. frames: of a video or animation that are looked at, 0 for all. reach: the frames
    within which they lie, 0 for the whole file. metadata: the policy that should have been followed, empty where
    nobody looks for traces. both: whether originals are searched too, or only where the manifest and the result say.
    """

    detectors: Sequence[Detector]
    judges: Sequence[Judge]
    frames: int = FRAMES
    reach: int = READ
    metadata: str = ""
    both: bool = False

    def __call__(self, record: Record) -> Check:
        """The second look at a file that was written; one that cannot be read has an error and no faces."""
        try:
            return self._check(record)
        except Exception as error:
            return Check(record, error=one_line(error))

    def _check(self, record: Record) -> Check:
        assert record.after is not None
        altered = bool(record.output_sha256) and digest(record.after) != record.output_sha256
        other = record.before is not None and bool(record.sha256) and digest(record.before) != record.sha256
        before = None if other else record.before
        check = Check(record, altered=altered, other=other)
        if self.metadata:
            check = replace(check, traces=tuple(traces(record.after, before, self.metadata)))
        try:
            for index, old, new in _pairs(before, record.after, self._wanted(record)):
                known = [face for face in record.faces if face.frame == index]
                resized = check.resized or (old is not None and old.pixels.shape != new.pixels.shape)
                seen = check.faces + tuple(self._faces(old, new, known))
                check = replace(check, frames=check.frames + 1, faces=seen, resized=resized)
        except Exception as error:
            return replace(check, error=one_line(error))
        return check

    def _wanted(self, record: Record) -> Callable[[int], bool]:
        """Whether a frame is to be looked at, by its number."""
        if not self.frames:
            return lambda index: True
        count = record.frames or _length(record.after)
        return wanted(count, self.frames, self.reach).__contains__

    def _faces(self, old: Frame | None, new: Frame, known: Sequence[Known]) -> Iterator[Seen]:
        if old is not None and old.pixels.shape != new.pixels.shape:
            fitted = _fitted(old, new)
            if fitted is None:
                yield from self._anywhere(old, new, known)
                return
            old = fitted
        seen = [Seen(new.index, k.box, k.track, k.action, k.method, k.said, reason=k.reason) for k in known]
        boxes = [face.box for face in known]
        for frame in (new, *([old] if old and self.both and not np.array_equal(old.pixels, new.pixels) else [])):
            for face in self._found(frame):
                if any(_is(face.box, box) for box in boxes):
                    continue
                kept = None if old is None else is_kept(old.pixels, new.pixels, face.box)
                if frame is new and kept is False:
                    continue  # a new face may make its neighbourhood look like a face
                boxes.append(face.box)
                seen.append(Seen(new.index, face.box, face.track, UNKNOWN, "", kept=kept))
        yield from self._compared(old, new, seen) if old else seen

    def _found(self, frame: Frame) -> list[Face]:
        found = [face for each in self.detectors for face in each.detect([frame.pixels])[0]]
        return nms(found, OVERLAP) if len(self.detectors) > 1 else found

    def _compared(self, old: Frame, new: Frame, seen: Sequence[Seen]) -> Iterator[Seen]:
        """Each face with its distance to the original at the same place, where there are landmarks to find it by."""
        # A face of one colour is none, and its distance means nothing.
        shown = [index for index, one in enumerate(seen) if _detail(new.pixels, one.box) > FLAT]
        places = [Face(seen[index].box, track=seen[index].track) for index in shown]
        placed = zip(shown, locate(old.pixels, places), strict=True)
        usable = {index: face for index, face in placed if face.landmarks is not None}
        made = dict(enumerate(seen))
        for judge in self.judges if usable else ():
            faces = list(usable.values())
            # The original's landmarks for both: a new face that only hides its landmarks has not protected anyone.
            rows = _embedded(judge.recogniser, [(old, face) for face in faces] + [(new, face) for face in faces])
            for place, index in enumerate(usable):
                made[index] = _judged(made[index], judge, rows[place], rows[len(faces) + place], faces[place])
        yield from made.values()

    def _anywhere(self, old: Frame, new: Frame, known: Sequence[Known]) -> Iterator[Seen]:
        """The faces of a picture that cannot be laid over its original, each beside the nearest face of that."""
        originals = [face for face in locate(old.pixels, self._found(old)) if face.landmarks is not None]
        for face in locate(new.pixels, self._found(new)):
            one = Seen(new.index, face.box, face.track, UNKNOWN, "")
            if face.landmarks is None or not originals:
                yield one
                continue
            for judge in self.judges:
                rows = _embedded(judge.recogniser, [(new, face), *((old, each) for each in originals)])
                nearest = int(np.argmin(judge.recogniser.distance(rows[1:], np.broadcast_to(rows[0], rows[1:].shape))))
                one = _judged(one, judge, rows[1 + nearest], rows[0], face)
            yield replace(one, kept=bool(one.matched))


def _judged(one: Seen, judge: Judge, original: np.ndarray, made: np.ndarray, face: Face) -> Seen:
    distance, known = judge.compared(original, made, face)
    if one.distance is None:
        one = replace(one, distance=round(distance, 4), descriptors=(original, made))
    return replace(one, matched=one.matched or judge.recogniser.name) if known else one


def _embedded(recogniser: Recogniser, faces: Sequence[tuple[Frame, Face]]) -> np.ndarray:
    return recogniser.embed(np.stack([recogniser.chips(frame.pixels, [face])[0] for frame, face in faces]))


def examined(
    records: Sequence[Record], examiner: Callable[[Record], Check], limit: int, seconds: float
) -> Iterator[Check]:
    """The checks of the `records` that `chosen` picks, until `seconds` are over; 0 means no limit of either."""
    end = time.monotonic() + seconds if seconds else float("inf")
    for record in chosen(records, limit):
        yield examiner(record)
        if time.monotonic() > end:
            return


def chosen(records: Sequence[Record], limit: int) -> list[Record]:
    """The files with a result in the order in which they are looked at, at most `limit` of them (0: all).

    By turns the one that is most suspicious by the manifest and one of an even spread, so that however early it ends
    both have been seen.
    """
    there = [record for record in records if record.after]
    suspects = iter(sorted(there, key=_suspicion))
    # Every 1/phi-th: evenly spread whatever the number that is reached.
    spread = iter(sorted(range(len(there)), key=lambda index: index * 0.6180339887 % 1))
    order = (record for pair in zip(suspects, (there[i] for i in spread), strict=True) for record in pair)
    unique = list({record.name: record for record in order}.values())
    return unique[:limit] if limit else unique


def _suspicion(record: Record) -> float:
    """The smaller, the sooner it is looked at: the closest distance of the manifest, then faces never measured."""
    return min((face.said if face.said is not None else 0.5 for face in record.faces), default=0.7)


def wanted(count: int, frames: int = FRAMES, reach: int = READ) -> set[int]:
    """The frames to look at of a file of `count`: `frames` of them, spread over the first `reach` (0: over all)."""
    last = max(1, min(count, reach) if reach else count) - 1
    return {round(step * last / max(1, frames - 1)) for step in range(frames)}


def _length(path: Path | None) -> int:
    """How many frames a file has; counted where it does not say."""
    assert path is not None
    with open_reader(path) as reader:
        # What a video says of its length may be wrong, and a look at its beginning alone would miss the rest.
        return sum(1 for _ in reader.frames()) if reader.streams else reader.info.frames or 1


def _pairs(
    before: Path | None, after: Path, looked: Callable[[int], bool]
) -> Iterator[tuple[int, Frame | None, Frame]]:
    """Index, original and result of the frames to look at; what the original lacks is shown alone."""
    olds = _frames(before, looked) if before else iter(())
    for new in _frames(after, looked):
        old = next((frame for frame in olds if frame.index == new.index), None)
        yield new.index, old, new


def _frames(path: Path, looked: Callable[[int], bool]) -> Iterator[Frame]:
    with open_reader(path) as reader:
        yield from (frame for frame in reader.frames() if looked(frame.index))


def _is(found: Box, known: Box) -> bool:
    x, y = found.center
    around = known.scaled(REACH)
    inside = around.left <= x <= around.right and around.top <= y <= around.bottom
    return inside or same(found, known, OVERLAP)


def _fitted(old: Frame, new: Frame) -> Frame | None:
    """The original at the size of the result; None where the shape is another one: it was cut or turned."""
    if abs(old.width * new.height / (old.height * new.width) - 1) > ASPECT:
        return None
    return old.with_pixels(cv2.resize(old.pixels, (new.width, new.height), interpolation=cv2.INTER_AREA))


def is_kept(old: np.ndarray, new: np.ndarray, box: Box) -> bool:
    """Whether the details of a face in (height, width, 3) uint8 are still there after the picture became `new`."""
    before, after = _details(old, box), _details(new, box)
    if before is None or after is None:
        return False
    strength = float(np.sum(before * before))
    if strength <= FLAT**2 * before.size:
        return bool(np.mean(np.abs(before - after)) < FLAT)  # hardly anything was there to be hidden
    common = float(np.sum(before * after))
    alike = common / max(np.sqrt(strength * float(np.sum(after * after))), 1e-9)
    return common / strength >= KEPT and alike >= ALIKE


def _detail(pixels: np.ndarray, box: Box) -> float:
    """The root mean square of a face's details in levels of brightness."""
    details = _details(pixels, box)
    return 0.0 if details is None else float(np.sqrt(np.mean(details**2)))


def _details(pixels: np.ndarray, box: Box) -> np.ndarray | None:
    """(CELLS, CELLS) float32 of what a face has of details; None where the box lies outside of the picture."""
    height, width = pixels.shape[:2]
    left, top = max(0, round(box.left)), max(0, round(box.top))
    right, bottom = min(width, round(box.right)), min(height, round(box.bottom))
    if right - left < 2 or bottom - top < 2:
        return None
    grey = cv2.cvtColor(np.ascontiguousarray(pixels[top:bottom, left:right]), cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey.astype(np.float32), (CELLS, CELLS), interpolation=cv2.INTER_AREA)
    return small - cv2.blur(small, (ROUGH, ROUGH), borderType=cv2.BORDER_REFLECT_101)
