"""WebP: RIFF chunks kept by the policy; lossless pictures stay lossless, lossy ones stay lossy."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from io import BytesIO

import numpy as np
from PIL import WebPImagePlugin

from deidcli.errors import MediaError
from deidcli.media.image import (
    Container,
    Native,
    Rewriter,
    check_size,
    decoded,
    differing,
    encoded,
    exif,
    icc,
    least,
    starts,
    to_pillow,
    turned,
    upright,
)
from deidcli.media.image.exif import completed

_ANIMATED, _HAS_XMP, _HAS_EXIF, _HAS_ALPHA, _HAS_ICC = 0x02, 0x04, 0x08, 0x10, 0x20
_UNKNOWN_QUALITY = 90
"""The quality that is assumed where the header cannot be read, of 100."""
_LEAST_QUALITY = 60
"""A picture is written anew with this quality at least: below it a new face is smeared by the codec alone."""
_ABOVE = 4
_FIRST_PARTITION = 10
_PIXELS = (b"ALPH", b"VP8 ", b"VP8L")


@dataclass(frozen=True)
class Chunk:
    """A part of a WebP file. kind: its four letters."""

    kind: bytes
    payload: bytes

    def written(self) -> bytes:
        return self.kind + struct.pack("<I", len(self.payload)) + self.payload + b"\0" * (len(self.payload) % 2)


def chunks(data: bytes, at: int, end: int) -> list[Chunk]:
    """The RIFF chunks of data[at:end]. Raises MediaError where one reaches past the end."""
    found = []
    while at + 8 <= end:
        kind, size = struct.unpack_from("<4sI", data, at)
        if at + 8 + size > end:
            raise MediaError("the WebP is truncated", "get a whole copy of the file")
        found.append(Chunk(kind, data[at + 8 : at + 8 + size]))
        at += 8 + size + size % 2
    return found


class Webp(Container):
    """WebP, lossy or lossless, still or moving."""

    format = "WEBP"

    def __init__(self, data: bytes, name: str, salvage: bool = False):
        super().__init__(data, name, salvage)
        end = 8 + struct.unpack_from("<I", data, 4)[0]
        if end > len(data) + 1:
            raise MediaError(f"the WebP is truncated: {len(data)} of {end} bytes", "get a whole copy of the file")
        self.chunks = chunks(data, 12, min(end, len(data)))
        still = _pixels_of(self.chunks)
        moving = [part.payload for part in self.chunks if part.kind == b"ANMF"]
        animated = bool((self._first(b"VP8X")[:1] or b"\0")[0] & _ANIMATED)
        # Viewers go by the flag: a picture beside an animation, or the other way round, is never shown.
        self.moving = [_frame(payload) for payload in moving] if animated or not still else []
        self.drawn = [Chunk(b"ANMF", payload) for payload in self.moving] or still
        if not self.drawn:
            raise MediaError("the WebP holds no picture", "get a whole copy of the file")
        self.block = completed(_exif(self._first(b"EXIF")), self._first(b"XMP "))
        self.orientation = exif.read_exif(self.block).orientation
        self.stored = check_size(WebPImagePlugin._get_size(data[:30]) or (0, 0))
        self.size = turned(self.stored, self.orientation)
        self.times: tuple[Fraction | None, ...] = (None,)
        if self.moving:
            self.times = starts(Fraction(_uint24(frame, 12), 1000) for frame in self.moving)

    def natives(self) -> Iterator[Native]:
        image = WebPImagePlugin.WebPImageFile(BytesIO(self._file({}, self._control() + self.drawn)))
        for index in range(len(self.times)):
            image.seek(index)
            yield upright(decoded(image), self.orientation)

    def scrubbed(self, metadata: str) -> bytes:
        """With every frame cut to the bytes that its decoder reads."""
        if not self.moving:
            return self._file(self._kept(metadata, None), _cut(self.drawn))
        frames = [(payload[:16], _pixels_of(chunks(payload, 16, len(payload)))) for payload in self.moving]
        cut = [Chunk(b"ANMF", head + b"".join(part.written() for part in _cut(parts))) for head, parts in frames]
        return self._file(self._kept(metadata, None), self._control() + cut)

    def rewriter(self, metadata: str) -> Rewriter:
        return _WebpRewriter(self, metadata)

    def rewritten(self, metadata: str, drawn: list[Chunk]) -> bytes:
        """A file of new ALPH, VP8, VP8L or ANMF chunks under this file's metadata."""
        return self._file(self._kept(metadata, self.size), self._control() + drawn, self.size)

    def _control(self) -> list[Chunk]:
        """Background and number of repetitions of an animation."""
        return [Chunk(b"ANIM", self._first(b"ANIM")[:6].ljust(6, b"\0"))] if self.moving else []

    def quality(self, index: int) -> int | None:
        """With which quality this frame is to be written anew, 1 to 100; None where it is coded without loss."""
        parts = chunks(self.moving[index], 16, len(self.moving[index])) if self.moving else self.drawn
        lossy = next((part.payload for part in parts if part.kind == b"VP8 "), None)
        return None if lossy is None else _quality_for_rewriting(lossy)

    def _kept(self, metadata: str, rewritten: tuple[int, int] | None) -> dict[bytes, bytes]:
        kept = {b"ICCP": icc.scrubbed(self._first(b"ICCP"), metadata)}
        kept[b"EXIF"] = (exif.kept_exif(self.block, metadata, rewritten) if self.block else None) or b""
        packet = self._first(b"XMP ")
        kept[b"XMP "] = (exif.scrubbed_xmp(packet) if metadata == "all" and packet else None) or b""
        return {kind: value for kind, value in kept.items() if value}

    def _file(self, kept: dict[bytes, bytes], drawn: list[Chunk], size: tuple[int, int] | None = None) -> bytes:
        alpha = any(part.kind == b"ALPH" or (part.kind == b"ANMF" and b"ALPH" in part.payload) for part in drawn)
        stated = self._first(b"VP8X")[:1] or b"\0"
        flags = stated[0] & _HAS_ALPHA | (_HAS_ALPHA if alpha else 0) | (_ANIMATED if self.moving else 0)
        flags |= sum(bit for kind, bit in _FLAGS.items() if kind in kept)
        extended = [_extended(flags, size or self.stored)] if flags else []
        before = [Chunk(b"ICCP", kept[b"ICCP"])] if b"ICCP" in kept else []
        behind = [Chunk(kind, kept[kind]) for kind in (b"EXIF", b"XMP ") if kind in kept]
        body = b"WEBP" + b"".join(part.written() for part in [*extended, *before, *drawn, *behind])
        return b"RIFF" + struct.pack("<I", len(body)) + body

    def _first(self, kind: bytes) -> bytes:
        return next((part.payload for part in self.chunks if part.kind == kind), b"")


