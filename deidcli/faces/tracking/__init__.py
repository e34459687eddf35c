"""Tracking: faces of a video followed from frame to frame, cuts found, boxes smoothed. Here: its options, and a track.

A track is one face's way through the frames of a shot, where it was found and where it was carried. Where it was not
found it is carried by optical flow from the frame where it was last found, and, once it is found again, from there
back; between the two, what lies nearer in time counts more, so that neither side is favoured.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from deidcli.errors import UsageError
from deidcli.faces.align import apply_affine, invert
from deidcli.faces.tracking.motion import REACH, correlation, motion, moved_box, patch, shifted
from deidcli.values import Box, Face, Frame


@dataclass(frozen=True)
class TrackOptions:
    """How faces are followed. Times are in seconds by the stream's own clock.

    track: whether they are, in files whose frames have times. detect_every: search every so many frames and carry the
    faces through those between; None for as few as lie no more than `between` apart. The first and the last frame of a
    shot are always searched. gap: how long a face may be lost and is still covered between, once it is found again.
    hold: how long it is covered before it was first and after it was last found, even where it cannot be seen. stay:
    how long it is covered while it is not found, but what is there still looks the same; one that was found in a few
    frames only stays for as many times `gap`. smooth: standard deviation of the smoothing of boxes; points: of
    landmarks.
    """

    track: bool = True
    detect_every: int | None = None
    between: float = 0.125
    gap: float = 1.0
    hold: float = 0.3
    stay: float = 4.0
    smooth: float = 0.12
    points: float = 0.05

    def __post_init__(self):
        every = 1 if self.detect_every is None else self.detect_every
        if every < 1:
            raise UsageError(f"--detect-every {every} is out of range", "from 1 up")
        if every > 1 and not self.track:
            raise UsageError("--detect-every needs tracks", "leave --no-track out")

    @property
    def around(self) -> float:
        """How far to either side of a frame its neighbours matter, in seconds."""
        return max(self.gap, self.hold, REACH * self.smooth)


@dataclass(frozen=True)
class FrameFaces:
    """A frame with its faces, None where it was not searched. begins: it is the first of a shot."""

    frame: Frame
    faces: tuple[Face, ...] | None
    begins: bool = False


SAME = 0.6  # correlation with what was last found, above which a face that is carried is still there to be seen
RECENT = 0.25  # seconds over which the speed of a face is taken
SLOWING = 0.8  # of its speed that a face keeps from frame to frame where nothing shows how it moves


@dataclass(frozen=True)
class GreyFrame:
    """What is known of a frame besides its faces. index: its place in the file. time: seconds. grey: (h, w) uint8."""

    index: int
    time: float
    grey: np.ndarray


@dataclass(eq=False)
class Position:
    """Where a face is in one frame.

    found: it was found here. covered: it is written; what was carried too long is not, unless it is found again.
    points: (68, 2) float64 or None. own: they were located in this very frame; others come from one that is `away`
    seconds off. step: (2, 3), the motion from the frame before; None where it could not be estimated.
    """

    time: float
    box: Box
    score: float
    found: bool = False
    covered: bool = True
    points: np.ndarray | None = None
    own: bool = False
    away: float = float("inf")
    step: np.ndarray | None = None


@dataclass(eq=False)
class Track:
    """The positions of one face by frame.

    found_at: the time in seconds when it was last found. look: its patch in that frame. visible: it was seen ever
    since. open: it can still be found again. shows: whether it was last written with landmarks; None before the first
    frame. times: in how many frames it was found.
    """

    number: int
    positions: dict[int, Position] = field(default_factory=dict)
    found_at: float = 0.0
    look: np.ndarray | None = None
    visible: bool = True
    open: bool = True
    shows: bool | None = None
    times: int = 0
    _drift: tuple[float, float] = (0.0, 0.0)

    def find(self, greys: Sequence[GreyFrame], face: Face) -> None:
        """The face was found in the last of the greys, which are those that can still be changed."""
        now = greys[-1]
        position = self.positions.setdefault(now.index, Position(now.time, face.box, face.score))
        position.box, position.score, position.found, position.covered = face.box, face.score, True, True
        if face.landmarks is not None:
            position.points, position.own, position.away = np.asarray(face.landmarks, np.float64), True, 0.0
        self._fill(greys)
        self._lend(greys)
        self.times += 1
        self.found_at, self.look, self.visible = now.time, patch(now.grey, face.box), True

    def expected(self, now: GreyFrame) -> list[Box]:
        """Where it may be: where it was carried to, and, if it was hidden meanwhile, straight on at its old speed."""
        box = self.positions[now.index].box
        found = [position for position in self.positions.values() if position.found]
        recent = [position for position in found if self.found_at - position.time <= RECENT]
        if self.visible or len(recent) < 2:
            return [box]
        first, last = recent[0], recent[-1]
        share = (now.time - last.time) / max(last.time - first.time, 1e-9)
        shift = np.subtract(last.box.center, first.box.center) * share
        return [box, shifted(last.box, (float(shift[0]), float(shift[1])))]

    def carry(self, before: GreyFrame, now: GreyFrame, hold: float) -> None:
        """Go on into the next frame. For `hold` seconds the face is covered even where it cannot be seen."""
        old = self.positions[before.index]
        step = motion(before.grey, now.grey, old.box)
        x, y = self._drift
        self._drift = (x * SLOWING, y * SLOWING) if step is None else _shift(step, old.box)
        box = shifted(old.box, self._drift) if step is None else moved_box(step, old.box)
        self.visible = self.visible and step is not None and correlation(self.look, patch(now.grey, box)) > SAME
        points = None if old.points is None else apply_affine(_way(step, old.box, box), old.points)
        covered = self.visible or now.time - self.found_at <= hold
        away = old.away + now.time - old.time
        self.positions[now.index] = Position(now.time, box, old.score, False, covered, points, False, away, step)

    def extend_back(self, greys: Sequence[GreyFrame], hold: float, taken: Callable[[int, Box], bool]) -> None:
        """Go back from where the face was first found, as far as it is seen and for `hold` seconds at least.

        taken: whether a box in a frame is covered by another track.
        """
        for later, now in zip(greys[:0:-1], greys[-2::-1], strict=True):
            after = self.positions[later.index]
            step = motion(later.grey, now.grey, after.box)
            box = after.box if step is None else moved_box(step, after.box)
            self.visible = self.visible and step is not None and correlation(self.look, patch(now.grey, box)) > SAME
            if not (self.visible or self.found_at - now.time <= hold) or taken(now.index, box):
                break
            after.step = None if step is None else invert(step)
            self.positions[now.index] = Position(now.time, box, after.score)
        self.visible = True
        self._lend(greys)

    def forget(self, index: int) -> None:
        """Drop what lies before a frame."""
        for old in [key for key in self.positions if key < index]:
            del self.positions[old]

    def _fill(self, greys: Sequence[GreyFrame]) -> None:
        """Correct the boxes since the face was last found, now that both ends of the gap are known."""
        now, start = greys[-1], self.found_at
        back = self.positions[now.index].box
        for later, m in zip(greys[:0:-1], greys[-2::-1], strict=True):
            position = self.positions.get(m.index)
            if position is None or position.found:
                break
            step = motion(later.grey, m.grey, back)
            share = (m.time - start) / max(now.time - start, 1e-9)
            # Where nothing shows the way back, straight on.
            back = moved_box(step, back) if step is not None else mixed(position.box, back, share)
            self.positions[later.index].step = None if step is None else invert(step)
            position.box, position.covered = mixed(position.box, back, share), True

    def _lend(self, greys: Sequence[GreyFrame]) -> None:
        """Carry points back from the nearest frame that has its own to those before it that have none."""
        points, lent = None, 0.0
        for later, m in zip(greys[:0:-1], greys[-2::-1], strict=True):
            after, position = self.positions.get(later.index), self.positions.get(m.index)
            if position is None or after is None or position.own:
                break
            if after.own:
                points, lent = after.points, after.time
            if points is not None:
                points = apply_affine(invert(_way(after.step, position.box, after.box)), points)
                _accept(position, points, lent - position.time)


def mixed(a: Box, b: Box, share: float) -> Box:
    """A box between two: `share` of the way from a to b."""
    sides = zip((a.left, a.top, a.right, a.bottom), (b.left, b.top, b.right, b.bottom), strict=True)
    return Box(*(float(x + (y - x) * share) for x, y in sides))


def _accept(position: Position, points: np.ndarray, away: float) -> None:
    """Points from the other side: alone if there were none, else mixed by how near in time each side is."""
    if position.points is None:
        position.points = points
    else:
        position.points = position.points + (points - position.points) * (
            position.away / max(position.away + away, 1e-9)
        )
    position.away = min(position.away, away)


def _way(step: np.ndarray | None, old: Box, new: Box) -> np.ndarray:
    """The motion if it is known, else what takes one box to the other."""
    if step is not None:
        return step
    grown = float(np.sqrt(max(new.area, 1e-9) / max(old.area, 1e-9)))
    (x, y), (u, v) = old.center, new.center
    return np.array([[grown, 0, u - grown * x], [0, grown, v - grown * y]])


def _shift(step: np.ndarray, box: Box) -> tuple[float, float]:
    x, y = box.center
    u, v = apply_affine(step, np.array([[x, y]]))[0]
    return float(u - x), float(v - y)
