"""Detect: find the faces of a batch of frames. One class a detector; `detector()` finds it by the word after --detector."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from deidcli.errors import UsageError
from deidcli.values import Box, Face


@dataclass(frozen=True)
class DetectOptions:
    """threshold: the lowest score that counts, in the detector's own unit; None for its default.

    min_face: shortest side of a face in pixels; smaller ones are left out. upsample: how often the picture is doubled
    before the search, which finds faces of half the size at four times the cost.
    """

    detector: str = "hog"
    threshold: float | None = None
    min_face: int = 0
    upsample: int = 1


class Detector(ABC):
    """Finds faces. `threshold` is the default lowest score."""

    name: ClassVar[str]
    threshold: ClassVar[float]

    def __init__(self, options: DetectOptions):
        self.options = options
        self.lowest = self.threshold if options.threshold is None else options.threshold

    def detect(self, pictures: Sequence[np.ndarray]) -> list[list[Face]]:
        """For each (height, width, 3) uint8 RGB picture its faces, best first, without landmarks."""
        return [self._keep(faces) for faces in self._find(pictures)]

    @abstractmethod
    def _find(self, pictures: Sequence[np.ndarray]) -> list[list[Face]]:
        """The faces before --min-face and the order are applied."""

    def _keep(self, faces: list[Face]) -> list[Face]:
        large = [f for f in faces if min(f.box.width, f.box.height) >= self.options.min_face]
        return sorted(large, key=lambda f: (-f.score, f.box.left, f.box.top))


class HogDetector(Detector):
    """dlib's histogram-of-gradients detector: frontal faces of 80 pixels and more, 40 when upsampled once."""

    name = "hog"
    threshold = 0.0

    def __init__(self, options: DetectOptions):
        super().__init__(options)
        # dlib's scanner keeps the picture it works on in itself: two threads in one scanner end in a crash.
        self._own = threading.local()

    def _find(self, pictures: Sequence[np.ndarray]) -> list[list[Face]]:
        return [self._one(np.ascontiguousarray(p)) for p in pictures]

    def _one(self, picture: np.ndarray) -> list[Face]:
        if not hasattr(self._own, "scanner"):
            import dlib

            self._own.scanner = dlib.get_frontal_face_detector()
        found, scores, _ = self._own.scanner.run(picture, self.options.upsample, self.lowest)
        return [
            Face(Box(r.left(), r.top(), r.right() + 1, r.bottom() + 1), float(s))
            for r, s in zip(found, scores, strict=True)
        ]


def detectors() -> dict[str, type[Detector]]:
    """Every detector by name."""
    return {kind.name: kind for kind in (HogDetector,)}


def detector(options: DetectOptions) -> Detector:
    """The detector that `options` names. Raises UsageError for a name that is not known."""
    known = detectors()
    if options.detector not in known:
        raise UsageError(f"no detector is called {options.detector!r}", f"choose one of {', '.join(known)}")
    return known[options.detector](options)
