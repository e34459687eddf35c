"""The last look at a picture before it is written: it is decoded from the very bytes that are to be written, and judged
again in every look. What was judged before were pixels in memory; an encoder, a palette or alpha may show others.

Two questions are asked. Does a changed region resemble what stood there before more than the new pixels in memory do?
And does the recogniser take a face for its original? A region that fails is filled with one colour.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import cv2
import numpy as np

from deidcli.engine.replace import Outcome, Replaced
from deidcli.faces.looks import all_looks
from deidcli.faces.recognisers import Recogniser
from deidcli.media.image.modes import luma
from deidcli.media.stream import Reader
from deidcli.values import Box, Face, Frame

MORE_ALIKE = 0.25
"""How much more a written region may correlate with the original than the new pixels in memory do."""
RESEMBLES = 0.2
"""Correlation with the original above which a look that is not the first is judged by the recogniser."""
REASON = "it could still be seen in what was to be written"
Compared = Callable[[Recogniser, Face, np.ndarray, np.ndarray], tuple[float, bool]]


@dataclass(frozen=True)
class _Region:
    """A connected part of the changed pixels. corner: its left and top. mask: (height, width) bool.

    before: what stood there, in each look. after: the new pixels in memory. All (height, width, 3) uint8.
    """

    corner: tuple[int, int]
    mask: np.ndarray
    before: tuple[np.ndarray, ...]
    after: np.ndarray

    def cut(self, pixels: np.ndarray) -> np.ndarray:
        left, top = self.corner
        height, width = self.mask.shape
        return pixels[top : top + height, left : left + width]

    def touches(self, box: Box) -> bool:
        left, top = self.corner
        height, width = self.mask.shape
        return left < box.right and top < box.bottom and left + width > box.left and top + height > box.top


@dataclass(frozen=True)
class _Known:
    """A face, its descriptors (looks, length) before it was replaced, and its place among the frame's outcomes."""

    face: Face
    originals: np.ndarray
    place: int


@dataclass(frozen=True)
class _Treated:
    """A frame of which pixels changed."""

    regions: tuple[_Region, ...]
    known: tuple[_Known, ...]
    outcomes: tuple[Outcome, ...]


@dataclass(eq=False)
class Seen:
    """What the check of a file found. regions: those that failed, by frame. faces: places of failed outcomes, too."""

    regions: dict[int, set[int]] = field(default_factory=dict)
    faces: dict[int, set[int]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.regions or self.faces)


