"""PNG and APNG: chunks kept by the policy around new image data, at every depth that PNG has."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from io import BytesIO

import cv2
import numpy as np
from PIL import PngImagePlugin

from deidcli.errors import MediaError
from deidcli.media import metadata as policies
from deidcli.media import xmp
from deidcli.media.container import Container, Rewriter, check_size, decoded, encoded, starts, turned
from deidcli.media.modes import Native, to_pillow, upright

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PICTURE = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"acTL", b"fcTL", b"fdAT"}
_COLOURS = {b"cHRM", b"gAMA", b"sRGB", b"cICP", b"sBIT", b"bKGD", b"mDCV", b"mDCv", b"cLLI", b"cLLi"}
_TEXTS = {b"tEXt", b"zTXt", b"iTXt"}
_XMP = b"XML:com.adobe.xmp"
_LONGEST_TEXT = 1 << 20
_GREY, _RGB, _PALETTE, _GREY_ALPHA, _RGBA = 0, 2, 3, 4, 6


@dataclass(frozen=True)
class Chunk:
    kind: bytes
    payload: bytes

    def written(self) -> bytes:
        body = self.kind + self.payload
        return struct.pack(">I", len(self.payload)) + body + struct.pack(">I", zlib.crc32(body))


def chunks(data: bytes) -> list[Chunk]:
    """Everything up to IEND; what stands behind it is left out. Raises MediaError where the file ends before."""
    found, at = [], len(SIGNATURE)
    while not found or found[-1].kind != b"IEND":
        if at + 12 > len(data):
            raise MediaError("the PNG is truncated: it has no end", "get a whole copy of the file")
        (size,), kind = struct.unpack_from(">I", data, at), data[at + 4 : at + 8]
        payload = data[at + 8 : at + 8 + size]
        # Pillow and OpenCV do not agree on which damage they forgive; a wrong sum within the picture is never forgiven.
        if kind in _PICTURE and data[at + 8 + size : at + 12 + size] != struct.pack(">I", zlib.crc32(kind + payload)):
            raise MediaError("the PNG is truncated or damaged: a checksum is wrong", "get a whole copy of the file")
        found.append(Chunk(kind, payload))
        at += 12 + size
    return found


def written(parts: list[Chunk]) -> bytes:
    return SIGNATURE + b"".join(part.written() for part in parts)


class Png(Container):
    format = "PNG"

    def __init__(self, data: bytes, name: str):
        super().__init__(data, name)
        self.chunks = chunks(data)
        if self.chunks[0].kind != b"IHDR" or len(self.chunks[0].payload) != 13:
            raise MediaError("the PNG has no header", "get a whole copy of the file")
        self.head = self.chunks[0].payload
        width, height, self.depth, self.colour = struct.unpack(">IIBB", self.head[:10])
        self.orientation = policies.read_exif(self._first(b"eXIf")).orientation
        self.size = turned(check_size((width, height)), self.orientation)
        self.controls = [part.payload for part in self.chunks if part.kind == b"fcTL"]
        kinds = [part.kind for part in self.chunks]
        self.animated = b"acTL" in kinds and len(self.controls) > 0
        # A picture for viewers that cannot animate is a frame as well: it may show a face.
        self.apart = self.animated and kinds.index(b"fcTL") > kinds.index(b"IDAT")
        self.times = self._times()

    def natives(self) -> Iterator[Native]:
        bare = [part for part in self.chunks if part.kind in _PICTURE]
        if self.depth == 16 and self.colour != _GREY:
            yield upright(self._sixteen(bare), self.orientation)
            return
        image = PngImagePlugin.PngImageFile(BytesIO(written(bare)))
        for index in range(len(self.times)):
            image.seek(index)
            yield upright(decoded(image), self.orientation)

    def scrubbed(self, metadata: str) -> bytes:
        kept = (self._kept(part, metadata, None) for part in self.chunks)
        return written([part for part in kept if part is not None])

    def rewriter(self, metadata: str) -> Rewriter:
        return _Animation(self, metadata) if self.animated else _Still(self, metadata)

    def around(self, metadata: str) -> tuple[list[Chunk], list[Chunk]]:
        """The kept chunks before and behind the image data of a file that is written anew, header and end left out."""
        kinds = [part.kind for part in self.chunks]
        first = kinds.index(b"IDAT")
        before, behind = self.chunks[1:first], self.chunks[first + 1 : -1]
        return self._around(before, metadata), self._around(behind, metadata)

    def _around(self, parts: list[Chunk], metadata: str) -> list[Chunk]:
        drawn = (b"IDAT", b"acTL", b"fcTL", b"fdAT")
        kept = (self._kept(part, metadata, self.size) for part in parts if part.kind not in drawn)
        return [part for part in kept if part is not None]

    def _sixteen(self, bare: list[Chunk]) -> Native:
        if self.animated:
            raise MediaError("animated PNG with 16 bits a channel is not supported", "convert it to 8 bits first")
        if self.colour == _GREY_ALPHA:
            # Grey and alpha of 16 bits have the very bytes, filters included, of RGBA with 8.
            bare = [Chunk(b"IHDR", self.head[:8] + bytes([8, _RGBA]) + self.head[10:]), *bare[1:]]
            image = PngImagePlugin.PngImageFile(BytesIO(written([part for part in bare if part.kind != b"tRNS"])))
            return Native("LA;16", decoded(image).data.view(">u2").astype(np.uint16))
        _check_length(bare, self.head)
        bare = [part for part in bare if part.kind != b"tRNS"]
        data = cv2.imdecode(np.frombuffer(written(bare), np.uint8), cv2.IMREAD_UNCHANGED)
        if data is None or data.dtype != np.uint16:
            raise MediaError("the PNG is damaged: its 16-bit pixels cannot be decoded", "get a whole copy of the file")
        order = [2, 1, 0, 3][: data.shape[2]]
        return Native("RGB;16" if len(order) == 3 else "RGBA;16", np.ascontiguousarray(data[..., order]))

    def _first(self, kind: bytes) -> bytes:
        return next((part.payload for part in self.chunks if part.kind == kind), b"")

    def _times(self) -> tuple[Fraction | None, ...]:
        if not self.animated:
            return (None,)
        delays = [struct.unpack_from(">HH", control, 20) for control in self.controls]
        clock = starts(Fraction(top, bottom or 100) for top, bottom in delays)
        return (Fraction(0), *clock) if self.apart else clock

    def _kept(self, part: Chunk, metadata: str, rewritten: tuple[int, int] | None) -> Chunk | None:
        if part.kind in _PICTURE or part.kind in _COLOURS:
            return part
        if part.kind == b"pHYs":
            return part if metadata != "none" else None
        if part.kind == b"iCCP":
            # The name is free text; the profile behind it is kept byte for byte.
            return Chunk(b"iCCP", b"ICC" + part.payload[part.payload.index(b"\0") :]) if metadata != "none" else None
        if part.kind == b"eXIf":
            block = policies.kept_exif(part.payload, metadata, rewritten)
            return None if block is None else Chunk(b"eXIf", block)
        if metadata == "all" and part.kind in _TEXTS:
            return _text(part)
        return part if metadata == "all" and part.kind == b"tIME" else None


def _text(part: Chunk) -> Chunk | None:
    keyword, _, rest = part.payload.partition(b"\0")
    if keyword.startswith(b"Raw profile type"):
        # EXIF and Photoshop blocks in hexadecimal, thumbnails included; the eXIf chunk is their modern place.
        return None
    if part.kind == b"tEXt":
        return None if policies.holds_picture(rest) else part
    packed = part.kind == b"zTXt" or rest[:1] == b"\1"
    pieces = [b"", b"", rest[1:]] if part.kind == b"zTXt" else rest[2:].split(b"\0", 2)
    text = _inflated(pieces[-1]) if packed else pieces[-1]
    if text is None or policies.holds_picture(text):
        return None
    if keyword == _XMP:
        packet = xmp.scrubbed(text)
        return None if packet is None else Chunk(b"iTXt", _XMP + b"\0\0\0\0\0" + packet)
    return part


def _inflated(packed: bytes) -> bytes | None:
    inflater = zlib.decompressobj()
    try:
        text = inflater.decompress(packed, _LONGEST_TEXT)
    except zlib.error:
        return None
    return text if inflater.eof else None


def _check_length(bare: list[Chunk], head: bytes) -> None:
    """OpenCV fills what is missing with grey and says nothing."""
    width, height, depth, colour = struct.unpack(">IIBB", head[:10])
    inflater = zlib.decompressobj()
    size = sum(len(inflater.decompress(part.payload)) for part in bare if part.kind == b"IDAT")
    row = width * depth * {_GREY: 1, _RGB: 3, _PALETTE: 1, _GREY_ALPHA: 2, _RGBA: 4}[colour] // 8
    if size < row * height:
        raise MediaError("the PNG is truncated: rows are missing", "get a whole copy of the file")


def _coded(native: Native, depth: int) -> list[Chunk]:
    """The chunks of a bare PNG that holds these pixels at this depth."""
    if native.mode in ("RGB;16", "RGBA;16"):
        order = [2, 1, 0, 3][: native.data.shape[2]]
        settings = [cv2.IMWRITE_PNG_COMPRESSION, 6, cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_ALL_FILTERS]
        return chunks(cv2.imencode(".png", np.ascontiguousarray(native.data[..., order]), settings)[1].tobytes())
    if native.mode == "LA;16":
        eight = native.data.astype(">u2").view(np.uint8)
        head, *rest = chunks(encoded(to_pillow(Native("RGBA", eight)), "PNG"))
        return [Chunk(b"IHDR", head.payload[:8] + bytes([16, _GREY_ALPHA]) + head.payload[10:]), *rest]
    image = to_pillow(native)
    if native.mode == "P":
        # Pillow takes the depth from the length of the palette.
        image.putpalette(bytes(3 << depth))
    return chunks(encoded(image, "PNG", bits=depth))


class _Still(Rewriter):
    def __init__(self, source: Png, metadata: str):
        self.source, self.metadata, self.coded = source, metadata, b""

    def add(self, native: Native, changed: np.ndarray | None) -> None:
        before, behind = self.source.around(self.metadata)
        coded = _coded(native, self.source.depth)
        pixels = [part for part in coded if part.kind == b"IDAT"]
        self.coded = written([coded[0], *before, *pixels, *behind, coded[-1]])

    def finish(self) -> bytes:
        return self.coded


class _Animation(Rewriter):
    """Each frame as the rectangle that differs from the one before; a palette becomes RGBA of the same values."""

    def __init__(self, source: Png, metadata: str):
        self.source, self.metadata = source, metadata
        self.drawn: list[Chunk] = []
        self.shown: np.ndarray | None = None
        self.index = self.sequence = 0
        plain = source.colour in (_RGB, _GREY) and not any(part.kind == b"tRNS" for part in source.chunks)
        self.mode = {_RGB: "RGB", _GREY: "L"}[source.colour] if plain else "RGBA"

    def add(self, native: Native, changed: np.ndarray | None) -> None:
        image = to_pillow(native)
        if native.usable is not None:
            image.info["transparency"] = np.where(native.usable, 255, 0).astype(np.uint8).tobytes()
        data = np.array(image.convert(self.mode))
        left, top, right, bottom = (0, 0, *native.size) if self.shown is None else differing(data, self.shown)
        part = _coded(Native(self.mode, np.ascontiguousarray(data[top:bottom, left:right])), 8)
        if self.source.apart and self.index == 0:
            self.drawn += [piece for piece in part if piece.kind == b"IDAT"]
        else:
            self._append(part, (left, top, right, bottom))
            self.shown = data
        self.index += 1

    def finish(self) -> bytes:
        before, behind = self.source.around(self.metadata)
        width, height = self.source.size
        colour = {"L": _GREY, "RGB": _RGB, "RGBA": _RGBA}[self.mode]
        head = Chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0))
        control = next(part for part in self.source.chunks if part.kind == b"acTL")
        before = [part for part in before if part.kind not in (b"PLTE", b"tRNS", b"sBIT", b"bKGD")]
        return written([head, *before, control, *self.drawn, *behind, Chunk(b"IEND", b"")])

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


def differing(data: np.ndarray, shown: np.ndarray) -> tuple[int, int, int, int]:
    """left, top, right, bottom of the pixels that differ; one pixel where none does, for a frame cannot be empty."""
    other = data != shown
    other = other.any(axis=2) if other.ndim == 3 else other
    rows, columns = np.flatnonzero(other.any(axis=1)), np.flatnonzero(other.any(axis=0))
    if not len(rows):
        return 0, 0, 1, 1
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
