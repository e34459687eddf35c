"""The headers of HEVC (ITU-T H.265, section 7.3): parameter sets of one layer, without bytes behind them.

What a decoder does not need to show pictures is left out: the model of its buffer, and further layers.
"""

from __future__ import annotations

from dataclasses import dataclass

from deidcli.media.image.bmff import Bits

VPS, SPS, PPS = 32, 33, 34
_MOST_SETS = 64


@dataclass(frozen=True)
class Sizes:
    """(width, height) in pixels of the coded picture, and of what its cropping window leaves to be shown.

    fields: whether messages about the time of a picture say how its fields are shown.
    """

    coded: tuple[int, int]
    shown: tuple[int, int]
    fields: bool = False


def kind(nal: bytes) -> int:
    """The type of a NAL unit: 0 to 31 are slices, 32 to 34 parameter sets, the others are about the picture."""
    return nal[0] >> 1 & 63 if len(nal) > 2 else -1


def parameter_set(nal: bytes) -> tuple[bytes, Sizes | None] | None:
    """A parameter set with its own fields alone, and for an SPS its sizes; None for one that cannot be followed.

    Raises MediaError for one that is cut off.
    """
    bits = Bits(unescaped(nal[2:]))
    sizes = None
    if kind(nal) == VPS:
        known = _read_vps(bits)
    elif kind(nal) == SPS:
        sizes = _read_sps(bits)
        known = sizes is not None
    else:
        known = kind(nal) == PPS and _read_pps(bits)
    return (nal[:2] + escaped(bits.read()), sizes) if known else None


def unescaped(data: bytes) -> bytes:
    """Without the bytes 3 that `escaped` puts in."""
    return data.replace(b"\0\0\3", b"\0\0")


def escaped(data: bytes) -> bytes:
    """With a byte 3 wherever two zeros are followed by a byte of 0 to 3."""
    done, zeros = bytearray(), 0
    for byte in data:
        if zeros >= 2 and byte <= 3:
            done.append(3)
            zeros = 0
        done.append(byte)
        zeros = 0 if byte else zeros + 1
    return bytes(done)


def _read_profile(bits: Bits, layers: int) -> None:
    bits.take(96)
    present = [(bits.flag(), bits.flag()) for _ in range(8 if layers else 0)][:layers]
    for profile, level in present:
        bits.take(88 if profile else 0)
        bits.take(8 if level else 0)


def _read_ordering(bits: Bits, layers: int) -> None:
    for _ in range(layers + 1 if bits.flag() else 1):
        bits.golomb(), bits.golomb(), bits.golomb()


def _read_vps(bits: Bits) -> bool:
    bits.take(12)
    layers = bits.take(3)
    bits.take(17)
    _read_profile(bits, layers)
    _read_ordering(bits, layers)
    highest, sets = bits.take(6), bits.golomb()
    if sets > _MOST_SETS:
        return False
    bits.take(sets * (highest + 1))
    if bits.flag():
        bits.take(64)
        if bits.flag():
            bits.golomb()
        start, buffers = bits.at, bits.golomb()
        for number in range(buffers):
            bits.golomb()
            _read_buffer(bits, not number or bits.flag(), layers)
        bits.replace(start, "1")  # none of them
    start = bits.at
    bits.flag()
    bits.replace(start, "0")  # no extension: it tells of further layers
    return True


def _read_sps(bits: Bits) -> Sizes | None:
    bits.take(4)
    layers = bits.take(3)
    bits.take(1)
    _read_profile(bits, layers)
    bits.golomb()
    chroma = bits.golomb()
    if chroma == 3:
        bits.take(1)
    coded = bits.golomb(), bits.golomb()
    edges = [bits.golomb() for _ in range(4)] if bits.flag() else [0] * 4
    across, down = {1: (2, 2), 2: (2, 1)}.get(chroma, (1, 1))
    shown = coded[0] - across * (edges[0] + edges[1]), coded[1] - down * (edges[2] + edges[3])
    bits.golomb(), bits.golomb()
    order = bits.golomb() + 4
    _read_ordering(bits, layers)
    for _ in range(6):
        bits.golomb()
    if bits.flag() and bits.flag():
        _read_scaling(bits)
    bits.take(2)
    if bits.flag():
        bits.take(8)
        bits.golomb(), bits.golomb(), bits.take(1)
    if not _read_references(bits, order):
        return None
    bits.take(2)
    fields = False
    if bits.flag():
        usable = _read_usability(bits, layers)
        if usable is None:
            return None
        fields = usable
    known = not bits.flag() or _read_range(bits)
    return Sizes(coded, shown, fields) if known else None


