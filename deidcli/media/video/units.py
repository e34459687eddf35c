"""The units of H.264 and HEVC that may stay: slices, parameter sets made anew, and what displays need to know.

ITU-T H.264 and H.265, sections 7.3 and annex D; ISO/IEC 14496-15 for the headers of files. Bytes behind the last block
of a slice are not found: only a decoder knows where it ends.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from deidcli.errors import MediaError
from deidcli.media.image import hevc
from deidcli.media.image.bmff import Bits
from deidcli.media.video import avc

START = re.compile(rb"\x00\x00\x01")
Unit = Callable[[bytes], bytes]


def scrubber(codec: str, extradata: bytes) -> Unit:
    """A function that scrubs a packet. Raises ValueError where `extradata` is no header of the codec, as it does."""
    kept = _KEPT[codec]()
    if extradata:
        _header(codec, extradata, kept)
    length = _length(codec, extradata)
    return lambda data: _told(data, length, kept)


def header(codec: str, data: bytes) -> bytes:
    """The codec header of a stream, its parameter sets alone. Raises ValueError where it is none."""
    return _header(codec, data, _KEPT[codec]())


def _header(codec: str, data: bytes, kept: Unit) -> bytes:
    if data[0] != 1:
        return _told(data, 0, kept)
    return _avc_header(data, kept) if codec == "h264" else _hevc_header(data, kept)


def _length(codec: str, header: bytes) -> int:
    """How many bytes the length of a unit has; 0 where start codes stand between them."""
    at = 4 if codec == "h264" else 21
    return (header[at] & 3) + 1 if len(header) > at + 1 and header[0] == 1 else 0


def _told(data: bytes, length: int, kept: Unit) -> bytes:
    try:
        return _units(data, length, kept)
    except MediaError as error:
        raise ValueError(error.message) from error


def _units(data: bytes, length: int, kept: Unit) -> bytes:
    """Units, each behind its length, or behind start codes where that is 0."""
    if length:
        parts = []
        at = 0
        while at < len(data):
            size = int.from_bytes(data[at : at + length], "big")
            unit = data[at + length : at + length + size]
            if len(unit) != size or at + length > len(data):
                raise ValueError("a unit is longer than its packet")
            if unit and (unit := kept(unit)):
                parts.append(len(unit).to_bytes(length, "big") + unit)
            at += length + size
        return b"".join(parts)
    return b"".join(b"\0\0\0\1" + unit for each in _between_starts(data) if each and (unit := kept(each)))


def _between_starts(data: bytes) -> Iterator[bytes]:
    """The units between start codes, without the zeros that may stand behind them."""
    starts = [found.start() for found in START.finditer(data)]
    if not starts:
        raise ValueError("no start code")
    for begin, end in zip(starts, [*starts[1:], len(data)], strict=True):
        yield data[begin + 3 : end].rstrip(b"\0")


class _Avc:
    """A unit of H.264, without what may not stay. Knows the parameter sets that came before."""

    def __init__(self) -> None:
        self.sequences: dict[int, avc.Sequence] = {}
        self.last = avc.Sequence(0)

    def __call__(self, unit: bytes) -> bytes:
        kind = unit[0] & 31
        if kind == 6:
            return _messages(unit, 1, self._message)
        if kind == avc.SPS:
            fresh, known = avc.sequence_set(unit)
            self.sequences[known.number] = self.last = known
            return fresh
        if kind == avc.PPS:
            return avc.picture_set(unit, self.sequences)
        # Slices; delimiters have two bytes, ends one. 14, 15 and 20 are second views and layers.
        return unit if kind in (1, 2, 3, 4, 5) else unit[:2] if kind == 9 else unit[:1] if kind in (10, 11) else b""

    def _message(self, kind: int, payload: bytes) -> bytes:
        if kind == 1:
            return _clockless(payload, self.last.delays) if self.last.fields else b""
        if kind == 6:
            return _recovery(payload, Bits.golomb, 4)
        if kind == 45:
            return _packing(payload, Bits.golomb)
        return _light(kind, payload)


class _Hevc:
    """A unit of HEVC, without what may not stay. Knows the parameter sets that came before."""

    def __init__(self) -> None:
        self.fields = False

    def __call__(self, unit: bytes) -> bytes:
        if len(unit) < 2 or (unit[0] & 1) << 5 | unit[1] >> 3:
            return b""  # another layer: a second view, or more detail
        kind = unit[0] >> 1 & 63
        if kind in (36, 37) or len(unit) < 3:
            return unit[:2] if kind in (36, 37) else b""
        if kind in (39, 40):
            return _messages(unit, 2, self._message)
        if kind in (hevc.VPS, hevc.SPS, hevc.PPS):
            fresh = hevc.parameter_set(unit)
            if fresh is None:
                raise ValueError("a parameter set of no known kind")
            self.fields = fresh[1].fields if fresh[1] else self.fields
            return fresh[0]
        return unit if kind <= 9 or 16 <= kind <= 21 else unit[:3] if kind == 35 else b""

    def _message(self, kind: int, payload: bytes) -> bytes:
        if kind == 1:
            return _rest_plain(payload, 7) if self.fields else b""
        if kind == 6:
            return _recovery(payload, Bits.signed, 2)
        if kind == 45:
            return _packing(payload, lambda bits: bits.take(1))
        return _light(kind, payload)


_KEPT: dict[str, Callable[[], Unit]] = {"h264": _Avc, "hevc": _Hevc}


# Supplemental enhancement information --------------------------------------------------------------------------------


def _messages(unit: bytes, head: int, kept: Callable[[int, bytes], bytes]) -> bytes:
    """A unit of messages, with those that `kept` gives back; it is given the kind and the payload of each."""
    data = hevc.unescaped(unit[head:])
    out, at = b"", 0
    while at + 2 <= len(data) and data[at:] not in (b"\x80", b""):
        kind, at = sum_at(data, at)
        size, at = sum_at(data, at)
        payload = data[at : at + size]
        at += size
        try:
            fresh = kept(kind, payload) if len(payload) == size else b""
        except MediaError:
            continue  # one that is shorter than what it says
        if fresh:
            out += as_sum(kind) + as_sum(len(fresh)) + fresh
    return unit[:head] + hevc.escaped(out) + b"\x80" if out else b""


def _whole(bits: Bits) -> bytes:
    """What was read of a message: it ends with a bit 1 only where it does not fill its last byte."""
    left = sum(len(other) - (end - start) for start, end, other in bits.replaced)
    return bits.read()[: (bits.at + left + 7) // 8]


def _clockless(payload: bytes, delays: int) -> bytes:
    """The time of a picture of H.264: how its fields are shown, without the time of day.

    delays: bits of what stands before, which is about the buffer.
    """
    bits = Bits(payload)
    bits.take(delays)
    bits.replace(0, "")
    shown = bits.take(4)
    if shown > 8:
        return b""
    start = bits.at
    bits.replace(start, "0" * (1, 1, 1, 2, 2, 3, 3, 2, 3)[shown])
    return _whole(bits)


def _rest_plain(payload: bytes, count: int) -> bytes:
    bits = Bits(payload)
    bits.take(count)
    return _whole(bits)


def _recovery(payload: bytes, number: Callable[[Bits], int], flags: int) -> bytes:
    bits = Bits(payload)
    number(bits), bits.take(flags)
    return _whole(bits)


def _packing(payload: bytes, lasts: Callable[[Bits], int]) -> bytes:
    """How two views lie in one picture."""
    bits = Bits(payload)
    bits.golomb()
    if not bits.flag():
        kind, staggered = bits.take(7), bits.flag()
        bits.take(12)
        if not staggered and kind != 5:
            bits.take(16)
        start = bits.at
        bits.take(8)
        bits.replace(start, "0" * 8)
        lasts(bits)
    bits.take(1)
    return _whole(bits)


def _light(kind: int, payload: bytes) -> bytes:
    """Messages of a fixed form: orientation, the light of the display it was made on, captions."""
    if kind == 47:
        bits = Bits(payload)
        if not bits.flag():
            bits.take(18)
        return _whole(bits)
    if kind == 137:
        return payload if display(payload) else b""
    fits = len(payload) == {144: 4, 147: 1, 148: 8}.get(kind, -1)
    return payload if fits or (kind == 4 and _captions(payload)) else b""


def display(payload: bytes) -> bool:
    """Whether 24 bytes describe a display: three colours that span something, white among them, a light in candela."""
    if len(payload) != 24:
        return False
    numbers = [int.from_bytes(payload[at : at + 2], "big") for at in range(0, 16, 2)]
    points = list(zip(numbers[::2], numbers[1::2], strict=True))
    brightest, darkest = int.from_bytes(payload[16:20], "big"), int.from_bytes(payload[20:], "big")
    (ax, ay), (bx, by), (cx, cy), _ = points
    area = abs((bx - ax) * (cy - ay) - (cx - ax) * (by - ay)) / 2
    inside = all(x + y <= 50_000 for x, y in points)
    # In units of 0.00002 of the chart of colours, that of sRGB being 0.11, and of 0.0001 candela a square metre.
    return inside and area > 0.05 * 50_000**2 and darkest < brightest <= 100_000_000


def _captions(payload: bytes) -> bool:
    """Whether a payload is closed captions (ATSC A/53) and nothing besides."""
    if payload[:8] != b"\xb5\x00\x31GA94\x03" or len(payload) < 11:
        return False
    return len(payload) == 10 + 3 * (payload[8] & 31) + 1 and caption_triples(payload[10:-1])


def caption_triples(data: bytes) -> bool:
    """Whether each triple begins as captions do, with five bits 1: no text has such letters."""
    return all(byte >= 0xF8 for byte in data[::3])


def sum_at(data: bytes, at: int) -> tuple[int, int]:
    """A number that is the sum of its bytes, of which all but the last are 255, and where it ends."""
    total = 0
    while at < len(data) and data[at] == 255:
        total, at = total + 255, at + 1
    return (total + data[at], at + 1) if at < len(data) else (total, at)


def as_sum(number: int) -> bytes:
    """A number as the sum of its bytes."""
    return b"\xff" * (number // 255) + bytes([number % 255])


# Headers of files ----------------------------------------------------------------------------------------------------


def _sized(data: bytes, at: int, kept: Unit) -> tuple[bytes, int]:
    """A parameter set behind its length, and where it ends."""
    size = int.from_bytes(data[at : at + 2], "big")
    unit = data[at + 2 : at + 2 + size]
    if len(unit) != size:
        raise ValueError("a parameter set is longer than its header")
    try:
        return kept(unit) if unit else b"", at + 2 + size
    except MediaError as error:
        raise ValueError(error.message) from error


def _joined(units: list[bytes]) -> bytes:
    return b"".join(len(unit).to_bytes(2, "big") + unit for unit in units)


def _avc_header(data: bytes, kept: Unit) -> bytes:
    """ISO/IEC 14496-15, 5.3.3.1: six bytes, sequence and picture parameter sets, four bytes in high profiles."""
    out, at = data[:5], 5
    for mask, kind in ((31, avc.SPS), (255, avc.PPS)):
        count, at = data[at] & mask, at + 1
        sets = []
        for _ in range(count):
            unit, at = _sized(data, at, kept)
            sets += [unit] if unit and unit[0] & 31 == kind else []
        if mask == 31 and sets:
            out = data[:1] + sets[0][1:4] + data[4:5]  # profile and level are those of the set
        out += bytes([len(sets) | (0xE0 if mask == 31 else 0)]) + _joined(sets)
    high = data[1] in (100, 110, 122, 144) and len(data) >= at + 4
    return out + (bytes([0xFC | data[at] & 3, 0xF8 | data[at + 1] & 7, 0xF8 | data[at + 2] & 7, 0]) if high else b"")


def _hevc_header(data: bytes, kept: Unit) -> bytes:
    """ISO/IEC 14496-15, 8.3.3.1: 22 bytes, then arrays of parameter sets."""
    arrays, at = [], 23
    for _ in range(data[22]):
        kind, count = data[at] & 63, int.from_bytes(data[at + 1 : at + 3], "big")
        head, at, sets = data[at : at + 1], at + 3, []
        for _ in range(count):
            unit, at = _sized(data, at, kept if kind in (32, 33, 34, 39, 40) else lambda unit: b"")
            sets += [unit] if unit else []
        if sets:
            arrays.append(head + len(sets).to_bytes(2, "big") + _joined(sets))
    return data[:22] + bytes([len(arrays)]) + b"".join(arrays)
