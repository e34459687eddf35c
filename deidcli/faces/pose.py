"""Pose and expression of 68 landmarks: what changes between pictures of one person, separated from their own shape."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deidcli.faces.align import apply_affine, similarity
from deidcli.faces.shape import BROWS, INNER, LEFT_EYE, MEAN_SHAPE, RIGHT_EYE

CLOSED = 0.045  # gap of the lips, as a share of the distance between the eyes, below which a mouth counts as closed
LIPS = ((61, 67, (50, 58)), (62, 66, (51, 57)), (63, 65, (52, 56)))  # inner upper and lower, and those outside them
WIDEST = 1.6  # largest factor by which lids are opened
# Factors of the height of the brows and of the opening of the eyes for a surprised expression.
RAISED, STARTLED = 1.2, 1.5
LIDS = ((37, 41), (38, 40), (43, 47), (44, 46))


@dataclass(frozen=True)
class ShapeModel:
    """How people differ in shape, as a normal variable in the unit of the face square and laid on the mean face.

    own: (136, d), d standard normal numbers times it are how one person's shape differs from another's.
    """

    own: np.ndarray

    @classmethod
    def of(cls, landmarks: np.ndarray, people: np.ndarray, modes: int = 24) -> ShapeModel:
        """Learnt from shapes (n, 68, 2) of people (n,), of whom several have to be seen twice or more.

        Raises ValueError where none is.
        """
        rows = np.stack([upright(points) for points in landmarks]).reshape(len(landmarks), -1)
        _, number, count = np.unique(people, return_inverse=True, return_counts=True)
        if count.max() < 2:
            raise ValueError("no person is seen twice")
        means = np.zeros((len(count), rows.shape[1]))
        np.add.at(means, number, rows)
        means /= count[:, None]
        rest = rows - means[number]
        within = rest.T @ rest / (count - 1).sum()
        # The mean of a person's few pictures still holds some of the variation within persons; it is subtracted.
        between = np.cov(rows, rowvar=False) - within
        values, vectors = np.linalg.eigh((between + between.T) / 2)
        own = (vectors * np.sqrt(np.maximum(values, 0)))[:, ::-1][:, :modes]
        return cls(own.astype(np.float32))

    def varied(self, face: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        """`face` (68, 2) upright, as (d,) standard normal numbers make it another one: (68, 2)."""
        return with_lids(upright(face) + (self.own @ numbers).reshape(68, 2))


def with_lips(shape: np.ndarray, face: np.ndarray, target: np.ndarray) -> np.ndarray:
    """`shape` with the lips as far apart as the target's; closed as those of `face` are, where the target's are closed.

    All are upright (68, 2). Lips that open a little would show the few pixels between those of a closed mouth,
    stretched.
    """
    shape = shape.copy()
    like = face if mouth_gap(target) < CLOSED and mouth_gap(face) < CLOSED else target
    for upper, lower, outer in LIPS:
        wanted = max(0.0, like[lower, 1] - like[upper, 1])
        move = (wanted - (shape[lower, 1] - shape[upper, 1])) / 2
        shape[[upper, outer[0]], 1] -= move
        shape[[lower, outer[1]], 1] += move
    return shape


def with_eyes_and_brows(shape: np.ndarray, target: np.ndarray) -> np.ndarray:
    """`shape` with its brows as high above the eyes, and its eyes as wide open, as the target's; both upright (68, 2).

    One number for all brows and one for all lids: nothing of the target's own brow shape is taken.
    """
    shape = shape.copy()
    raised = _brow(target) - _brow(shape)
    opened = np.clip(_opening(target) / max(_opening(shape), 1e-6), 0, WIDEST)
    shape[BROWS, 1] -= raised
    return _with_eyes(shape, float(opened))


def with_smile(shape: np.ndarray, target: np.ndarray) -> np.ndarray:
    """`shape` with the corners of its mouth as high above the middle of the lips as the target's; both upright (68, 2).

    One number: the mouth is bent as a bow, whose ends go up or down while its middle stays.
    """
    shape = shape.copy()
    left, right = shape[48], shape[54]
    half = max(abs(right[0] - left[0]) / 2, 1e-6)
    bow = np.clip(((shape[48:68, 0] - (left[0] + right[0]) / 2) / half) ** 2, 0, 1)
    shape[48:68, 1] -= (_corner_height(target) - _corner_height(shape)) * bow
    return shape


def with_surprise(shape: np.ndarray) -> np.ndarray:
    """`shape`, upright (68, 2), with its brows RAISED times as high, and its eyes STARTLED times as wide open.

    More than people move: an average of many faces has no lines on its forehead and looks calm with raised brows.
    """
    shape = shape.copy()
    shape[BROWS, 1] -= (RAISED - 1) * _brow(shape)
    return _with_eyes(shape, STARTLED)


def _with_eyes(shape: np.ndarray, opened: float) -> np.ndarray:
    """`shape` with its lids `opened` times as far apart, in place."""
    for upper, lower in LIDS:
        middle, half = (shape[upper, 1] + shape[lower, 1]) / 2, opened * (shape[lower, 1] - shape[upper, 1]) / 2
        shape[upper, 1], shape[lower, 1] = middle - half, middle + half
    return shape


def _corner_height(shape: np.ndarray) -> float:
    return float(shape[[51, 57], 1].mean() - shape[[48, 54], 1].mean())


def _brow(shape: np.ndarray) -> float:
    return float(shape[36:48, 1].mean() - shape[BROWS, 1].mean())


def _opening(shape: np.ndarray) -> float:
    return float(np.mean([shape[lower, 1] - shape[upper, 1] for upper, lower in LIDS]))


def with_lids(shape: np.ndarray) -> np.ndarray:
    """`shape`, upright (68, 2), without eyes that are less than closed."""
    shape = shape.copy()
    for upper, lower in LIDS:
        crossed = max(0.0, shape[upper, 1] - shape[lower, 1]) / 2
        shape[upper, 1] -= crossed
        shape[lower, 1] += crossed
    return shape


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
