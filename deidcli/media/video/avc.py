"""The parameter sets of H.264 (ITU-T H.264, section 7.3.2): their own fields alone, without the model of the buffer."""

from __future__ import annotations

from dataclasses import dataclass

from deidcli.media.image.bmff import Bits
from deidcli.media.image.hevc import escaped, skip_display, unescaped

SPS, PPS = 7, 8
_CHROMA_STATED = (100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135)  # profiles
_OLD = (66, 77, 88)
_MOST_SETS = 32


@dataclass(frozen=True)
class Sequence:
    """What of a sequence parameter set others depend on. old: of a profile whose picture sets have no second part.

    fields: whether messages about the time of a picture say how its fields are shown. delays: how many bits about the
    buffer stand before that.
    """

    number: int
    chroma: int = 1
    old: bool = False
    fields: bool = False
    delays: int = 0


def sequence_set(unit: bytes) -> tuple[bytes, Sequence]:
    """A sequence parameter set. Raises MediaError for one that is cut off, ValueError for one that no decoder takes."""
    bits = Bits(unescaped(unit[1:]))
    profile, constraints = bits.take(8), bits.take(8)
    bits.take(8)
    number, chroma = bits.golomb(), 1
    if profile in _CHROMA_STATED:
        chroma = bits.golomb()
        if chroma == 3:
            bits.take(1)
        bits.golomb(), bits.golomb(), bits.take(1)
        if bits.flag():
            _read_scaling(bits, 12 if chroma == 3 else 8)
    if number >= _MOST_SETS or chroma > 3:
        raise ValueError("a sequence of no known kind")
    bits.golomb()
    _read_order(bits)
    bits.golomb(), bits.take(1)
    bits.golomb(), bits.golomb()
    if not bits.flag():
        bits.take(1)
    bits.take(1)
    if bits.flag():
        bits.golomb(), bits.golomb(), bits.golomb(), bits.golomb()
    fields, delays = _read_usability(bits) if bits.flag() else (False, 0)
    known = Sequence(number, chroma, profile in _OLD and bool(constraints >> 5), fields, delays)
    return unit[:1] + escaped(bits.read()), known


def picture_set(unit: bytes, sequences: dict[int, Sequence]) -> bytes:
    """A picture parameter set. sequences: those before it, by their numbers. Raises as `sequence_set`."""
    bits = Bits(unescaped(unit[1:]))
    bits.golomb()
    number = bits.golomb()
    sequence = sequences.get(number, Sequence(number))
    bits.take(2)
    groups = bits.golomb()
    if groups:
        _read_groups(bits, groups + 1)
    bits.golomb(), bits.golomb(), bits.take(3)
    bits.golomb(), bits.golomb(), bits.golomb()
    bits.take(3)
    if not sequence.old and bits.more():
        eights = (6 if sequence.chroma == 3 else 2) if bits.flag() else 0
        if bits.flag():
            _read_scaling(bits, 6 + eights)
        bits.golomb()
    return unit[:1] + escaped(bits.read())


def _read_scaling(bits: Bits, lists: int) -> None:
    for place in range(lists):
        if not bits.flag():
            continue
        last = step = 8
        for _ in range(16 if place < 6 else 64):
            if step:
                step = (last + bits.signed()) % 256
            last = step or last


def _read_order(bits: Bits) -> None:
    kind = bits.golomb()
    if kind == 0:
        bits.golomb()
    elif kind == 1:
        bits.take(1), bits.golomb(), bits.golomb()
        for _ in range(bits.golomb()):
            bits.golomb()


def _read_groups(bits: Bits, count: int) -> None:
    """Section 7.3.2.2: which macroblocks belong to which group of slices."""
    if count > 8:
        raise ValueError("more groups of slices than there can be")
    kind = bits.golomb()
    if kind == 0:
        for _ in range(count):
            bits.golomb()
    elif kind == 2:
        for _ in range(2 * (count - 1)):
            bits.golomb()
    elif kind in (3, 4, 5):
        bits.take(1), bits.golomb()
    elif kind == 6:
        for _ in range(bits.golomb() + 1):
            bits.take((count - 1).bit_length())


def _read_usability(bits: Bits) -> tuple[bool, int]:
    """Annex E, video usability information: `fields` and `delays` of a `Sequence`."""
    skip_display(bits)
    if bits.flag():
        bits.take(65)
    start = bits.at
    buffers = [_read_buffer(bits) for _ in range(2) if bits.flag()]
    if buffers:
        bits.take(1)
    bits.replace(start, "00")
    fields = bits.flag()
    if bits.flag():
        bits.take(1)
        for _ in range(6):
            bits.golomb()
    return fields, max(buffers, default=0)


def _read_buffer(bits: Bits) -> int:
    """The hypothetical reference decoder. How many bits its two delays have in messages."""
    count = bits.golomb() + 1
    bits.take(8)
    for _ in range(count):
        bits.golomb(), bits.golomb(), bits.take(1)
    bits.take(5)
    delays = bits.take(5) + 1 + bits.take(5) + 1
    bits.take(5)
    return delays
