"""Augment: aligned crops as they could have come out otherwise: moved, lit, coloured and blurred a little."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np


@dataclass(frozen=True)
class Changes:
    """The largest change of each kind.

    shift, scale: as shares of the picture. turn: degrees. light: share of brightness and of contrast. colour: share of
    each channel. blur: standard deviation as a share of the picture; generated faces are soft by about 0.02. gray: how
    often a picture loses its colour.
    """

    shift: float = 0.04
    scale: float = 0.06
    turn: float = 7.0
    light: float = 0.25
    colour: float = 0.08
    blur: float = 0.025
    gray: float = 0.1


def augment(crops: np.ndarray, changes: Changes, random: np.random.Generator) -> np.ndarray:
    """(n, side, side, 3) uint8 to the same shape and type, each changed by its own draws."""
    return np.stack([_changed(crop, changes, random) for crop in crops])


def _changed(crop: np.ndarray, changes: Changes, random: np.random.Generator) -> np.ndarray:
    crop = _moved(crop, changes, random)
    if random.random() < 0.5 and changes.blur:
        crop = cv2.GaussianBlur(crop, (0, 0), random.uniform(0.2, 1) * changes.blur * len(crop))
    return _lit(crop, changes, random)


def _moved(crop: np.ndarray, changes: Changes, random: np.random.Generator) -> np.ndarray:
    middle = (len(crop) - 1) / 2
    turn, scale = random.uniform(-1, 1) * changes.turn, 1 + random.uniform(-1, 1) * changes.scale
    affine = cv2.getRotationMatrix2D((middle, middle), turn, scale)
    affine[:, 2] += random.uniform(-1, 1, 2) * changes.shift * len(crop)
    return cv2.warpAffine(crop, affine, crop.shape[:2], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _lit(crop: np.ndarray, changes: Changes, random: np.random.Generator) -> np.ndarray:
    contrast, brightness = random.uniform(-1, 1, 2) * changes.light
    channels = 1 + random.uniform(-1, 1, 3) * changes.colour
    colours = crop.astype(np.float32)
    if random.random() < changes.gray:
        colours = np.repeat(colours.mean(axis=-1, keepdims=True), 3, axis=-1)
    mean = colours.mean()
    changed = (mean + (colours - mean) * (1 + contrast)) * (1 + brightness) * channels
    return np.clip(changed, 0, 255).astype(np.uint8)
