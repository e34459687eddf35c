"""dlib's two face networks in Keras, with dlib's own weights.

The recogniser is "anet": a 29-layer residual network whose 128 numbers lie within 0.6 of each other for two pictures
of one person. The detector is the max-margin network; its single map scores a window of 80 pixels around each cell.

dlib's layers differ from Keras' in three ways, all kept here. A convolution of stride 1 pads by half its kernel, a
strided one and a pooling do not pad. A sum of two maps of different sizes fills the smaller with zeros, to the right,
below, and behind its last channel. A batch norm of a trained network is a fixed scale and shift, which is multiplied
into the convolution before it.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from deidcli.networks import dlib_files as files
from deidcli.networks.backend import keras, layers, ops
from deidcli.networks.dlib_chips import CHIP
from deidcli.presets import dlib_weights

DTYPE = "float32"  # whatever precision the networks around are trained in: thresholds are dlib's


def build_recogniser() -> keras.Model:
    """The recogniser with its weights: (N, 150, 150, 3) RGB in [0, 255], of any number type, to (N, 128) float32.

    Raises MissingDependency or PresetError where the weights are missing or damaged.
    """
    network = files.read_network(dlib_weights(files.RECOGNISER))
    weights = files.folded(network)
    image = keras.Input((CHIP, CHIP, 3), dtype=DTYPE, name="chips")
    x = _conv(image, files.with_normalisation(next(weights), network.input), stride=2)
    x = layers.MaxPooling2D(3, 2, dtype=DTYPE)(x)
    for blocks, shrinks in files.STAGES:
        for index in range(blocks):
            x = _residual(x, weights, stride=2 if shrinks and index == 0 else 1)
    x = layers.GlobalAveragePooling2D(dtype=DTYPE)(x)
    return keras.Model(image, _dense(x, network.layers[-1]), name="dlib_recogniser")


def build_detector() -> keras.Model:
    """The detector with its weights; height and width are free.

    Inputs: tiled pyramids as `dlib_detector` makes them, (N, height, width, 3) float32, and how many rows and columns
    of cells belong to each, (N, 2) int32. Cells past those are kept at zero in every layer, as dlib's border is, so
    that a picture scores the same in a wider frame. Output: the scores, (N, rows, columns) float32.
    Raises MissingDependency or PresetError where the weights are missing or damaged.
    """
    weights = files.folded(files.read_network(dlib_weights(files.DETECTOR)))
    x = tiles = keras.Input((None, None, 3), dtype=DTYPE, name="tiles")
    valid = keras.Input((2,), dtype="int32", name="cells")
    for _ in range(3):
        x = _conv(x, next(weights), stride=2)
    inside = _Inside(dtype=DTYPE, name="inside")([x, valid])
    x = layers.Multiply(dtype=DTYPE)([x, inside])
    for _ in range(3):
        x = layers.Multiply(dtype=DTYPE)([_conv(x, next(weights)), inside])
    x = _conv(x, next(weights), activation=None)
    return keras.Model([tiles, valid], x[..., 0], name="dlib_detector")


def _conv(x, weights: files.Weights, stride: int = 1, activation: str | None = "relu"):
    kernel, bias = weights
    padding = "same" if stride == 1 else "valid"
    layer = layers.Conv2D(len(bias), kernel.shape[:2], stride, padding, activation=activation, dtype=DTYPE)
    y = layer(x)
    layer.set_weights([kernel, bias])
    return y


def _residual(x, weights: Iterator[files.Weights], stride: int):
    y = _conv(x, next(weights), stride)
    y = _conv(y, next(weights), activation=None)
    if stride > 1:
        x = layers.AveragePooling2D(stride, stride, dtype=DTYPE)(x)
    return ops.relu(ops.add(*_same_size(x, y)))


def _same_size(x, y) -> list:
    """Both maps filled up with zeros to the larger in each direction, as dlib adds them."""
    target = [max(a, b) for a, b in zip(x.shape[1:], y.shape[1:], strict=True)]
    return [_filled(cells, target) for cells in (x, y)]


def _filled(cells, target: list[int]):
    gaps = [(0, whole - part) for whole, part in zip(target, cells.shape[1:], strict=True)]
    return ops.pad(cells, [(0, 0), *gaps]) if np.any(gaps) else cells


def _dense(x, record: files.Record):
    weights = record.values[2]
    layer = layers.Dense(weights.shape[1], use_bias=False, dtype=DTYPE)
    y = layer(x)
    layer.set_weights([weights.reshape(weights.shape[:2])])
    return y


class _Inside(layers.Layer):
    """1 where a cell belongs to its picture and 0 past it: [(N, H, W, C), (N, 2) rows and columns] to (N, H, W, 1)."""

    def call(self, inputs):
        cells, valid = inputs
        height, width = ops.shape(cells)[1:3]
        rows = ops.arange(height, dtype="int32")[None, :] < valid[:, :1]
        columns = ops.arange(width, dtype="int32")[None, :] < valid[:, 1:]
        return ops.cast(rows[:, :, None, None] & columns[:, None, :, None], cells.dtype)

    def compute_output_shape(self, shapes):
        return (*shapes[0][:3], 1)