_FLAGS = {b"ICCP": _HAS_ICC, b"EXIF": _HAS_EXIF, b"XMP ": _HAS_XMP}


def _extended(flags: int, size: tuple[int, int]) -> Chunk:
    sides = b"".join(struct.pack("<I", side - 1)[:3] for side in size)
    return Chunk(b"VP8X", bytes([flags, 0, 0, 0]) + sides)


def _exif(block: bytes) -> bytes:
    return block.removeprefix(b"Exif\0\0")


def _uint24(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 3], "little")


def _pixels_of(parts: list[Chunk]) -> list[Chunk]:
    """The first picture among these chunks: its alpha, if it is a lossy one, and its colours; nothing for none."""
    colours = next((part for part in parts if part.kind in (b"VP8 ", b"VP8L")), None)
    if colours is None:
        return []
    before = parts[: parts.index(colours)] if colours.kind == b"VP8 " else []
    return [*[part for part in before if part.kind == b"ALPH"][:1], colours]


def _frame(payload: bytes) -> bytes:
    """A frame of an animation with its one picture: place, size, duration and flags, alpha and colours."""
    pixels = _pixels_of(chunks(payload, 16, len(payload)))
    if not pixels:
        raise MediaError("the WebP is damaged: a frame holds no picture", "get a whole copy of the file")
    return payload[:15] + bytes([payload[15] & 3]) + b"".join(part.written() for part in pixels)


def _cut(parts: list[Chunk]) -> list[Chunk]:
    """ALPH, VP8 and VP8L chunks without the bytes that no decoder reads, which may stand behind each partition."""
    wanted = _shown(parts)
    for index in range(len(parts)):
        parts = [
            *parts[:index],
            _cut_chunk(parts[index], parts[:index], parts[index + 1 :], wanted),
            *parts[index + 1 :],
        ]
    return parts


def _cut_chunk(part: Chunk, before: list[Chunk], behind: list[Chunk], wanted: np.ndarray) -> Chunk:
    pieces, joined = _partitions(part)

    def same(place: int, length: int) -> bool:
        tried = [*pieces[:place], pieces[place][:length], *pieces[place + 1 :]]
        return _shows([*before, joined(tried), *behind], wanted)

    for place in range(1, len(pieces)):
        pieces[place] = pieces[place][: least(len(pieces[place]), partial(same, place))]
    return joined(pieces)


def _shows(parts: list[Chunk], wanted: np.ndarray) -> bool:
    try:
        return np.array_equal(_shown(parts), wanted)
    except (OSError, ValueError, MediaError):
        return False


def _shown(parts: list[Chunk]) -> np.ndarray:
    """(height, width, 3 or 4) uint8 of one picture."""
    width, height = _size(parts[-1])
    extended = [_extended(_HAS_ALPHA, (width, height))] if parts[0].kind == b"ALPH" else []
    body = b"WEBP" + b"".join(part.written() for part in [*extended, *parts])
    return decoded(WebPImagePlugin.WebPImageFile(BytesIO(b"RIFF" + struct.pack("<I", len(body)) + body))).data


