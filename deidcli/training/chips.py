"""Chips: what dlib's recogniser sees of an aligned crop, by one fixed scale and shift for all."""

from __future__ import annotations

import numpy as np

from deidcli.faces.align import INNER, MEAN_SHAPE, similarity
from deidcli.networks.dlib_recogniser import CHIP, chip_landmarks

MARGIN = 0.06  # of the crops, as `deid align` cuts them by default


def chip_samplers(size: int, points: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """(150, size) float32 each: bilinear weights that sample rows and columns of a crop where dlib's chip has them.

    points: where the landmarks 17 to 67 of a crop lie, (51, 2) pixels; by default those of an aligned one.
    """
    mean = (MEAN_SHAPE[INNER] + MARGIN) / (1 + 2 * MARGIN) * size - 0.5
    to_crop = similarity(chip_landmarks(), mean if points is None else points)
    columns, rows = (to_crop[axis, axis] * np.arange(CHIP) + to_crop[axis, 2] for axis in (0, 1))
    return _bilinear(rows, size), _bilinear(columns, size)


def describe_crops(crops: np.ndarray) -> np.ndarray:
    """Descriptors (n, 128) float32 of aligned crops (n, side, side, 3) uint8, landmarks not needed.

    Raises MissingDependency where the recogniser's weights are not there.
    """
    from deidcli.networks.dlib_recogniser import describe

    rows, columns = chip_samplers(crops.shape[1])
    parts = []
    for start in range(0, len(crops), 64):
        part = crops[start : start + 64].astype(np.float32)
        parts.append(describe(np.einsum("ry,byxc,sx->brsc", rows, part, columns, optimize=True)))
    return np.concatenate(parts) if parts else np.zeros((0, 128), np.float32)


def _bilinear(places: np.ndarray, size: int) -> np.ndarray:
    places = np.clip(places, 0, size - 1)
    weights = np.maximum(0, 1 - np.abs(places[:, None] - np.arange(size)[None, :]))
    return weights.astype(np.float32)
