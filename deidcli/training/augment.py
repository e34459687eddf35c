"""Augment: aligned crops as they could have come out otherwise: moved, turned, lit, coloured and blurred a little."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from deidcli.training.sampling import Augment


@dataclass(frozen=True)
class Retaken(Augment):
    """As if every face had been photographed and aligned again.

    shift, scale: largest move and change of size, as shares of the side. turn: largest, in degrees. light: largest
    change of brightness and of contrast, as a share. colour: largest change of each channel, as a share. blur: largest
    standard deviation as a share of the side, for half of the faces; generated faces are soft by about 0.02. gray: how
    often a face loses its colour.
    """

    shift: float = 0.04
    scale: float = 0.06
    turn: float = 7.0
    light: float = 0.25
    colour: float = 0.08
    blur: float = 0.025
    gray: float = 0.1

    def __call__(self, crops: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """A varied copy of (n, side, side, 3) uint8."""
        return np.stack([self._retaken(crop, random) for crop in crops])

    def _retaken(self, crop: np.ndarray, random: np.random.Generator) -> np.ndarray:
        if random.random() < 0.5 and self.mirror:
            crop = np.ascontiguousarray(crop[:, ::-1])
        crop = self._moved(crop, random)
        if random.random() < 0.5 and self.blur:
            crop = cv2.GaussianBlur(crop, (0, 0), random.uniform(0.2, 1) * self.blur * len(crop))
        return self._lit(crop, random)

    def _moved(self, crop: np.ndarray, random: np.random.Generator) -> np.ndarray:
        middle = (len(crop) - 1) / 2
        turn, scale = random.uniform(-1, 1) * self.turn, 1 + random.uniform(-1, 1) * self.scale
        affine = cv2.getRotationMatrix2D((middle, middle), turn, scale)
        affine[:, 2] += random.uniform(-1, 1, 2) * self.shift * len(crop)
        return cv2.warpAffine(crop, affine, crop.shape[:2], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)

    def _lit(self, crop: np.ndarray, random: np.random.Generator) -> np.ndarray:
        contrast, brightness = random.uniform(-1, 1, 2) * self.light
        channels = 1 + random.uniform(-1, 1, 3) * self.colour
        colours = crop.astype(np.float32)
        if random.random() < self.gray:
            colours = np.repeat(colours.mean(axis=-1, keepdims=True), 3, axis=-1)
        mean = colours.mean()
        changed = (mean + (colours - mean) * (1 + contrast)) * (1 + brightness) * channels
        return np.clip(changed + 0.5, 0, 255).astype(np.uint8)
