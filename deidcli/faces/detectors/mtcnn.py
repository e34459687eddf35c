"""MTCNN (Zhang et al. 2016) by the package `mtcnn`: three small networks in a row."""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from deidcli.errors import MissingDependency
from deidcli.faces.detectors import DetectOptions, Detector
from deidcli.values import Box, Face

POINTS = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")
LEAST = 12  # pixels of the shorter side: the first network sees nothing smaller


class MtcnnDetector(Detector):
    """Faces of 20 pixels and more, 10 when upsampled once."""

    name = "mtcnn"
    threshold = 0.8
    smallest = 20
    largest = 12_000_000

    def __init__(self, options: DetectOptions, file: str = ""):
        super().__init__(options, file)
        # Said before the first file is read, and not once for every file.
        if importlib.util.find_spec("mtcnn") is None:
            raise MissingDependency("the detector mtcnn needs the package mtcnn", "run `pip install deidcli[facenet]`")
        self._lock = threading.Lock()

    def find(self, pictures: Sequence[np.ndarray]) -> list[list[Face]]:
        """Scores are the last network's probabilities."""
        return [self._one(np.ascontiguousarray(picture)) for picture in pictures]

    def _one(self, picture: np.ndarray) -> list[Face]:
        if min(picture.shape[:2]) < LEAST:
            return []
        least = max(1, self.smallest // 2**self.doublings)
        with self._lock:
            rows = self._network.detect_faces(picture, min_face_size=least, threshold_onet=self.lowest)
        return [_face(row) for row in rows or []]

    @cached_property
    def _network(self) -> Any:
        from mtcnn import MTCNN

        import deidcli.networks.backend  # noqa: F401 - imports TensorFlow without its log lines

        return MTCNN()


def _face(row: dict[str, Any]) -> Face:
    left, top, width, height = map(float, row["box"])
    points = np.array([row["keypoints"][name] for name in POINTS], np.float32)
    return Face(Box(left, top, left + width, top + height), float(row["confidence"]), points5=points)
