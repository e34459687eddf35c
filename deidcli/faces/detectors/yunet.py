"""YuNet through OpenCV, with a model file that the user gives."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from deidcli.errors import UsageError
from deidcli.faces.detectors import DetectOptions, Detector
from deidcli.values import Box, Face

OVERLAP = 0.3  # above which OpenCV drops the weaker of two boxes
MOST = 5000  # boxes of one picture


class YunetDetector(Detector):
    """`yunet:FILE`: faces of 10 to 300 pixels, with face_detection_yunet_2023mar.onnx of OpenCV's model zoo."""

    name = "yunet"
    threshold = 0.6
    smallest = 10
    largest = 2_000_000
    takes_file = True

    def __init__(self, options: DetectOptions, file: str = ""):
        super().__init__(options, file)
        if not Path(file).is_file():
            hint = "take face_detection_yunet_2023mar.onnx from github.com/opencv/opencv_zoo"
            raise UsageError(f"--detector yunet:{file}: there is no such file", hint)
        self._own = threading.local()  # its input size is part of OpenCV's object, so that threads would mix it up

    def find(self, pictures: Sequence[np.ndarray]) -> list[list[Face]]:
        """Scores are within 0 and 1."""
        return [self._one(picture) for picture in pictures]

    def _one(self, picture: np.ndarray) -> list[Face]:
        scale = 2**self.doublings
        bgr = np.ascontiguousarray(picture[..., ::-1])
        if scale > 1:
            bgr = cv2.resize(bgr, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
        network = self._network()
        network.setInputSize((bgr.shape[1], bgr.shape[0]))
        _, rows = network.detect(bgr)
        return [_face(row, scale) for row in (rows if rows is not None else [])]

    def _network(self) -> cv2.FaceDetectorYN:
        if not hasattr(self._own, "network"):
            try:
                self._own.network = cv2.FaceDetectorYN.create(self.file, "", (320, 320), self.lowest, OVERLAP, MOST)
            except cv2.error as error:
                hint = "it has to be an ONNX file of YuNet"
                raise UsageError(f"--detector yunet:{self.file}: OpenCV cannot read it: {error.err}", hint) from error
        return self._own.network


def _face(row: np.ndarray, scale: int) -> Face:
    left, top, width, height = (float(v) / scale for v in row[:4])
    return Face(Box(left, top, left + width, top + height), float(row[14]))