def _size(part: Chunk) -> tuple[int, int]:
    if part.kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", part.payload, 6)
        return width & 0x3FFF, height & 0x3FFF
    (packed,) = struct.unpack_from("<I", part.payload, 1)
    return (packed & 0x3FFF) + 1, (packed >> 14 & 0x3FFF) + 1


_Joined = Callable[[list[bytes]], Chunk]


def _partitions(part: Chunk) -> tuple[list[bytes], _Joined]:
    """A head and the parts of a chunk that may each have an unread tail, and the way back.

    Lossy colours have a partition of modes and 1 to 8 of coefficients (RFC 6386, section 9.5), each with its length.
    """
    payload = part.payload
    if part.kind != b"VP8 ":
        head = 1 if part.kind == b"ALPH" else 5
        first = bytes([payload[0] & 0x3F]) if part.kind == b"ALPH" else payload[:1]
        return [first + payload[1:head], payload[head:]], lambda pieces: Chunk(part.kind, b"".join(pieces))
    tag = int.from_bytes(payload[:3], "little")
    width, height = struct.unpack_from("<HH", payload, 6)
    # Two bits of each side ask for scaling, which no viewer does.
    sides = struct.pack("<HH", width & 0x3FFF, height & 0x3FFF)
    at, count = _FIRST_PARTITION + (tag >> 5), _partition_count(payload)
    pieces = [payload[3:6] + sides, payload[_FIRST_PARTITION:at]]
    start = at + 3 * (count - 1)
    for place in range(at, start, 3):
        size = _uint24(payload, place)
        pieces.append(payload[start : start + size])
        start += size

    def joined(pieces: list[bytes]) -> Chunk:
        head, modes, *coefficients = pieces
        sizes = b"".join(struct.pack("<I", len(piece))[:3] for piece in coefficients[:-1])
        first = struct.pack("<I", tag & 0x1F | len(modes) << 5)[:3]
        return Chunk(part.kind, first + head + modes + sizes + b"".join(coefficients))

    return [*pieces, payload[start:]], joined


def _partition_count(frame: bytes) -> int:
    bits = _Bits(frame[_FIRST_PARTITION:])
    _read_to_partitions(bits)
    return 1 << bits.number(2)


class _WebpRewriter(Rewriter):
    def __init__(self, source: Webp, metadata: str):
        self.source, self.metadata = source, metadata
        self.drawn: list[Chunk] = []
        self.shown: np.ndarray | None = None
        self.index = 0

    def add(self, native: Native, changed: np.ndarray | None) -> None:
        quality = self.source.quality(self.index)
        if not self.source.moving:
            self.drawn = _pixels(native, quality)
        else:
            left, top, right, bottom = self._box(native)
            part = Native(native.mode, np.ascontiguousarray(native.data[top:bottom, left:right]))
            sides = (left // 2, top // 2, right - left - 1, bottom - top - 1)
            head = b"".join(struct.pack("<I", side)[:3] for side in sides)
            # No blending, no disposal: what the reader gave was composed already.
            head += self.source.moving[self.index][12:15] + b"\x02"
            inner = b"".join(piece.written() for piece in _pixels(part, quality))
            self.drawn.append(Chunk(b"ANMF", head + inner))
            self.shown = native.data
        self.index += 1

    def finish(self) -> bytes:
        return self.source.rewritten(self.metadata, self.drawn)

    def _box(self, native: Native) -> tuple[int, int, int, int]:
        if self.shown is None:
            return (0, 0, *native.size)
        left, top, right, bottom = differing(native.data, self.shown)
        # The format counts the corner in steps of two pixels.
        return left // 2 * 2, top // 2 * 2, right, bottom


def _pixels(native: Native, quality: int | None) -> list[Chunk]:
    settings = {"lossless": True} if quality is None else {"quality": quality}
    data = encoded(to_pillow(native), "WEBP", exact=True, **settings)
    return [part for part in chunks(data, 12, len(data)) if part.kind in _PIXELS]


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


def _quality_for_rewriting(frame: bytes) -> int:
    """The quality for a new picture in place of `frame`: slightly above, for the estimate tends to fall short."""
    return min(max(_quality(frame) + _ABOVE, _LEAST_QUALITY), 100)


def _quality(frame: bytes) -> int:
    """1 to 100, as libwebp counts. frame: the payload of a `VP8 ` chunk."""
    if len(frame) < _FIRST_PARTITION + 8 or frame[3:6] != b"\x9d\x01\x2a":
        return _UNKNOWN_QUALITY
    bits = _Bits(frame[_FIRST_PARTITION:])
    absolute, segments = _read_to_partitions(bits)
    bits.number(2)
    base = bits.number(7)
    steps = [step if absolute else base + step for step in segments] or [base]
    return _from_step(min(max(sum(steps) / len(steps), 0), 127))


def _read_to_partitions(bits: _Bits) -> tuple[bool, list[int]]:
    """Read on to the number of partitions; gives what `_segments` says."""
    bits.number(2)
    found = _segments(bits)
    bits.number(10)
    if bits.flag() and bits.flag():
        for _ in range(8):
            bits.optional(6)
    return found


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
