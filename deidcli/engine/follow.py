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
from typing import TYPE_CHECKING

from deidcli.engine.given import GivenFaces
from deidcli.faces.tracking.cuts import CutDetector
from deidcli.faces.tracking.options import FrameFaces, TrackOptions
from deidcli.faces.tracking.tracker import tracked_frames
from deidcli.values import UNTRACKED, Face

if TYPE_CHECKING:
    from deidcli.engine.find import Shot

ROUNDED = 0.002  # seconds by which two time stamps may be apart only because their clock is coarse


def planned(shots: Iterable[Shot], options: TrackOptions) -> Iterator[Shot]:
    """The frames of one file, each with whether it begins a shot and whether it has to be searched.

    Each is held back until the next is known: the last frame of a shot is searched like its first, so that what is
    carried through the frames between comes from both sides, and no frame is left out past the longest wait.
    """
    cuts, last, waited = CutDetector(), Fraction(0), 0
    for shot, after in _with_next(_cut(shots, options, cuts)):
        waited += 1
        if shot.frame is not None and shot.frame.time is not None and options.track:
            due = shot.begins or after is None or after.begins or _is_due(options, waited, last, after)
            shot = replace(shot, searched=due)
            last = _time(shot) if due else last
        waited = 0 if shot.searched else waited
        yield shot


def _cut(shots: Iterable[Shot], options: TrackOptions, cuts: CutDetector) -> Iterator[Shot]:
    """The shots, each with whether a shot of the video begins with it."""
    for shot in shots:
        followed = options.track and shot.frame is not None and shot.frame.time is not None
        yield replace(shot, begins=cuts.begins(shot.frame.pixels)) if followed else shot


def _with_next(shots: Iterator[Shot]) -> Iterator[tuple[Shot, Shot | None]]:
    """Every shot with the one after it."""
    held: Shot | None = None
    for shot in shots:
        if held is not None:
            yield held, shot
        held = shot
    if held is not None:
        yield held, None


def _is_due(options: TrackOptions, waited: int, last: Fraction, after: Shot) -> bool:
    """Whether a frame is searched because the next one would come too late. waited: frames since one was searched."""
    if options.detect_every is not None:
        return waited >= options.detect_every
    return after.frame is None or float(_time(after) - last) > options.between + ROUNDED


def _time(shot: Shot) -> Fraction:
    return shot.frame.time or Fraction(0)


def followed(shots: Iterable[Shot], options: TrackOptions, given: GivenFaces | None) -> Iterator[Shot]:
    """The same shots in the same order; every face has its number within its file."""
    for source, group in groupby(shots, key=lambda shot: shot.source):
        start = given.numbers(source.job.name) if given else 0
        yield from _of_one_file(group, options, start)


def _of_one_file(shots: Iterator[Shot], options: TrackOptions, start: int) -> Iterator[Shot]:
    first = next(shots)
    rest = chain([first], shots)
    if options.track and first.frame is not None and first.frame.time is not None:
        yield from _tracked(rest, options, start)
    else:
        yield from (_counted(shot) for shot in rest)


def _tracked(shots: Iterator[Shot], options: TrackOptions, start: int) -> Iterator[Shot]:
    waiting: deque[Shot] = deque()
    failed: list[Shot] = []

    def frames() -> Iterator[FrameFaces]:
        for shot in shots:
            if shot.frame is None:
                failed.append(shot)
                return
            waiting.append(shot)
            yield FrameFaces(shot.frame, tuple(_loose(shot)) if shot.searched else None, shot.begins)

    for seen in tracked_frames(frames(), options, start):
        shot = waiting.popleft()
        yield replace(shot, faces=(*_numbered(shot), *seen.faces))
    # What comes after an error is not written.
    yield from (_counted(shot) for shot in chain(failed, shots))


def _counted(shot: Shot) -> Shot:
    kept = _numbered(shot)
    start = 1 + max((face.track for face in kept), default=-1)
    counted = (replace(face, track=number) for number, face in enumerate(_loose(shot), start))
    return replace(shot, faces=(*kept, *counted))


def _loose(shot: Shot) -> list[Face]:
    return [face for face in shot.faces if face.track == UNTRACKED]


def _numbered(shot: Shot) -> list[Face]:
    return [face for face in shot.faces if face.track != UNTRACKED]
