"""Tone: where a face shows bare skin."""

from __future__ import annotations

import cv2
import numpy as np

from deidcli.faces.shape import BROWS, JAW


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


def _fill(area: np.ndarray, outline: np.ndarray, value: int) -> None:
    cv2.fillPoly(area, [np.round(outline).astype(np.int32)], value)
