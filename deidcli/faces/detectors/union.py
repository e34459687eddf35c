"""All detectors at once: what any of them finds."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

import numpy as np

from deidcli.errors import UsageError
from deidcli.faces.detectors import DetectOptions, Detector
from deidcli.faces.detectors.centerface import WEIGHTS, CenterfaceDetector
from deidcli.faces.detectors.dlib import CnnDetector, HogDetector
from deidcli.faces.detectors.mtcnn import MtcnnDetector
from deidcli.faces.nms import nms
from deidcli.values import Face


class UnionDetector(Detector):
    """The union of `cnn`, `hog` and, where their weights are installed, `centerface` and `mtcnn`; each face once.

    Scores are those of the detector that found a face, less that detector's threshold, because their units differ.
    """

    name = "all"
    threshold = 0.0
    upsample = 1
    smallest = 80
    largest = 4_000_000
    batches = True
    enlarges = mirrors = True

    def __init__(self, options: DetectOptions, file: str = ""):
        super().__init__(options, file)
        if options.threshold is not None:
            raise UsageError("--threshold has no one meaning for --detector all", "choose one detector for it")
        kinds: list[type[Detector]] = [CnnDetector, HogDetector]
        kinds += [CenterfaceDetector] if WEIGHTS.find() else []
        kinds += [MtcnnDetector] if find_spec("mtcnn") else []
        self.parts = [kind(options) for kind in kinds]

    def find(self, pictures: Sequence[np.ndarray]) -> list[list[Face]]:
        """The strongest box of each face."""
        found = [part.find(pictures) for part in self.parts]
        return [self._merged(faces) for faces in zip(*found, strict=True)]

    def _merged(self, found: Sequence[list[Face]]) -> list[Face]:
        above = [
            Face(face.box, face.score - part.lowest)
            for part, faces in zip(self.parts, found, strict=True)
            for face in faces
        ]
        return nms(sorted(above, key=lambda f: -f.score), self.options.overlap)
