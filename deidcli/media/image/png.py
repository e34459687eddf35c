"""PNG and APNG: chunks kept by the policy around new image data, at every depth that PNG has."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from io import BytesIO

import cv2
import numpy as np
from PIL import PngImagePlugin

from deidcli.errors import MediaError
from deidcli.media.image import (
    Container,
    Native,
    Rewriter,
    check_size,
    decoded,
    differing,
    exif,
    icc,
    starts,
    to_pillow,
    to_rgba,
    turned,
    upright,
)
from deidcli.media.image.exif import completed, raw_profile
from deidcli.media.image.png_chunks import (
    GREY,
    GREY_ALPHA,
    PALETTE,
    PICTURE,
    RGB,
    RGBA,
    SIGNATURE,
    TEXTS,
    Chunk,
    Head,
    accepted,
    chunks,
    cleaned,
    coded,
    header,
    written,
)
from deidcli.media.metadata import holds_picture

_COLOURS = {b"cHRM", b"gAMA", b"sRGB", b"cICP", b"sBIT", b"bKGD", b"mDCV", b"mDCv", b"cLLI", b"cLLi"}
_DRAWN = {b"IDAT", b"acTL", b"fcTL", b"fdAT"}
_XMP, _RAW_PROFILE = b"XML:com.adobe.xmp", b"Raw profile type"
_LONGEST_TEXT, _LONGEST_PROFILE = 1 << 20, 1 << 24


class Png(Container):
    """PNG and APNG, of every depth."""

    format = "PNG"

    def __init__(self, data: bytes, name: str, salvage: bool = False):
        super().__init__(data, name, salvage)
        self.head, self.chunks = self._read()
        self.depth, self.colour = self.head.depth, self.head.colour
        self.orientation = exif.read_exif(self._first(b"eXIf")).orientation
        self.size = turned(self.head.size, self.orientation)
        self.controls = [part.payload for part in self.chunks if part.kind == b"fcTL"]
        kinds = [part.kind for part in self.chunks]
        self.animated = len(self.controls) > 0
        # A picture for viewers that cannot animate is a frame as well: it may show a face.
        self.apart = self.animated and kinds.index(b"fcTL") > kinds.index(b"IDAT")
        self.times = self._times()

    def _read(self) -> tuple[Head, list[Chunk]]:
        try:
            found = chunks(self.data)
            head = header(found)
            check_size(head.size)
            return head, accepted(_oriented(found), head)
        except MediaError:
            if not self.salvage:
                raise
        found = salvaged(self.data)
        head = header(found)
        self.damage = "the file is damaged; a part of the picture is missing"
        return head, accepted(_oriented(found), head)

    def natives(self) -> Iterator[Native]:
        bare = [part for part in self.chunks if part.kind in PICTURE]
        if self.depth == 16 and self.colour != GREY:
            yield upright(replace(self._sixteen(bare), key=self._key()), self.orientation)
            return
        image = PngImagePlugin.PngImageFile(BytesIO(written(bare)))
        for index in range(len(self.times)):
            image.seek(index)
            native = decoded(image)
            if not self.animated:
                step = {1: 255, 2: 85, 4: 17}.get(self.depth, 1) if self.colour == GREY else 1
                native = replace(native, key=self._key(), room=1 << min(self.depth, 8), step=step)
            yield upright(native, self.orientation)

    def scrubbed(self, metadata: str) -> bytes:
        if self.head.size[0] * self.head.bits % 8:
            # The last byte of a row has bits that no pixel uses.
            return self._anew(metadata)
        kept = [part for part in (self._kept(part, metadata, None) for part in self.chunks) if part is not None]
        return written(cleaned(kept, self._used()) if self.colour == PALETTE else kept)

    def rewriter(self, metadata: str) -> Rewriter:
        return _Animation(self, metadata) if self.animated else _Still(self, metadata)

    def side(self, metadata: str) -> list[Chunk]:
        """The kept chunks of a file that is written anew: without its header, image data and end."""
        kept = (self._kept(part, metadata, self.size) for part in self.chunks[1:-1] if part.kind not in _DRAWN)
        return [part for part in kept if part is not None]

    def _anew(self, metadata: str) -> bytes:
        rewriter = self.rewriter(metadata)
        for native in self.natives():
            rewriter.add(native, None)
        return rewriter.finish()

    def _used(self) -> np.ndarray:
        """The palette entries that any frame uses, (n,) uint8."""
        head = self.chunks[0].payload
        palette = Chunk(b"PLTE", self._first(b"PLTE"))
        frames: list[tuple[bytes, list[Chunk]]] = []
        for part in self.chunks:
            if part.kind == b"fcTL":
                frames.append((part.payload[4:12], []))
            elif part.kind in (b"IDAT", b"fdAT"):
                if not frames:
                    frames.append((head[:8], []))
                frames[-1][1].append(Chunk(b"IDAT", part.payload if part.kind == b"IDAT" else part.payload[4:]))
        found = []
        for size, data in frames:
            whole = written([Chunk(b"IHDR", size + head[8:]), palette, *data, self.chunks[-1]])
            found.append(np.unique(decoded(PngImagePlugin.PngImageFile(BytesIO(whole))).data))
        return np.unique(np.concatenate(found))

    def _sixteen(self, bare: list[Chunk]) -> Native:
        if self.animated:
            raise MediaError("animated PNG with 16 bits a channel is not supported", "convert it to 8 bits first")
        if self.colour == GREY_ALPHA:
            # Grey and alpha of 16 bits have the very bytes, filters included, of RGBA with 8.
            head = bare[0].payload
            bare = [Chunk(b"IHDR", head[:8] + bytes([8, RGBA]) + head[10:]), *bare[1:]]
            image = PngImagePlugin.PngImageFile(BytesIO(written([part for part in bare if part.kind != b"tRNS"])))
            return Native("LA;16", decoded(image).data.view(">u2").astype(np.uint16))
        bare = [part for part in bare if part.kind != b"tRNS"]
        data = cv2.imdecode(np.frombuffer(written(bare), np.uint8), cv2.IMREAD_UNCHANGED)
        if data is None or data.dtype != np.uint16:
            raise MediaError("the PNG is damaged: its 16-bit pixels cannot be decoded", "get a whole copy of the file")
        order = [2, 1, 0, 3][: data.shape[2]]
        return Native("RGB;16" if len(order) == 3 else "RGBA;16", np.ascontiguousarray(data[..., order]))

    def _first(self, kind: bytes) -> bytes:
        return next((part.payload for part in self.chunks if part.kind == kind), b"")

    def _key(self) -> np.ndarray | None:
        """The colour that stands for transparent, in the values that the decoders give."""
        stored = self._first(b"tRNS")
        if not stored or self.colour not in (GREY, RGB):
            return None
        scale = {1: 255, 2: 85, 4: 17}.get(self.depth, 1)
        values = np.frombuffer(stored, ">u2") * scale
        return values.astype(np.uint16 if self.depth == 16 else np.uint8)

    def _times(self) -> tuple[Fraction | None, ...]:
        if not self.animated:
            return (None,)
        delays = [struct.unpack_from(">HH", control, 20) for control in self.controls]
        clock = starts(Fraction(top, bottom or 100) for top, bottom in delays)
        return (Fraction(0), *clock) if self.apart else clock

    def _kept(self, part: Chunk, metadata: str, rewritten: tuple[int, int] | None) -> Chunk | None:
        if part.kind in PICTURE or part.kind in _COLOURS:
            return part
        if part.kind == b"pHYs":
            return part if metadata != "none" else None
        if part.kind == b"iCCP":
            profile = icc.scrubbed(_profile(part.payload), metadata)
            return Chunk(b"iCCP", b"ICC\0\0" + zlib.compress(profile)) if profile else None
        if part.kind == b"eXIf":
            block = exif.kept_exif(part.payload, metadata, rewritten)
            return None if block is None else Chunk(b"eXIf", block)
        if metadata == "all" and part.kind in TEXTS:
            return _text(part)
        return part if metadata == "all" and part.kind == b"tIME" else None


def _profile(payload: bytes) -> bytes:
    """The profile of an iCCP chunk; the name before it is free text."""
    packed = payload.partition(b"\0")[2]
    return _inflated(packed[1:], _LONGEST_PROFILE) or b"" if packed[:1] == b"\0" else b""


def _text(part: Chunk) -> Chunk | None:
    keyword, _, rest = part.payload.partition(b"\0")
    if keyword.startswith(_RAW_PROFILE):
        # EXIF and Photoshop blocks in hexadecimal, thumbnails included; the eXIf chunk is their modern place.
        return None
    if part.kind == b"tEXt":
        return None if holds_picture(rest) else part
    text = _said(part)
    if text is None or holds_picture(text):
        return None
    if keyword == _XMP:
        packet = exif.scrubbed_xmp(text)
        return None if packet is None else Chunk(b"iTXt", _XMP + b"\0\0\0\0\0" + packet)
    if part.kind == b"zTXt":
        return Chunk(part.kind, keyword + b"\0\0" + zlib.compress(text))
    language, translated, _ = (rest[2:].split(b"\0", 2) + [b"", b""])[:3]
    return Chunk(part.kind, b"\0".join([keyword, b"\0", language, translated, text]))


def _said(part: Chunk) -> bytes | None:
    """The text of a tEXt, zTXt or iTXt chunk; None for one that is damaged or too long."""
    rest = part.payload.partition(b"\0")[2]
    if part.kind == b"tEXt":
        return rest
    packed = part.kind == b"zTXt" or rest[:1] == b"\1"
    text = rest[1:] if part.kind == b"zTXt" else (rest[2:].split(b"\0", 2) + [b"", b""])[2]
    return _inflated(text) if packed else text


def _oriented(parts: list[Chunk]) -> list[Chunk]:
    """The chunks with an eXIf that states the orientation, where only XMP or a raw profile of ImageMagick does."""
    block = next((part.payload for part in parts if part.kind == b"eXIf"), b"")
    packet = b""
    for part in (part for part in parts if part.kind in TEXTS):
        keyword = part.payload.partition(b"\0")[0]
        if keyword == _XMP:
            packet = packet or _said(part) or b""
        elif keyword.startswith(_RAW_PROFILE):
            stored, stored_packet = raw_profile(_said(part) or b"")
            block, packet = block or stored, packet or stored_packet
    block = completed(block, packet)
    rest = [part for part in parts if part.kind != b"eXIf"]
    return [rest[0], Chunk(b"eXIf", block), *rest[1:]] if block else rest


def _inflated(packed: bytes, longest: int = _LONGEST_TEXT) -> bytes | None:
    inflater = zlib.decompressobj()
    try:
        text = inflater.decompress(packed, longest)
    except zlib.error:
        return None
    return text if inflater.eof else None


def _recoloured(parts: list[Chunk], native: Native) -> list[Chunk]:
    """The chunks with the palette of `native`, whose free entries may have new colours."""
    assert native.palette is not None and native.alphas is not None
    last = int(np.flatnonzero(native.alphas < 255).max(initial=-1))
    new = {b"PLTE": native.palette.tobytes(), b"tRNS": native.alphas[: last + 1].tobytes()}
    return [replace(part, payload=new.get(part.kind, part.payload)) for part in parts if new.get(part.kind) != b""]


class _Still(Rewriter):
    def __init__(self, source: Png, metadata: str):
        self.source, self.metadata, self.coded = source, metadata, b""

    def add(self, native: Native, changed: np.ndarray | None) -> None:
        head, *rest = coded(native, self.source.depth)
        pixels = [part for part in rest if part.kind == b"IDAT"]
        side = self.source.side(self.metadata)
        if native.mode == "P" and native.alphas is not None:
            side = _recoloured(side, native)
        elif native.mode == "RGBA" and self.source.colour == PALETTE:
            side = [part for part in side if part.kind not in (b"PLTE", b"tRNS", b"bKGD", b"sBIT", b"hIST")]
        parts = [head, *side, *pixels, rest[-1]]
        self.coded = written(cleaned(parts, native.data) if native.mode == "P" else parts)

    def finish(self) -> bytes:
        return self.coded


class _Animation(Rewriter):
    """Each frame as the rectangle that differs from the one before; a palette becomes RGBA of the same values."""

    def __init__(self, source: Png, metadata: str):
        self.source, self.metadata = source, metadata
        self.drawn: list[Chunk] = []
        self.shown: np.ndarray | None = None
        self.index = self.sequence = 0
        plain = source.colour in (RGB, GREY) and not any(part.kind == b"tRNS" for part in source.chunks)
        self.mode = {RGB: "RGB", GREY: "L"}[source.colour] if plain else "RGBA"

    def add(self, native: Native, changed: np.ndarray | None) -> None:
        data = to_rgba(native) if self.mode == "RGBA" else np.array(to_pillow(native).convert(self.mode))
        left, top, right, bottom = (0, 0, *native.size) if self.shown is None else differing(data, self.shown)
        part = coded(Native(self.mode, np.ascontiguousarray(data[top:bottom, left:right])), 8)
        if self.source.apart and self.index == 0:
            self.drawn += [piece for piece in part if piece.kind == b"IDAT"]
        else:
            self._append(part, (left, top, right, bottom))
            self.shown = data
        self.index += 1

    def finish(self) -> bytes:
        before = self.source.side(self.metadata)
        width, height = self.source.size
        colour = {"L": GREY, "RGB": RGB, "RGBA": RGBA}[self.mode]
        head = Chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0))
        control = next(part for part in self.source.chunks if part.kind == b"acTL")
        before = [part for part in before if part.kind not in (b"PLTE", b"tRNS", b"sBIT", b"bKGD")]
        return written([head, *before, control, *self.drawn, Chunk(b"IEND", b"")])

    def _append(self, part: list[Chunk], box: tuple[int, int, int, int]) -> None:
        control = self.source.controls[self.index - self.source.apart]
        left, top, right, bottom = box
        head = struct.pack(">5I", self._next(), right - left, bottom - top, left, top)
        # Kept in place and drawn over: what the reader gave was composed already.
        self.drawn.append(Chunk(b"fcTL", head + control[20:24] + b"\0\0"))
        for piece in part:
            if piece.kind == b"IDAT" and self.index == 0:
                self.drawn.append(piece)
            elif piece.kind == b"IDAT":
                self.drawn.append(Chunk(b"fdAT", struct.pack(">I", self._next()) + piece.payload))

    def _next(self) -> int:
        self.sequence += 1
        return self.sequence - 1


# --- What can be decoded of a damaged file: the rows that are there, and black or transparent ones for the others.


_STEP = 1024  # bytes that are inflated at once, so that little is lost where the data break off
_MOVING = (b"acTL", b"fcTL", b"fdAT")


def salvaged(data: bytes) -> list[Chunk]:
    """The chunks of a whole still made of a damaged file. Raises MediaError where not even its header is there."""
    found = list(_readable(data))
    if not found:
        raise MediaError("the PNG has no header", "get a whole copy of the file")
    head = header(found)
    size = head.packed(check_size(head.size))
    raw = _rows_inflated(b"".join(part.payload for part in found if part.kind == b"IDAT"), size)
    if not raw:
        raise MediaError("the PNG holds no pixel that can be decoded", "get a whole copy of the file")
    side = [part for part in found[1:] if part.kind not in (b"IDAT", b"IEND", *_MOVING)]
    pixels = Chunk(b"IDAT", zlib.compress(raw.ljust(size, b"\0")))
    return [found[0], *side, pixels, Chunk(b"IEND", b"")]


def _readable(data: bytes) -> Iterator[Chunk]:
    """Chunks whose checksum is right, and image data whatever theirs, up to where the file breaks off."""
    at = len(SIGNATURE)
    while at + 8 <= len(data):
        (size,), kind = struct.unpack_from(">I", data, at), data[at + 4 : at + 8]
        payload = data[at + 8 : at + 8 + size]
        right = data[at + 8 + size : at + 12 + size] == struct.pack(">I", zlib.crc32(kind + payload))
        if kind == b"IDAT" or right:
            yield Chunk(kind, payload)
        if kind == b"IEND":
            return
        at += 12 + size


def _rows_inflated(packed: bytes, size: int) -> bytes:
    inflater, raw = zlib.decompressobj(), bytearray()
    try:
        for at in range(0, len(packed), _STEP):
            raw += inflater.decompress(inflater.unconsumed_tail + packed[at : at + _STEP], max(size - len(raw), 1))
            if len(raw) >= size:
                break
    except zlib.error:
        pass
    return bytes(raw[:size])
