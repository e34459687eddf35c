"""With which quality a lossy WebP was made: read from the quantisers in its frame header (RFC 6386, section 9)."""

from __future__ import annotations

UNKNOWN = 90
"""The quality that is assumed where the header cannot be read, of 100."""
LEAST = 60
"""A picture is written anew with this quality at least: below it a new face is smeared by the codec alone."""
_ABOVE = 4
_FIRST_PARTITION = 10


class _Bits:
    """The boolean decoder of RFC 6386, section 7, for bits that are as likely 0 as 1."""

    def __init__(self, data: bytes):
        self.data, self.at, self.shifted = data, 2, 0
        self.value, self.range = int.from_bytes(data[:2], "big"), 255

    def flag(self) -> int:
        split = 1 + ((self.range - 1) * 128 >> 8)
        bit = int(self.value >= split << 8)
        self.value -= (split << 8) * bit
        self.range = self.range - split if bit else split
        while self.range < 128:
            self.value, self.range, self.shifted = self.value << 1, self.range << 1, self.shifted + 1
            if self.shifted == 8:
                self.value |= self.data[self.at] if self.at < len(self.data) else 0
                self.at, self.shifted = self.at + 1, 0
        return bit

    def number(self, bits: int) -> int:
        value = 0
        for _ in range(bits):
            value = value << 1 | self.flag()
        return value

    def optional(self, bits: int) -> int:
        """A signed number behind a flag that says whether it is there; 0 where it is not."""
        if not self.flag():
            return 0
        value = self.number(bits)
        return -value if self.flag() else value


def for_rewriting(frame: bytes) -> int:
    """The quality for a new picture in place of `frame`: slightly above, for the estimate tends to fall short."""
    return min(max(quality(frame) + _ABOVE, LEAST), 100)


def quality(frame: bytes) -> int:
    """1 to 100, as libwebp counts. frame: the payload of a `VP8 ` chunk."""
    if len(frame) < _FIRST_PARTITION + 8 or frame[3:6] != b"\x9d\x01\x2a":
        return UNKNOWN
    bits = _Bits(frame[_FIRST_PARTITION:])
    bits.number(2)
    absolute, segments = _segments(bits)
    bits.number(10)
    if bits.flag() and bits.flag():
        for _ in range(8):
            bits.optional(6)
    bits.number(2)
    base = bits.number(7)
    steps = [step if absolute else base + step for step in segments] or [base]
    return _from_step(min(max(sum(steps) / len(steps), 0), 127))


def _segments(bits: _Bits) -> tuple[bool, list[int]]:
    """Whether the quantisers of the segments stand alone, and these; none where all blocks share one."""
    if not bits.flag():
        return False, []
    mapped, absolute, steps = bits.flag(), False, []
    if bits.flag():
        absolute = bool(bits.flag())
        steps = [bits.optional(7) for _ in range(4)]
        for _ in range(4):
            bits.optional(6)
    for _ in range(3 if mapped else 0):
        if bits.flag():
            bits.number(8)
    return absolute, steps


def _from_step(step: float) -> int:
    """The way back of libwebp's curve, which turns quality into a quantiser of 0 to 127."""
    linear = (1 - step / 127) ** 3
    share = linear * 1.5 if linear < 0.5 else (linear + 1) / 2
    return min(max(round(100 * share), 1), 100)
