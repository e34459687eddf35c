"""Tone: a new texture in the tone, the light and the contrast of the face whose place it takes."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np

from deidcli.faces.canonical import LEFT_BROW, LEFT_LIDS, OUTER_LIPS, RIGHT_BROW, RIGHT_LIDS, SIZE
from deidcli.faces.face_model import Reading
from deidcli.faces.regions import filled, openings, rim_distance

LEVELS = 3  # octaves whose contrast is set: 1, 2 and 4 pixels of the frame
FEATURE = 8  # pixels of the frame by which eyes, brows and lips are grown where their contrast is told from the skin's
CONTRAST = (0.12, 1.15)  # least and most of the contrast of the new texture in an octave that is left to it
# Standard deviation of the surroundings over which tone and light are compared, in pixels of 8 of the frame, and at the
# least in pixels of the photograph: what a small face has left at a finer scale is the face itself.
WIDE, WIDE_SHOWN = 2.0, 2.5
# Of red, green and blue: brightness, how red and not green, how blue and not yellow.
OPPONENTS = np.array([[1 / 3, 1 / 3, 1 / 3], [1 / 2, -1 / 2, 0], [-1 / 6, -1 / 6, 1 / 3]], np.float32)
COLOURS = np.linalg.inv(OPPONENTS).astype(np.float32)


def width_of(span: float) -> float:
    """The `width` of `lit` for a face of so many pixels of the photograph."""
    return max(WIDE, WIDE_SHOWN * SIZE / 8 / max(span, 1.0))


def lit(texture: np.ndarray, reading: Reading, width: float = WIDE) -> np.ndarray:
    """A texture (256, 256, 3) in the contrast of each octave, the tone and the light of a face.

    width: standard deviation over which tone and light are compared, in pixels of 8 of the frame.
    """
    face = (reading.visible > 0.9) & (rim_distance() > 12) & (openings() < 0.1)
    if face.sum() < 800:
        face = rim_distance() > 12
    new, old, bands = texture, reading.texture, []
    where: np.ndarray = face.astype(np.float32)
    for _ in range(LEVELS):
        (new, fine), (old, grain) = _octave(new), _octave(old)
        # Means and not deviations: a few strong edges, such as a lock of hair, say little of the contrast of a face.
        bands.append(_as_strong(fine, grain, where))
        where = cv2.resize(where, new.shape[1::-1], interpolation=cv2.INTER_AREA)
    inside = cv2.resize((rim_distance() > 0).astype(np.float32), new.shape[1::-1], interpolation=cv2.INTER_AREA)
    weight = where + 0.02 * inside
    wide = cv2.GaussianBlur(weight, (0, 0), width)[..., None]
    smooth = [cv2.GaussianBlur(base * weight[..., None], (0, 0), width) / np.maximum(wide, 1e-6) for base in (new, old)]
    base = smooth[1] + _as_strong(new - smooth[0], old - smooth[1], where)
    for fine in reversed(bands):
        base = cv2.resize(base, fine.shape[1::-1], interpolation=cv2.INTER_LINEAR) + fine
    return base


def _as_strong(detail: np.ndarray, other: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Detail (h, w, 3) in the contrast that `other` has where `where` (h, w) says so.

    Skin, eyes with brows, and lips, brightness and both opponents of colour each get their own: with one for all,
    strong brows in the old face would leave patches of light in the skin of the new one, and red lips take the red from
    lids.
    """
    parts = _parts(len(detail))
    own, others = (cv2.transform(each, OPPONENTS) for each in (detail, other))
    planes = [
        a * _gain(np.abs(a), np.abs(b), where, parts) for a, b in zip(cv2.split(own), cv2.split(others), strict=True)
    ]
    return cv2.transform(cv2.merge(planes), COLOURS)


def _gain(own: np.ndarray, other: np.ndarray, where: np.ndarray, parts: tuple[np.ndarray, ...]) -> np.ndarray:
    """By what (h, w) a detail of the sizes `own` (h, w) is multiplied to be as strong as `other` in each part.

    where: the weights (h, w) of what counts. parts: the shares (h, w) of the parts in each pixel, 1 together.
    """
    total = np.zeros_like(own)
    for part in parts:
        weights = where * part
        share = _weighted(other, weights) / max(_weighted(own, weights), 1e-4)
        total += np.float32(np.clip(share, *CONTRAST)) * part
    return total


def _weighted(values: np.ndarray, weights: np.ndarray) -> float:
    return float(np.vdot(values, weights)) / max(float(weights.sum()), 1e-6)


@cache
def _parts(side: int) -> tuple[np.ndarray, ...]:
    """How much of each pixel of the frame is skin, eyes and brows, and lips, (side, side) float32 in [0, 1], softly."""
    groups = (LEFT_LIDS, RIGHT_LIDS, LEFT_BROW, RIGHT_BROW), (OUTER_LIPS,)
    eyes, lips = (cv2.GaussianBlur(filled(group, FEATURE), (0, 0), FEATURE / 2) for group in groups)
    whole = 1 - np.minimum(eyes + lips, 1), eyes, lips
    return tuple(cv2.resize(part, (side, side), interpolation=cv2.INTER_AREA) for part in whole)


def _octave(texture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A texture at half its side, and what it loses by that."""
    height, width = texture.shape[:2]
    half = cv2.resize(texture, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    return half, texture - cv2.resize(half, (width, height), interpolation=cv2.INTER_LINEAR)
