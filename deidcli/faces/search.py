"""Search: turned, dim and very large pictures for detectors that know none of them; each face once (`nms`).

A picture that is larger than a detector takes in one piece is searched at full size, half, a quarter, … until it fits,
each size in tiles. Neighbouring tiles share a strip wide enough for every face that the next smaller size would miss,
so that each face lies whole in some tile. Memory is that of one tile and one copy of the picture.

Detectors that ask for it look again where they are weak. Stills are enlarged for the smallest faces. At the borders a
picture is mirrored outwards: half a face and its mirror image are a face, and a detector that misses the one finds the
other. A forehead or a chin and its mirror image are drawn out to the height of a face. A picture of few colours (1 bit,
a small palette) is smoothed, because its dots hide the faces.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol

import cv2
import numpy as np

from deidcli.faces.landmarks import locate
from deidcli.values import Box, Face

ROOM = 1.5  # of a face's side: how wide a strip two tiles share, because a detector looks at the surroundings too
BLANK = 3  # levels of 256 that a part spans in no colour, for which no detector is called
RIM = 4  # pixels: a box that comes closer to a tile's inner border may be cut off
ENLARGED = 1.5  # how much a still is enlarged for the second look at small faces
SMALL = 32  # pixels, longer side of the largest face that is taken from that look
MOST_ENLARGED = 4_000_000  # pixels of the largest picture that is looked at so: it costs 2.25 times the first look
# The looks at mirrored borders: longer side of the largest, in pixels, the scales after it, and the width of the strip
# that is mirrored. Of strips of 32 to half of the picture this one found most.
MIRRORED_SIDE, MIRRORED_SCALES, MIRRORED = 1024, (1.0, 0.5, 0.25), 32
# The looks at the upper and the lower border that are drawn out: how far, and how many rows of the picture they show. A
# third of a face and its mirror image are as wide as a face and too low; beside one another they are still found.
DRAWN_OUT, EDGE = 2.1, 64
INSIDE = 0.3  # of a box from such a look that lies in the picture, at least: the mirror image of a whole face does not
FEW_COLOURS = 16  # in the pixels that are counted
CHANGES = 0.02  # share of neighbours in a row that differ, above which a picture of few colours is made of dots
DOTS = 1.0  # standard deviation in pixels of the blur that joins dots


class Detector(Protocol):
    """What the search has to know of a detector; see `faces.detectors.base`."""

    smallest: ClassVar[int]
    largest: ClassVar[int]
    enlarges: ClassVar[bool]
    mirrors: ClassVar[bool]
    doublings: int
    brightens: bool

    @property
    def options(self) -> Any: ...

    def find(self, pictures: Sequence[np.ndarray]) -> list[list[Face]]: ...


@dataclass(frozen=True)
class _View:
    """A part of a turned, shrunk picture.

    index: which picture. turn: degrees. size: width and height of the upright picture. scale: of the view to the
    picture. left, top, right, bottom: the part, in pixels of the view, halves included; of a mirrored view it is larger
    than the whole. width, height: of the whole view. largest: longer side in pixels of the picture of the largest face
    that is taken. mirrored: whether its borders are mirrored outwards. drawn_out: how many times as high its pixels are
    shown.
    """

    index: int
    turn: int
    size: tuple[int, int]
    scale: float
    left: float
    top: float
    right: float
    bottom: float
    width: float
    height: float
    largest: float = math.inf
    mirrored: bool = False
    drawn_out: float = 1.0

    def takes(self, face: Face) -> bool:
        """Whether a face of the upright picture is one that this look is for."""
        box, (width, height) = face.box, self.size
        if not self.mirrored:
            return max(box.width, box.height) <= self.largest
        inside = shared(box, Box(0, 0, width, height))
        return INSIDE * box.area < inside < box.area

    def back(self, face: Face) -> Face:
        """The face of this part as a face of the upright picture."""
        box = face.box
        shown = 1.0, self.drawn_out
        corners = np.array([[box.left, box.top], [box.right, box.bottom]]) / shown + (self.left, self.top)
        corners = unturned(corners / self.scale, self.turn, self.size)
        (left, top), (right, bottom) = corners.min(axis=0), corners.max(axis=0)
        five = face.points5
        if five is not None:
            # Points count from the centre of the first pixel.
            five = ((five + 0.5) / shown + (self.left, self.top)) / self.scale
            five = (unturned(five, self.turn, self.size) - 0.5).astype(np.float32)
        return replace(face, box=Box(*map(float, (left, top, right, bottom))), points5=five)

    def scaled(self, factor: float) -> _View:
        """The same part of the picture at another scale."""
        names = ("left", "top", "right", "bottom", "width", "height")
        return replace(self, scale=self.scale * factor, **{name: getattr(self, name) * factor for name in names})

    def cuts(self, box: Box) -> bool:
        """Whether a box of this part may be cut off by a tile's border, or is half a mirror image."""
        return self.mirrored or bool(
            (self.left > 0 and box.left < RIM)
            or (self.top > 0 and box.top < RIM)
            or (self.right < self.width and box.right > self.right - self.left - RIM)
            or (self.bottom < self.height and box.bottom > self.bottom - self.top - RIM)
        )


