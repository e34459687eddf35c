"""ONNX graphs, written without the package `onnx`: nodes and tensors in, the bytes of a model out.

A model is a Protocol Buffers message; only the few fields that networks of convolutions need are written here. Field
numbers are those of onnx.proto3, IR version 8, operator set 13.
"""

from __future__ import annotations

import struct

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
        dimensions = b"".join(_field(1, _field(1, size)) for size in self._shape)
        graph = b"".join(_field(1, node) for node in self._nodes) + _field(2, b"graph")
        graph += b"".join(_field(5, tensor) for tensor in self._tensors)
        graph += _field(11, _value(self._entry, _field(2, dimensions)))
        graph += b"".join(_field(12, _value(output, b"")) for output in outputs)
        return _field(1, 8) + _field(7, graph) + _field(8, _field(1, b"") + _field(2, 13))


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
