"""ONNX graphs, written without the package `onnx`: nodes and tensors in, the bytes of a model out.

A model is a Protocol Buffers message; only the few fields that networks of convolutions need are written here. Field
numbers are those of onnx.proto3, IR version 8, operator set 13.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

import numpy as np

FLOAT, INT64 = 1, 7  # data types of tensors

Attribute = int | float | str | list[int]


class Graph:
    """A network in the making. Values are named by their place; `add` returns the name of what a node makes."""

    def __init__(self, entry: str, shape: tuple[int, ...]):
        """shape: of the one input, float32."""
        self._entry, self._shape = entry, shape
        self._nodes: list[bytes] = []
        self._tensors: list[bytes] = []

    def constant(self, values: np.ndarray) -> str:
        """The name of a tensor of float32 or int64."""
        name = f"c{len(self._tensors)}"
        kind = INT64 if values.dtype == np.int64 else FLOAT
        raw = np.ascontiguousarray(values, np.int64 if kind == INT64 else np.float32).tobytes()
        sizes = b"".join(_field(1, size) for size in values.shape)
        self._tensors.append(sizes + _field(2, kind) + _field(8, name.encode()) + _field(9, raw))
        return name

    def add(self, kind: str, *inputs: str, **attributes: Attribute) -> str:
        """A node of the operator `kind`, and the name of its output."""
        name = f"n{len(self._nodes)}"
        parts = [_field(1, text.encode()) for text in inputs]
        parts += [_field(2, name.encode()), _field(3, name.encode()), _field(4, kind.encode())]
        parts += [_field(5, _field(1, key.encode()) + _attribute(value)) for key, value in attributes.items()]
        self._nodes.append(b"".join(parts))
        return name

    def model(self, *outputs: str) -> bytes:
        """The model whose outputs are the values of these names, in their order."""
        graph = b"".join(_field(1, node) for node in self._nodes) + _field(2, b"graph")
        graph += b"".join(_field(5, tensor) for tensor in self._tensors)
        graph += _field(11, _value(self._entry, _shape(self._shape)))
        graph += b"".join(_field(12, _value(output, b"")) for output in outputs)
        return _field(1, 8) + _field(7, graph) + _field(8, _field(1, b"") + _field(2, 13))


def with_one_input(model: bytes, name: str = "", shape: Sequence[int | None] = ()) -> bytes:
    """The same model without any input but `name`, or the first: files may list their weights as inputs, too.

    shape: what it takes, None for a side of any length; () for what the file says. Raises ValueError, IndexError or
    StopIteration for what is no model.
    """
    out = b""
    for number, value, raw in _fields(model):
        if number == 7 and isinstance(value, bytes):  # the graph
            wanted = name.encode() or _name(next(inner for key, inner, _ in _fields(value) if key == 11))
            parts = [_described(key, inner, part, wanted, shape) for key, inner, part in _fields(value)]
            raw = _field(7, b"".join(parts))
        out += raw
    return out


def _described(number: int, value: int | bytes, raw: bytes, wanted: bytes, shape: Sequence[int | None]) -> bytes:
    """A field of a graph as it is, but for what it says of its inputs, and of the sizes of its outputs."""
    if number == 11:
        own = raw if not shape else _field(11, _value(wanted.decode(), _shape(shape)))
        return own if _name(value) == wanted else b""
    return _field(12, _value(_name(value).decode(), b"")) if number == 12 and shape else raw


def _shape(sides: Sequence[int | None]) -> bytes:
    dimensions = [_field(1, side) if side is not None else _field(2, f"s{i}".encode()) for i, side in enumerate(sides)]
    return _field(2, b"".join(_field(1, each) for each in dimensions))


def _name(message: int | bytes) -> bytes:
    if isinstance(message, int):
        raise ValueError("the file is no ONNX model")
    return next(value for number, value, _ in _fields(message) if number == 1 and isinstance(value, bytes))


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes, bytes]]:
    """Number, value and own bytes of every field of a message."""
    at = 0
    while at < len(message):
        start = at
        key, at = _read_varint(message, at)
        value: int | bytes
        if key & 7 == 0:
            value, at = _read_varint(message, at)
        elif key & 7 == 2:
            size, at = _read_varint(message, at)
            value, at = message[at : at + size], at + size
        elif key & 7 in (1, 5):
            size = 8 if key & 7 == 1 else 4
            value, at = message[at : at + size], at + size
        else:
            raise ValueError("the file is no ONNX model")
        if at > len(message):
            raise ValueError("the file is cut off")
        yield key >> 3, value, message[start:at]


def _read_varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        value, shift, at = value | (byte & 0x7F) << shift, shift + 7, at + 1
        if byte < 0x80:
            return value, at


def _value(name: str, shape: bytes) -> bytes:
    return _field(1, name.encode()) + _field(2, _field(1, _field(1, FLOAT) + shape))


def _attribute(value: Attribute) -> bytes:
    """The value of an attribute, with the type that says which of its fields holds it."""
    if isinstance(value, float):
        return _varint(2 << 3 | 5) + struct.pack("<f", value) + _field(20, 1)
    if isinstance(value, int):
        return _field(3, value) + _field(20, 2)
    if isinstance(value, str):
        return _field(4, value.encode()) + _field(20, 3)
    return b"".join(_field(8, each) for each in value) + _field(20, 7)


def _field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])
