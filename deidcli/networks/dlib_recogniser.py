"""Who a face is, as dlib's recogniser sees it: 128 numbers, by ONNX Runtime on the processor.

The network is that of `dlib_nets.build_recogniser`, which training differentiates through; here it is written as an
ONNX graph when it is first needed, so that no run has to start TensorFlow to compare faces.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from deidcli.networks import dlib_files as files
from deidcli.networks.dlib_chips import CHIP, extract_chips
from deidcli.networks.graphs import session
from deidcli.networks.onnx_graph import Graph
from deidcli.networks.store import run_rows
from deidcli.presets import dlib_weights

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

DESCRIPTOR = 128  # numbers
SAME_PERSON = 0.6  # Euclidean distance: below it dlib takes two faces for one person (99.4 % right on LFW)
ENTRY = "chips"


def describe_faces(image: np.ndarray, landmarks: Sequence[np.ndarray]) -> np.ndarray:
    """The descriptors of the faces in a picture, as `compute_face_descriptor(image, face)` of dlib without jitter.

    image: (height, width, 3) uint8 RGB. landmarks: for each face (68, 2), pixels of the image.
    Returns (faces, 128) float32. Raises MethodError if landmarks fall on one point, and what `describe` raises.
    """
    return describe(extract_chips(image, landmarks))


def describe(chips: np.ndarray) -> np.ndarray:
    """The descriptors of chips as `extract_chips` cuts them, (N, 150, 150, 3) RGB in [0, 255], to (N, 128) float32.

    Each chip is computed alone, so that it has the same descriptor in any batch. Raises MissingDependency or
    PresetError where the weights are missing or damaged.
    """
    if not len(chips):
        return np.zeros((0, DESCRIPTOR), np.float32)
    return run_rows(_load(), np.asarray(chips, np.float32).transpose(0, 3, 1, 2))[0]


@functools.cache
def _load() -> InferenceSession:
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
