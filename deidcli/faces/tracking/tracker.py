"""Tracker: join the faces of a video's frames over time, so that each keeps its number and none is lost for a moment.

Frames come in order with the faces that were found in them and leave in order with tracked faces, some seconds later:
that look-ahead lets a gap be filled from both sides, a track begin before its face was first found, and boxes be
smoothed without lag. A cut ends every track. What is written depends on the frames and the options alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from deidcli.faces.landmarks import plausible
from deidcli.faces.search import lies_in, shared
from deidcli.faces.tracking import FrameFaces, GreyFrame, Position, Track, TrackOptions
from deidcli.faces.tracking.motion import REACH, correlation, grey, hull, patch, smoothed
from deidcli.values import Box, Face, Frame

# However long the look-ahead, no more is held: frames, and pixels of all of them together.
MOST_FRAMES, MOST_PIXELS = 128, 64_000_000
SHARED = 0.5  # intersection over union above which a face that was carried is the one that was found

# Assignment of detections to tracks.
LEAST_OVERLAP = 0.15  # of the expected and the found box, from which on they may be one face however it looks
MOST_DISTANCE = 1.5  # sides of a face that one which looks the same may lie away from where it was expected
ALIKE = 0.6  # correlation at which two faces look the same
MOST_GROWTH = 0.5  # logarithm of the ratio of their sides up to which they can be one without overlap
_NEVER = 1e6

# What is written of a track.
CARRIED_WEIGHT = 0.25  # how much a box that was carried counts beside one that was found
# Of the frames around in which the face was found, the share that has to have landmarks of its own for a face to get
# landmarks when it had none in the frame before, when it is new, and when it had some.
SHARE_TO_START, SHARE_WHEN_NEW, SHARE_TO_STAY = 0.75, 0.5, 0.3


def tracked_frames(frames: Iterable[FrameFaces], options: TrackOptions, first: int = 0) -> Iterator[FrameFaces]:
    """The same frames of one file, in order, each with its tracked faces.

    Tracks are numbered from `first` in the order in which they appear. Every face that was found lies within the box of
    a tracked face of its frame.
    """
    shot = _ShotTracker(options, first)
    for seen in frames:
        if seen.begins:
            yield from shot.end()
            shot = _ShotTracker(options, shot.number)
        shot.add(seen)
        while shot.is_full():
            yield shot.next()
    yield from shot.end()


class _ShotTracker:
    """The frames of a shot that wait, and the tracks through them."""

    def __init__(self, options: TrackOptions, number: int):
        self.options, self.number = options, number
        self.frames: deque[Frame] = deque()
        self.greys: deque[GreyFrame] = deque()
        self.tracks: list[Track] = []
        self._before: GreyFrame | None = None

    def add(self, seen: FrameFaces) -> None:
        now = GreyFrame(seen.frame.index, float(seen.frame.time or 0), grey(seen.frame.pixels))
        self.frames.append(seen.frame.resting())
        self.greys.append(now)
        live = [track for track in self.tracks if track.open]
        if self._before is not None:
            for track in live:
                track.carry(self._before, now, self.options.hold)
        if seen.faces is not None:
            self._find(live, now, seen.faces)
        for track in live:
            track.open = track.open and self._can_return(track, now)
        self._before = now

    def is_full(self) -> bool:
        """Whether the first frame has waited long enough, or too much is held."""
        ahead = self.options.around + REACH * self.options.smooth
        pixels = sum(frame.width * frame.height for frame in self.frames)
        waited = self.greys[-1].time - self.greys[0].time if self.greys else 0.0
        return len(self.frames) > 1 and (waited >= ahead or len(self.frames) > MOST_FRAMES or pixels > MOST_PIXELS)

    def next(self) -> FrameFaces:
        """The first frame that waits, with its faces."""
        frame, now = self.frames.popleft().awake(), self.greys.popleft()
        here = [track for track in self.tracks if now.index in track.positions and track.positions[now.index].covered]
        found = [track.positions[now.index].box for track in here if track.positions[now.index].found]
        faces = [
            smoothed_face(track, now.index, self.options)
            for track in here
            if track.positions[now.index].found or not _covered(track.positions[now.index].box, found)
        ]
        self._forget(now)
        return FrameFaces(frame, tuple(faces))

    def end(self) -> Iterator[FrameFaces]:
        while self.frames:
            yield self.next()

    def _find(self, live: list[Track], now: GreyFrame, faces: tuple[Face, ...]) -> None:
        """Give every face that was found to its track, or begin one."""
        expected = [(track.expected(now), track.look) for track in live]
        pairs = assigned(expected, [(face.box, patch(now.grey, face.box)) for face in faces])
        greys = list(self.greys)
        for i, j in pairs:
            live[i].find(greys, faces[j])
        for j in sorted(set(range(len(faces))) - {j for _, j in pairs}):
            self._begin(greys, faces[j])
        boxes = [face.box for face in faces]
        for i in set(range(len(live))) - {i for i, _ in pairs}:
            # It was carried onto a face that is another's.
            live[i].open = not _covered(live[i].positions[now.index].box, boxes)

    def _begin(self, greys: list[GreyFrame], face: Face) -> None:
        track = Track(self.number)
        self.number += 1
        track.find(greys, face)
        track.extend_back(greys, self.options.hold, self._taken)
        self.tracks.append(track)

    def _taken(self, index: int, box: Box) -> bool:
        positions = (track.positions.get(index) for track in self.tracks)
        return _covered(box, [position.box for position in positions if position is not None and position.covered])

    def _can_return(self, track: Track, now: GreyFrame) -> bool:
        lost = now.time - track.found_at
        box, (height, width) = track.positions[now.index].box, now.grey.shape
        # Of a face that leaves the picture a nose may still be seen.
        inside = shared(box, Box(0, 0, width, height)) > 0
        stay = min(self.options.stay, track.times * self.options.gap) if track.visible else 0
        return inside and lost <= max(stay, self.options.gap, self.options.hold)

    def _forget(self, now: GreyFrame) -> None:
        """Drop tracks that have ended, and positions that no later frame looks back at."""
        since = now.time - self.options.around
        for track in self.tracks:
            track.forget(
                next((i for i, position in sorted(track.positions.items()) if position.time >= since), now.index)
            )
        self.tracks = [t for t in self.tracks if t.open or any(i > now.index for i in t.positions)]


def _covered(box: Box, boxes: list[Box]) -> bool:
    """Whether one of `boxes` is the same face."""
    return any(lies_in(box, other) or box.iou(other) > SHARED for other in boxes)


def smoothed_face(track: Track, index: int, options: TrackOptions) -> Face:
    """The tracked face of a frame. Call it frame after frame."""
    position = track.positions[index]
    positions = sorted(track.positions.items())
    box = _box(position, [s for _, s in positions if s.covered], options.smooth)
    shows = _shows(track, position, [s for _, s in positions if s.found], options.around)
    points = _points(position, [s for _, s in positions], options) if shows else None
    face = Face(box, position.score, None, track.number)
    if points is None or not plausible(points, face):
        return face
    return Face(box, position.score, points.astype(np.float32), track.number)


def _box(position: Position, positions: list[Position], sigma: float) -> Box:
    near = [s for s in positions if abs(s.time - position.time) <= REACH * sigma]
    sides = np.array([(s.box.left, s.box.top, s.box.right, s.box.bottom) for s in near])
    weights = np.array([1.0 if s.found else CARRIED_WEIGHT for s in near])
    left, top, right, bottom = hull(np.array([s.time for s in near]), sides, weights, position.time, sigma)
    return Box(float(left), float(top), float(right), float(bottom))


def _shows(track: Track, position: Position, found: list[Position], around: float) -> bool:
    """Whether the track shows landmarks now, by the share of frames around that have their own."""
    own = [s.own for s in found if abs(s.time - position.time) <= around]
    share = sum(own) / len(own) if own else 0.0
    needed = SHARE_WHEN_NEW if track.shows is None else SHARE_TO_STAY if track.shows else SHARE_TO_START
    if own:
        track.shows = share >= needed
    return bool(track.shows)


def _points(position: Position, positions: list[Position], options: TrackOptions) -> np.ndarray | None:
    if position.points is None or position.away > options.gap:
        return None
    near = [s for s in positions if s.points is not None and abs(s.time - position.time) <= REACH * options.points]
    values = np.array([s.points.ravel() for s in near if s.points is not None])
    weights = np.array([1.0 if s.own else CARRIED_WEIGHT for s in near])
    times = np.array([s.time for s in near])
    return smoothed(times, values, weights, position.time, options.points).reshape(-1, 2)


def assigned(
    tracks: Sequence[tuple[Sequence[Box], np.ndarray | None]], faces: Sequence[tuple[Box, np.ndarray | None]]
) -> list[tuple[int, int]]:
    """Pairs of positions (track, face), each at most once.

    tracks: for each the boxes where it may be, and its look. faces: for each its box and its look.
    """
    if not tracks or not faces:
        return []
    # Imported here: it takes a second, which no photograph needs.
    from scipy.optimize import linear_sum_assignment

    costs = np.array([[min(_cost(box, look, *face) for box in boxes) for face in faces] for boxes, look in tracks])
    pairs = zip(*linear_sum_assignment(costs), strict=True)
    return [(int(i), int(j)) for i, j in pairs if costs[i, j] < _NEVER]


def _cost(expected: Box, before: np.ndarray | None, box: Box, now: np.ndarray | None) -> float:
    """How unlikely it is that they are one, by overlap, distance, look and size; _NEVER where they cannot be."""
    overlap, looks = expected.iou(box), correlation(before, now)
    away = float(np.hypot(*np.subtract(expected.center, box.center)) / np.sqrt(max(expected.area, box.area, 1.0)))
    growth = abs(float(np.log(max(box.area, 1.0) / max(expected.area, 1.0)))) / 2
    near = away < MOST_DISTANCE and looks > ALIKE and growth < MOST_GROWTH
    return (1 - overlap) + 0.5 * away + 0.5 * (1 - looks) + growth if overlap > LEAST_OVERLAP or near else _NEVER
