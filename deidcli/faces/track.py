"""Track: join the faces of a video's frames over time, so that each keeps its number and none is lost for a moment.

Frames come in order with the faces that were found in them and leave in order with tracked faces, some seconds later:
that look-ahead lets a gap be filled from both sides, a track begin before its face was first found, and boxes be
smoothed without lag. A cut ends every track. What is written depends on the frames and the options alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from deidcli.errors import UsageError
from deidcli.faces.assign import assigned
from deidcli.faces.motion import grey, patch
from deidcli.faces.settle import settled
from deidcli.faces.smooth import REACH
from deidcli.faces.suppress import lies_in, shared
from deidcli.faces.trail import Moment, Trail
from deidcli.values import Box, Face, Frame

# However long the look-ahead, no more is held: frames, and pixels of all of them together.
MOST_FRAMES, MOST_PIXELS = 128, 64_000_000
SHARED = 0.5  # intersection over union above which a face that was carried is the one that was found


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
class Seen:
    """A frame with its faces, None where it was not searched. begins: it is the first of a shot."""

    frame: Frame
    faces: tuple[Face, ...] | None
    begins: bool = False


def track(frames: Iterable[Seen], options: TrackOptions, first: int = 0) -> Iterator[Seen]:
    """The same frames of one file, in order, each with its tracked faces.

    Tracks are numbered from `first` in the order in which they appear. Every face that was found lies within the box of
    a tracked face of its frame.
    """
    shot = _Shot(options, first)
    for seen in frames:
        if seen.begins:
            yield from shot.end()
            shot = _Shot(options, shot.number)
        shot.add(seen)
        while shot.is_full():
            yield shot.next()
    yield from shot.end()


class _Shot:
    """The frames of a shot that wait, and the trails through them."""

    def __init__(self, options: TrackOptions, number: int):
        self.options, self.number = options, number
        self.frames: deque[Frame] = deque()
        self.moments: deque[Moment] = deque()
        self.trails: list[Trail] = []
        self._before: Moment | None = None

    def add(self, seen: Seen) -> None:
        now = Moment(seen.frame.index, float(seen.frame.time or 0), grey(seen.frame.pixels))
        self.frames.append(seen.frame)
        self.moments.append(now)
        live = [trail for trail in self.trails if trail.open]
        if self._before is not None:
            for trail in live:
                trail.carry(self._before, now, self.options.hold)
        if seen.faces is not None:
            self._find(live, now, seen.faces)
        for trail in live:
            trail.open = trail.open and self._can_return(trail, now)
        self._before = now

    def is_full(self) -> bool:
        """Whether the first frame has waited long enough, or too much is held."""
        ahead = self.options.around + REACH * self.options.smooth
        pixels = sum(frame.width * frame.height for frame in self.frames)
        waited = self.moments[-1].time - self.moments[0].time if self.moments else 0.0
        return len(self.frames) > 1 and (waited >= ahead or len(self.frames) > MOST_FRAMES or pixels > MOST_PIXELS)

    def next(self) -> Seen:
        """The first frame that waits, with its faces."""
        frame, now = self.frames.popleft(), self.moments.popleft()
        here = [trail for trail in self.trails if now.index in trail.spots and trail.spots[now.index].covered]
        found = [trail.spots[now.index].box for trail in here if trail.spots[now.index].found]
        faces = [
            settled(trail, now.index, self.options)
            for trail in here
            if trail.spots[now.index].found or not _covered(trail.spots[now.index].box, found)
        ]
        self._forget(now)
        return Seen(frame, tuple(faces))

    def end(self) -> Iterator[Seen]:
        while self.frames:
            yield self.next()

    def _find(self, live: list[Trail], now: Moment, faces: tuple[Face, ...]) -> None:
        """Give every face that was found to its trail, or begin one."""
        expected = [(trail.expected(now), trail.look) for trail in live]
        pairs = assigned(expected, [(face.box, patch(now.grey, face.box)) for face in faces])
        moments = list(self.moments)
        for i, j in pairs:
            live[i].find(moments, faces[j])
        for j in sorted(set(range(len(faces))) - {j for _, j in pairs}):
            self._begin(moments, faces[j])
        boxes = [face.box for face in faces]
        for i in set(range(len(live))) - {i for i, _ in pairs}:
            # It was carried onto a face that is another's.
            live[i].open = not _covered(live[i].spots[now.index].box, boxes)

    def _begin(self, moments: list[Moment], face: Face) -> None:
        trail = Trail(self.number)
        self.number += 1
        trail.find(moments, face)
        trail.reach_back(moments, self.options.hold, self._taken)
        self.trails.append(trail)

    def _taken(self, index: int, box: Box) -> bool:
        spots = (trail.spots.get(index) for trail in self.trails)
        return _covered(box, [spot.box for spot in spots if spot is not None and spot.covered])

    def _can_return(self, trail: Trail, now: Moment) -> bool:
        lost = now.time - trail.found_at
        box, (height, width) = trail.spots[now.index].box, now.grey.shape
        # Of a face that leaves the picture a nose may still be seen.
        inside = shared(box, Box(0, 0, width, height)) > 0
        stay = min(self.options.stay, trail.times * self.options.gap) if trail.there else 0
        return inside and lost <= max(stay, self.options.gap, self.options.hold)

    def _forget(self, now: Moment) -> None:
        """Drop trails that have ended, and spots that no later frame looks back at."""
        since = now.time - self.options.around
        for trail in self.trails:
            trail.forget(next((i for i, spot in sorted(trail.spots.items()) if spot.time >= since), now.index))
        self.trails = [t for t in self.trails if t.open or any(i > now.index for i in t.spots)]


def _covered(box: Box, boxes: list[Box]) -> bool:
    """Whether one of `boxes` is the same face."""
    return any(lies_in(box, other) or box.iou(other) > SHARED for other in boxes)
