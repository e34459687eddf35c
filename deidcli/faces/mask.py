"""Mask: which pixels of the frame belong to a face, softly."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from deidcli.faces.align import BROWS, INNER, JAW, MEAN_SHAPE, apply_affine, invert, similarity
from deidcli.values import Face

FEATHER = 0.05  # width of the soft edge (one standard deviation), as a share of the face's size
FOREHEAD = 0.26  # height of the forehead above the brows, as a share of the face square
# The same for a mask that hides where the hair begins, which a recogniser uses more than anything else outside the
# face.
HIGH = 0.4


@dataclass(frozen=True)
class Mask:
    """alpha: (height, width) float32 in [0, 1] for the part of the frame whose upper left pixel is (left, top)."""

    left: int
    top: int
    alpha: np.ndarray

    @property
    def window(self) -> tuple[slice, slice]:
        """Rows and columns of the frame that the mask covers."""
        return (
            slice(self.top, self.top + self.alpha.shape[0]),
            slice(self.left, self.left + self.alpha.shape[1]),
        )


def mask(face: Face, kind: str, size: tuple[int, int], scale: float = 1.0, feather: float = FEATHER) -> Mask:
    """The soft mask of `face` in a frame of `size` (width, height).

    kind: "inner", "full" or "high" follow the landmarks, "ellipse" the box; a face without landmarks always gets the
    ellipse.
    scale: grows the shape about its centre. The soft edge lies outside a shape that hides (ellipse), so that everything
    within it is covered wholly, and half inside a shape that is fitted to landmarks, so that no rim of it is seen.
    """
    outline = _outline(face, kind)
    center = (outline.min(axis=0) + outline.max(axis=0)) / 2
    outline = center + (outline - center) * scale
    sigma = max(0.7, feather * face_size(face))
    left, top, width, height = _window(outline, 3 * sigma, size)
    alpha = np.zeros((height, width), np.float32)
    if not alpha.size:
        return Mask(left, top, alpha)
    cv2.fillConvexPoly(alpha, _fixed(outline - (left, top)), 1.0, lineType=cv2.LINE_AA, shift=_BITS)
    hides = kind == "ellipse" or face.landmarks is None
    return Mask(left, top, _soften_outward(alpha, sigma) if hides else _soften(alpha, sigma))


def face_size(face: Face) -> float:
    """The side of the face square in pixels: from the landmarks where there are some, else from the box."""
    if face.landmarks is None:
        return max(face.box.width, face.box.height)
    square = similarity(MEAN_SHAPE[INNER], face.landmarks[INNER].astype(np.float64))
    return float(np.hypot(square[0, 0], square[1, 0]))


def inner_outline(landmarks: np.ndarray) -> np.ndarray:
    """FATM's mask: the hull of the brows, the lower lip and four points between on either side (n, 2).

    Between the outer end of a brow (x0, y0) and the corner of the mouth (x5, y5) on that side:
    x_i = x_{i-1} + i/15 (x5 - x0), y_i = y0 + i/5 (y5 - y0), i = 1..4 (Section 3 and Figure 2).
    """
    points = np.asarray(landmarks, np.float64)
    sides = [_between(points[17], points[48]), _between(points[26], points[54])]
    return _hull(np.concatenate([points[BROWS], points[48:60], *sides]))


def _between(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    i = np.arange(1, 5)
    across = np.cumsum(i) / 15
    return np.column_stack([start[0] + across * (end[0] - start[0]), start[1] + i / 5 * (end[1] - start[1])])


def full_outline(landmarks: np.ndarray, height: float = FOREHEAD) -> np.ndarray:
    """The hull of jaw, brows and the forehead above them, which is as high as `forehead` has it (n, 2)."""
    return _hull(np.concatenate([np.asarray(landmarks, np.float64), forehead(landmarks, height)]))


def forehead(landmarks: np.ndarray, height: float = FOREHEAD) -> np.ndarray:
    """The edge of the forehead, guessed: half an ellipse from the left temple over the top to the right one (15, 2).

    height: above the brows, as a share of the face square.
    """
    points = np.asarray(landmarks, np.float64)
    square = similarity(MEAN_SHAPE[INNER], points[INNER])
    upright = apply_affine(invert(square), points)
    low, high = upright[JAW][[0, -1]]
    brow = upright[BROWS][:, 1].min()
    angle = np.linspace(0, np.pi, 15)
    middle, half = (low + high) / 2, (high[0] - low[0]) / 2
    arc = np.column_stack(
        [middle[0] - half * np.cos(angle), middle[1] + (brow - height - middle[1]) * np.sin(angle) ** 0.8]
    )
    return apply_affine(square, arc)


def _outline(face: Face, kind: str) -> np.ndarray:
    if face.landmarks is None or kind == "ellipse":
        return _ellipse(face)
    if kind == "inner":
        return inner_outline(face.landmarks)
    return full_outline(face.landmarks, HIGH if kind == "high" else FOREHEAD)


def _ellipse(face: Face) -> np.ndarray:
    """The ellipse around the box: it holds the corners that an inscribed one would leave open."""
    (x, y), angle = face.box.center, np.linspace(0, 2 * np.pi, 64, endpoint=False)
    radius = np.array([face.box.width, face.box.height]) / np.sqrt(2)
    return np.array([x - 0.5, y - 0.5]) + np.column_stack([np.cos(angle), np.sin(angle)]) * radius


def _hull(points: np.ndarray) -> np.ndarray:
    return cv2.convexHull(points.astype(np.float32))[:, 0].astype(np.float64)


def _window(outline: np.ndarray, border: float, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """left, top, width and height of the part of the frame that the outline and its soft edge touch."""
    low = np.clip(np.floor(outline.min(axis=0) - border), 0, size).astype(int)
    high = np.clip(np.ceil(outline.max(axis=0) + border) + 1, 0, size).astype(int)
    return int(low[0]), int(low[1]), max(0, int(high[0] - low[0])), max(0, int(high[1] - low[1]))


_BITS = 4  # fractional bits of the coordinates that OpenCV's fill takes


def _fixed(points: np.ndarray) -> np.ndarray:
    return np.round(points * (1 << _BITS)).astype(np.int32)


def _blur(alpha: np.ndarray, sigma: float) -> np.ndarray:
    # The border of the window is the border of the frame or lies outside the soft edge: repeating it is right in both.
    return cv2.GaussianBlur(alpha, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)


def _soften(alpha: np.ndarray, sigma: float) -> np.ndarray:
    """A soft edge that is 0.5 on the outline, and exactly 0 and 1 away from it."""
    soft = _blur(alpha, sigma)
    return np.clip((soft - 0.02) / 0.96, 0, 1)


def _soften_outward(alpha: np.ndarray, sigma: float) -> np.ndarray:
    """A soft edge that leaves every pixel of the shape at 1."""
    return np.maximum(alpha, np.clip(_soften(alpha, sigma) * 2, 0, 1))
