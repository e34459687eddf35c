"""Any recogniser that a user has as an ONNX file, through OpenCV: the honest judge is one that training never saw."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from deidcli.errors import UsageError
from deidcli.faces.align import similarity, warp
from deidcli.faces.recognisers.base import Recogniser, cosine_distance
from deidcli.faces.shape import LEFT_EYE, RIGHT_EYE
from deidcli.values import Face

SIDE = 112  # pixels of a chip
NOSE_TIP, LEFT_CORNER, RIGHT_CORNER = 30, 48, 54
# Where eyes, tip of the nose and corners of the mouth lie in a chip; what ArcFace and its kin are trained with.
PLACES = np.array([(38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041)])


class OnnxRecogniser(Recogniser):
    """`onnx:FILE`: a network that takes (1, 3, 112, 112) RGB as (x - 127.5) / 127.5; cosine distance.

    The threshold is a cosine of 0.363; what suits another network is for --distance to say.
    """

    name = "onnx"
    threshold = 0.637
    takes_file = True
    scale, shift = 1 / 127.5, 127.5  # what of a pixel is subtracted, and what it is multiplied by then
    entry = ""  # name of the input, for files that list their weights as inputs, too

    def __init__(self, file: str = ""):
        super().__init__(file)
        if not Path(file).is_file():
            raise UsageError(f"--recogniser {self.name}:{file}: there is no such file", "give the path of an ONNX file")
        try:
            self._network = cv2.dnn.readNetFromONNX(file)
            self._lock = threading.Lock()  # OpenCV's network keeps the picture it works on in itself
            # A file that cannot take a chip is refused before anything is written.
            self.length = self._describe(np.zeros((SIDE, SIDE, 3), np.uint8)).size
        except cv2.error as error:
            hint = f"it has to take one picture of {SIDE} x {SIDE} pixels and give one row of numbers"
            raise UsageError(f"--recogniser {self.name}:{file}: OpenCV cannot run it: {error.err}", hint) from error

    def chips(self, pixels: np.ndarray, faces: Sequence[Face]) -> np.ndarray:
        """Upright faces of 112 pixels, placed by five points."""
        chips = [warp(pixels, similarity(five_points(self.points(face)), PLACES), SIDE) for face in faces]
        return np.stack(chips) if chips else np.zeros((0, SIDE, SIDE, 3), np.uint8)

    def embed(self, chips: np.ndarray) -> np.ndarray:
        """One at a time: most files fix their batch at one."""
        rows = [self._describe(chip) for chip in chips]
        return np.stack(rows) if rows else np.zeros((0, self.length), np.float32)

    def distance(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Cosine distance, row by row."""
        return cosine_distance(a, b)

    def _describe(self, chip: np.ndarray) -> np.ndarray:
        blob = cv2.dnn.blobFromImage(chip, self.scale, (SIDE, SIDE), (self.shift,) * 3)
        with self._lock:
            self._network.setInput(blob, self.entry)
            return np.array(self._network.forward(), np.float32).ravel()


def five_points(landmarks: np.ndarray) -> np.ndarray:
    """Centres of the eyes, tip of the nose and corners of the mouth (5, 2) of the 68 landmarks (68, 2)."""
    points = np.asarray(landmarks, np.float64)
    eyes = points[LEFT_EYE].mean(axis=0), points[RIGHT_EYE].mean(axis=0)
    return np.stack([*eyes, points[NOSE_TIP], points[LEFT_CORNER], points[RIGHT_CORNER]])
