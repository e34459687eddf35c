"""CutDetector: where one shot of a video ends and the next begins.

Two neighbouring frames belong to two shots if little of the structure of one is found in the other: their shrunk
pictures hardly correlate, and few points of the first can be followed into the second. Correlation does not mind a
flash or a fade, and points can be followed through a pan. In `stage_and_audience.mp4` neighbours correlate at 0.80 and
more, across its three cuts at 0.33 and less.
"""

from __future__ import annotations

import cv2
import numpy as np

from deidcli.faces.tracking.motion import tracked_share

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
