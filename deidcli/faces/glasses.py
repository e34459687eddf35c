"""Glasses on a face in the canonical frame: dark ones, which hide the eyes, and the rims of thin ones."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np

from deidcli.faces.canonical import LEFT_BROW, LEFT_LIDS, RIGHT_BROW, RIGHT_LIDS, SIZE, canonical
from deidcli.faces.regions import COARSE, filled, shrunk, skin

# Sunglasses: how dark they are as a share of the cheek below, the share of the eyes' surroundings that is, how many
# pixels of the frame these reach beyond the lids, and where the cheeks lie at the side of a fit.
DARK, ALL_DARK, EYE_ROOM = 0.55, 0.85, 7
CHEEK_ROWS, CHEEKS = slice(37, 43), (slice(14, 23), slice(41, 50))
# Thin glasses: pixels beyond the lids between which their rims lie, pixels that a line is narrower than, how strong the
# lines about each eye of a face in glasses are as a share of its skin (one face in fifty without has such lines), and
# how strong a pixel of the rims is: where it begins to count, and from which on it counts in full.
RIMS, LINE, GLASSES, RIM_LINES = (14, 28), 13, 0.118, (0.06, 0.14)


def sunglasses(texture: np.ndarray) -> np.ndarray:
    """Dark glasses, (256, 256) float32 in [0, 1], of a texture (256, 256, 3) float32 in [0, 1].

    They are what is much darker than the cheek below it, all about both eyes: sockets in shadow, brows and made-up lids
    leave something light there.
    """
    light = shrunk(texture).mean(axis=2)
    cheeks = np.array([light[CHEEK_ROWS, columns].mean() for columns in CHEEKS])
    eyes = [shrunk(filled((lids,), EYE_ROOM)) > 0.5 for lids in (LEFT_LIDS, RIGHT_LIDS)]
    dark = np.concatenate(
        [light[:, : COARSE // 2] < DARK * cheeks[0], light[:, COARSE // 2 :] < DARK * cheeks[1]], axis=1
    )
    if min(dark[eye].mean() for eye in eyes) < ALL_DARK:
        return np.zeros((SIZE, SIZE), np.float32)
    _, labels = cv2.connectedComponents(dark.astype(np.uint8))
    on_eyes = {int(n) for eye in eyes for n in np.unique(labels[eye]) if n}
    covers = cv2.dilate(np.isin(labels, list(on_eyes)).astype(np.float32), np.ones((3, 3)))
    covers[CHEEK_ROWS.start :] = 0
    return np.clip(cv2.GaussianBlur(cv2.resize(covers, (SIZE, SIZE)), (0, 0), 2), 0, 1)


def rims(texture: np.ndarray) -> np.ndarray | None:
    """The lines of thin glasses, (256, 256) float32 in [0, 1], of a texture (256, 256, 3) float32 in [0, 1]; None where
    there are no such lines on all sides of both eyes. Of 57 faces in glasses or sunglasses two in three have them, of
    160 without one in fifty (CelebAMask-HQ). Lines that are darker than what is about them count twice.
    """
    lines = _lines(texture)
    if min(_strength(lines)) < GLASSES:
        return None
    first, whole = RIM_LINES
    area = _sides_of_eyes()[1]
    return cv2.GaussianBlur(np.clip((lines - first) / (whole - first), 0, 1) * area, (0, 0), 0.7)


def glasses_lines(texture: np.ndarray) -> list[float]:
    """How strong lines are on all sides of each eye, (2,) as shares of the skin's lightness, of a texture (256, 256, 3)
    float32 in [0, 1].
    """
    return _strength(_lines(texture))


def _strength(lines: np.ndarray) -> list[float]:
    sides, _ = _sides_of_eyes()
    return [float(np.exp(np.mean([np.log(np.percentile(lines[side], 85) + 0.01) for side in eye]))) for eye in sides]


def _lines(texture: np.ndarray) -> np.ndarray:
    """How strong thin lines are in a texture, (256, 256) float32, as shares of the skin's lightness."""
    light = cv2.GaussianBlur(cv2.cvtColor(np.ascontiguousarray(texture), cv2.COLOR_RGB2GRAY), (0, 0), 1)
    element = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (LINE, LINE))
    bare = max(cv2.mean(light, skin().view(np.uint8))[0], 1e-3)
    dark, bright = (cv2.morphologyEx(light, kind, element) for kind in (cv2.MORPH_BLACKHAT, cv2.MORPH_TOPHAT))
    return (dark + bright / 2) / np.float32(bare)


@cache
def _sides_of_eyes() -> tuple[list[list[tuple[np.ndarray, ...]]], np.ndarray]:
    """Where the rims of glasses pass: within, below and outside of each eye; and all that may belong to them (256,
    256) float32 in [0, 1].
    """
    near, far = (filled((LEFT_LIDS, RIGHT_LIDS), grow) > 0.5 for grow in RIMS)
    ring = far & ~near & (filled((LEFT_BROW, RIGHT_BROW), 5) < 0.5)
    y, x = np.indices(ring.shape)
    left, right = (canonical().points[lids].mean(axis=0) for lids in (LEFT_LIDS, RIGHT_LIDS))
    middle, below = x < SIZE / 2, y > left[1] + 8
    sides = [
        [middle & (x > left[0] + 10), middle & below, x < left[0] - 8],
        [~middle & (x < right[0] - 10), ~middle & below, x > right[0] + 8],
    ]
    area = filled((LEFT_LIDS, RIGHT_LIDS), RIMS[1] + 8) * (1 - filled((LEFT_LIDS, RIGHT_LIDS), 5))
    return [[np.nonzero(ring & side) for side in eye] for eye in sides], area * (1 - filled((LEFT_BROW, RIGHT_BROW)))
