"""Recognisers that are ONNX files: the user's own, and SFace of OpenCV's model zoo.

No weights of this project were trained by SFace, so that it is a judge of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from deidcli.errors import UsageError, one_line
from deidcli.faces.align import LEFT_EYE, RIGHT_EYE, similarity, warp
from deidcli.faces.recognisers import SFACE, Recogniser, cosine_distance
from deidcli.values import Face

if TYPE_CHECKING:
    from onnxruntime import InferenceSession


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
    widened = False  # whether weights of few bits are made float32 once, which is twice as fast

    def __init__(self, file: str = ""):
        super().__init__(file)
        if not Path(file).is_file():
            raise UsageError(f"--recogniser {self.name}:{file}: there is no such file", "give the path of an ONNX file")
        try:
            self._session = self._opened(Path(file))
            # A file that cannot take a chip is refused before anything is written.
            self.length = self._described(np.zeros((1, SIDE, SIDE, 3), np.uint8)).shape[1]
        except Exception as error:  # ONNX Runtime's errors have no common class
            hint = f"it has to take one picture of {SIDE} x {SIDE} pixels and give one row of numbers"
            reason = f"ONNX Runtime cannot run it: {one_line(error)}"
            raise UsageError(f"--recogniser {self.name}:{file}: {reason}", hint) from error

    def chips(self, pixels: np.ndarray, faces: Sequence[Face]) -> np.ndarray:
        """Upright faces of 112 pixels, placed by five points."""
        chips = [warp(pixels, similarity(five_points(self.points(face)), PLACES), SIDE) for face in faces]
        return np.stack(chips) if chips else np.zeros((0, SIDE, SIDE, 3), np.uint8)

    def embed(self, chips: np.ndarray) -> np.ndarray:
        """Each alone, as most files fix their batch at one; several at a time, in threads."""
        return self._described(chips) if len(chips) else np.zeros((0, self.length), np.float32)

    def distance(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Cosine distance, row by row."""
        return cosine_distance(a, b)

    def _opened(self, path: Path) -> InferenceSession:
        from deidcli.networks import graphs

        # A path where nothing has to be taken out: large weights may lie in files beside it.
        model = graphs.with_one_input(path.read_bytes(), self.entry) if self.entry else str(path)
        return graphs.session(model, self.widened)

    def _described(self, chips: np.ndarray) -> np.ndarray:
        from deidcli.networks.store import run_rows

        rows = (np.asarray(chips, np.float32) - self.shift) * self.scale
        made = run_rows(self._session, rows.transpose(0, 3, 1, 2))[0]
        return made.reshape(len(chips), -1).astype(np.float32)


def five_points(landmarks: np.ndarray) -> np.ndarray:
    """Centres of the eyes, tip of the nose and corners of the mouth (5, 2) of the 68 landmarks (68, 2)."""
    points = np.asarray(landmarks, np.float64)
    eyes = points[LEFT_EYE].mean(axis=0), points[RIGHT_EYE].mean(axis=0)
    return np.stack([*eyes, points[NOSE_TIP], points[LEFT_CORNER], points[RIGHT_CORNER]])


WEIGHTS = SFACE


class SfaceRecogniser(OnnxRecogniser):
    """`sface`, or `sface:FILE`: a MobileFaceNet (Zhong et al. 2021), 128 numbers, cosine distance.

    The threshold is the one that OpenCV recommends, a cosine of 0.363; `small` is by benchmarks/small_faces.py. Raises
    MissingDependency where the weights are not installed and no file is given.
    """

    name = "sface"
    weights = WEIGHTS
    threshold = 0.637
    small = ((8, 0.67), (11, 0.81), (14, 0.92), (18, 0.97), (22, 0.97), (27, 1.0))
    needs_file = False
    scale, shift, entry, widened = 1.0, 0.0, "data", True  # the network takes the mean off itself

    def __init__(self, file: str = ""):
        super().__init__(file or str(WEIGHTS.verified("the recogniser sface")))
