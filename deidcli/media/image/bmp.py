"""BMP: changed pixels are patched into the file's own rows, so that depth, masks, palette and row order stay."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import BmpImagePlugin

from deidcli.errors import MediaError
from deidcli.media.image.container import Container, Rewriter, check_size, decoded, encoded
from deidcli.media.image.modes import Native, to_pillow

_HEAD = 14
_V5, _SPACE_AT, _PROFILE_AT, _RESOLUTION_AT = 124, 56, 112, 24
_EMBEDDED, _LINKED, _SRGB = b"DEBM", b"KNIL", b"BGRs"
_PLAIN, _RLE8, _RLE4, _BITFIELDS = 0, 1, 2, 3
_USUAL_MASKS = {16: (0x7C00, 0x3E0, 0x1F), 24: (0xFF0000, 0xFF00, 0xFF), 32: (0xFF0000, 0xFF00, 0xFF)}


@dataclass(frozen=True)
class Layout:
    """Where the pixels are. masks: the bits of red, green and blue above 8 bits a pixel. palette: (n, 3) uint8, RGB."""

    width: int
    height: int
    bits: int
    compression: int
    top_down: bool
    offset: int
    head_size: int
    masks: tuple[int, ...]
    palette: np.ndarray

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
    masks = _USUAL_MASKS.get(bits, ())
    if compression == _BITFIELDS and bits > 8:
        masks = struct.unpack_from("<III", data, 54)
    palette = np.zeros((0, 3), np.uint8)
    if bits <= 8:
        palette = _palette(data, head_size, min(used or 1 << bits, 1 << bits))
    return Layout(width, abs(height), bits, compression, height < 0, offset, head_size, masks, palette)


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
            yield Native("RGB", np.stack([_spread(stored, mask) for mask in self.layout.masks], 2))

    def scrubbed(self, metadata: str) -> bytes:
        return self.around(self.data[self.layout.offset : self.end], metadata)

    def rewriter(self, metadata: str) -> Rewriter:
        return _BmpRewriter(self, metadata)

    def around(self, pixels: bytes, metadata: str) -> bytes:
        """The file with these rows: its header and palette, nothing hidden between or behind, the profile by policy."""
        at = self.layout
        used = _HEAD + at.head_size + len(at.palette) * (3 if at.head_size == 12 else 4)
        used += 16 if at.compression == _BITFIELDS and at.head_size == 40 else 0
        head = bytearray(self.data[: min(used, at.offset)].ljust(at.offset, b"\0"))
        profile = _profile(self.data, at) if metadata != "none" else b""
        if metadata == "none" and at.head_size >= 40:
            head[_HEAD + _RESOLUTION_AT : _HEAD + _RESOLUTION_AT + 8] = bytes(8)
        if at.head_size == _V5:
            _point(head, profile, at.offset + len(pixels))
        struct.pack_into("<IHH", head, 2, len(head) + len(pixels) + len(profile), 0, 0)
        return bytes(head) + pixels + profile

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

    def rows(self, stored: np.ndarray) -> bytes:
        """The way back of `stored`."""
        at = self.layout
        rows = np.zeros((at.height, at.stride), np.uint8)
        if at.bits < 8:
            fields = (stored[..., None] >> np.arange(at.bits)[::-1] & 1).astype(np.uint8)
            packed = np.packbits(fields.reshape(at.height, -1), axis=1)
        else:
            packed = (stored[..., None] >> (8 * np.arange(at.bits // 8)) & 255).astype(np.uint8).reshape(at.height, -1)
        rows[:, : packed.shape[1]] = packed
        return (rows if at.top_down else rows[::-1]).tobytes()


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
        """Indices as they are; colours into the bits of their masks, all other bits (alpha) as they were."""
        if self.source.layout.bits <= 8:
            return colours
        for channel, mask in enumerate(self.source.layout.masks):
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


def _point(head: bytearray, profile: bytes, place: int) -> None:
    """Point the header at the embedded profile; a linked one is a path on somebody's computer and goes."""
    space = slice(_HEAD + _SPACE_AT, _HEAD + _SPACE_AT + 4)
    if not profile and bytes(head[space]) in (_EMBEDDED, _LINKED):
        head[space] = _SRGB
    struct.pack_into("<III", head, _HEAD + _PROFILE_AT, place - _HEAD if profile else 0, len(profile), 0)
