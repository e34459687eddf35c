"""Who a face is, as dlib's recogniser sees it: the picture it is shown, and its 128 numbers, by ONNX Runtime.

The picture, a chip, is an upright face, 150 pixels wide with a quarter of room on each side. dlib fits a similarity
from its mean face to 33 of the 68 landmarks (nose, eyes, upper lip: neither the jaw nor the brows nor the lower lip,
which move most with expression), halves the picture while the face in it is more than twice as large as the chip, and
samples the rest bilinearly. All of it is repeated here, shifts and truncations included, because a descriptor moves by
hundredths when they are left out. Only the picture around one face is ever halved, where dlib halves the box around
all faces of the call; with several large faces the phase of its halving can differ.

The network is that of `dlib_files.build_recogniser`, which training differentiates through; here it is written as an
ONNX graph when it is first needed, so that no run has to start TensorFlow to compare faces.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np

from deidcli.errors import MethodError
from deidcli.networks import dlib_files as files
from deidcli.networks.dlib_files import CHIP
from deidcli.networks.graphs import session
from deidcli.networks.onnx_files import Graph
from deidcli.networks.store import run_rows
from deidcli.presets import dlib_weights

if TYPE_CHECKING:
    from onnxruntime import InferenceSession


PADDING = 0.25  # room on each side, as a share of the face
FITTED = np.r_[27:55, 60:65]  # of the 68 landmarks of iBUG: those that place the chip
FIRST = 17  # the mean face has no jaw: its first point is landmark 17

MEAN_X = """
.000213256 .0752622 .18113 .29077 .393397 .586856 .689483 .799124 .904991 .98004 .490127 .490127 .490127 .490127
.36688 .426036 .490127 .554217 .613373 .121737 .187122 .265825 .334606 .260918 .182743 .645647 .714428 .793132
.858516 .79751 .719335 .254149 .340985 .428858 .490127 .551395 .639268 .726104 .642159 .556721 .490127 .423532
.338094 .290379 .428096 .490127 .552157 .689874 .553364 .490127 .42689
"""
MEAN_Y = """
.106454 .038915 .0187482 .0344891 .0773906 .0773906 .0344891 .0187482 .038915 .106454 .203352 .307009 .409805
.515625 .587326 .609345 .628106 .609345 .587326 .216423 .178758 .179852 .231733 .245099 .244077 .231733 .179852
.178758 .216423 .244077 .245099 .780233 .745405 .727388 .742578 .727388 .745405 .780233 .864805 .902192 .909281
.902192 .864805 .784792 .778746 .785343 .778746 .784792 .824182 .831803 .824182
"""
SHIFT = np.array([1.25, 0.75])  # dlib's halving of a point; its halving of a picture shifts by (1, 1)
SMALLEST = 8  # rows or columns: dlib halves nothing that small and leaves the chip black


def chip_landmarks() -> np.ndarray:
    """Where landmarks 17 to 67 of the mean face lie in a chip: (51, 2) float64, x and y in pixels, 0 a pixel's centre.

    Only the rows `FITTED - 17` decide where a face is put.
    """
    mean = np.array([MEAN_X.split(), MEAN_Y.split()], "float64").T
    return (mean + PADDING) / (1 + 2 * PADDING) * CHIP - 0.5


def extract_chips(image: np.ndarray, landmarks: Sequence[np.ndarray]) -> np.ndarray:
    """The chips of the faces in a picture, as `dlib.get_face_chip(image, face, 150, 0.25)` cuts them.

    image: (height, width, 3) uint8. landmarks: for each face (68, 2), iBUG's order, pixels of the image; what lies
    outside the image is black. Returns (faces, 150, 150, 3) uint8. Raises MethodError if landmarks fall on one point.
    """
    chips = np.zeros((len(landmarks), CHIP, CHIP, 3), "uint8")
    for chip, points in zip(chips, landmarks, strict=True):
        chip[:] = _chip(image, *_placement(np.asarray(points, "float64")))
    return chips


def _placement(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centre (2,) of the chip in the image, and (2, 2) how many image pixels a chip pixel spans, turn included."""
    target, source = chip_landmarks()[FITTED - FIRST] + 0.5, points[FITTED]
    turn = _similarity(target, source)
    centre = source.mean(0) + turn @ (CHIP / 2 - target.mean(0))
    scale = np.hypot(turn[0, 0], turn[1, 0])
    # dlib lays the corner pixels' centres on the corners, so that 149 steps span one pixel less than the box is wide.
    return centre, turn * (CHIP - 1 / scale) / (CHIP - 1)


