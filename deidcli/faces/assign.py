"""Assign: which face that was found belongs to which track, all at once and at the least cost (Hungarian method)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from deidcli.faces.motion import alike
from deidcli.values import Box

OVERLAP = 0.15  # of the expected and the found box, from which on they may be one face however it looks
REACH = 1.5  # sides of a face that one which looks the same may lie away from where it was expected
LOOKS = 0.6  # correlation at which two faces look the same
GROWTH = 0.5  # logarithm of the ratio of their sides up to which they can be one without overlap
_NEVER = 1e6

Look = np.ndarray | None
"""What a face looks like (`motion.patch`)."""


def assigned(tracks: Sequence[tuple[Sequence[Box], Look]], faces: Sequence[tuple[Box, Look]]) -> list[tuple[int, int]]:
    """Pairs of positions (track, face), each at most once.

    tracks: for each the boxes where it may be, and its look. faces: for each its box and its look.
    """
    if not tracks or not faces:
        return []
    # Imported here: it takes a second, which no photograph needs.
    from scipy.optimize import linear_sum_assignment

    costs = np.array([[min(_cost(box, look, *face) for box in boxes) for face in faces] for boxes, look in tracks])
    pairs = zip(*linear_sum_assignment(costs), strict=True)
    return [(int(i), int(j)) for i, j in pairs if costs[i, j] < _NEVER]


def _cost(expected: Box, before: Look, box: Box, now: Look) -> float:
    """How unlikely it is that they are one, by overlap, distance, look and size; _NEVER where they cannot be."""
    overlap, looks = expected.iou(box), alike(before, now)
    away = float(np.hypot(*np.subtract(expected.center, box.center)) / np.sqrt(max(expected.area, box.area, 1.0)))
    growth = abs(float(np.log(max(box.area, 1.0) / max(expected.area, 1.0)))) / 2
    near = away < REACH and looks > LOOKS and growth < GROWTH
    return (1 - overlap) + 0.5 * away + 0.5 * (1 - looks) + growth if overlap > OVERLAP or near else _NEVER
