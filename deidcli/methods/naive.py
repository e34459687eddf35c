"""The classical baselines: blur, pixelate and solid. They hide a face and keep nothing of it.

Every strength is relative to the face, so that a large face is hidden as well as a small one.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np

from deidcli.errors import UsageError
from deidcli.methods.base import Method, Secret, option
from deidcli.values import Crop, CropSpec

MARGIN = 0.35  # of the crop around the face's box; the ellipse about the box with its soft edge fits in


class _Naive(Method):
    """Works on the box alone, at the photograph's own resolution."""

    crop = CropSpec(size=None, margin=MARGIN, align="box", mask="ellipse", transfer_lighting=False)

    def apply(self, crops: Sequence[Crop]) -> list[Crop]:
        return [crop.with_pixels(self._hide(crop.pixels)) for crop in crops]

    @abstractmethod
    def _hide(self, pixels: np.ndarray) -> np.ndarray:
        """The crop (side, side, 3) uint8 without its face."""


def _face(pixels: np.ndarray) -> np.ndarray:
    """The face's box within its crop."""
    border = round((pixels.shape[0] - _face_share(pixels)) / 2)
    return pixels[border : pixels.shape[0] - border, border : pixels.shape[1] - border]


def _face_share(pixels: np.ndarray) -> float:
    """The side in pixels of the face within its crop."""
    return pixels.shape[0] / (1 + 2 * MARGIN)


class Blur(_Naive):
    """Twice as wide at each escalation, up to the face's own side."""

    name = "blur"
    summary = "Gaussian blur whose width scales with the face"
    linear = True

    @dataclass(frozen=True)
    class Options:
        blur: float = option(0.25, "standard deviation of the blur as a share of the face's side", 0.05, 1.0)

    def _hide(self, pixels: np.ndarray) -> np.ndarray:
        # The blur leaves nothing finer than itself, so a small picture carries it all: a wide kernel costs nothing.
        side = pixels.shape[0]
        small = min(side, 32)
        sigma = self.options.blur * _face_share(pixels) * small / side
        shrunk = cv2.resize(pixels, (small, small), interpolation=cv2.INTER_AREA)
        blurred = cv2.GaussianBlur(shrunk, (0, 0), max(sigma, 0.5), borderType=cv2.BORDER_REPLICATE)
        return cv2.resize(blurred, (side, side), interpolation=cv2.INTER_CUBIC)

    def escalate(self, attempt: int) -> Method | None:
        wider = min(1.0, self.options.blur * 2)
        return Blur(replace(self.options, blur=wider), self.secret) if wider > self.options.blur else None


class Pixelate(_Naive):
    """Half as many cells at each escalation, down to one."""

    name = "pixelate"
    summary = "mosaic of cell means, with a fixed number of cells across a face"
    linear = True

    @dataclass(frozen=True)
    class Options:
        cells: int = option(6, "cells across a face", 1, 32)

    def _hide(self, pixels: np.ndarray) -> np.ndarray:
        side = pixels.shape[0]
        count = max(1, min(side, round(self.options.cells * (1 + 2 * MARGIN))))
        means = cv2.resize(pixels, (count, count), interpolation=cv2.INTER_AREA)
        return cv2.resize(means, (side, side), interpolation=cv2.INTER_NEAREST)

    def escalate(self, attempt: int) -> Method | None:
        fewer = max(1, self.options.cells // 2)
        return Pixelate(replace(self.options, cells=fewer), self.secret) if fewer < self.options.cells else None


class Solid(_Naive):
    """The last level of every escalation: what it covers is gone. Raises UsageError for a colour that is not known.

    The mean colour of a face reveals its tone and nothing else, and such a cover is less conspicuous.
    """

    name = "solid"
    summary = "one colour over the face; nothing of it is left"
    removes_face = True

    @dataclass(frozen=True)
    class Options:
        color: str = option("mean", "the face's own mean colour, or a colour name or #rrggbb")

    def __init__(self, options: Any = None, secret: Secret | None = None, models: Any = None):
        super().__init__(options, secret, models)
        self._color = None if self.options.color == "mean" else _rgb(self.options.color)

    def _hide(self, pixels: np.ndarray) -> np.ndarray:
        return np.full_like(pixels, np.round(_face(pixels).mean(axis=(0, 1))) if self._color is None else self._color)


def _rgb(color: str) -> tuple[int, int, int]:
    from PIL import ImageColor

    try:
        return ImageColor.getrgb(color)[:3]
    except ValueError as error:
        raise UsageError(f"--color {color}: not a colour", "give a name like black, or #rrggbb") from error