@dataclass(frozen=True)
class _Found:
    """A face of the upright picture, the turn in which it was found, and whether a tile's border may have cut it."""

    face: Face
    turn: int
    cut: bool


def search(detector: Detector, pictures: Sequence[np.ndarray], followed: bool = False) -> list[list[Face]]:
    """The faces of each picture (height, width, 3) uint8, each once; see `Detector.detect`."""
    found: list[list[_Found]] = [[] for _ in pictures]
    pieces: list[int] = [0] * len(pictures)
    for batch in _batches(_all_views(pictures, detector, followed), detector):
        for (view, _), faces in zip(batch, detector.find([pixels for _, pixels in batch]), strict=True):
            pieces[view.index] += 1
            there = [_Found(view.back(f), view.turn, view.cuts(f.box)) for f in faces]
            found[view.index] += [item for item in there if view.takes(item.face)]
    # In one upright piece the detector itself has found every face once.
    return [
        _merged(picture, faces, detector.options.overlap) if count > 1 or faces and faces[0].turn else
        [item.face for item in faces]
        for picture, faces, count in zip(pictures, found, pieces, strict=True)
    ]  # fmt: skip


def unturned(points: np.ndarray, turn: int, size: tuple[int, int]) -> np.ndarray:
    """Points (n, 2) of a picture that was turned against the clock, in the upright one of `size` (width, height).

    Coordinates are those of boxes: 0 is the border of the picture, not the centre of its first pixel.
    """
    (width, height), (x, y) = size, points.T
    back = {0: (x, y), 90: (width - y, x), 180: (width - x, height - y), 270: (y, height - x)}
    return np.column_stack(back[turn])


def _merged(picture: np.ndarray, found: list[_Found], overlap: float) -> list[Face]:
    """Each face once, whole boxes before those that may be cut; what was found turned gets its landmarks there."""
    ordered = sorted(found, key=lambda item: -item.face.score)
    turns = {id(item.face): item.turn for item in ordered}
    whole = nms((item.face for item in ordered if not item.cut), overlap)
    # However little of it a tile showed: another tile shows it whole.
    seen = [(item.face, _clipped(item.face.box, picture)) for item in ordered if item.cut]
    cut = [face for face, box in seen if not any(lies_in(box, other.box) for other in whole)]
    return [_located(picture, face, turns[id(face)]) for face in nms([*whole, *cut], overlap)]


def _clipped(box: Box, picture: np.ndarray) -> Box:
    height, width = picture.shape[:2]
    return Box(max(box.left, 0.0), max(box.top, 0.0), min(box.right, width), min(box.bottom, height))