def _similarity(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Turn and scale (2, 2) that carry `source` to `target`, both (N, 2), with the least square error."""
    a, b = (np.ascontiguousarray(points - points.mean(0)).view("complex128")[:, 0] for points in (source, target))
    factor = np.vdot(a, b) / np.vdot(a, a).real
    if abs(factor) < 1e-9:
        raise MethodError("the landmarks of a face fall on one point, so that it has no size", "check the landmarks")
    return np.array([[factor.real, -factor.imag], [factor.imag, factor.real]])


def _chip(image: np.ndarray, centre: np.ndarray, turn: np.ndarray) -> np.ndarray:
    halvings = _halvings(np.hypot(*turn[0]) * (CHIP - 1))
    around, corner = _surroundings(image, centre, turn, halvings)
    centre = centre - corner
    for _ in range(halvings):
        around, centre, turn = _halved(around), centre / 2 - SHIFT, turn / 2
    if not around.size:
        return np.zeros((CHIP, CHIP, 3), "uint8")
    warp = np.hstack([turn, (centre - turn @ np.full(2, (CHIP - 1) / 2))[:, None]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    # Float, because OpenCV would round where dlib cuts the fraction off.
    chip = cv2.warpAffine(around.astype("float32"), warp, (CHIP, CHIP), flags=flags)
    return chip.astype("uint8") * _covered(warp, around.shape)


def _covered(warp: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Which pixels of the chip have four neighbours in the picture, (150, 150, 1); dlib leaves the others black."""
    steps = np.arange(CHIP)
    x, y = (a * steps + b * steps[:, None] + c for a, b, c in warp)
    return ((x >= 0) & (x < shape[1] - 1) & (y >= 0) & (y < shape[0] - 1))[..., None]


def _halvings(span: float) -> int:
    """How often dlib halves: while half the span, corner pixel to corner pixel, still covers more than the chip."""
    count = 0
    while span / 2 + 1 > CHIP:
        span, count = span / 2, count + 1
    return count


def _surroundings(
    image: np.ndarray, centre: np.ndarray, turn: np.ndarray, halvings: int
) -> tuple[np.ndarray, np.ndarray]:
    """The part of the image that the chip is made from, and its upper left corner (x, y)."""
    reach = np.abs(turn).sum(1) * (CHIP - 1) / 2 + 2 ** (halvings + 2) - 2
    limit = np.array(image.shape[1::-1]) - 1.0
    # Ties away from zero, as C rounds: the corner decides which pixels are averaged together.
    left, top = np.floor(np.maximum(centre - reach, 0) + 0.5).astype(int)
    right, bottom = np.floor(np.maximum(np.minimum(centre + reach, limit), -1) + 0.5).astype(int)
    return image[top : bottom + 1, left : right + 1], np.array([left, top], "float64")


def _halved(image: np.ndarray) -> np.ndarray:
    """Every second row and column after a smoothing by 1 4 6 4 1, without the border that it does not reach."""
    if min(image.shape[:2]) <= SMALLEST:
        return image[:0]
    rows, columns = ((size - 3) // 2 for size in image.shape[:2])
    image = image.astype("uint16")
    across = _smoothed([image[:, i : i + 2 * columns : 2] for i in range(5)])
    down = _smoothed([across[i : i + 2 * rows : 2] for i in range(5)])
    return (down >> 8).astype("uint8")


def _smoothed(taps: list[np.ndarray]) -> np.ndarray:
    # 255 * 256 still fits 16 bits.
    return taps[0] + taps[4] + 4 * (taps[1] + taps[3]) + 6 * taps[2]


DESCRIPTOR = 128  # numbers
SAME_PERSON = 0.6  # Euclidean distance: below it dlib takes two faces for one person (99.4 % right on LFW)
ENTRY = "chips"


def describe(chips: np.ndarray) -> np.ndarray:
    """The descriptors of chips as `extract_chips` cuts them, (N, 150, 150, 3) RGB in [0, 255], to (N, 128) float32.

    Each chip is computed alone, so that it has the same descriptor in any batch. Raises MissingDependency or
    PresetError where the weights are missing or damaged.
    """
    if not len(chips):
        return np.zeros((0, DESCRIPTOR), np.float32)
    return run_rows(load(), np.asarray(chips, np.float32).transpose(0, 3, 1, 2))[0]


@functools.cache
def load() -> InferenceSession:
    """The network, one for all threads. Raises MissingDependency or PresetError."""
    network = files.read_network(dlib_weights(files.RECOGNISER))
    return session(_Writer().model(network))


class _Writer:
    """Writes the recogniser as an ONNX graph. A map is its name and its size, (channels, rows, columns)."""

    def __init__(self):
        self.graph = Graph(ENTRY, (1, 3, CHIP, CHIP))

    def model(self, network: files.Network) -> bytes:
        weights = files.folded(network)
        x = ENTRY, (3, CHIP, CHIP)
        x = self.relu(self.conv(x, files.with_normalisation(next(weights), network.input), stride=2))
        x = self.pool("MaxPool", x, 3)
        for blocks, shrinks in files.STAGES:
            for index in range(blocks):
                x = self.residual(x, weights, stride=2 if shrinks and index == 0 else 1)
        flat = self.graph.add("Flatten", self.graph.add("GlobalAveragePool", x[0]))
        last = network.layers[-1].values[2]
        return self.graph.model(self.graph.add("MatMul", flat, self.graph.constant(last.reshape(last.shape[:2]))))

    def conv(self, x, weights: files.Weights, stride: int = 1):
        kernel, bias = weights
        side, pad = kernel.shape[0], kernel.shape[0] // 2 if stride == 1 else 0
        names = self.graph.constant(kernel.transpose(3, 2, 0, 1)), self.graph.constant(bias)
        made = self.graph.add("Conv", x[0], *names, kernel_shape=[side] * 2, strides=[stride] * 2, pads=[pad] * 4)
        return made, (len(bias), *((cells + 2 * pad - side) // stride + 1 for cells in x[1][1:]))

    def relu(self, x):
        return self.graph.add("Relu", x[0]), x[1]

    def pool(self, kind: str, x, side: int):
        made = self.graph.add(kind, x[0], kernel_shape=[side] * 2, strides=[2, 2])
        return made, (x[1][0], *((cells - side) // 2 + 1 for cells in x[1][1:]))

    def residual(self, x, weights: Iterator[files.Weights], stride: int):
        y = self.relu(self.conv(x, next(weights), stride))
        y = self.conv(y, next(weights))
        if stride > 1:
            x = self.pool("AveragePool", x, 2)
        size = tuple(map(max, zip(x[1], y[1], strict=True)))
        return self.relu((self.graph.add("Add", self.filled(x, size), self.filled(y, size)), size))

    def filled(self, x, size: tuple[int, ...]) -> str:
        """The map with zeros up to `size`, to the right, below and behind its last channel, as dlib adds them."""
        gaps = [whole - part for whole, part in zip(size, x[1], strict=True)]
        if not any(gaps):
            return x[0]
        return self.graph.add("Pad", x[0], self.graph.constant(np.array([0] * 5 + gaps, np.int64)))
