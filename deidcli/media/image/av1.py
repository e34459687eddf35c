"""The units (OBUs) of AV1 in a still picture: one sequence header and one frame (AV1 specification, section 5)."""

from __future__ import annotations

from dataclasses import dataclass

from deidcli.errors import MediaError
from deidcli.media.image.bmff import Bits

SEQUENCE, _HEADER, _TILES, _FRAME = 1, 3, 4, 6


@dataclass(frozen=True)
class Unit:
    """An open bitstream unit. layer: its extension byte, None for none."""

    kind: int
    layer: int | None
    payload: bytes

    def written(self) -> bytes:
        size, length = b"", len(self.payload)
        while length > 127:
            size += bytes([length & 127 | 128])
            length >>= 7
        more = b"" if self.layer is None else bytes([self.layer])
        return bytes([self.kind << 3 | (4 if more else 0) | 2]) + more + size + bytes([length]) + self.payload


def units(data: bytes) -> list[Unit]:
    """Raises MediaError where a unit reaches past the end."""
    found, at = [], 0
    while at < len(data):
        head, at = data[at], at + 1
        layer = data[at] if head & 4 else None
        at += head >> 2 & 1
        length = len(data) - at
        if head & 2:
            length, shift = 0, 0
            while True:
                byte, at = data[at], at + 1
                length |= (byte & 127) << shift
                shift += 7
                if byte < 128 or shift > 56:
                    break
        if at + length > len(data):
            raise MediaError("the picture is truncated: a part of it is missing", "get a whole copy of the file")
        found.append(Unit(head >> 3 & 15, layer, data[at : at + length]))
        at += length
    return found


def frame(data: bytes) -> tuple[list[Unit], tuple[int, int]] | None:
    """The sequence header and the units of the only frame, and the (width, height) of the sequence; None for more."""
    found = units(data)
    headers = [unit for unit in found if unit.kind == SEQUENCE]
    shown = [unit for unit in found if unit.kind in (_HEADER, _TILES, _FRAME)]
    if not headers or sum(unit.kind in (_HEADER, _FRAME) for unit in shown) != 1 or any(u.layer for u in shown):
        return None
    bits = Bits(headers[0].payload)
    size = _read_sequence(bits)
    return [Unit(SEQUENCE, None, bits.read()), *shown], size


def sequence(payload: bytes) -> tuple[bytes, int]:
    """A sequence header alone, and which layers belong to its first operating point (12 bits, 0 for all there are)."""
    bits = Bits(payload)
    _read_sequence(bits)
    return bits.read(), _first_point(payload)


def _first_point(payload: bytes) -> int:
    bits = Bits(payload)
    bits.take(4)
    if bits.flag():
        return 0
    if bits.flag():
        bits.take(64)
        if bits.flag():
            bits.golomb()
        if bits.flag():
            bits.take(47)
    bits.take(6)
    return bits.take(12)


def _read_sequence(bits: Bits) -> tuple[int, int]:
    """Section 5.5.1, to its last field. Gives the largest (width, height) of a frame."""
    profile = bits.take(3)
    bits.take(1)
    reduced = bits.flag()
    if reduced:
        bits.take(5)
    else:
        _read_operating_points(bits)
    widths, heights = bits.take(4) + 1, bits.take(4) + 1
    size = bits.take(widths) + 1, bits.take(heights) + 1
    if not reduced and bits.flag():
        bits.take(7)
    bits.take(3)
    if not reduced:
        _read_tools(bits)
    bits.take(3)
    _read_colours(bits, profile)
    bits.take(1)
    return size


def _read_operating_points(bits: Bits) -> None:
    model, length = False, 0
    if bits.flag():
        bits.take(64)
        if bits.flag():
            bits.golomb()
        model = bits.flag()
        if model:
            length = bits.take(5) + 1
            bits.take(42)
    delay = bits.flag()
    for _ in range(bits.take(5) + 1):
        bits.take(12)
        if bits.take(5) > 7:
            bits.take(1)
        if model and bits.flag():
            bits.take(2 * length + 1)
        if delay and bits.flag():
            bits.take(4)


def _read_tools(bits: Bits) -> None:
    bits.take(4)
    ordered = bits.flag()
    if ordered:
        bits.take(2)
    # Where screen content tools may be used, each frame may choose whole-pixel vectors, or the sequence does.
    if (bits.flag() or bits.flag()) and not bits.flag():
        bits.take(1)
    if ordered:
        bits.take(3)


def _read_colours(bits: Bits, profile: int) -> None:
    deep = bits.flag()
    twelve = profile == 2 and deep and bits.flag()
    grey = profile != 1 and bits.flag()
    stated = tuple(bits.take(8) for _ in range(3)) if bits.flag() else (2, 2, 2)
    if grey:
        bits.take(1)
        return
    if stated != (1, 13, 0):
        bits.take(1)
        across = down = profile == 0
        if profile == 2:
            across, down = (True, False) if not twelve else _read_sampling(bits)
        if across and down:
            bits.take(2)
    bits.take(1)


def _read_sampling(bits: Bits) -> tuple[bool, bool]:
    across = bits.flag()
    return across, across and bits.flag()