def _located(picture: np.ndarray, face: Face, turn: int) -> Face:
    if not turn:
        return face
    size, turned = picture.shape[1::-1], np.rot90(picture, turn // 90)
    corners = np.array([[face.box.left, face.box.top], [face.box.right, face.box.bottom]])
    corners = unturned(corners, 360 - turn, turned.shape[1::-1])
    there = Box(*map(float, (*corners.min(axis=0), *corners.max(axis=0))))
    points = locate(turned, [replace(face, box=there)])[0].landmarks
    if points is None:
        return face
    # Landmarks count from the centre of the first pixel.
    return replace(face, landmarks=(unturned(points + 0.5, turn, size) - 0.5).astype(np.float32))


def _all_views(
    pictures: Sequence[np.ndarray], detector: Detector, followed: bool
) -> Iterator[tuple[_View, np.ndarray]]:
    limit = detector.largest / 4**detector.doublings
    strip = math.ceil(ROOM * 2 * detector.smallest / 2**detector.doublings)
    for index, picture in enumerate(pictures):
        for turn in detector.options.rotations:
            turned = np.rot90(picture, turn // 90)
            if _is_dotted(turned):
                turned = cv2.GaussianBlur(np.ascontiguousarray(turned), (0, 0), DOTS)
            size = picture.shape[1], picture.shape[0]
            whole = _View(index, turn, size, 1.0, 0, 0, *turned.shape[1::-1], *turned.shape[1::-1])
            if detector.enlarges and not followed and turned.shape[0] * turned.shape[1] <= MOST_ENLARGED:
                yield from _enlarged(whole, turned, limit)
            if detector.mirrors:
                yield from _mirrored(whole, turned, MIRRORED_SCALES[followed:], followed)
            for scale, level in _levels(turned, limit):
                for window in _windows(level.shape[0], level.shape[1], limit, strip):
                    left, top, right, bottom = window
                    view = _View(index, turn, size, scale, *window, level.shape[1], level.shape[0])
                    yield from _looks(view, level[top:bottom, left:right], detector, followed)


def _enlarged(whole: _View, picture: np.ndarray, limit: float) -> Iterator[tuple[_View, np.ndarray]]:
    """Tiles of the picture, enlarged, for the smallest faces."""
    for left, top, right, bottom in _windows(
        picture.shape[0], picture.shape[1], limit / ENLARGED**2, math.ceil(ROOM * SMALL)
    ):
        part = np.ascontiguousarray(picture[top:bottom, left:right])
        part = cv2.resize(part, None, fx=ENLARGED, fy=ENLARGED, interpolation=cv2.INTER_CUBIC)
        view = replace(whole, left=left, top=top, right=right, bottom=bottom, largest=SMALL)
        yield view.scaled(ENLARGED), part


def _mirrored(
    whole: _View, picture: np.ndarray, scales: Sequence[float], followed: bool
) -> Iterator[tuple[_View, np.ndarray]]:
    """The picture, shrunk, with a strip mirrored outwards at each border; of a still the edges drawn out as well."""
    first = min(1.0, MIRRORED_SIDE / max(picture.shape[:2]))
    for scale in (first * scale for scale in scales):
        width, height = (max(1, round(side * scale)) for side in picture.shape[1::-1])
        strip = min(MIRRORED, width - 1, height - 1)
        if strip < 2 * RIM:
            return
        picture = cv2.resize(np.ascontiguousarray(picture), (width, height), interpolation=cv2.INTER_AREA)
        view = replace(whole.scaled(scale), mirrored=True)
        yield (
            replace(view, left=-strip, top=-strip, right=width + strip, bottom=height + strip),
            cv2.copyMakeBorder(picture, *(strip,) * 4, cv2.BORDER_REFLECT),
        )
        if not followed:
            yield from _edges(view, picture, strip)


def _edges(view: _View, picture: np.ndarray, strip: int) -> Iterator[tuple[_View, np.ndarray]]:
    """The upper and the lower edge of a picture, mirrored outwards and drawn out; all of one that is not higher."""
    height = len(picture)
    ends = [(0, height)] if height <= 2 * EDGE else [(0, EDGE), (height - EDGE, height)]
    for top, bottom in ends:
        above, below = strip * (top == 0), strip * (bottom == height)
        part = cv2.copyMakeBorder(picture[top:bottom], above, below, 0, 0, cv2.BORDER_REFLECT)
        higher = cv2.resize(part, (part.shape[1], round(len(part) * DRAWN_OUT)), interpolation=cv2.INTER_LINEAR)
        yield replace(view, top=top - above, bottom=bottom + below, drawn_out=len(higher) / len(part)), higher


def _is_dotted(picture: np.ndarray) -> bool:
    """Whether a picture has few colours and changes from pixel to pixel, as one that was dithered does."""
    rows = np.asarray(picture[::7]).astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    # The colours of every seventh pixel say no before the whole rows are compared.
    if rows[:, ::7].size <= 4 * FEW_COLOURS or len(np.unique(rows[:, ::7])) > FEW_COLOURS:
        return False
    return bool(np.mean(rows[:, 1:] != rows[:, :-1]) > CHANGES)


def _looks(view: _View, pixels: np.ndarray, detector: Detector, followed: bool) -> Iterator[tuple[_View, np.ndarray]]:
    """A view, and where it is dark the same brightened.

    Brightening loses hardly any but large faces, and those show at half of the size, in a quarter of the time. The few
    small ones are found in a frame before or after. Nothing is searched where all pixels are alike.
    """
    if _is_blank(pixels):
        return
    dim = detector.brightens and is_low_light(pixels)
    halves = dim and followed and detector.doublings > 0 and min(pixels.shape[:2]) > 1
    yield (view.scaled(0.5), _half(pixels)) if halves else (view, pixels)
    if dim:
        yield view, brightened(pixels)


def _is_blank(pixels: np.ndarray) -> bool:
    """Whether a part is of one colour: no face is seen in it, and large flat pictures would take minutes."""
    # For nearly every part a few pixels are enough to see that it is not.
    return all(np.ptp(part, axis=(0, 1)).max(initial=0) < BLANK for part in (pixels[::16, ::16], pixels))


def _levels(picture: np.ndarray, limit: float) -> Iterator[tuple[float, np.ndarray]]:
    """The picture at full size, half, a quarter, … down to the first that holds no more than `limit` pixels."""
    scale = 1.0
    yield scale, picture
    while picture.shape[0] * picture.shape[1] > limit and min(picture.shape[:2]) > 1:
        # Each level from the one before: a tenth of the work, and the averages are the same.
        picture = _half(picture)
        scale /= 2
        yield scale, picture


def _half(picture: np.ndarray) -> np.ndarray:
    return cv2.resize(np.ascontiguousarray(picture), None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)


def _windows(height: int, width: int, limit: float, strip: int) -> list[tuple[int, int, int, int]]:
    """Left, top, right and bottom of tiles of at most `limit` pixels that share strips of `strip` pixels."""
    if height * width <= limit:
        return [(0, 0, width, height)]
    side = max(2 * strip, math.isqrt(int(limit)))
    rows, columns = _cuts(height, side, strip), _cuts(width, side, strip)
    return [(left, top, right, bottom) for top, bottom in rows for left, right in columns]


def _cuts(length: int, side: int, strip: int) -> list[tuple[int, int]]:
    """Even pieces of at most `side` that cover `length` and share `strip` with their neighbours."""
    count = max(1, math.ceil((length - strip) / (side - strip)))
    step = (length - strip) / count
    return [(round(i * step), min(length, round(i * step + step + strip))) for i in range(count)]


def _batches(views: Iterable[tuple[_View, np.ndarray]], detector: Detector) -> Iterator[list[tuple[_View, np.ndarray]]]:
    """Views that are searched in one call: together about as large as the largest single one may be."""
    batch: list[tuple[_View, np.ndarray]] = []
    total = 0
    for view, pixels in views:
        batch.append((view, pixels))
        total += pixels.shape[0] * pixels.shape[1] * 4**detector.doublings
        if total >= detector.largest:
            yield batch
            batch, total = [], 0
    if batch:
        yield batch


# --- Pictures in low light


DARK = 48  # of 255: what is darker counts as dark
# Of the picture that has to be dark before it is worth a second search: a dim hall has 0.69 and more, a portrait in a
# dark suit up to 0.64, and in portraits the second look finds little but collars and curtains.
SHARE = 0.66
# Local histogram equalisation: how much it may steepen contrast, and in how many squares a side. Of the strengths that
# were tried (2 to 8, with and without a brighter curve or a blur before) this one found most faces in a dim audience.
STRENGTH, SQUARES = 5.0, 8


def is_low_light(pixels: np.ndarray) -> bool:
    """Whether enough of a picture (height, width, 3) uint8 RGB is dark for faces to hide there."""
    # Every fourth pixel says as much.
    return bool(np.mean(pixels[::4, ::4].max(axis=2) < DARK) > SHARE) if pixels.size else False


def brightened(pixels: np.ndarray) -> np.ndarray:
    """The picture with its lightness equalised square by square, colours kept; same shape and type."""
    lab = cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2LAB)
    lab[..., 0] = cv2.createCLAHE(STRENGTH, (SQUARES, SQUARES)).apply(lab[..., 0])
    return cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)


