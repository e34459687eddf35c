"""Appearance: the shape and the shape-free texture of several faces, averaged (Cootes et al. 2001, Gross et al. 2006).

An active appearance model writes a face as mean + modes x numbers, for its shape and for its texture after it was bent
to the mean shape. The average of the numbers over k faces, written back, is the average of their shapes and of their
bent textures, cut down to the modes that are kept. Here all are kept, so that none has to be computed; a model with
fewer modes gives the same face, blurred.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from deidcli.faces.align import apply_affine
from deidcli.faces.pose import upright
from deidcli.faces.tone import brow_down, covering, skin
from deidcli.faces.warp import bend
from deidcli.methods.fitted import Surrogate

SIDE, MARGIN = 256, 0.25  # of a surrogate: pixels, and room around the face square as a share of it
FOREHEAD_BLUR = 0.05  # width over which a forehead is smoothed, as a share of the side
SHARPEN, DETAIL = 0.5, 0.006  # share of the detail given back after averaging, and its width as a share of the side


def averaged(pictures: Sequence[np.ndarray], landmarks: Sequence[np.ndarray], weights: np.ndarray) -> Surrogate:
    """The surrogate of n faces: their mean shape and mean texture, by weights (n,) that sum to 1.

    pictures: (h, w, 3) uint8 RGB each. landmarks: (68, 2) in pixels of each.
    """
    shape = sum(weight * upright(points) for weight, points in zip(weights, landmarks, strict=True))
    points = apply_affine(_to_pixels(), shape)
    size = (SIDE, SIDE)
    bent = [_lab(bend(picture, own, points, size)) for picture, own in zip(pictures, landmarks, strict=True)]
    bare = skin(points, size)
    tones = np.array([texture[bare].mean(axis=0) for texture in bent])
    tone = weights @ tones
    # Brought to one tone, so that a face in the sun and one in the shade do not average to a stain.
    mean = sum(weight * (texture - own) for weight, texture, own in zip(weights, bent, tones, strict=True)) + tone
    seen = [covering(picture, own) for picture, own in zip(pictures, landmarks, strict=True)]
    hairless = sum(w * bend(s, own, points, size) for w, s, own in zip(weights, seen, landmarks, strict=True))
    return Surrogate(_sharpened(_without_hair(mean, hairless, points).astype(np.float32)), points)


def _without_hair(lab: np.ndarray, bare: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The mean with the forehead smoothed over from where it is `bare` (side, side) in [0, 1]; the rest stays.

    Hair over the foreheads of some would lie over that of all.
    """
    weight = np.clip(bare - 0.5, 1e-3, None)[..., None]
    wide = (0, 0), FOREHEAD_BLUR * SIDE
    smooth = cv2.GaussianBlur(lab * weight, *wide) / cv2.GaussianBlur(weight, *wide)[..., None]
    share = cv2.GaussianBlur(1 - brow_down(points, lab.shape[:2]).astype(np.float32), (0, 0), 0.012 * SIDE)[..., None]
    return lab * (1 - share) + smooth * share


def _to_pixels() -> np.ndarray:
    """(2, 3), from the unit of the face square to pixels of a surrogate."""
    scale = SIDE / (1 + 2 * MARGIN)
    return np.array([[scale, 0, MARGIN * scale - 0.5], [0, scale, MARGIN * scale - 0.5]])


def _lab(pixels: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(pixels.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)


def _sharpened(lab: np.ndarray) -> np.ndarray:
    light = lab[..., 0]
    light = light + SHARPEN * (light - cv2.GaussianBlur(light, (0, 0), DETAIL * SIDE))
    lab = np.dstack([np.clip(light, 0, 100), lab[..., 1:]])
    return np.clip(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB) * 255 + 0.5, 0, 255).astype(np.uint8)
