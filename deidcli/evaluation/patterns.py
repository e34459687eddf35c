"""Patterns: a recogniser that learnt nothing, from histograms of local binary patterns (Ahonen et al. 2006)."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from deidcli.errors import MissingDependency
from deidcli.faces.align import align
from deidcli.values import CropSpec, Face, Frame

# Only the face square, hairline to chin: the papers that use such patterns cut out the face alone.
CROP = CropSpec(size=128, margin=0.0)
POINTS, RADIUS, CELLS = 8, 2, 8  # of the circle, in pixels, and cells along a side
LABELS = POINTS * (POINTS - 1) + 3  # uniform patterns, and one for all others


def described(pairs: Sequence[tuple[Frame, Face]]) -> np.ndarray:
    """Histograms (n, cells, LABELS) of faces with landmarks, each sums to 1. Raises MissingDependency."""
    try:
        from skimage.feature import local_binary_pattern
    except ImportError as error:
        raise MissingDependency("local binary patterns need scikit-image", "run `pip install deidcli[eval]`") from error
    rows = []
    for frame, face in pairs:
        grey = cv2.cvtColor(align(frame, face, CROP).pixels, cv2.COLOR_RGB2GRAY)
        labels = local_binary_pattern(grey, POINTS, RADIUS, "nri_uniform").astype(int)
        side = CROP.size // CELLS if CROP.size else 1
        cells = labels.reshape(CELLS, side, CELLS, side).swapaxes(1, 2).reshape(CELLS * CELLS, -1)
        rows.append(np.stack([np.bincount(cell, minlength=LABELS) for cell in cells]) / cells.shape[1])
    return np.array(rows).reshape(len(rows), CELLS * CELLS, LABELS)


def distances(probes: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    """Chi-squared distances (n, m) of histograms (n, cells, labels) and (m, cells, labels)."""
    rows = [((probe - gallery) ** 2 / np.maximum(probe + gallery, 1e-12)).sum(axis=(1, 2)) for probe in probes]
    return np.array(rows).reshape(len(probes), len(gallery))
