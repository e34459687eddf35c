"""The last look at a picture before it is written: it is decoded from the very bytes that are to be written, and judged
again in every look. What was judged before were pixels in memory; an encoder, a palette or alpha may show others.

Two questions are asked. Does a changed region resemble what stood there before more than the new pixels in memory do?
And does the recogniser take a face for its original? A region that fails is filled with one colour. A face that is
recognised is covered alone; where it is recognised still, with every region that it lies in.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import cv2
import numpy as np

from deidcli.engine.replace import Outcome, Replaced
from deidcli.engine.settings import LAST_RESORT
from deidcli.faces.blend import Mask, mask
from deidcli.faces.looks import all_looks
from deidcli.faces.recognisers import Recogniser
from deidcli.media.image import luma
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
        rows = slice(max(0, round(box.top) - top), max(0, round(box.bottom) - top))
        columns = slice(max(0, round(box.left) - left), max(0, round(box.right) - left))
        return bool(self.mask[rows, columns].any())

    def within(self, cover: Mask) -> np.ndarray:
        """(height, width) bool of the part that a cover hides wholly."""
        left, top = self.corner
        height, width = self.mask.shape
        hidden = np.zeros((height, width), bool)
        own, others = _common((left, top, width, height), cover)
        hidden[own] = cover.alpha[others] >= 1
        return hidden & self.mask


@dataclass(frozen=True)
class _Known:
    """A face, its descriptors (looks, length) before it was replaced, and its place among the frame's outcomes."""

    face: Face
    originals: np.ndarray
    place: int


@dataclass(frozen=True)
class _Treated:
    """A frame of which pixels changed. size: its width and height."""

    size: tuple[int, int]
    regions: tuple[_Region, ...]
    known: tuple[_Known, ...]
    outcomes: tuple[Outcome, ...]

    def touched(self, place: int) -> set[int]:
        """The regions that the face with this place among the outcomes lies in."""
        return {n for n, region in enumerate(self.regions) if region.touches(self.outcomes[place].face.box)}

    def cover(self, place: int) -> Mask:
        """Where a face is covered: as all covers lie, but for nearer faces, which lie over it as in the scene."""
        face = self.outcomes[place].face
        cover = mask(face, "ellipse", self.size)
        for other in self.outcomes:
            near = other.face.box.area > face.box.area and other.face.box.scaled(1.5).iou(face.box.scaled(1.5)) > 0
            if near and other.action != "left":
                over = mask(other.face, "full", self.size)
                height, width = cover.alpha.shape
                own, others = _common((cover.left, cover.top, width, height), over)
                cover.alpha[own] = np.minimum(cover.alpha[own], 1 - over.alpha[others])
        return cover


