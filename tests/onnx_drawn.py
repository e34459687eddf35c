"""ONNX files that tests write themselves: a recogniser that averages, and detectors of white squares.

An ONNX file is a Protocol Buffers message; only the few fields that are needed are written here.
"""

import struct
from pathlib import Path

import numpy as np

FLOAT, INTEGERS = 1, 7  # of tensors, and of attributes


def recogniser(path: Path, side: int = 112, entry: str = "x") -> Path:
    """(1, 3, side, side), called `entry`, to the averages of squares of 16 pixels, (1, 3 * (side / 16) ** 2)."""
    nodes = [_node("AveragePool", [entry], ["pooled"], kernel_shape=[16, 16], strides=[16, 16])]
    nodes += [_node("Flatten", ["pooled"], ["y"])]
    return _write(path, nodes, [], (1, 3, side, side), ["y"], entry)


def yunet(path: Path, height: int, width: int) -> Path:
    """YuNet's twelve outputs for pictures of one size; its only faces are white squares of 32 pixels, times 2.

    height, width: multiples of 32.
    """
    nodes, tensors = [], []
    for stride in (8, 16, 32):
        pooled = f"pooled{stride}"
        nodes.append(_node("AveragePool", ["x"], [pooled], kernel_shape=[stride] * 2, strides=[stride] * 2))
        bright = np.full((1, 3, 1, 1), (stride == 32) / 765, np.float32)
        for name, kernel, bias in (
            ("cls", bright, np.zeros(1)),
            ("obj", bright, np.zeros(1)),
            ("bbox", np.zeros((4, 3, 1, 1)), np.array([0.5, 0.5, np.log(2), np.log(2)])),
            ("kps", np.zeros((10, 3, 1, 1)), np.zeros(10)),
        ):
            own = f"{name}_{stride}"
            tensors += [_tensor(f"{own}_k", kernel), _tensor(f"{own}_b", bias)]
            tensors.append(_tensor(f"{own}_s", np.array([1, -1, len(bias)], np.int64)))
            nodes.append(_node("Conv", [pooled, f"{own}_k", f"{own}_b"], [f"{own}_c"], kernel_shape=[1, 1]))
            nodes.append(_node("Transpose", [f"{own}_c"], [f"{own}_t"], perm=[0, 2, 3, 1]))
            nodes.append(_node("Reshape", [f"{own}_t", f"{own}_s"], [own]))
    outputs = [f"{name}_{stride}" for name in ("cls", "obj", "bbox", "kps") for stride in (8, 16, 32)]
    return _write(path, nodes, tensors, (1, 3, height, width), outputs)


def centerface(path: Path) -> Path:
    """CenterFace's four outputs for pictures of any size; its only faces are white squares of 4 pixels, times 8.

    Their middles lie a quarter of a square further down, and half of one to the right. Point i of five lies i tenths of
    the box below its top, and twice as far from its left.
    """
    nodes, tensors = [_node("AveragePool", ["x"], ["pooled"], kernel_shape=[4, 4], strides=[4, 4])], []
    for name, kernel, bias in (
        ("537", np.full((1, 3, 1, 1), 1 / 765, np.float32), np.zeros(1)),
        ("538", np.zeros((2, 3, 1, 1)), np.full(2, np.log(8))),
        ("539", np.zeros((2, 3, 1, 1)), np.array([0.25, 0.5])),
        ("540", np.zeros((10, 3, 1, 1)), np.arange(10) // 2 * np.tile([0.1, 0.2], 5)),
    ):
        tensors += [_tensor(f"{name}_k", kernel), _tensor(f"{name}_b", bias)]
        nodes.append(_node("Conv", ["pooled", f"{name}_k", f"{name}_b"], [name], kernel_shape=[1, 1]))
    return _write(path, nodes, tensors, (1, 3, 32, 32), ["537", "538", "539", "540"])


def _write(
    path: Path, nodes: list[bytes], tensors: list[bytes], shape: tuple[int, ...], outputs: list[str], entry: str = "x"
) -> Path:
    graph = b"".join(_field(1, node) for node in nodes) + _field(2, b"drawn")
    graph += b"".join(_field(5, tensor) for tensor in tensors)
    dimensions = b"".join(_field(1, _field(1, size)) for size in shape)
    graph += _field(11, _value(entry, _field(2, dimensions)))
    graph += b"".join(_field(12, _value(name, _field(2, b""))) for name in outputs)
    path.write_bytes(_field(1, 8) + _field(7, graph) + _field(8, _field(1, b"") + _field(2, 11)))
    return path


def _value(name: str, shape: bytes) -> bytes:
    return _field(1, name.encode()) + _field(2, _field(1, _field(1, FLOAT) + shape))


def _node(kind: str, inputs: list[str], outputs: list[str], **attributes: list[int]) -> bytes:
    parts = [_field(1, name.encode()) for name in inputs] + [_field(2, name.encode()) for name in outputs]
    parts += [_field(3, f"{outputs[0]}_node".encode()), _field(4, kind.encode())]
    for name, values in attributes.items():
        said = _field(1, name.encode()) + b"".join(_field(8, value) for value in values) + _field(20, INTEGERS)
        parts.append(_field(5, said))
    return b"".join(parts)


def _tensor(name: str, values: np.ndarray) -> bytes:
    whole = values.dtype == np.int64
    raw = values.tobytes() if whole else struct.pack(f"<{values.size}f", *values.ravel())
    sizes = b"".join(_field(1, size) for size in values.shape)
    return sizes + _field(2, 7 if whole else FLOAT) + _field(8, name.encode()) + _field(9, raw)


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
