"""What changes from one frame of a video to the next: cuts, and the parts of a frame that have to be searched anew.

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

from deidcli.faces.tracking.motion import tracked_share
from deidcli.values import Box

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
