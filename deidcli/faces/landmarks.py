"""Landmarks: 68 points for each face, by dlib's regression trees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import numpy as np

from deidcli.faces.align import apply_affine, invert, similarity
from deidcli.faces.shape import INNER, JAW, LEFT_EYE, MEAN_SHAPE, MOUTH_OUTLINE, RIGHT_EYE
from deidcli.values import Face

# Root mean square distance to the mean shape, as a share of the face square, past which the points are not believed.
# 1 % of the faces that the HOG detector finds in photographs lie above it: profiles, and boxes without a face.
WORST_RESIDUAL = 0.075


def locate(pixels: np.ndarray, faces: Sequence[Face]) -> list[Face]:
    """The same faces with their 68 points, (68, 2) float32 in pixels; None where the points cannot be right.

    pixels: (height, width, 3) uint8 RGB. Faces that bring landmarks keep them.
    """
    pixels = np.ascontiguousarray(pixels)
    return [face if face.landmarks is not None else _locate(pixels, face) for face in faces]


def _locate(pixels: np.ndarray, face: Face) -> Face:
    import dlib

    left, top, right, bottom = (round(v) for v in (face.box.left, face.box.top, face.box.right, face.box.bottom))
    shape = _predictor()(pixels, dlib.rectangle(left, top, right - 1, bottom - 1))
    points = np.array([(p.x, p.y) for p in shape.parts()], np.float32)
    return replace(face, landmarks=points if believable(points, face) else None)


def believable(points: np.ndarray, face: Face) -> bool:
    """Whether 68 points can be a face: inside the box's surroundings, in the right order, near the mean shape."""
    around = face.box.scaled(2.0)
    low, high = points.min(axis=0), points.max(axis=0)
    inside = low[0] >= around.left and low[1] >= around.top and high[0] <= around.right and high[1] <= around.bottom
    # In a box of a few pixels all points may fall on one; no transform leads there and back.
    spread = np.ptp(points[INNER], axis=0).min() >= 1
    return bool(inside and spread and _ordered(points) and residual(points) <= WORST_RESIDUAL)


def residual(points: np.ndarray) -> float:
    """Root mean square distance of the inner points from the mean shape, as a share of the face square."""
    upright = apply_affine(invert(similarity(MEAN_SHAPE[INNER], points[INNER].astype(np.float64))), points)
    return float(np.sqrt(np.mean(np.sum((upright - MEAN_SHAPE)[INNER] ** 2, axis=1))))


def _ordered(points: np.ndarray) -> bool:
    """Eyes left and right of each other, the mouth below them, the jaw around it, in the face's own upright frame."""
    upright = apply_affine(invert(similarity(MEAN_SHAPE[INNER], points[INNER].astype(np.float64))), points)
    left, right = upright[LEFT_EYE].mean(axis=0), upright[RIGHT_EYE].mean(axis=0)
    mouth = upright[MOUTH_OUTLINE].mean(axis=0)
    wide = right[0] - left[0] > 0.08 and upright[JAW][-1, 0] > upright[JAW][0, 0]
    return bool(wide and mouth[1] > max(left[1], right[1]))


@cache
def _predictor():
    import dlib

    from deidcli.presets import dlib_weights

    return dlib.shape_predictor(str(dlib_weights("shape_predictor_68_face_landmarks.dat")))
