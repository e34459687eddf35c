"""dlib's two detectors: histograms of oriented gradients, and the max-margin network, which runs in Keras."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from copy import copy
from functools import cache

import numpy as np

from deidcli.faces.detectors import DetectOptions, Detector
from deidcli.values import Box, Face


class HogDetector(Detector):
    """Frontal faces of 80 pixels and more, 40 when upsampled once. The lightest: no network library is loaded."""

    name = "hog"
    threshold = 0.0
    upsample = 1
    smallest = 80
    largest = 64_000_000

    def __init__(self, options: DetectOptions, file: str = ""):
        super().__init__(options, file)
        # dlib's scanner keeps the picture it works on in itself: two threads in one scanner end in a crash.
        self._own = threading.local()

    def find(self, pictures: Sequence[np.ndarray]) -> list[list[Face]]:
        """Scores are margins: 0 is the detector's own border, 1 is sure."""
        return [self._one(np.ascontiguousarray(p)) for p in pictures]

    def _one(self, picture: np.ndarray) -> list[Face]:
        if not hasattr(self._own, "scanner"):
            with _LOADING:
                self._own.scanner = copy(_scanner())
        found, scores, _ = self._own.scanner.run(picture, self.doublings, self.lowest)
        return [
            Face(Box(r.left(), r.top(), r.right() + 1, r.bottom() + 1), float(s))
            for r, s in zip(found, scores, strict=True)
        ]


_LOADING = threading.Lock()


@cache
def _scanner():
    # Loading takes half a second in which no other thread runs, a copy a millisecond.
    import dlib

    return dlib.get_frontal_face_detector()


class CnnDetector(Detector):
    """Faces of 80 pixels and more from any side, 40 when upsampled once; the same boxes as dlib's own."""

    name = "cnn"
    # dlib's own is 0; what scores between is faces in the dark, cut off or turned away, and next to nothing else.
    threshold = -0.6
    upsample = 1
    smallest = 80
    largest = 4_000_000
    batches = True

    def find(self, pictures: Sequence[np.ndarray]) -> list[list[Face]]:
        """Scores are margins: 0 is dlib's own border, 1 is sure."""
        from deidcli.networks.dlib_detector import detect

        found = detect([np.ascontiguousarray(p) for p in pictures], self.lowest, self.doublings)
        return [[Face(Box(a, b, c + 1, d + 1), score) for a, b, c, d, score in faces] for faces in found]
