"""BMP: changed pixels are patched into the file's own rows, so that depth, masks, palette and row order stay.

The header is written anew from the fields that readers use; bits and colours that no pixel uses are zero.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import BmpImagePlugin

from deidcli.errors import MediaError
from deidcli.media.image import Container, Native, Rewriter, check_size, decoded, encoded, icc, to_pillow

_HEAD = 14
_V4, _V5, _SPACE_AT, _PROFILE_AT, _RESOLUTION_AT = 108, 124, 56, 112, 24
_MASKS_AT, _ALPHA_AT = 40, 52
_EMBEDDED, _SRGB = b"DEBM", b"BGRs"
_MOST_RESOLUTION = 1_000_000
_PLAIN, _RLE8, _RLE4, _BITFIELDS = 0, 1, 2, 3
_USUAL_MASKS = {16: (0x7C00, 0x3E0, 0x1F), 24: (0xFF0000, 0xFF00, 0xFF), 32: (0xFF0000, 0xFF00, 0xFF)}


@dataclass(frozen=True)
class Layout:
    """Where the pixels are. palette: (n, 3) uint8, RGB.

    masks: the bits of red, green and blue above 8 bits a pixel. alpha: those of alpha, where the header states them.
    """

    width: int
    height: int
    bits: int
    compression: int
    top_down: bool
    offset: int
    head_size: int
    masks: tuple[int, ...]
    palette: np.ndarray
    alpha: int = 0

    @property
    def channels(self) -> tuple[int, ...]:
        """The masks of red, green, blue and, where there is one, alpha."""
        return (*self.masks, self.alpha) if self.alpha else self.masks

    @property
    def stride(self) -> int:
        return (self.width * self.bits + 31) // 32 * 4


def layout(data: bytes) -> Layout:
    """Raises MediaError (or struct.error) for a header that is cut off or unknown."""
    offset, head_size = struct.unpack_from("<II", data, 10)
    if head_size == 12:
        width, height, _, bits = struct.unpack_from("<4H", data, 18)
        compression, used = _PLAIN, 0
    elif head_size in (40, 52, 56, 64, 108, 124):
        width, height, _, bits, compression = struct.unpack_from("<iiHHI", data, 18)
        (used,) = struct.unpack_from("<I", data, 46)
    else:
        raise MediaError(f"unknown BMP header of {head_size} bytes", "convert it to PNG first")
    if bits not in (1, 2, 4, 8, 16, 24, 32) or compression not in (_PLAIN, _RLE8, _RLE4, _BITFIELDS):
        raise MediaError(f"BMP with {bits} bits, compression {compression}, cannot be read", "convert it to PNG first")
    masks, alpha = _USUAL_MASKS.get(bits, ()), 0
    if compression == _BITFIELDS and bits > 8:
        masks = struct.unpack_from("<III", data, _HEAD + _MASKS_AT)
        (alpha,) = struct.unpack_from("<I", data, _HEAD + _ALPHA_AT) if head_size >= 56 else (0,)
        if not all(_is_run(mask, bits) for mask in (*masks, alpha)):
            raise MediaError("the BMP is damaged: its colour masks are no runs of bits", "get a whole copy of the file")
    palette = np.zeros((0, 3), np.uint8)
    if bits <= 8:
        palette = _palette(data, head_size, min(used or 1 << bits, 1 << bits))
    return Layout(width, abs(height), bits, compression, height < 0, offset, head_size, masks, palette, alpha)


def _is_run(mask: int, bits: int) -> bool:
    """Whether the bits of a mask lie side by side within a pixel; none is a run as well."""
    low, top = _shift(mask)
    return mask < 1 << bits and not top & (top + 1)


def _palette(data: bytes, head_size: int, entries: int) -> np.ndarray:
    step, at = (3 if head_size == 12 else 4), _HEAD + head_size
    stored = np.frombuffer(data[at : at + step * entries], np.uint8)
    return stored[: len(stored) // step * step].reshape(-1, step)[:, 2::-1].copy()


class Bmp(Container):
    """BMP: pixels are changed in place, headers and palette stay."""

    format = "BMP"

    def __init__(self, data: bytes, name: str, salvage: bool = False):
        super().__init__(data, name, salvage)
        self.layout = at = layout(data)
        self.size = check_size((at.width, at.height))
        self.packed = at.compression in (_RLE8, _RLE4)
        self.end = len(data) if self.packed else at.offset + at.stride * at.height
        if self.end > len(data) or (at.bits <= 8 and not len(at.palette)):
            raise MediaError(f"the BMP is truncated: {len(data)} of {self.end} bytes", "get a whole copy of the file")
        if self.packed:
            (size,) = struct.unpack_from("<I", data, 34)
            self.end = min(len(data), at.offset + size) if size else len(data)
        self.times = (None,)

    def natives(self) -> Iterator[Native]:
        if self.packed:
            yield decoded(BmpImagePlugin.BmpImageFile(BytesIO(self.data)))
        elif self.layout.bits <= 8:
            yield Native("P", self.stored().astype(np.uint8), self.layout.palette)
        else:
            stored = self.stored()
            channels = np.stack([_spread(stored, mask) for mask in self.layout.channels], 2)
            yield Native("RGB" if channels.shape[2] == 3 else "RGBA", channels)

    def scrubbed(self, metadata: str) -> bytes:
        if self.packed:
            # Runs can be drawn over each other and end early; plain rows cannot.
            rewriter = self.rewriter(metadata)
            for native in self.natives():
                rewriter.add(native, None)
            return rewriter.finish()
        at = self.layout
        rows = np.frombuffer(self.data, np.uint8, at.stride * at.height, at.offset)
        return self.around(rows.reshape(at.height, at.stride).copy(), metadata)

    def rewriter(self, metadata: str) -> Rewriter:
        return _BmpRewriter(self, metadata)

    def around(self, rows: np.ndarray, metadata: str) -> bytes:
        """The file with these rows ((height, stride) uint8, in the order of the file), the profile by the policy."""
        at = self.layout
        self._clear(rows)
        profile = icc.scrubbed(_profile(self.data, at), metadata)
        palette = self._palette(rows)
        masks = struct.pack("<III", *at.masks) if at.compression == _BITFIELDS and at.bits > 8 else b""
        behind = masks if at.head_size == 40 else b""
        offset = _HEAD + at.head_size + len(behind) + len(palette)
        head = self._head(masks, rows.size, offset, profile, metadata)
        size = offset + rows.size + len(profile)
        return b"BM" + struct.pack("<IHHI", size, 0, 0, offset) + head + behind + palette + rows.tobytes() + profile

    def _clear(self, rows: np.ndarray) -> None:
        """Set the bits of no pixel to zero: behind the last one of a row, and of a pixel outside of its masks."""
        at = self.layout
        used = at.width * at.bits
        rows[:, (used + 7) // 8 :] = 0
        if used % 8:
            rows[:, used // 8] &= 0xFF << 8 - used % 8 & 0xFF
        if at.bits in (16, 32):
            allowed = 0
            for mask in at.channels:
                allowed |= mask
            rows.view(f"<u{at.bits // 8}")[:] &= np.array(allowed, f"<u{at.bits // 8}")

    def _palette(self, rows: np.ndarray) -> bytes:
        """The stored colours, those that no pixel uses black."""
        at = self.layout
        if at.bits > 8:
            return b""
        fields = rows if at.bits == 8 else np.unpackbits(rows, axis=1).reshape(at.height, -1, at.bits)
        index = fields if at.bits == 8 else fields @ (1 << np.arange(at.bits)[::-1]).astype(np.uint8)
        idle = np.bincount(index[:, : at.width].ravel(), minlength=256) == 0
        colours = at.palette[:, ::-1].copy()
        if not np.array_equal(colours, np.arange(256, dtype=np.uint8)[:, None].repeat(3, 1)):
            # A ramp of all greys, by which readers recognise a grey picture, holds no other information.
            colours[idle[: len(colours)]] = 0
        return colours.tobytes() if at.head_size == 12 else np.pad(colours, ((0, 0), (0, 1))).tobytes()

    def _head(self, masks: bytes, size: int, offset: int, profile: bytes, metadata: str) -> bytes:
        at = self.layout
        height = -at.height if at.top_down else at.height
        if at.head_size == 12:
            return struct.pack("<I4H", 12, at.width, at.height, 1, at.bits)
        stated = struct.unpack_from("<ii", self.data, _HEAD + _RESOLUTION_AT)
        known = metadata != "none" and all(0 <= value <= _MOST_RESOLUTION for value in stated)
        colours = len(at.palette) if at.bits <= 8 else 0
        numbers = (40, at.width, height, 1, at.bits, at.compression, size, *(stated if known else (0, 0)), colours, 0)
        head = bytearray(struct.pack("<IiiHHIIiiII", *numbers).ljust(at.head_size, b"\0"))
        struct.pack_into("<I", head, 0, at.head_size)
        if masks and at.head_size > 40:
            head[_MASKS_AT : _MASKS_AT + 12] = masks
            if at.head_size >= 56:
                struct.pack_into("<I", head, _ALPHA_AT, at.alpha)
        if at.head_size in (_V4, _V5):
            # A linked profile is a path on a user's computer, and primaries of the file's own are free numbers.
            head[_SPACE_AT : _SPACE_AT + 4] = _EMBEDDED if profile else _SRGB
        if at.head_size == _V5 and profile:
            struct.pack_into("<II", head, _PROFILE_AT, offset - _HEAD + size, len(profile))
        return bytes(head)

    def stored(self) -> np.ndarray:
        """(height, width) uint32 from the top: palette indices, or the packed bits of a pixel."""
        at = self.layout
        rows = np.frombuffer(self.data, np.uint8, at.stride * at.height, at.offset).reshape(at.height, at.stride)
        rows = rows if at.top_down else rows[::-1]
        if at.bits < 8:
            fields = np.unpackbits(rows, axis=1).reshape(at.height, -1, at.bits)
            return (fields @ (1 << np.arange(at.bits)[::-1])).astype(np.uint32)[:, : at.width]
        pieces = rows[:, : at.width * at.bits // 8].reshape(at.height, at.width, -1).astype(np.uint32)
        return (pieces << (8 * np.arange(pieces.shape[2], dtype=np.uint32))).sum(2, dtype=np.uint32)

    def rows(self, stored: np.ndarray) -> np.ndarray:
        """The way back of `stored`: (height, stride) uint8 in the order of the file."""
        at = self.layout
        rows = np.zeros((at.height, at.stride), np.uint8)
        if at.bits < 8:
            fields = (stored[..., None] >> np.arange(at.bits)[::-1] & 1).astype(np.uint8)
            packed = np.packbits(fields.reshape(at.height, -1), axis=1)
        else:
            packed = (stored[..., None] >> (8 * np.arange(at.bits // 8)) & 255).astype(np.uint8).reshape(at.height, -1)
        rows[:, : packed.shape[1]] = packed
        return np.ascontiguousarray(rows if at.top_down else rows[::-1])


class _BmpRewriter(Rewriter):
    def __init__(self, source: Bmp, metadata: str):
        self.source, self.metadata, self.coded = source, metadata, b""

    def add(self, native: Native, changed: np.ndarray | None) -> None:
        if self.source.packed:
            fresh = Bmp(encoded(to_pillow(native), "BMP"), self.source.name)
            self.coded = fresh.scrubbed(self.metadata)
            return
        stored = self.source.stored()
        if changed is not None:
            stored[changed] = self._values(native.data[changed], stored[changed])
        self.coded = self.source.around(self.source.rows(stored), self.metadata)

    def _values(self, colours: np.ndarray, old: np.ndarray) -> np.ndarray:
        """Indices as they are; colours into the bits of their masks, all other bits as they were."""
        if self.source.layout.bits <= 8:
            return colours
        for channel, mask in enumerate(self.source.layout.channels):
            old = old & np.uint32(~mask & 0xFFFFFFFF) | _gathered(colours[:, channel], mask)
        return old

    def finish(self) -> bytes:
        return self.coded


def _shift(mask: int) -> tuple[int, int]:
    """The lowest bit of a mask and the largest value it holds."""
    low = (mask & -mask).bit_length() - 1 if mask else 0
    return low, mask >> low


def _spread(stored: np.ndarray, mask: int) -> np.ndarray:
    low, top = _shift(mask)
    values = ((stored & np.uint32(mask)) >> np.uint32(low)).astype(np.uint64)
    return (values * 255 // max(top, 1)).astype(np.uint8)


def _gathered(colours: np.ndarray, mask: int) -> np.ndarray:
    low, top = _shift(mask)
    return (((colours.astype(np.uint64) * top + 127) // 255) << np.uint64(low)).astype(np.uint32)


def _profile(data: bytes, at: Layout) -> bytes:
    if at.head_size != _V5 or data[_HEAD + _SPACE_AT : _HEAD + _SPACE_AT + 4] != _EMBEDDED:
        return b""
    offset, size = struct.unpack_from("<II", data, _HEAD + _PROFILE_AT)
    return data[_HEAD + offset : _HEAD + offset + size]
