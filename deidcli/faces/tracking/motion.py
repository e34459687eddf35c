"""Motion: how a face moves from one frame to its neighbour, its smooth path through many, and what else changes: cuts.

From frame to frame: points on a grid over the face are followed by the pyramidal Lucas-Kanade method to the other
frame and back again; those that do not come back to where they began are dropped, and the rest say how the face has
moved and grown (Kalal et al. 2010, "Forward-backward error").

Through many: a smooth value is the local parabola through its neighbours on both sides, weighted by how near they are
in time (LOESS, the Savitzky-Golay filter for uneven time stamps): steady motion and acceleration pass unchanged. There
is no lag, and a box is never smaller than what was found.

Changes: a neighbouring frame is bent by dense optical flow (DIS, Kroeger et al. 2016) to look like this one, both
shrunk. What then differs appeared, jumped or changed; what flow had to carry far moved too fast for a face to be
followed by it.

Cuts: two neighbouring frames belong to two shots if little of the structure of one is found in the other: their shrunk
pictures hardly correlate, and few points of the first can be followed into the second. Correlation does not mind a
flash or a fade, and points can be followed through a pan. In `stage_and_audience.mp4` neighbours correlate at 0.80 and
more, across its three cuts at 0.33 and less.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from deidcli.faces.align import apply_affine
from deidcli.values import Box

GRID = 7  # points a side
ROOM = 2.0  # sides of a face's box that the window about it measures; a face may leave its place by half of its side
SIDE = 64  # pixels of the box in the window: larger ones are shrunk, because the grid needs no more
STRAY = 1.0  # pixels of that window by which a point may miss its place on the way back
FEWEST = 8  # points that have to agree
_AREA, _LEVELS = (15, 15), 3  # pixels about a point that are compared, and how often the pictures are halved


def grey(pixels: np.ndarray) -> np.ndarray:
    """(height, width) uint8 of a picture (height, width, 3) RGB."""
    return cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2GRAY)


def motion(before: np.ndarray, after: np.ndarray, box: Box) -> np.ndarray | None:
    """The (2, 3) turn, scale and shift that takes the face in `box` from one grey frame to the other.

    None where it cannot be estimated: too dark, too blurred, hidden, or moved too far.
    """
    rows, columns, scale = _window(before.shape, box)
    views = [_scaled(picture[rows, columns], scale) for picture in (before, after)]
    if min(views[0].shape) < 8:
        return None
    # Within the box's inner part: its corners show the background, which moves differently.
    places = (_grid(box.scaled(0.7)) - (columns.start, rows.start) + 0.5) * scale - 0.5
    found, kept = _followed(views[0], views[1], places.astype(np.float32))
    if kept.sum() < FEWEST:
        return None
    old, new = ((points[kept] + 0.5) / scale - 0.5 + (columns.start, rows.start) for points in (places, found))
    affine, inliers = cv2.estimateAffinePartial2D(old, new, method=cv2.RANSAC, ransacReprojThreshold=2 / scale)
    return affine if affine is not None and inliers.sum() >= FEWEST and _sound(affine) else None


def moved_box(affine: np.ndarray, box: Box) -> Box:
    """The box where `affine` takes it, upright and of its own proportions."""
    x, y = apply_affine(affine, np.array([box.center]))[0]
    grown = float(np.hypot(affine[0, 0], affine[1, 0]))
    w, h = box.width * grown / 2, box.height * grown / 2
    return Box(float(x - w), float(y - h), float(x + w), float(y + h))


def shifted(box: Box, shift: tuple[float, float]) -> Box:
    """The box moved by (x, y) pixels."""
    x, y = shift
    return Box(box.left + x, box.top + y, box.right + x, box.bottom + y)


def tracked_share(before: np.ndarray, after: np.ndarray) -> float:
    """The share of points all over one grey picture that are found again in another."""
    height, width = before.shape
    _, kept = _followed(before, after, _grid(Box(0, 0, width, height).scaled(0.9)).astype(np.float32))
    return float(kept.mean())


def patch(picture: np.ndarray, box: Box) -> np.ndarray | None:
    """What a face looks like, to compare: 256 numbers of mean 0 and length 1; None outside the picture or without
    contrast.
    """
    rows, columns = _part(picture.shape, box)
    region = picture[rows, columns]
    if min(region.shape) < 2:
        return None
    small = cv2.resize(region, (16, 16), interpolation=cv2.INTER_AREA).astype(np.float32).ravel()
    small -= small.mean()
    length = float(np.linalg.norm(small))
    return small / length if length > 16 else None


def correlation(a: np.ndarray | None, b: np.ndarray | None) -> float:
    """The correlation of two patches in [-1, 1]; 0 where one is missing."""
    return 0.0 if a is None or b is None else float(a @ b)


def _followed(before: np.ndarray, after: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where points (n, 2) went, and which of them came back."""
    there, good = _flow(before, after, points)
    back, good_too = _flow(after, before, there)
    stray = np.linalg.norm(back - points, axis=1)
    return there, good & good_too & (stray < STRAY)


