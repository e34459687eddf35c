"""The recognisers that come with deid: dlib's, SFace and other ONNX files, FaceNet, and the first two at once."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from deidcli.errors import UsageError, one_line
from deidcli.faces.align import INNER, LEFT_EYE, MEAN_SHAPE, RIGHT_EYE, similarity, warp
from deidcli.faces.recognisers import SFACE, Recogniser, cosine_distance
from deidcli.values import Face

if TYPE_CHECKING:
    from onnxruntime import InferenceSession


class DlibRecogniser(Recogniser):
    """128 numbers, Euclidean distance, 0.6 as its author recommends. `small` is by benchmarks/small_faces.py."""

    name = "dlib"
    threshold = 0.6
    length = 128
    small = ((8, 0.55), (11, 0.69), (14, 0.77), (18, 0.83), (22, 0.88), (27, 0.92), (34, 0.95), (44, 0.98), (60, 1.0))

    def ready(self) -> None:
        """Its network."""
        from deidcli.networks.dlib_recogniser import load

        load()

    def chips(self, pixels: np.ndarray, faces: Sequence[Face]) -> np.ndarray:
        """Upright faces of 150 pixels with a quarter of room on each side."""
        from deidcli.networks.dlib_recogniser import extract_chips

        return extract_chips(pixels, [face.landmarks for face in faces if face.landmarks is not None])

    def embed(self, chips: np.ndarray) -> np.ndarray:
        """Descriptors of about unit length."""
        from deidcli.networks.dlib_recogniser import describe

        return describe(chips)


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
        return _session(path, self.entry, self.widened)

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
        self._fetched = not file
        super().__init__(file or str(SFACE.verified("the recogniser sface")))

    def _opened(self, path: Path) -> InferenceSession:
        # What was fetched is the same file every time, and a method may ask for it beside the one that verifies.
        return _kept_session(path, self.entry, self.widened) if self._fetched else super()._opened(path)


def _session(path: Path, entry: str, widened: bool) -> InferenceSession:
    from deidcli.networks import graphs, onnx_files

    # A path where nothing has to be taken out: large weights may lie in files beside it.
    model = onnx_files.with_split_slopes(onnx_files.with_one_input(path.read_bytes(), entry)) if entry else str(path)
    return graphs.session(model, widened)


_kept_session = cache(_session)


FACENET_SIDE = 160  # pixels of a chip
# MTCNN's box, which FaceNet was trained with, against the face square: its centre's shift to the right and down, its
# width and height, each as a share of the square's side. Medians of 150 of LFW's training people.
BOX = (0.0, -0.047, 0.739, 0.995)
# How much more than the box is shown. Its author adds 32 pixels to boxes of LFW, which are 90 to 120 pixels large.
ROOM = 1.3


class FacenetRecogniser(Recogniser):
    """512 numbers of unit length, cosine distance; 0.605 is the Euclidean distance of 1.1 that CLEANIR judges by."""

    name = "facenet"
    threshold = 0.605
    length = 512

    def __init__(self, file: str = ""):
        super().__init__(file)
        from deidcli.networks.facenet import check_installed

        check_installed()

    def chips(self, pixels: np.ndarray, faces: Sequence[Face]) -> np.ndarray:
        """Boxes about faces as MTCNN would put them, not turned upright, stretched to 160 x 160 pixels."""
        chips = [_chip(pixels, self.points(face)) for face in faces]
        return np.stack(chips) if chips else np.zeros((0, FACENET_SIDE, FACENET_SIDE, 3), np.uint8)

    def embed(self, chips: np.ndarray) -> np.ndarray:
        """Descriptors of unit length."""
        return _network()((chips.astype(np.float32) - 127.5) / 127.5)[0]

    def distance(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Cosine distance, row by row."""
        return cosine_distance(a, b)


