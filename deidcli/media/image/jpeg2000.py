"""JPEG 2000: JP2 files and bare codestreams, 8 and 16 bits a channel, lossless or lossy as the source.

A copy keeps the coded pixels and nothing else: the boxes that show them, and the markers without which they cannot be
decoded. Pixels are coded by OpenJPEG, by way of Pillow, and of OpenCV where colours have more than 8 bits.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO

import cv2
import numpy as np
from PIL import Jpeg2KImagePlugin

from deidcli.errors import MediaError
from deidcli.media.image import Container, Native, Rewriter, check_size, decoded, encoded, icc, to_pillow, to_rgba

SIGNATURE = b"\0\0\0\x0cjP  \r\n\x87\n"
START = b"\xff\x4f\xff\x51"
"""How a codestream begins: SOC and SIZ."""
QUALITY_DB = 50
"""Peak signal to noise ratio of a lossy picture that is written anew; the source does not say its own."""
_SIZ, _COD, _SOT, _SOD, _EOC = 0xFF51, 0xFF52, 0xFF90, 0xFF93, 0xFFD9
# CAP, COD, COC, QCD, QCC, RGN, POC, PPM, PPT: what decoding needs. COM, PLT, PLM, TLM and CRG go.
_NEEDED = {0xFF50, _SIZ, _COD, 0xFF53, 0xFF5C, 0xFF5D, 0xFF5E, 0xFF5F, 0xFF60, 0xFF61}
_HEADER = {b"ihdr", b"bpcc", b"colr", b"pclr", b"cmap", b"cdef"}
_FTYP = struct.pack(">I4s4sI4s", 20, b"ftyp", b"jp2 ", 0, b"jp2 ")
_DAMAGED = "get a whole copy of the file"


@dataclass(frozen=True)
class Box:
    """kind: four letters. payload: what it holds."""

    kind: bytes
    payload: bytes

    def written(self) -> bytes:
        return struct.pack(">I4s", len(self.payload) + 8, self.kind) + self.payload


def boxes(data: bytes) -> list[Box]:
    """The boxes that lie side by side; what is cut off at the end is left out."""
    found, at = [], 0
    while at + 8 <= len(data):
        (size,), kind, head = struct.unpack_from(">I", data, at), data[at + 4 : at + 8], 8
        if size == 1 and at + 16 <= len(data):
            (size,), head = struct.unpack_from(">Q", data, at + 8), 16
        size = len(data) - at if size == 0 else size
        if size < head:
            break
        found.append(Box(kind, data[at + head : at + size]))
        at += size
    return found


class Jpeg2000(Container):
    """JPEG 2000, a still with one to four channels."""

    format = "JPEG2000"

    def __init__(self, data: bytes, name: str, salvage: bool = False):
        super().__init__(data, name, salvage)
        self.boxes = boxes(data) if data.startswith(SIGNATURE) else []
        self.header = {box.kind: box for box in boxes(self._box(b"jp2h")) if box.kind in _HEADER}
        self.stream = self._box(b"jp2c") if self.boxes else data
        if not self.stream.startswith(START) or len(self.stream) < 42:
            raise MediaError("the JPEG 2000 file holds no picture", _DAMAGED)
        right, bottom, left, top = struct.unpack_from(">4I", self.stream, 8)
        (count,) = struct.unpack_from(">H", self.stream, 40)
        if not 1 <= count <= 4 or len(self.stream) < 42 + 3 * count:
            raise MediaError(f"JPEG 2000 with {count} components is not supported", "convert it to RGB first")
        self.size = check_size((right - left, bottom - top))
        self.count, self.bits = count, max(size & 0x7F for size in self.stream[42 : 42 + 3 * count : 3]) + 1
        self.times = (None,)
        self.lossless = self._is_lossless()

    def natives(self) -> Iterator[Native]:
        if self.bits > 8 and self.count >= 3:
            yield self._wide()
            return
        yield decoded(Jpeg2KImagePlugin.Jpeg2KImageFile(BytesIO(self.data)))

    def scrubbed(self, metadata: str) -> bytes:
        return self.around(needed(self.stream), self.header, metadata)

    def rewriter(self, metadata: str) -> Rewriter:
        return _Jpeg2000Rewriter(self, metadata)

    def around(self, stream: bytes, header: dict[bytes, Box], metadata: str) -> bytes:
        """The file of a codestream and the boxes that describe it, with this file's profile where one is allowed."""
        if not self.boxes:
            return stream
        kept = [box for kind, box in header.items() if kind != b"colr"]
        colours = self._profile(metadata) or header.get(b"colr") or self.header.get(b"colr")
        if colours is not None and colours.payload[:1] == b"\2":
            colours = self._profile(metadata)
        if colours is None:
            space = 17 if self.count < 3 else 16
            colours = Box(b"colr", b"\1\0\0" + struct.pack(">I", space))
        place = 1 + (b"bpcc" in header)
        described = Box(b"jp2h", b"".join(box.written() for box in [*kept[:place], colours, *kept[place:]]))
        return SIGNATURE + _FTYP + described.written() + Box(b"jp2c", stream).written()

    def _box(self, kind: bytes) -> bytes:
        return next((box.payload for box in self.boxes if box.kind == kind), b"")

    def _profile(self, metadata: str) -> Box | None:
        """The box with the file's own ICC profile, cut by the policy."""
        stored = self.header.get(b"colr")
        if stored is None or stored.payload[:1] != b"\2":
            return None
        profile = icc.scrubbed(stored.payload[3:], metadata)
        return Box(b"colr", b"\2\0\0" + profile) if profile else None

    def _is_lossless(self) -> bool:
        """Whether the wavelet is the reversible one, by the first COD marker."""
        for marker, payload in _markers(self.stream):
            if marker == _COD and len(payload) >= 10:
                return payload[9] == 1
        return False

    def _wide(self) -> Native:
        pixels = cv2.imdecode(np.frombuffer(self.data, np.uint8), cv2.IMREAD_UNCHANGED)
        if pixels is None or pixels.dtype != np.uint16 or pixels.ndim != 3 or pixels.shape[2] != self.count:
            said = f"JPEG 2000 with {self.count} channels of {self.bits} bits could not be decoded"
            raise MediaError(said, "convert it to 8 bits first")
        pixels = np.ascontiguousarray(pixels[..., [2, 1, 0, 3][: self.count]])
        if self.bits < 16 and int(pixels.max()) < 1 << self.bits:
            # As in every other format white is the whole range.
            pixels = (pixels.astype(np.uint32) * 65535 // ((1 << self.bits) - 1)).astype(np.uint16)
        return Native("RGB;16" if self.count == 3 else "RGBA;16", pixels)


class _Jpeg2000Rewriter(Rewriter):
    def __init__(self, source: Jpeg2000, metadata: str):
        self.source, self.metadata, self.coded = source, metadata, b""

    def add(self, native: Native, changed: np.ndarray | None) -> None:
        fresh = Jpeg2000(self._encoded(native), self.source.name)
        stream = needed(fresh.stream)
        self.coded = self.source.around(stream, fresh.header, self.metadata)

    def finish(self) -> bytes:
        return self.coded

    def _encoded(self, native: Native) -> bytes:
        if native.mode in ("RGB;16", "RGBA;16"):
            order = [2, 1, 0, 3][: native.data.shape[2]]
            settings = [cv2.IMWRITE_JPEG2000_COMPRESSION_X1000, 1000 if self.source.lossless else self._rate(native)]
            done, data = cv2.imencode(".jp2", np.ascontiguousarray(native.data[..., order]), settings)
            if not done:
                raise MediaError("the JPEG 2000 file could not be encoded", "convert it to 8 bits first")
            return data.tobytes()
        if native.mode in ("P", "PA"):
            whole = to_rgba(native)
            native = (
                Native("RGB", np.ascontiguousarray(whole[..., :3])) if native.mode == "P" else Native("RGBA", whole)
            )
        if self.source.lossless:
            return encoded(to_pillow(native), "JPEG2000")
        lossy = {"irreversible": True, "quality_mode": "dB", "quality_layers": [QUALITY_DB]}
        return encoded(to_pillow(native), "JPEG2000", **lossy)

    def _rate(self, native: Native) -> int:
        """Thousandths of the raw size: twice the source's own, for it is coded a second time."""
        return int(min(1000, max(1, 2000 * len(self.source.stream) // native.data.nbytes)))


def needed(stream: bytes) -> bytes:
    """A codestream without comments and other markers that decoding does not need, and nothing behind its end."""
    at, out = 2, [b"\xff\x4f"]
    while at + 4 <= len(stream):
        marker, size = struct.unpack_from(">HH", stream, at)
        if marker == _EOC:
            break
        if marker == _SOT:
            part, at = _tile_part(stream, at)
            out.append(part)
            continue
        if size < 2 or marker < 0xFF00:
            raise MediaError("the JPEG 2000 codestream is damaged", _DAMAGED)
        if marker in _NEEDED:
            out.append(stream[at : at + 2 + size])
        at += 2 + size
    return b"".join(out) + b"\xff\xd9"


def _tile_part(stream: bytes, at: int) -> tuple[bytes, int]:
    """A tile-part from its SOT marker on, stated anew with its new length, and where the next one begins."""
    if at + 12 > len(stream):
        raise MediaError("the JPEG 2000 codestream is truncated", _DAMAGED)
    tile, length, part, parts = struct.unpack_from(">HIBB", stream, at + 4)
    end = at + length if length else stream.rfind(b"\xff\xd9")
    here = at + 12
    kept: list[bytes] = []
    while here + 4 <= end:
        marker, size = struct.unpack_from(">HH", stream, here)
        if marker == _SOD:
            data = stream[here:end]
            if len(data) < end - here:
                raise MediaError("the JPEG 2000 codestream is truncated", _DAMAGED)
            body = b"".join(kept) + data
            return struct.pack(">HHHIBB", _SOT, 10, tile, 12 + len(body), part, parts) + body, end
        if marker in _NEEDED:
            kept.append(stream[here : here + 2 + size])
        here += 2 + size
    raise MediaError("the JPEG 2000 codestream is damaged: a tile has no data", _DAMAGED)


def _markers(stream: bytes) -> Iterator[tuple[int, bytes]]:
    """The markers of the main header with their payloads."""
    at = 2
    while at + 4 <= len(stream):
        marker, size = struct.unpack_from(">HH", stream, at)
        if marker == _SOT or size < 2:
            return
        yield marker, stream[at + 4 : at + 2 + size]
        at += 2 + size