def _flow(before: np.ndarray, after: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    start, end = points[:, None].copy(), np.zeros((len(points), 1, 2), np.float32)
    there, good, _ = cv2.calcOpticalFlowPyrLK(before, after, start, end, winSize=_AREA, maxLevel=_LEVELS)
    return np.asarray(there)[:, 0], np.asarray(good)[:, 0] > 0


def _grid(box: Box) -> np.ndarray:
    x, y = np.linspace(box.left, box.right, GRID), np.linspace(box.top, box.bottom, GRID)
    return np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2) - 0.5


def _window(shape: tuple[int, ...], box: Box) -> tuple[slice, slice, float]:
    rows, columns = _part(shape, box.scaled(ROOM))
    return rows, columns, min(1.0, SIDE / max(box.width, box.height, 1.0))


def _part(shape: tuple[int, ...], box: Box) -> tuple[slice, slice]:
    top, bottom = (min(max(round(v), 0), shape[0]) for v in (box.top, box.bottom))
    left, right = (min(max(round(v), 0), shape[1]) for v in (box.left, box.right))
    return slice(top, max(top, bottom)), slice(left, max(left, right))


def _scaled(picture: np.ndarray, scale: float) -> np.ndarray:
    if scale >= 1 or not picture.size:
        return np.ascontiguousarray(picture)
    return cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def _sound(affine: np.ndarray) -> bool:
    """From one frame to the next no face doubles its size or turns over."""
    return bool(0.7 < np.hypot(affine[0, 0], affine[1, 0]) < 1.4 and abs(affine[1, 0]) < 0.5)


REACH = 2.5  # standard deviations to either side that count


def smoothed(times: np.ndarray, values: np.ndarray, weights: np.ndarray, now: float, sigma: float) -> np.ndarray:
    """The smooth value (d,) at `now` of `values` (n, d) at `times` (n,) in seconds, each with its weight above 0.

    sigma: standard deviation of the weights over time in seconds. Few neighbours give a line, or their mean.
    """
    return _parabola(times, values, weights, now, sigma)[0]


def hull(times: np.ndarray, sides: np.ndarray, weights: np.ndarray, now: float, sigma: float) -> np.ndarray:
    """Smooth sides (4,), left, top, right, bottom, at `now` of boxes (n, 4) that contain the box of `now`.

    Where a box reaches past the parabola, the result grows by as much, and by less the farther off in time that box
    is: it swells and shrinks again, and does not jump.
    """
    outward = np.array([-1, -1, 1, 1])
    curve = _parabola(times, sides, weights, now, sigma)
    at = (np.asarray(times) - now)[:, None]
    past = (sides - _along(curve, at)) * outward
    near = np.clip(1 - np.abs(at) / (REACH * sigma), 0, 1)
    # A box that was carried, and not found, may be off itself; it makes no other one larger.
    near = np.where((np.asarray(weights) >= 1)[:, None] | (at == 0), near, 0)
    return curve[0] + outward * np.max(np.maximum(past, 0) * near, axis=0)


