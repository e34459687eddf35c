"""Embed: describe faces by numbers that lie close together for one person. One class a recogniser."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cache
from typing import ClassVar

import numpy as np

from deidcli.errors import UsageError
from deidcli.values import Face


class Recogniser(ABC):
    """Describes faces. threshold: the distance at and below which two faces count as one person."""

    name: ClassVar[str]
    threshold: ClassVar[float]
    length: ClassVar[int]

    @abstractmethod
    def chips(self, pixels: np.ndarray, faces: Sequence[Face]) -> np.ndarray:
        """The recogniser's own crops of faces with landmarks in a (height, width, 3) uint8 picture: (n, h, w, 3) uint8."""

    @abstractmethod
    def embed(self, chips: np.ndarray) -> np.ndarray:
        """Descriptors (n, length) float32 of n crops, 0 included."""

    def distance(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Euclidean distance of descriptors row by row: (n, length) twice to (n,)."""
        return np.linalg.norm(np.asarray(a) - np.asarray(b), axis=-1)


class DlibRecogniser(Recogniser):
    """dlib's ResNet, 128 numbers, Euclidean distance, 0.6 as its author recommends; run by this project's Keras port."""

    name = "dlib"
    threshold = 0.6
    length = 128

    def chips(self, pixels: np.ndarray, faces: Sequence[Face]) -> np.ndarray:
        from deidcli.networks.dlib_chips import extract_chips

        return extract_chips(pixels, [face.landmarks for face in faces])

    def embed(self, chips: np.ndarray) -> np.ndarray:
        from deidcli.networks.store import run

        return run(_network(), chips.astype(np.float32))[0]


@cache
def _network():
    from deidcli.networks.dlib_nets import build_recogniser

    return build_recogniser()


def recognisers() -> dict[str, type[Recogniser]]:
    """Every recogniser by name."""
    return {kind.name: kind for kind in (DlibRecogniser,)}


def recogniser(name: str) -> Recogniser:
    """The recogniser called `name`. Raises UsageError for a name that is not known."""
    if name not in recognisers():
        raise UsageError(f"no recogniser is called {name!r}", f"choose one of {', '.join(recognisers())}")
    return recognisers()[name]()
