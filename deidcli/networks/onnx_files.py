"""ONNX files without the package `onnx`: nodes and tensors in, a model's bytes out; and changes to others' files."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

FLOAT, INT64 = 1, 7  # data types of tensors

Attribute = int | float | str | list[int]
Bytes = bytes | memoryview


class Graph:
    """A network in the making. Values are named by their place; `add` returns the name of what a node makes."""

    def __init__(self, entry: str, shape: tuple[int, ...]):
        """shape: of the one input, float32."""
        self._entry, self._shape = entry, shape
        self._nodes: list[bytes] = []
        self._tensors: list[tuple[bytes, memoryview]] = []  # what stands before the numbers, and the numbers

    def constant(self, values: np.ndarray) -> str:
        """The name of a tensor of float32 or int64."""
        name = f"c{len(self._tensors)}"
        kind = INT64 if values.dtype == np.int64 else FLOAT
        self._tensors.append(_tensor(name, np.ascontiguousarray(values, np.int64 if kind == INT64 else np.float32)))
        return name

    def add(self, kind: str, *inputs: str, **attributes: Attribute) -> str:
        """A node of the operator `kind`, and the name of its output."""
        name = f"n{len(self._nodes)}"
        self._nodes.append(_node(name, kind, inputs, attributes))
        return name

    def model(self, *outputs: str) -> bytes:
        """The model whose outputs are the values of these names, in their order."""
        graph: list[Bytes] = [*(_field(1, node) for node in self._nodes), _field(2, b"graph")]
        for start, raw in self._tensors:
            graph += [_head(5, len(start) + len(raw)), start, raw]
        graph.append(_field(11, _value(self._entry, _shape(self._shape))))
        graph += [_field(12, _value(output, b"")) for output in outputs]
        return b"".join([_field(1, 8), *_whole(7, graph), _field(8, _field(1, b"") + _field(2, 13))])


def _node(name: str, kind: str, inputs: Sequence[str], attributes: Mapping[str, Attribute]) -> bytes:
    parts = [_field(1, text.encode()) for text in inputs]
    parts += [_field(2, name.encode()), _field(3, name.encode()), _field(4, kind.encode())]
    parts += [_field(5, _field(1, key.encode()) + _attribute(value)) for key, value in attributes.items()]
    return b"".join(parts)


def _tensor(name: str, values: np.ndarray) -> tuple[bytes, memoryview]:
    """A tensor of float32 or int64: what stands before its numbers, and the numbers."""
    raw = np.ascontiguousarray(values).reshape(-1).view(np.uint8).data
    sizes = b"".join(_field(1, size) for size in values.shape)
    kind = _field(2, INT64 if values.dtype == np.int64 else FLOAT)
    return sizes + kind + _field(8, name.encode()) + _head(9, len(raw)), raw


def with_one_input(model: bytes, name: str = "", shape: Sequence[int | None] = ()) -> bytes:
    """The same model without any input but `name`, or the first: files may list their weights as inputs, too.

    shape: what it takes, None for a side of any length; () for what the file says. Raises ValueError, IndexError or
    StopIteration for what is no model.
    """
    out: list[Bytes] = []
    for number, value, raw in _fields(memoryview(model)):
        if number == 7 and not isinstance(value, int):  # the graph
            wanted = name.encode() or _name(next(inner for key, inner, _ in _fields(value) if key == 11))
            parts = [_described(key, inner, part, wanted, shape) for key, inner, part in _fields(value)]
            out += _whole(7, parts)
        else:
            out.append(raw)
    return b"".join(out)


def with_split_slopes(model: bytes) -> bytes:
    """The same model with each PReLU of slopes a, one for a channel, as a x + (1 - a) relu(x) by two convolutions.

    Between convolutions ONNX Runtime keeps a map in blocks of channels. It has no PReLU of blocks: the map is sorted
    back for each and taken value by value, which is half the time that a MobileFaceNet takes. Raises ValueError for
    what is no model.
    """
    out: list[Bytes] = []
    for number, value, raw in _fields(memoryview(model)):
        out += _whole(7, _split(value)) if number == 7 and not isinstance(value, int) else [raw]
    return b"".join(out)


def _split(graph: Bytes) -> list[Bytes]:
    """The fields of a graph, with four nodes for each PReLU whose slopes are constants."""
    parts = list(_fields(graph))
    slopes = dict(_slopes(value) for number, value, _ in parts if number == 5)
    out: list[Bytes] = []
    for number, value, raw in parts:
        takes, makes, kind = _ends(value) if number == 1 else ([], [], "")
        a = slopes.get(takes[1]) if kind == "PRelu" else None
        if a is None:
            out.append(raw)
            continue
        (x, _), (y,) = takes, makes
        each: dict[str, Attribute] = {"group": len(a), "kernel_shape": [1, 1]}
        for name, weights in ((f"{y}/a", a), (f"{y}/b", 1 - a)):
            start, numbers = _tensor(name, weights.reshape(-1, 1, 1, 1))
            out += _whole(5, [start, numbers])
        nodes = [
            _node(f"{y}/relu", "Relu", [x], {}),
            _node(f"{y}/sloped", "Conv", [x, f"{y}/a"], each),
            _node(f"{y}/above", "Conv", [f"{y}/relu", f"{y}/b"], each),
            _node(y, "Add", [f"{y}/sloped", f"{y}/above"], {}),
        ]
        out += [_field(1, node) for node in nodes]
    return out


def _ends(node: int | Bytes) -> tuple[list[str], list[str], str]:
    """Names of what a node takes and makes, and its operator."""
    takes: list[str] = []
    makes: list[str] = []
    kind = ""
    for number, value, _ in _fields(_message(node)):
        if number in (1, 2):
            (takes if number == 1 else makes).append(bytes(_message(value)).decode())
        elif number == 4:
            kind = bytes(_message(value)).decode()
    return takes, makes, kind


def _slopes(tensor: int | Bytes) -> tuple[str, np.ndarray | None]:
    """The name of a tensor, and its numbers (C,) where it holds float32 of a shape of (C, 1, 1) with C > 1."""
    held: dict[int, list[int | Bytes]] = {}
    for number, value, _ in _fields(_message(tensor)):
        held.setdefault(number, []).append(value)
    name = bytes(_message(held.get(8, [b""])[0])).decode()
    numbers = held.get(9) or held.get(4, [])  # packed both
    if held.get(2) != [FLOAT] or len(numbers) != 1:
        return name, None
    packed = [value for value in held.get(1, []) if not isinstance(value, int)]
    sizes = [*_varints(packed[0])] if packed else held.get(1, [])
    fits = len(sizes) == 3 and sizes[0] != 1 and sizes[1:] == [1, 1]
    return name, np.frombuffer(_message(numbers[0]), "<f4") if fits else None


def _varints(packed: Bytes) -> Iterator[int]:
    at = 0
    while at < len(packed):
        value, at = _read_varint(packed, at)
        yield value


def _described(number: int, value: int | Bytes, raw: Bytes, wanted: bytes, shape: Sequence[int | None]) -> Bytes:
    """A field of a graph as it is, but for what it says of its inputs, and of the sizes of its outputs."""
    if number == 11:
        own = raw if not shape else _field(11, _value(wanted.decode(), _shape(shape)))
        return own if _name(value) == wanted else b""
    return _field(12, _value(_name(value).decode(), b"")) if number == 12 and shape else raw


def _shape(sides: Sequence[int | None]) -> bytes:
    dimensions = [_field(1, side) if side is not None else _field(2, f"s{i}".encode()) for i, side in enumerate(sides)]
    return _field(2, b"".join(_field(1, each) for each in dimensions))


def _name(message: int | Bytes) -> bytes:
    parts = _fields(_message(message))
    return next(bytes(value) for number, value, _ in parts if number == 1 and not isinstance(value, int))


def _message(value: int | Bytes) -> Bytes:
    if isinstance(value, int):
        raise ValueError("the file is no ONNX model")
    return value


def _fields(message: Bytes) -> Iterator[tuple[int, int | Bytes, Bytes]]:
    """Number, value and own bytes of every field of a message; of a view they are views, and nothing is copied."""
    at = 0
    while at < len(message):
        start = at
        key, at = _read_varint(message, at)
        value: int | Bytes
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


def _read_varint(message: Bytes, at: int) -> tuple[int, int]:
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
    return _head(number, len(value)) + value


def _head(number: int, size: int) -> bytes:
    """What stands before the `size` bytes of a field."""
    return _varint(number << 3 | 2) + _varint(size)


def _whole(number: int, parts: list[Bytes]) -> list[Bytes]:
    """A field whose bytes are those of the parts, which are large and are joined only once, with all the rest."""
    return [_head(number, sum(map(len, parts))), *parts]


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])