def _parabola(times: np.ndarray, values: np.ndarray, weights: np.ndarray, now: float, sigma: float) -> np.ndarray:
    """The coefficients (3, d) of the local parabola in time since `now`."""
    since = np.asarray(times, np.float64) - now
    values = np.asarray(values, np.float64)
    share = np.sqrt(np.asarray(weights, np.float64) * np.exp(-0.5 * (since / sigma) ** 2))
    degree = min(2, max(0, (len(since) - 1) // 2))
    powers = (since[:, None] / sigma) ** np.arange(degree + 1)
    found = np.linalg.lstsq(powers * share[:, None], values * share[:, None], rcond=1e-6)[0]
    curve = np.zeros((3, values.shape[1]))
    curve[: degree + 1] = found / sigma ** np.arange(degree + 1)[:, None]
    return curve


def _along(curve: np.ndarray, since: np.ndarray) -> np.ndarray:
    return curve[0] + since * curve[1] + since**2 * curve[2]


SIDE = 320  # longer side of the shrunk frame in pixels
BLOCK = 5  # pixels a side that are compared together: a face of 10 pixels in a frame of 640
STILL = 6.0  # mean difference of a block, of 255, up to which it is the same without a closer look
DIFFERENT = 18.0  # the same above which it is another
FAR = 8.0  # pixels past the motion of the camera that are too far to follow
LEAST = 24  # pixels of a frame that a searched part measures at least around what has changed
WHOLE = 0.5  # share of a frame from which on it is searched whole


@dataclass(frozen=True, eq=False)
class SmallFrame:
    """A shrunk frame. colour: (h, w, 3) uint8 RGB. size: (width, height) of the frame itself."""

    colour: np.ndarray
    size: tuple[int, int]

    @cached_property
    def grey(self) -> np.ndarray:
        """(h, w) uint8."""
        return cv2.cvtColor(self.colour, cv2.COLOR_RGB2GRAY)


def shrunk(pixels: np.ndarray) -> SmallFrame:
    """A frame (height, width, 3) uint8 RGB, shrunk."""
    size = pixels.shape[1], pixels.shape[0]
    # Every second pixel at most is looked at of a large frame: a video has many.
    stride = max(1, max(size) // (4 * SIDE))
    pixels = np.ascontiguousarray(pixels[::stride, ::stride])
    scale = SIDE / max(pixels.shape[:2])
    if scale < 1:
        small = max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale))
        pixels = cv2.resize(pixels, small, interpolation=cv2.INTER_AREA)
    return SmallFrame(cv2.blur(pixels, (3, 3)), size)


def changed(now: SmallFrame, before: SmallFrame) -> np.ndarray:
    """(h, w) bool: what is in a shrunk frame and not, or too far off, in its neighbour of either direction of time."""
    if now.colour.shape != before.colour.shape:
        return np.ones(now.colour.shape[:2], bool)
    plain = _difference(now.colour, before.colour)
    if plain.max() <= STILL or min(now.grey.shape) < 16:
        return plain > DIFFERENT
    height, width = now.grey.shape
    start = np.zeros((height, width, 2), np.float32)
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST).calc(now.grey, before.grey, start)
    places = (
        flow[..., 0] + np.arange(width, dtype=np.float32),
        flow[..., 1] + np.arange(height, dtype=np.float32)[:, None],
    )
    bent = cv2.remap(before.colour, *places, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    camera = np.median(flow[::3, ::3].reshape(-1, 2), axis=0)
    far = cv2.magnitude(*cv2.split(flow - camera.astype(np.float32))) > FAR
    return (plain > DIFFERENT) & (far | (_difference(now.colour, bent) > DIFFERENT))


def parts(mask: np.ndarray, size: tuple[int, int]) -> tuple[Box, ...]:
    """The parts of a frame of `size` (width, height) that have to be searched, around what is true in a shrunk mask.

    Each has room for the whole face of which only an edge has changed. One box for the whole frame where that is most
    of it; none where nothing has changed.
    """
    scale = size[0] / mask.shape[1], size[1] / mask.shape[0]
    near = cv2.dilate(mask.astype(np.uint8), np.ones((2 * BLOCK + 1, 2 * BLOCK + 1), np.uint8))
    count, _, stats, _ = cv2.connectedComponentsWithStats(near, connectivity=8)
    boxes: list[Box] = []
    for left, top, wide, high, _ in stats[1:count]:
        room = max(LEAST, wide * scale[0], high * scale[1])
        box = Box(left * scale[0], top * scale[1], (left + wide) * scale[0], (top + high) * scale[1])
        boxes = _joined(boxes, _within(box, room, size))
    if sum(box.area for box in boxes) > WHOLE * size[0] * size[1]:
        return (Box(0, 0, *size),)
    return tuple(boxes)


def _joined(boxes: list[Box], new: Box) -> list[Box]:
    """The boxes with another one; those that overlap become one."""
    apart = []
    for box in boxes:
        if box.iou(new) > 0:
            new = Box(
                min(box.left, new.left), min(box.top, new.top), max(box.right, new.right), max(box.bottom, new.bottom)
            )
        else:
            apart.append(box)
    return [*apart, new] if len(apart) == len(boxes) else _joined(apart, new)


def _within(box: Box, room: float, size: tuple[int, int]) -> Box:
    """A box grown by `room` pixels on each side, in whole pixels of the frame."""
    left, top = max(0, int(box.left - room)), max(0, int(box.top - room))
    return Box(left, top, min(size[0], int(box.right + room) + 1), min(size[1], int(box.bottom + room) + 1))


def _difference(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(h, w) uint8: how much the block about each pixel differs on average, in its most different channel."""
    red, green, blue = cv2.split(cv2.blur(cv2.absdiff(one, other), (BLOCK, BLOCK)))
    return cv2.max(cv2.max(red, green), blue)


ALIKE = 0.6  # correlation of two shrunk pictures above which they are one shot without a closer look
FOLLOWED = 0.5  # share of points that have to be found again where the pictures are less correlation
FLAT = 2.0  # standard deviation, of 255, below which a picture has no structure to compare: black, or a fade's end
STEP = 12.0  # mean difference, of 255, between a flat picture and its neighbour that begins a new shot
_SMALL, _MEDIUM = 48, 192  # longer side in pixels of the pictures that are correlated, and in which points are followed


class CutDetector:
    """Looks at the frames of one file in order."""

    def __init__(self) -> None:
        self._before: tuple[np.ndarray, np.ndarray] | None = None

    def begins(self, pixels: np.ndarray) -> bool:
        """Whether this frame (height, width, 3) uint8 begins a shot; the first of a file does."""
        before, self._before = self._before, _views(pixels)
        return before is None or _cut(before, self._before)


def _views(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The frame in grey, medium and small."""
    # Shrunk before it is made grey, and every second pixel at most is looked at: a video has many large frames.
    stride = max(1, max(pixels.shape[:2]) // (4 * _MEDIUM))
    medium = cv2.cvtColor(_shrunk(np.ascontiguousarray(pixels[::stride, ::stride]), _MEDIUM), cv2.COLOR_RGB2GRAY)
    return medium, cv2.GaussianBlur(_shrunk(medium, _SMALL).astype(np.float32), (0, 0), 1)


def _shrunk(pixels: np.ndarray, side: int) -> np.ndarray:
    scale = side / max(pixels.shape[:2])
    size = max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale))
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA) if scale < 1 else pixels


def _cut(before: tuple[np.ndarray, np.ndarray], after: tuple[np.ndarray, np.ndarray]) -> bool:
    a, b = before[1], after[1]
    if min(a.std(), b.std()) < FLAT:
        return bool(np.abs(a - b).mean() > STEP)
    correlation = float(np.mean((a - a.mean()) * (b - b.mean())) / (a.std() * b.std()))
    return correlation < ALIKE and tracked_share(before[0], after[0]) < FOLLOWED
