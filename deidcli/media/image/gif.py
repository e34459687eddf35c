"""GIF: blocks kept by the policy; a still keeps its palette, an animation is drawn as the differences of its frames."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from io import BytesIO

import numpy as np
from PIL import GifImagePlugin
from PIL import Image as PillowImage

from deidcli.errors import MediaError
from deidcli.media.image import (
    Container,
    Native,
    Rewriter,
    alphas,
    check_size,
    decoded,
    encoded,
    exif,
    icc,
    nearest,
    starts,
    to_pillow,
    to_rgba,
)
from deidcli.media.metadata import holds_picture

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


# --- The container


_LOOPS = (b"NETSCAPE2.0", b"ANIMEXTS1.0")
_ICC, _XMP = b"ICCRGBG1012", b"XMP DataXMP"
# XMP stands unblocked in the file; this tail lets readers of blocks find the end from wherever they fall into it.
_GREYS = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
_XMP_TAIL = bytes([1, *range(255, -1, -1), 0])
_ENTRIES = 255
_CLEAR = 255
_LEAST_FOR_CHANGED = 32


class Gif(Container):
    """GIF, still or moving."""

    format = "GIF"

    def __init__(self, data: bytes, name: str, salvage: bool = False):
        super().__init__(data, name, salvage)
        self.parsed = parse(data)
        self.images = [part for part in self.parsed.parts if isinstance(part, Image)]
        if not self.images:
            raise MediaError("the GIF holds no picture", "get a whole copy of the file")
        # As Pillow has it, a frame that reaches past the screen widens it.
        screen = struct.unpack_from("<HH", data, 6)
        self.size = check_size(tuple(max(screen[axis], *(i.box[2 + axis] for i in self.images)) for axis in (0, 1)))
        delays = [struct.unpack("<H", image.control[1:3])[0] if image.control else 0 for image in self.images]
        clock = starts(Fraction(delay, 100) for delay in delays)
        self.times: tuple[Fraction | None, ...] = clock if len(self.images) > 1 else (None,)

    def natives(self) -> Iterator[Native]:
        # Without extensions: Pillow has a bound on the length of comments.
        image = GifImagePlugin.GifImageFile(BytesIO(self.written("none", self.parsed.table, self.images)))
        for index in range(len(self.times)):
            image.seek(index)
            native = decoded(image)
            # Pillow calls a palette of greys mode L, but the transparent entry is as much an entry there.
            yield replace(native, mode="P", palette=_GREYS, alphas=alphas(image, 256)) if native.mode == "L" else native

    def scrubbed(self, metadata: str) -> bytes:
        """With the indices compressed anew: codes may stand behind the last pixel."""
        drawn = [(image, indices(image)) for image in self.images]
        table = emptied(self.parsed.table, [(image, index) for image, index in drawn if not image.table])
        return self.written(metadata, table, [recoded(image, index) for image, index in drawn])

    def rewriter(self, metadata: str) -> Rewriter:
        return _Animation(self, metadata) if len(self.images) > 1 else _Still(self, metadata)

    def written(self, metadata: str, table: bytes, images: list[Image], screen: bytes = b"") -> bytes:
        """A file of these image blocks among the extensions that the policy keeps.

        table: global colours. screen: header and screen descriptor, the source's own where it is empty.
        """
        # The screen is as large as what was decoded, frames that reach past the source's own included.
        screen = screen or self.parsed.screen[:6] + struct.pack("<HH", *self.size) + self.parsed.screen[10:]
        parts = [part for part in self.parsed.parts if isinstance(part, Extension)]
        loops = next((kept for part in parts if (kept := _loops(part))), b"")
        before = loops + b"".join(_application(part, metadata) for part in parts if part.label == APPLICATION)
        behind = b"".join(_comment(part) for part in parts if part.label == COMMENT and metadata == "all")
        return screen + table + before + b"".join(image.written() for image in images) + behind + b"\x3b"


def _loops(part: Extension) -> bytes:
    """The number of repetitions, without further blocks that such an extension may have."""
    if part.label != APPLICATION or len(part.blocks) < 2 or part.blocks[0] not in _LOOPS:
        return b""
    count = part.blocks[1]
    known = len(count) == 3 and count[0] == 1
    return Extension(part.label, (part.blocks[0], count)).written() if known else b""


def _application(part: Extension, metadata: str) -> bytes:
    name = part.blocks[0] if part.blocks else b""
    if name == _ICC and (profile := icc.scrubbed(b"".join(part.blocks[1:]), metadata)):
        pieces = tuple(profile[start : start + 255] for start in range(0, len(profile), 255))
        return Extension(part.label, (name, *pieces)).written()
    return _kept_xmp(part) or b"" if name == _XMP and metadata == "all" else b""


def _comment(part: Extension) -> bytes:
    return b"" if holds_picture(b"".join(part.blocks)) else part.written()


def _kept_xmp(part: Extension) -> bytes | None:
    stored = b"".join(bytes([len(block)]) + block for block in part.blocks[1:]) + b"\0"
    packet = exif.scrubbed_xmp(stored[: -len(_XMP_TAIL)])
    return None if packet is None else b"\x21\xff\x0b" + _XMP + packet + _XMP_TAIL


class _Still(Rewriter):
    def __init__(self, source: Gif, metadata: str):
        self.source, self.metadata, self.coded = source, metadata, b""

    def add(self, native: Native, changed: np.ndarray | None) -> None:
        old = self.source.images[0]
        left, top, right, bottom = old.box
        index, table = native.data[top:bottom, left:right], self.source.parsed.table
        if native.palette is not None and native.alphas is not None:
            # Entries that were free may have new colours, and the transparent one may be among them.
            clear = native.alphas[old.control[3]] < 255 if old.control else False
            control = old.control if clear else bytes([old.control[0] & ~1]) + old.control[1:]
            old, table = replace(old, control=control, table=_filled(old.table, native)), _filled(table, native)
        table = emptied(table, [] if old.table else [(old, index)])
        self.coded = self.source.written(self.metadata, table, [recoded(old, index)])

    def finish(self) -> bytes:
        return self.coded


def _filled(table: bytes, native: Native) -> bytes:
    """A colour table of the same length with the palette of `native`."""
    assert native.palette is not None
    return native.palette.tobytes()[: len(table)].ljust(len(table), b"\0")


class _Animation(Rewriter):
    """Frames drawn as what differs from the one before; whole, after a clearing, where pixels turn transparent."""

    def __init__(self, source: Gif, metadata: str):
        self.source, self.metadata = source, metadata
        self.images: list[Image] = []
        self.shown: np.ndarray | None = None

    def add(self, native: Native, changed: np.ndarray | None) -> None:
        rgba = _rgba(native)
        cleared = self.shown is not None and bool(((self.shown[..., 3] > 0) & (rgba[..., 3] == 0)).any())
        if cleared:
            self.images[-1] = _cleared(self.images[-1])
        drawn = self._drawn(rgba, cleared)
        index, palette, clear = _indexed(rgba, drawn, changed)
        self.images.append(self._image(coded(index), palette, clear))
        self.shown = rgba

    def finish(self) -> bytes:
        head = self.source.parsed.screen
        screen = b"GIF89a" + struct.pack("<HHBBB", *self.source.size, 0x70, 0, head[12])
        return self.source.written(self.metadata, b"", self.images, screen)

    def _drawn(self, rgba: np.ndarray, cleared: bool) -> np.ndarray:
        if self.shown is None or cleared:
            return rgba[..., 3] > 0
        return (rgba != self.shown).any(axis=2) & (rgba[..., 3] > 0)

    def _image(self, image: Image, palette: bytes, clear: int) -> Image:
        delay = self.source.images[len(self.images)].control[1:3] or b"\0\0"
        head = image.head[:8] + b"\x87"
        return Image(head, palette, image.coded, b"\x05" + delay + bytes([clear]))


def _cleared(image: Image) -> Image:
    """The same block, its whole area (the screen) made transparent again before the next one is drawn."""
    return replace(image, control=b"\x09" + image.control[1:])


def _rgba(native: Native) -> np.ndarray:
    rgba = to_rgba(native)
    rgba[rgba[..., 3] == 0] = 0
    return rgba


def _indexed(rgba: np.ndarray, drawn: np.ndarray, changed: np.ndarray | None) -> tuple[np.ndarray, bytes, int]:
    """Indices ((height, width) uint8), a table of 256 colours, and the index that leaves a pixel as it was.

    drawn: (height, width) bool, the pixels that this frame sets; all others get the transparent index. changed: the
    pixels whose colours may give way; all others are exact wherever a frame sets no more than 255 of them.
    """
    new = np.zeros_like(drawn) if changed is None else changed & drawn
    palette = _palette(rgba[drawn & ~new][:, :3], rgba[new][:, :3])
    index = np.full(drawn.shape, _CLEAR, np.uint8)
    if drawn.any():
        index[drawn] = nearest(rgba[drawn][:, :3], palette)
    table = np.zeros((256, 3), np.uint8)
    table[: len(palette)] = palette
    return index, table.tobytes(), _CLEAR


def _palette(own: np.ndarray, new: np.ndarray) -> np.ndarray:
    """(n, 3) uint8, 1 to 255 entries."""
    exact = np.unique(own, axis=0) if len(own) else own.reshape(0, 3)
    if len(exact) > _ENTRIES:
        exact = _adaptive(own, _ENTRIES - (_LEAST_FOR_CHANGED if len(new) else 0))
    free = _ENTRIES - len(exact)
    return np.concatenate([exact, _adaptive(new, free)]) if len(new) and free else exact if len(exact) else _black()


def _adaptive(colours: np.ndarray, entries: int) -> np.ndarray:
    unique = np.unique(colours, axis=0)
    if len(unique) <= entries:
        return unique
    image = PillowImage.fromarray(np.ascontiguousarray(colours)[None]).quantize(entries, dither=PillowImage.Dither.NONE)
    return np.frombuffer(bytes(image.getpalette("RGB") or ()), np.uint8).reshape(-1, 3)[:entries]


def _black() -> np.ndarray:
    return np.zeros((1, 3), np.uint8)
