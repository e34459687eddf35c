"""Pose of 68 landmarks: a shape turned upright, and how far its mouth is open."""

from __future__ import annotations

import numpy as np

from deidcli.faces.align import apply_affine, similarity
from deidcli.faces.shape import INNER, LEFT_EYE, MEAN_SHAPE, RIGHT_EYE


def upright(landmarks: np.ndarray) -> np.ndarray:
    """Landmarks (68, 2) laid on the mean face, in the unit of the face square."""
    points = np.asarray(landmarks, np.float64)
    return apply_affine(similarity(points[INNER], MEAN_SHAPE[INNER]), points)


def mouth_gap(landmarks: np.ndarray) -> float:
    """How far the inner lips are apart, as a share of the distance between the eyes."""
    points = np.asarray(landmarks, np.float64)
    return float((points[65:68] - points[[63, 62, 61]]).mean(axis=0) @ _down(points)) / _between(points)


def _down(points: np.ndarray) -> np.ndarray:
    across = (points[RIGHT_EYE].mean(axis=0) - points[LEFT_EYE].mean(axis=0)) / _between(points)
    return np.array([-across[1], across[0]])


def _between(points: np.ndarray) -> float:
    return float(np.linalg.norm(points[RIGHT_EYE].mean(axis=0) - points[LEFT_EYE].mean(axis=0)))
