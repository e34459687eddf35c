"""Steadiness: whether a new face stays one face over the frames of a track. Pure functions of a track, in order."""

from __future__ import annotations

import numpy as np

from deidcli.evaluation.utility import landmark_error
from deidcli.faces.embed import Recogniser

STILL = 4  # grey levels (of 255) by which a pixel that does not move may change: noise of camera and codec


def descriptor_steps(judge: Recogniser, descriptors: np.ndarray) -> np.ndarray:
    """The recogniser's distances (n - 1,) from each frame's face (n, d) to the next; large where identity flickers."""
    return np.asarray(judge.distance(descriptors[:-1], descriptors[1:]), float)


def landmark_shake(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """How much more (n - 1,) the new face's landmarks (n, 68, 2) move from frame to frame than the original's do.

    The mean length of the difference between the two motions, as a share of the distance between the eyes.
    """
    before, after = np.asarray(before, float), np.asarray(after, float)
    # A new face that moves as the old one did stands where the old one's motion took it.
    return landmark_error(before[1:], before[1:] + np.diff(after, axis=0) - np.diff(before, axis=0))


def flicker(before: np.ndarray, after: np.ndarray, region: np.ndarray | None = None) -> np.ndarray:
    """Mean change (n - 1,), in grey levels, of output pixels whose original stands still; NaN where none does.

    before, after: (n, h, w, 3) uint8. region: (h, w) bool, where to look; None for everywhere.
    """
    old = np.abs(np.diff(before.astype(np.int16), axis=0)).max(axis=-1)
    new = np.abs(np.diff(after.astype(np.int16), axis=0)).mean(axis=-1)
    still = old <= STILL
    if region is not None:
        still &= region
    counts = still.sum(axis=(1, 2))
    sums = np.where(still, new, 0.0).sum(axis=(1, 2))
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
