"""k-Same-Pixel (Newton et al. 2005): the surrogate is the mean picture of its members' aligned faces.

As in the paper it is the mean of pixels: nothing is matched but the eyes, nose and mouth of the aligned crops, so it
is soft and shows ghosts of its members' hair and jaws. It keeps no expression.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from deidcli.methods.base import Secret, option
from deidcli.methods.closed import ClosedSet
from deidcli.values import Crop


class KSamePixel(ClosedSet):
    """Means of pixels in sRGB."""

    name = "ksame-pixel"
    summary = "k people share the mean of their pictures; a closed set, with k-anonymity"

    @dataclass(frozen=True)
    class Options(ClosedSet.Options):
        size: int = option(160, "side of the surrogate in pixels", 32, 512)

    def __init__(self, options: Any = None, secret: Secret | None = None, models: Any = None):
        super().__init__(options, secret, models)
        self.at_size(self.options.size)

    def surrogate(self, faces: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """(size, size, 3) uint8."""
        mean = np.zeros(self.census.pixels[faces[:1]].shape[1:])
        for face, weight in zip(faces, weights, strict=True):
            mean += weight * self.census.pixels[face]
        return np.clip(mean + 0.5, 0, 255).astype(np.uint8)

    def render(self, surrogates: Sequence[np.ndarray], crops: Sequence[Crop]) -> list[Crop]:
        return [crop.with_pixels(pixels.copy()) for crop, pixels in zip(crops, surrogates, strict=True)]
