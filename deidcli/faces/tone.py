"""Tone: where a face shows bare skin, and where hair or a cap lies over it."""

from __future__ import annotations

import cv2
import numpy as np

from deidcli.faces.align import similarity
from deidcli.faces.mask import forehead
from deidcli.faces.shape import BROWS, INNER, JAW, MEAN_SHAPE

SMALL = 96  # longer side in pixels at which hair is told from skin
ABOVE = 0.035  # how far above the brows the forehead begins, as a share of the face square
STRANGE = 3.0  # deviations from the colour of the cheeks at which a place on the forehead is half taken for no skin
SHINE = 0.25  # how much less colours count for each deviation that a place is brighter
SPREAD = np.array([7.0, 3.5, 4.5])  # least deviations of L, a and b


def skin(landmarks: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(height, width) bool of a picture of `size` (height, width): cheeks, nose and jaw, without eyes, brows and mouth.

    Never empty: where the face lies outside the picture, all of it.
    """
    points = np.asarray(landmarks, np.float64)
    area = np.zeros(size, np.uint8)
    low = points[[36, 41, 40, 39, 27, 42, 47, 46, 45]]
    _fill(area, np.concatenate([low, points[JAW][3:14][::-1]]), 1)
    for hole in (points[48:60], points[36:42], points[42:48], points[BROWS][:5], points[BROWS][5:]):
        middle = hole.mean(axis=0)
        _fill(area, middle + (hole - middle) * 1.25, 0)
    return area > 0 if area.any() else np.ones(size, bool)


def covering(pixels: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """How far a new face may cover each pixel, (height, width) float32 in [0, 1]: not where hair lies on the forehead.

    pixels: (height, width, 3) uint8 RGB. Below the top of the brows it is 1 everywhere; above, it falls where the
    colour is not that of the cheeks.
    """
    height, width = pixels.shape[:2]
    scale = min(1.0, SMALL / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    points = (np.asarray(landmarks, np.float64) + 0.5) * (size[0] / width, size[1] / height) - 0.5
    lab = cv2.cvtColor(small.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    cheeks = lab[skin(points, small.shape[:2])]
    middle, spread = np.median(cheeks, axis=0), np.maximum(cheeks.std(axis=0), SPREAD)
    off = (lab - middle) / spread
    # A forehead that shines is skin as well, and loses its colour; hair is darker or of another colour.
    shine = np.clip(off[..., :1], 0, None)
    off = np.where(off[..., :1] > 0, off * (0.3, 1, 1), off) / (1 + SHINE * shine)
    strange = np.sqrt((off**2).sum(axis=2))
    share = 1 / (1 + np.exp((strange - STRANGE) * 2))
    face = float(np.hypot(*similarity(MEAN_SHAPE[INNER], points[INNER])[:, 0]))
    share = np.where(brow_down(points, small.shape[:2]), 1.0, share).astype(np.float32)
    share = cv2.GaussianBlur(share, (0, 0), max(0.5, 0.012 * face))
    return np.clip(cv2.resize(share, (width, height), interpolation=cv2.INTER_CUBIC), 0, 1)


def brow_down(points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(height, width) bool: everything but the forehead and what lies above it. points: (68, 2)."""
    face = float(np.hypot(*similarity(MEAN_SHAPE[INNER], points[INNER])[:, 0]))
    arc = forehead(points)[1:-1]
    up = arc[len(arc) // 2] - points[27]
    up = up / max(float(np.linalg.norm(up)), 1e-9)
    brows = points[BROWS] + up * ABOVE * face
    first, last = points[0] + up * 0.1 * face, points[16] + up * 0.1 * face
    left, right = (end + (end - points[27]) for end in (first, last))
    far = up * face * 2
    above = np.zeros(size, np.uint8)
    _fill(above, np.concatenate([[left], [first], brows, [last], [right], [right + far, left + far]]), 1)
    return above == 0


def _fill(area: np.ndarray, outline: np.ndarray, value: int) -> None:
    cv2.fillPoly(area, [np.round(outline).astype(np.int32)], value)
