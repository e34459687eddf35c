"""MTCNN: three small networks in a row, with the weights of the package that keras-facenet depends on."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

import numpy as np

from deidcli.errors import MissingDependency
from deidcli.faces.detect import DetectOptions, Detector
from deidcli.values import Box, Face


class MtcnnDetector(Detector):
    """Faces of 20 pixels and more, 10 when upsampled once."""

    name = "mtcnn"
    threshold = 0.8
    smallest = 20
    largest = 12_000_000
    batches = True

    def __init__(self, options: DetectOptions, file: str = ""):
        super().__init__(options, file)
        # Said before the first file is read, and not once for every file.
        if importlib.util.find_spec("mtcnn") is None:
            raise MissingDependency("the detector mtcnn needs the package mtcnn", "run `pip install deidcli[facenet]`")

    def find(self, pictures: Sequence[np.ndarray]) -> list[list[Face]]:
        """Scores are the last network's probabilities."""
        from deidcli.networks.mtcnn import detect

        found = detect(pictures, self.lowest, self.smallest / 2**self.doublings)
        return [[Face(Box(*map(float, row[:4])), float(row[4])) for row in faces] for faces in found]
