"""The blocks of a GIF: read, written, and made of indices; colours that no pixel shows are emptied."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass, replace
from io import BytesIO

import numpy as np
from PIL import GifImagePlugin

from deidcli.errors import MediaError
from deidcli.media.image.container import encoded
from deidcli.media.image.modes import Native, to_pillow

APPLICATION, COMMENT = 0xFF, 0xFE
_CONTROL = 0xF9
_SPREAD = np.repeat(np.arange(255, -1, -1, dtype=np.uint8), 3).tobytes()
"""A table of 256 colours, none of which Pillow would take for the grey of its index."""


@dataclass(frozen=True)
class Image:
    """An image block. head: left, top, width, height, flags as stored; table: local colours; coded: LZW, blocked.

    control: flags, delay (1/100 s) and transparent index of its graphic control extension, four bytes or none.
    """

    head: bytes
    table: bytes
    coded: bytes
    control: bytes = b""

    @property
    def box(self) -> tuple[int, int, int, int]:
        left, top, width, height = struct.unpack_from("<4H", self.head)
        return left, top, left + width, top + height

    def written(self) -> bytes:
        control = b"\x21\xf9\x04" + self.control + b"\0" if self.control else b""
        return control + b"\x2c" + self.head + self.table + self.coded


@dataclass(frozen=True)
class Extension:
    """A block that is no picture. blocks: its payload as it is cut up."""

    label: int
    blocks: tuple[bytes, ...]

    def written(self) -> bytes:
        return bytes([0x21, self.label]) + b"".join(bytes([len(b)]) + b for b in self.blocks) + b"\0"


@dataclass(frozen=True)
class Parsed:
    """screen: the 13 bytes of header and screen descriptor. table: global colours."""

    screen: bytes
    table: bytes
    parts: tuple[Image | Extension, ...]


def parse(data: bytes) -> Parsed:
    """The blocks up to the trailer, which may be missing. Raises MediaError where a block is cut off."""
    at = 13
    table = data[at : at + _table_size(data[10])]
    parts: list[Image | Extension] = []
    at, control = at + len(table), b""
    while at < len(data) and data[at] != 0x3B:
        if data[at] == 0x21:
            blocks, end = _blocks(data, at + 2)
            if data[at + 1] == _CONTROL:
                control = _control(blocks[0]) if blocks and len(blocks[0]) >= 4 else b""
            else:
                parts.append(Extension(data[at + 1], tuple(blocks)))
            at = end
        elif data[at] == 0x2C:
            image, at = _image(data, at + 1, control)
            parts.append(image)
            control = b""
        else:
            # As other readers have it, what begins no block is skipped.
            at += 1
    return Parsed(data[:13], table, tuple(parts))


def _control(block: bytes) -> bytes:
    """Flags, delay and transparent index of a graphic control extension, without reserved bits and values."""
    flags, clear = block[0] & 0x1D, block[3]
    if flags >> 2 > 3:
        flags &= 0x01
    return bytes([flags]) + block[1:3] + bytes([clear if flags & 1 else 0])


def _image(data: bytes, at: int, control: bytes) -> tuple[Image, int]:
    head = data[at : at + 9]
    start = at + 9 + _table_size(head[8])
    end = _blocks(data, start + 1)[1]
    return Image(head, data[at + 9 : start], data[start:end], control), end


def _table_size(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _blocks(data: bytes, at: int) -> tuple[list[bytes], int]:
    found: list[bytes] = []
    while True:
        if at >= len(data) or at + 1 + data[at] > len(data):
            raise MediaError("the GIF is truncated", "get a whole copy of the file")
        if not data[at]:
            return found, at + 1
        found.append(data[at + 1 : at + 1 + data[at]])
        at += 1 + data[at]


def indices(image: Image) -> np.ndarray:
    """(height, width) uint8: the table entries of one image block, whatever stands behind its last pixel."""
    left, top, right, bottom = image.box
    size = struct.pack("<HH", right - left, bottom - top)
    bare = replace(image, head=bytes(4) + size + bytes([image.head[8] & 0x40]), table=b"", control=b"")
    data = b"GIF89a" + size + b"\xf7\0\0" + _SPREAD + bare.written() + b";"
    opened = GifImagePlugin.GifImageFile(BytesIO(data))
    opened.load()
    return np.array(opened)


def coded(index: np.ndarray) -> Image:
    """An image block of (height, width) uint8 indices, as Pillow compresses it."""
    grey = to_pillow(Native("L", np.ascontiguousarray(index)))
    grey = grey.convert("P")
    return next(p for p in parse(encoded(grey, "GIF", optimize=False, interlace=0)).parts if isinstance(p, Image))


def recoded(image: Image, index: np.ndarray) -> Image:
    """The block with `index` in the place of its pixels, row by row, and nothing behind the last."""
    head = image.head[:8] + bytes([image.head[8] & 0x87])
    table = emptied(image.table, [(image, index)]) if image.table else b""
    return replace(image, head=head, table=table, coded=coded(index).coded)


def emptied(table: bytes, drawn: Iterable[tuple[Image, np.ndarray]]) -> bytes:
    """A colour table without the entries that none of these images shows."""
    used = np.zeros(256, bool)
    for image, index in drawn:
        seen = np.bincount(index.ravel(), minlength=256) > 0
        if image.control and image.control[0] & 1:
            seen[image.control[3]] = False
        used |= seen
    colours = np.frombuffer(table, np.uint8).reshape(-1, 3).copy()
    colours[~used[: len(colours)]] = 0
    return colours.tobytes()
