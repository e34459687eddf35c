"""dlib's max-margin convolutional detector, run by this project in Keras."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from deidcli.faces.detectors import Detector
from deidcli.values import Box, Face


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