class WrittenCheck:
    """Collects the replaced frames of one file, and looks at what is to be written of them.

    judge: None where faces are not compared. compared: how, as `Replacer.compared`.
    """

    def __init__(self, judge: Recogniser | None, compared: Compared, lock: threading.Lock):
        self.judge, self.compared, self.lock = judge, compared, lock
        self._treated: dict[int, _Treated] = {}

    def __bool__(self) -> bool:
        return bool(self._treated)

    def add(self, source: Frame, replaced: Replaced) -> None:
        """Note a frame before and after."""
        if replaced.changed is None or not replaced.changed.any():
            return
        known = [
            _Known(outcome.face, originals, place)
            for place, (outcome, originals) in enumerate(zip(replaced.outcomes, replaced.originals, strict=True))
            if originals is not None and outcome.distance is not None
        ]
        regions = tuple(_regions(source, replaced.frame.pixels, replaced.changed))
        self._treated[source.index] = _Treated(regions, tuple(known), replaced.outcomes)

    def look(self, written: Reader, filled: Seen | None = None) -> Seen:
        """Judge what is to be written, opened anew. Raises MediaError where it cannot be decoded.

        filled: what failed before and is one colour by now. A recogniser takes that for many a small face, so it has to
        resemble the face as well.
        """
        filled = filled or Seen()
        seen = Seen()
        for frame in written.frames():
            treated = self._treated.get(frame.index)
            if treated is None:
                continue
            for place in self._visible(treated, frame):
                seen.regions.setdefault(frame.index, set()).add(place)
            bare = [treated.regions[place] for place in filled.regions.get(frame.index, ())]
            for known in self._recognised(treated, frame, bare):
                seen.faces.setdefault(frame.index, set()).add(known.place)
                touched = {n for n, region in enumerate(treated.regions) if region.touches(known.face.box)}
                seen.regions.setdefault(frame.index, set()).update(touched)
        return seen

    def covered(self, frames: Iterator[Frame], seen: Seen) -> Iterator[tuple[Frame, np.ndarray | None]]:
        """The source's frames with their new pixels again, and one colour in the regions that failed."""
        for frame in frames:
            treated = self._treated.get(frame.index)
            if treated is None:
                yield frame, None
                continue
            pixels, changed = frame.pixels.copy(), np.zeros(frame.pixels.shape[:2], bool)
            failed = seen.regions.get(frame.index, set())
            for place, region in enumerate(treated.regions):
                colour = region.after[region.mask].mean(axis=0).round() if place in failed else None
                region.cut(pixels)[region.mask] = region.after[region.mask] if colour is None else colour
                region.cut(changed)[region.mask] = True
            yield frame.with_pixels(pixels), changed

    def outcomes(self, index: int, seen: Seen) -> tuple[Outcome, ...]:
        """What became of the faces of a frame once its failed regions are filled."""
        treated = self._treated[index]
        failed = [treated.regions[place] for place in seen.regions.get(index, ())]
        return tuple(
            replace(outcome, action="covered", method="solid", distance=None, reason=REASON, marks={})
            if any(region.touches(outcome.face.box) for region in failed) else outcome
            for outcome in treated.outcomes
        )  # fmt: skip

    def _visible(self, treated: _Treated, frame: Frame) -> Iterator[int]:
        for place, region in enumerate(treated.regions):
            limits = [_likeness(region.after, before, region.mask) + MORE_ALIKE for before in region.before]
            written = [region.cut(look) for look in all_looks(frame)]
            if any(
                _likeness(look, before, region.mask) > limit
                for look in written
                for before, limit in zip(region.before, limits, strict=True)
            ):
                yield place

    def _recognised(self, treated: _Treated, frame: Frame, bare: Sequence[_Region]) -> Iterator[_Known]:
        if self.judge is None or not treated.known or _is_exact(treated, frame):
            return
        with self.lock:
            for number, look in enumerate(all_looks(frame)):
                # Recognisers take pictures of nothing for anybody: other looks must resemble what stood there at all.
                shown = [
                    known
                    for known in treated.known
                    if (number == 0 and not any(region.touches(known.face.box) for region in bare))
                    or _resembles(treated, look, known.face)
                ]
                if not shown:
                    continue
                chips = np.stack([self.judge.chips(look, [known.face])[0] for known in shown])
                for known, row in zip(shown, self.judge.embed(chips), strict=True):
                    if self.compared(self.judge, known.face, known.originals, row)[1]:
                        yield known


def _resembles(treated: _Treated, look: np.ndarray, face: Face) -> bool:
    """Whether a look has anything of the shape that stood where a face was replaced."""
    touched = (region for region in treated.regions if region.touches(face.box))
    return any(
        _likeness(region.cut(look), before, region.mask) > RESEMBLES for region in touched for before in region.before
    )


def _is_exact(treated: _Treated, frame: Frame) -> bool:
    """Whether what is to be written is what was judged before, in a frame with one look."""
    return not frame.looks and all(
        np.array_equal(region.cut(frame.pixels)[region.mask], region.after[region.mask]) for region in treated.regions
    )


def _regions(source: Frame, after: np.ndarray, changed: np.ndarray) -> Iterator[_Region]:
    count, parts, boxes, _ = cv2.connectedComponentsWithStats(changed.astype(np.uint8))
    for number in range(1, count):
        left, top, width, height = (int(value) for value in boxes[number][:4])
        area = slice(top, top + height), slice(left, left + width)
        before = tuple(look[area].copy() for look in all_looks(source))
        yield _Region((left, top), parts[area] == number, before, after[area].copy())


def _likeness(a: np.ndarray, b: np.ndarray, mask: np.ndarray) -> float:
    """How alike two pictures are within a mask, whatever their light and even as negatives: |Pearson's r|, 0 to 1."""
    first, second = (luma(pixels[mask]).astype(np.float64) for pixels in (a, b))
    first -= first.mean()
    second -= second.mean()
    spreads = [float(np.sqrt((values**2).mean())) for values in (first, second)]
    # What spans less than a level shows no shape.
    return abs(float((first * second).mean())) / (spreads[0] * spreads[1]) if min(spreads) > 0.75 else 0.0
