"""Trials: how a recogniser describes people of a census with the surrogates that a method may give them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from deidcli.faces.blend import BlendOptions, blend
from deidcli.faces.embed import recogniser
from deidcli.methods.census import Census
from deidcli.methods.closed import ClosedSet
from deidcli.values import Crop, Frame

BATCH = 64  # faces that are made at once


class Trial:
    """Holds a census and the method whose surrogates are tried on."""

    def __init__(self, method: ClosedSet, census: Census):
        self._method, self._census, self._rows = method, census, census.typical()
        self._recogniser = recogniser("dlib")

    def described(self, people: np.ndarray, surrogates: Sequence[Any]) -> np.ndarray:
        """dlib's descriptors (n, 128) of the typical faces of `people` (n,), each with its surrogate put on."""
        starts = range(0, len(people), BATCH)
        return np.concatenate([self._batch(people[i : i + BATCH], surrogates[i : i + BATCH]) for i in starts])

    def _batch(self, people: np.ndarray, surrogates: Sequence[Any]) -> np.ndarray:
        crops = self._census.crops(self._rows[people])
        made = self._method.render(surrogates, crops)
        return self._recogniser.embed(
            np.stack([self._chip(crop, pixels) for crop, pixels in zip(crops, made, strict=True)])
        )

    def _chip(self, crop: Crop, pixels: np.ndarray) -> np.ndarray:
        done = blend(Frame(crop.pixels), crop.with_pixels(pixels), self._method.crop, BlendOptions()).frame
        return self._recogniser.chips(done.pixels, [crop.face])[0]
