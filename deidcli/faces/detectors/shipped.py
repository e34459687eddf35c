"""The detectors that come with deid: CenterFace, two of dlib, MTCNN, YuNet with a file of the user, and all at once."""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Sequence
from copy import copy
from functools import cache, cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from deidcli.errors import MissingDependency, UsageError, one_line
from deidcli.faces.detectors import CENTERFACE as WEIGHTS
from deidcli.faces.detectors import DetectOptions, Detector
from deidcli.faces.search import nms
from deidcli.values import Box, Face

if TYPE_CHECKING:
    from onnxruntime import InferenceSession


STRIDE, MULTIPLE = 4, 32  # pixels of a square, and of what the sides of the input are multiples
# Probabilities; logarithms of height and width; where in its square the middle lies, down and right; five points.
OUTPUTS = ["537", "538", "539", "540"]
OVERLAP = 0.3  # of two boxes, above which CenterFace and YuNet drop the weaker one
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
        from deidcli.networks.store import in_threads

        return in_threads(lambda picture: self._one(np.ascontiguousarray(picture)), pictures)

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
        from deidcli.networks import graphs, onnx_files

        try:
            model = onnx_files.with_one_input(self.path.read_bytes(), shape=(None, 3, None, None))
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
        return [_yunet_face(row, scale) for row in (rows if rows is not None else [])]

    def _network(self) -> cv2.FaceDetectorYN:
        if not hasattr(self._own, "network"):
            try:
                self._own.network = cv2.FaceDetectorYN.create(self.file, "", (320, 320), self.lowest, OVERLAP, MOST)
            except cv2.error as error:
                hint = "it has to be an ONNX file of YuNet"
                raise UsageError(f"--detector yunet:{self.file}: OpenCV cannot read it: {error.err}", hint) from error
        return self._own.network


def _yunet_face(row: np.ndarray, scale: int) -> Face:
    left, top, width, height = (float(v) / scale for v in row[:4])
    return Face(Box(left, top, left + width, top + height), float(row[14]))


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