@dataclass(frozen=True)
class Seen:
    """What the check of a file found, or what is covered for it. regions: by frame, those that are covered whole.
    faces: by frame, places among the outcomes of faces that are covered alone.
    """

    regions: dict[int, set[int]] = field(default_factory=dict)
    faces: dict[int, set[int]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.regions or self.faces)

    @property
    def frames(self) -> set[int]:
        """The frames in which something was found."""
        return {*self.regions, *self.faces}


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
        self._treated[source.index] = _Treated((source.width, source.height), regions, tuple(known), replaced.outcomes)

    def look(self, written: Reader, covered: Seen | None = None) -> Seen:
        """Judge what is to be written, opened anew. Raises MediaError where it cannot be decoded.

        covered: what failed before and is covered by now. A recogniser takes one colour for many a small face, so such
        a face has to resemble what stood there as well.
        """
        covered = covered or Seen()
        seen = Seen()
        for frame in written.frames():
            treated = self._treated.get(frame.index)
            if treated is None:
                continue
            regions = set(self._visible(treated, frame))
            faces = {known.place for known in self._recognised(treated, frame, covered)}
            if regions:
                seen.regions[frame.index] = regions
            if faces:
                seen.faces[frame.index] = faces
        return seen

    def widened(self, covered: Seen, seen: Seen, wide: bool = False) -> Seen:
        """What has to be covered by now: what was, and what was seen since. A face that was covered alone, and with
        `wide` any, takes the regions that it lies in with it."""
        regions = {index: set(places) for index, places in covered.regions.items()}
        faces = {index: set(places) for index, places in covered.faces.items()}
        for index, places in seen.regions.items():
            regions.setdefault(index, set()).update(places)
        for index, places in seen.faces.items():
            again = places if wide else places & faces.get(index, set())
            faces.setdefault(index, set()).update(places)
            for place in again:
                regions.setdefault(index, set()).update(self._treated[index].touched(place))
        return Seen(regions, faces)

    def covered(self, frames: Iterator[Frame], seen: Seen) -> Iterator[tuple[Frame, np.ndarray | None]]:
        """The source's frames with their new pixels again, and one colour over what failed."""
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
            # In the order of the outcomes, which is that in which faces lie over each other.
            for place in sorted(seen.faces.get(frame.index, ())):
                if not treated.touched(place) & failed:
                    _fill(pixels, changed, treated.cover(place))
            yield frame.with_pixels(pixels), changed

    def outcomes(self, index: int, seen: Seen) -> tuple[Outcome, ...]:
        """What became of the faces of a frame once what failed is covered."""
        treated = self._treated[index]
        failed, alone = seen.regions.get(index, set()), seen.faces.get(index, set())
        return tuple(
            replace(outcome, action="covered", method=LAST_RESORT, distance=None, reason=REASON, marks={})
            if place in alone or treated.touched(place) & failed else outcome
            for place, outcome in enumerate(treated.outcomes)
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

    def _recognised(self, treated: _Treated, frame: Frame, covered: Seen) -> Iterator[_Known]:
        if self.judge is None or not treated.known or _is_exact(treated, frame):
            return
        alone, filled = (places.get(frame.index, set()) for places in (covered.faces, covered.regions))
        bare = {known.place for known in treated.known if treated.touched(known.place) & filled}
        covers = {place: treated.cover(place) for place in alone - bare}
        with self.lock:
            for number, look in enumerate(all_looks(frame)):
                # Recognisers take pictures of nothing for anybody: other looks must resemble what stood there at all.
                shown = [
                    known
                    for known in treated.known
                    if (number == 0 and known.place not in alone | bare)
                    or _resembles(treated, look, known, covers.get(known.place))
                ]
                if not shown:
                    continue
                chips = np.stack([self.judge.chips(look, [known.face])[0] for known in shown])
                for known, row in zip(shown, self.judge.embed(chips), strict=True):
                    if self.compared(self.judge, known.face, known.originals, row)[1]:
                        yield known


def _resembles(treated: _Treated, look: np.ndarray, known: _Known, cover: Mask | None) -> bool:
    """Whether a look has anything of the shape that stood where a face was replaced. cover: what hides it by now."""
    for region in (treated.regions[place] for place in treated.touched(known.place)):
        part = region.mask if cover is None else region.within(cover)
        if part.any() and any(_likeness(region.cut(look), before, part) > RESEMBLES for before in region.before):
            return True
    return False


def _fill(pixels: np.ndarray, changed: np.ndarray, cover: Mask) -> None:
    """Lay the mean colour of what is below it over a cover."""
    below, share = pixels[cover.window], cover.alpha[..., None]
    if (cover.alpha >= 1).any():
        colour = below[cover.alpha >= 1].mean(axis=0).round()
        below[:] = np.clip(below * (1 - share) + colour * share + 0.5, 0, 255).astype(np.uint8)
        changed[cover.window] |= cover.alpha > 0


def _common(area: tuple[int, int, int, int], other: Mask) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """The rows and columns that an area (left, top, width, height) and a mask have in common, in either's own count."""
    left, top, width, height = area
    rows = max(top, other.top), min(top + height, other.top + other.alpha.shape[0])
    columns = max(left, other.left), min(left + width, other.left + other.alpha.shape[1])
    own, others = (
        (slice(rows[0] - y, max(rows) - y), slice(columns[0] - x, max(columns) - x))
        for x, y in ((left, top), (other.left, other.top))
    )
    return own, others


def _is_exact(treated: _Treated, frame: Frame) -> bool:
    """Whether what is to be written is what was judged before, in a frame with one look."""
    return not frame.looks and all(
        np.array_equal(region.cut(frame.pixels)[region.mask], region.after[region.mask]) for region in treated.regions
    )


def _regions(source: Frame, after: np.ndarray, changed: np.ndarray) -> Iterator[_Region]:
    # Band by band between rows without a change: the parts of a large picture would take four bytes a pixel.
    edges = np.flatnonzero(np.diff(changed.any(axis=1), prepend=False, append=False))
    for first, last in edges.reshape(-1, 2):
        count, parts, boxes, _ = cv2.connectedComponentsWithStats(changed[first:last].view(np.uint8))
        for number in range(1, count):
            left, top, width, height = (int(value) for value in boxes[number][:4])
            inside = slice(top, top + height), slice(left, left + width)
            top += int(first)
            area = slice(top, top + height), slice(left, left + width)
            before = tuple(look[area].copy() for look in all_looks(source))
            yield _Region((left, top), parts[inside] == number, before, after[area].copy())


def _likeness(a: np.ndarray, b: np.ndarray, mask: np.ndarray) -> float:
    """How alike two pictures are within a mask, whatever their light and even as negatives: |Pearson's r|, 0 to 1."""
    first, second = (luma(pixels[mask]).astype(np.float64) for pixels in (a, b))
    first -= first.mean()
    second -= second.mean()
    spreads = [float(np.sqrt((values**2).mean())) for values in (first, second)]
    # What spans less than a level shows no shape.
    return abs(float((first * second).mean())) / (spreads[0] * spreads[1]) if min(spreads) > 0.75 else 0.0
