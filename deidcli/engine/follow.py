"""Follow: give every face its number. Faces of a video are tracked over its frames, those of a still are counted.

What was given with a number (`--faces`) is taken as it stands, neither joined nor smoothed nor moved; what was given
without one is tracked like what was found.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import chain, groupby

from deidcli.engine.face_list import KnownFaces
from deidcli.engine.frames import FileFailure, FileFrame, FrameOrFailure, pixel_count
from deidcli.errors import one_line
from deidcli.faces.tracking import FrameFaces, TrackOptions
from deidcli.faces.tracking.motion import CutDetector, SmallFrame, changed, parts, shrunk
from deidcli.faces.tracking.tracker import tracked_frames
from deidcli.values import UNTRACKED, Box, Face

MOST_SKIPPED = 8  # frames from one that is searched to the next, whatever the time stamps say
MOST_CLOSER = 0.25  # share of a frame up to which what is new in it is searched a second time
MOST_PIXELS = 24_000_000  # of frames that wait until the next one that is searched
ROUNDED = 0.002  # seconds by which two time stamps may be apart only because their clock is coarse


def planned(items: Iterable[FrameOrFailure], options: TrackOptions) -> Iterator[FrameOrFailure]:
    """The frames of one file, each with whether it begins a shot, and whether and where it has to be searched.

    First and last frame of a shot are searched, and so many between that no frame is left out past the longest wait.
    What a frame between two that are searched shows and neither of them does is searched in it, too, unless the user
    says which frames are (`detect_every`).
    """
    cuts, last, waited = CutDetector(), Fraction(0), 0
    between = _Between(options)
    for item, after in _with_next(_cut(items, options, cuts)):
        if not (isinstance(item, FileFrame) and item.frame.time is not None and options.track):
            yield from between.end()
            yield item
            continue
        waited += 1
        due = item.begins or _ends_shot(after) or _is_due(options, waited, last, after) or between.is_full()
        # What shows in another look alone is not compared with other frames.
        due = due or (bool(item.frame.looks) and options.detect_every is None)
        if due:
            last, waited = _time(item), 0
        yield from between.add(replace(item, searched=due))
    yield from between.end()


class _Between:
    """The frames that wait since one was searched, until the next one is."""

    def __init__(self, options: TrackOptions):
        self.adapts = options.detect_every is None
        self._before: SmallFrame | None = None
        self._waiting: list[FileFrame] = []

    def is_full(self) -> bool:
        """Whether the frames that wait are as many pixels as may be held."""
        return sum(map(pixel_count, self._waiting)) >= MOST_PIXELS

    def add(self, item: FileFrame) -> Iterator[FileFrame]:
        """Take a frame; what is decided comes out, in order."""
        if not self.adapts:
            yield item
        elif not item.searched:
            self._waiting.append(item)
        else:
            after = shrunk(item.frame.pixels)
            if self._before is None or item.begins:
                yield from self.end()
            for each in self._waiting:
                yield self._decided(each, after)
            yield self._closer(item, after)
            self._waiting, self._before = [], after

    def end(self) -> Iterator[FileFrame]:
        """What waits, searched: nothing comes after it."""
        for item in self._waiting:
            yield replace(item, searched=True)
        self._waiting = []

    def _closer(self, item: FileFrame, now: SmallFrame) -> FileFrame:
        """A frame that is searched whole: what is new in it is looked at alone besides, where a detector finds more."""
        if self._before is None or item.begins:
            return item
        new = parts(changed(now, self._before), now.size)
        if sum(part.area for part in new) > MOST_CLOSER * now.size[0] * now.size[1]:
            return item
        return replace(item, parts=(Box(0, 0, *now.size), *new) if new else ())

    def _decided(self, item: FileFrame, after: SmallFrame) -> FileFrame:
        """Whether a frame is searched, and where: in what is not seen in its neighbours that are searched."""
        assert self._before is not None
        now = shrunk(item.frame.pixels)
        mask = changed(now, self._before)
        if mask.any():
            mask &= changed(now, after)
        if not mask.any():
            return item
        self._before = now
        return replace(item, searched=True, parts=parts(mask, now.size))


def _cut(items: Iterable[FrameOrFailure], options: TrackOptions, cuts: CutDetector) -> Iterator[FrameOrFailure]:
    """The items, each frame with whether a shot of the video begins with it."""
    for item in items:
        if options.track and isinstance(item, FileFrame) and item.frame.time is not None:
            yield replace(item, begins=cuts.begins(item.frame.pixels))
        else:
            yield item


def _with_next(items: Iterator[FrameOrFailure]) -> Iterator[tuple[FrameOrFailure, FrameOrFailure | None]]:
    """Every item with the one after it."""
    held: FrameOrFailure | None = None
    for item in items:
        if held is not None:
            yield held, item
        held = item
    if held is not None:
        yield held, None


def _ends_shot(after: FrameOrFailure | None) -> bool:
    """Whether the frame before `after` is the last of its shot."""
    return after is None or (isinstance(after, FileFrame) and after.begins)


def _is_due(options: TrackOptions, waited: int, last: Fraction, after: FrameOrFailure | None) -> bool:
    """Whether a frame is searched because the next one would come too late. waited: frames since one was searched."""
    if options.detect_every is not None:
        return waited >= options.detect_every
    late = not isinstance(after, FileFrame) or float(_time(after) - last) > options.between + ROUNDED
    return late or waited >= MOST_SKIPPED


def _time(item: FileFrame) -> Fraction:
    return item.frame.time or Fraction(0)


def followed(
    items: Iterable[FrameOrFailure], options: TrackOptions, given: KnownFaces | None
) -> Iterator[FrameOrFailure]:
    """The same items in the same order; every face has its number within its file."""
    for source, group in groupby(items, key=lambda item: item.source):
        try:
            start = given.numbers(source.job.name) if given else 0
        except Exception as error:
            yield FileFailure(source, one_line(error))
            continue
        yield from _of_one_file(group, options, start)


def _of_one_file(items: Iterator[FrameOrFailure], options: TrackOptions, start: int) -> Iterator[FrameOrFailure]:
    first = next(items)
    rest = chain([first], items)
    if options.track and isinstance(first, FileFrame) and first.frame.time is not None:
        yield from _tracked(rest, options, start)
    else:
        yield from (_counted(item) for item in rest)


def _tracked(items: Iterator[FrameOrFailure], options: TrackOptions, start: int) -> Iterator[FrameOrFailure]:
    waiting: deque[FileFrame] = deque()
    failed: list[FrameOrFailure] = []

    def frames() -> Iterator[FrameFaces]:
        for item in items:
            if not isinstance(item, FileFrame):
                failed.append(item)
                return
            waiting.append(replace(item, frame=item.frame.resting()))
            yield FrameFaces(item.frame, tuple(_loose(item)) if item.searched else None, item.begins)

    seen = tracked_frames(frames(), options, start)
    while True:
        try:
            found = next(seen, None)
        except Exception as error:
            if not waiting:
                raise
            failed.append(FileFailure(waiting[0].source, f"its faces could not be followed: {one_line(error)}"))
            waiting.clear()
            break
        if found is None:
            break
        item = waiting.popleft()
        yield replace(item, frame=found.frame, faces=(*_numbered(item), *(found.faces or ())))
    for item in waiting:
        yield FileFailure(item.source, f"{item.source.job.name}: frame {item.frame.index} was lost among the tracks")
    # What comes after an error is not written.
    yield from (_counted(item) for item in chain(failed, items))


def _counted(item: FrameOrFailure) -> FrameOrFailure:
    if not isinstance(item, FileFrame):
        return item
    kept = _numbered(item)
    start = 1 + max((face.track for face in kept), default=-1)
    counted = (replace(face, track=number) for number, face in enumerate(_loose(item), start))
    return replace(item, faces=(*kept, *counted))


def _loose(item: FileFrame) -> list[Face]:
    return [face for face in item.faces if face.track == UNTRACKED]


def _numbered(item: FileFrame) -> list[Face]:
    return [face for face in item.faces if face.track != UNTRACKED]
