"""The chunks of a PNG: read, written, and made of pixels at every depth that PNG has."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

import cv2
import numpy as np

from deidcli.errors import MediaError
from deidcli.media.image.container import encoded
from deidcli.media.image.modes import Native, to_pillow

SIGNATURE = b"\x89PNG\r\n\x1a\n"
PICTURE = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"acTL", b"fcTL", b"fdAT"}
"""Chunks that are the picture itself."""
GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6
"""The colour types of the header."""


@dataclass(frozen=True)
class Chunk:
    """A part of a PNG file. kind: its four letters."""

    kind: bytes
    payload: bytes

    def written(self) -> bytes:
        body = self.kind + self.payload
        return struct.pack(">I", len(self.payload)) + body + struct.pack(">I", zlib.crc32(body))


def chunks(data: bytes) -> list[Chunk]:
    """Everything up to IEND; what stands behind it is left out. Raises MediaError where the file ends before."""
    found: list[Chunk] = []
    at = len(SIGNATURE)
    while not found or found[-1].kind != b"IEND":
        if at + 12 > len(data):
            raise MediaError("the PNG is truncated: it has no end", "get a whole copy of the file")
        (size,), kind = struct.unpack_from(">I", data, at), data[at + 4 : at + 8]
        payload = data[at + 8 : at + 8 + size]
        # Pillow and OpenCV do not agree on which damage they forgive; a wrong sum within the picture is never forgiven.
        if kind in PICTURE and data[at + 8 + size : at + 12 + size] != struct.pack(">I", zlib.crc32(kind + payload)):
            raise MediaError("the PNG is truncated or damaged: a checksum is wrong", "get a whole copy of the file")
        found.append(Chunk(kind, payload))
        at += 12 + size
    return found


def written(parts: list[Chunk]) -> bytes:
    """The file of these chunks."""
    return SIGNATURE + b"".join(part.written() for part in parts)


def coded(native: Native, depth: int) -> list[Chunk]:
    """The chunks of a bare PNG that holds these pixels at this depth."""
    if native.mode in ("RGB;16", "RGBA;16"):
        order = [2, 1, 0, 3][: native.data.shape[2]]
        settings = [cv2.IMWRITE_PNG_COMPRESSION, 6, cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_ALL_FILTERS]
        return chunks(cv2.imencode(".png", np.ascontiguousarray(native.data[..., order]), settings)[1].tobytes())
    if native.mode == "LA;16":
        eight = native.data.astype(">u2").view(np.uint8)
        head, *rest = chunks(encoded(to_pillow(Native("RGBA", eight)), "PNG"))
        return [Chunk(b"IHDR", head.payload[:8] + bytes([16, GREY_ALPHA]) + head.payload[10:]), *rest]
    image = to_pillow(native)
    if native.mode == "P":
        # Pillow takes the depth from the length of the palette.
        image.putpalette(bytes(3 << depth))
    return chunks(encoded(image, "PNG", bits=depth))
