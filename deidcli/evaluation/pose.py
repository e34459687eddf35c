"""Pose: which way a face looks, from its 68 landmarks, and how far that is from the way another one looks.

The mean face gets a third dimension by the factorisation of Tomasi and Kanade (1992), a statistic of the landmarks of
3,473 faces of LFW's training people and their mirror images; the unit is the side of the face square. Contours slide
around a head that turns, so the jaw comes out flatter than it is, and large turns are told too small by some degrees.
"""

from __future__ import annotations

import cv2
import numpy as np

from deidcli.faces.shape import MEAN_SHAPE

_HALF_JAW = (0.241, 0.238, 0.238, 0.236, 0.222, 0.198, 0.169, 0.140, 0.130)
_HALF_BROWS = (0.119, 0.091, 0.069, 0.052, 0.042)
_EYE = (0.103, 0.090, 0.086, 0.090, 0.090, 0.093)
_OTHER_EYE = (0.090, 0.086, 0.090, 0.103, 0.093, 0.090)
_NOSE = (0.044, 0.030, 0.015, 0.000, 0.054, 0.045, 0.039, 0.045, 0.054)
_LIPS = (0.120, 0.083, 0.062, 0.058, 0.062, 0.083, 0.120, 0.098, 0.081, 0.077, 0.081, 0.098)
_MOUTH = (0.115, 0.069, 0.064, 0.069, 0.115, 0.077, 0.073, 0.077)
# How far behind the tip of the nose each landmark lies.
DEPTH = np.array(
    [*_HALF_JAW, *_HALF_JAW[-2::-1], *_HALF_BROWS, *_HALF_BROWS[::-1], *_NOSE, *_EYE, *_OTHER_EYE, *_LIPS, *_MOUTH]
)
# A long lens: landmarks say too little of a face's perspective to tell its distance.
FOCAL = 20.0


def rotations(landmarks: np.ndarray) -> np.ndarray:
    """The turn (n, 3, 3) of each face from the frontal one, of landmarks (n, 68, 2); NaN where they are NaN.

    By OpenCV's solvePnP on all 68 points. A new nose or chin of another length shows as a turn of some degrees, too.
    """
    return np.array([_rotation(points) for points in landmarks]).reshape(-1, 3, 3)


def pose_difference(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Degrees (n,) between the ways that faces look, of landmarks (n, 68, 2) each; NaN where one has none."""
    relative = np.einsum("nij,nkj->nik", rotations(after), rotations(before))
    cosine = (np.trace(relative, axis1=1, axis2=2) - 1) / 2
    return np.degrees(np.arccos(np.clip(cosine, -1, 1)))


def _rotation(points: np.ndarray) -> np.ndarray:
    if not np.isfinite(points).all():
        return np.full((3, 3), np.nan)
    model = np.column_stack([MEAN_SHAPE - 0.5, DEPTH])
    seen = np.asarray(points, np.float64)
    # Where and how large a face is says nothing of its pose.
    seen = (seen - seen.mean(axis=0)) / max(float(seen.std()), 1e-9) * float(model[:, :2].std())
    camera = np.array([[FOCAL, 0, 0], [0, FOCAL, 0], [0, 0, 1]])
    start = np.zeros(3), np.array([0, 0, FOCAL])
    _, turn, _ = cv2.solvePnP(model, seen, camera, None, *start, True, cv2.SOLVEPNP_ITERATIVE)
    return cv2.Rodrigues(turn)[0]