def _chip(pixels: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    square = similarity(MEAN_SHAPE[INNER], np.asarray(landmarks, np.float64)[INNER])
    side = float(np.hypot(square[0, 0], square[1, 0]))
    centre = square[:, :2] @ (0.5, 0.5) + square[:, 2] + np.array(BOX[:2]) * side
    size = np.array(BOX[2:]) * side * ROOM
    step = size / FACENET_SIDE
    # The shrunk picture is averaged first, because a warp only interpolates.
    sigma = max(0.0, float(step.mean()) - 1) / 2
    corner = centre - size / 2 + step / 2
    part, origin = _around(pixels, centre, size + 6 * sigma + 4)
    if sigma > 0.2:
        part = cv2.GaussianBlur(part, (0, 0), sigma)
    warp = np.array([[step[0], 0, corner[0] - origin[0]], [0, step[1], corner[1] - origin[1]]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(part, warp, (FACENET_SIDE, FACENET_SIDE), flags=flags, borderMode=cv2.BORDER_REPLICATE)


def _around(pixels: np.ndarray, centre: np.ndarray, size: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The part of the picture about `centre`, at least one pixel of it, and its upper left corner (x, y)."""
    limit = np.array(pixels.shape[1::-1])
    low = np.clip(np.floor(centre - size / 2), 0, limit - 1).astype(int)
    high = np.clip(np.ceil(centre + size / 2), low + 1, limit).astype(int)
    return np.ascontiguousarray(pixels[low[1] : high[1], low[0] : high[0]]), low


@cache
def _network():
    from deidcli.networks.facenet import network

    return network()


class BothRecogniser(Recogniser):
    """`both`: dlib's descriptor and SFace's behind each other; the smaller distance, as a multiple of its threshold.

    Raises MissingDependency where SFace's weights are not installed.
    """

    name = "both"
    threshold = 1.0

    def __init__(self, file: str = ""):
        super().__init__(file)
        self.parts = DlibRecogniser(), SfaceRecogniser()
        self.length = sum(part.length for part in self.parts)

    def chips(self, pixels: np.ndarray, faces: Sequence[Face]) -> np.ndarray:
        """The chips of both side by side, dlib's of 150 pixels on the left and SFace's of 112 at the top beside it."""
        left, right = (part.chips(pixels, faces) for part in self.parts)
        beside = np.zeros((len(right), left.shape[1], right.shape[2], 3), np.uint8)
        beside[:, : right.shape[1]] = right
        return np.concatenate([left, beside], axis=2)

    def embed(self, chips: np.ndarray) -> np.ndarray:
        """(n, 256): dlib's 128 numbers, then SFace's."""
        side = chips.shape[1]
        beside = chips.shape[2] - side
        split = np.ascontiguousarray(chips[:, :, :side]), np.ascontiguousarray(chips[:, :beside, side:])
        return np.concatenate([part.embed(each) for part, each in zip(self.parts, split, strict=True)], axis=1)

    def compared(
        self, a: np.ndarray, b: np.ndarray, size: float, threshold: float | None = None, margin: float = 1.0
    ) -> tuple[np.ndarray, np.ndarray]:
        """One person is whom either recognises, each at its own threshold for faces of this size."""
        each, shares = self.distances(a, b), np.array([part.share_at(size) for part in self.parts])
        apart = each.min(axis=-1)
        return apart, ~np.all(each > shares * margin, axis=-1) if threshold is None else ~(apart > threshold * margin)

    def distance(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """The smaller of the two distances, row by row, 1 at the threshold of its recogniser."""
        return self.distances(a, b).min(axis=-1)

    def distances(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Both distances, row by row, each as a multiple of its recogniser's threshold: (n, 256) twice to (n, 2)."""
        a, b, end = np.asarray(a), np.asarray(b), self.parts[0].length
        halves = zip(self.parts, ((a[..., :end], b[..., :end]), (a[..., end:], b[..., end:])), strict=True)
        return np.stack([part.distance(x, y) / part.threshold for part, (x, y) in halves], axis=-1)