def _read_range(bits: Bits) -> bool:
    """The extension of an SPS for other ranges of samples; False where there is another one."""
    ranges, others = bits.flag(), bits.take(7)
    bits.take(9 if ranges else 0)
    return not others


def _read_scaling(bits: Bits) -> None:
    for size in range(4):
        for _ in range(0, 6, 3 if size == 3 else 1):
            if not bits.flag():
                bits.golomb()
                continue
            if size > 1:
                bits.golomb()
            for _ in range(min(64, 1 << 4 + 2 * size)):
                bits.golomb()


def _read_buffer(bits: Bits, common: bool, layers: int) -> None:
    """Section E.2.2, the hypothetical reference decoder."""
    kinds = pictures = 0
    if common:
        kinds = bits.flag() + bits.flag()
        pictures = kinds and bits.flag()
        if kinds:
            bits.take(19 if pictures else 0)
            bits.take(8 + (4 if pictures else 0) + 15)
    for _ in range(layers + 1):
        fixed = bits.flag() or bits.flag()
        low = False
        if fixed:
            bits.golomb()
        else:
            low = bits.flag()
        count = 1 if low else bits.golomb() + 1
        for _ in range(count * kinds):
            for _ in range(4 if pictures else 2):
                bits.golomb()
            bits.take(1)


def _read_references(bits: Bits, order: int) -> bool:
    """Short-term and long-term reference pictures, which a still has for no use."""
    pictures: list[int] = []
    count = bits.golomb()
    if count > _MOST_SETS:
        return False
    for index in range(count):
        if index and bits.flag():
            bits.take(1)
            bits.golomb()
            used = 0
            for _ in range(pictures[-1] + 1):
                used += bits.flag() or bits.flag()
            pictures.append(used)
            continue
        before, behind = bits.golomb(), bits.golomb()
        if before + behind > 16:
            return False
        for _ in range(before + behind):
            bits.golomb(), bits.take(1)
        pictures.append(before + behind)
    if bits.flag():
        longer = bits.golomb()
        if longer > 32:
            return False
        bits.take(longer * (order + 1))
    return True


def skip_display(bits: Bits) -> None:
    """Past aspect ratio, overscan, colours and the place of the chroma samples, with which the video usability
    information of H.264 and of HEVC begins.
    """
    if bits.flag() and bits.take(8) == 255:
        bits.take(32)
    if bits.flag():
        bits.take(1)
    if bits.flag():
        bits.take(4)
        if bits.flag():
            bits.take(24)
    if bits.flag():
        bits.golomb(), bits.golomb()


def _read_usability(bits: Bits, layers: int) -> bool | None:
    """Video usability information: whether it promises how fields are shown; None for parts that are not followed."""
    skip_display(bits)
    fields = bool(bits.take(3) & 1)
    if bits.flag():
        return None  # a second cropping window
    if bits.flag():
        bits.take(64)
        if bits.flag():
            bits.golomb()
        start = bits.at
        if bits.flag():
            _read_buffer(bits, True, layers)
        bits.replace(start, "0")
    if bits.flag():
        bits.take(3)
        for _ in range(5):
            bits.golomb()
    return fields


def _read_pps(bits: Bits) -> bool:
    bits.golomb(), bits.golomb(), bits.take(7)
    bits.golomb(), bits.golomb(), bits.golomb()
    bits.take(1)
    skips = bits.flag()
    if bits.flag():
        bits.golomb()
    bits.golomb(), bits.golomb()
    bits.take(4)
    tiles = bits.flag()
    bits.take(1)
    if tiles:
        columns, rows = bits.golomb(), bits.golomb()
        if columns + rows > _MOST_SETS:
            return False
        for _ in range(0 if bits.flag() else columns + rows):
            bits.golomb()
        bits.take(1)
    bits.take(1)
    if bits.flag():
        bits.take(1)
        if not bits.flag():
            bits.golomb(), bits.golomb()
    if bits.flag():
        _read_scaling(bits)
    bits.take(1)
    bits.golomb()
    if bits.flag():
        return False  # extensions of slice headers, which hold any bytes
    if not bits.flag():
        return True
    ranges, others = bits.flag(), bits.take(7)
    if ranges:
        bits.golomb() if skips else None
        bits.take(1)
        if bits.flag():
            bits.golomb()
            for _ in range(bits.golomb() + 1):
                bits.golomb(), bits.golomb()
        bits.golomb(), bits.golomb()
    return not others