WITHIN = 0.8  # of the smaller box's area: a box that lies in a better one is the same face, cut off or seen too close
DWARF = 0.25  # of the larger box's area: a box smaller than that is another face, in front of the first or on a shirt


def nms(faces: Iterable[Face], overlap: float) -> list[Face]:
    """Of faces in order of preference those that no earlier one covers.

    overlap: the intersection over union above which two boxes are one face, in [0, 1].
    """
    kept: list[Face] = []
    for face in faces:
        if not any(same(face.box, other.box, overlap) for other in kept):
            kept.append(face)
    return kept


def same(a: Box, b: Box, overlap: float) -> bool:
    """Whether two boxes are of one face: they share much of their union, or one lies in the other and is no dwarf."""
    if a.iou(b) > overlap:
        return True
    small, large = sorted((a, b), key=lambda box: box.area)
    return small.area > DWARF * large.area and lies_in(small, large)


def lies_in(box: Box, other: Box) -> bool:
    """Whether nearly all of `box` lies in `other`."""
    return shared(box, other) > WITHIN * box.area


def shared(a: Box, b: Box) -> float:
    """The area that two boxes have in common, in square pixels."""
    width = min(a.right, b.right) - max(a.left, b.left)
    height = min(a.bottom, b.bottom) - max(a.top, b.top)
    return max(width, 0.0) * max(height, 0.0)
