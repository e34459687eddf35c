"""What can be decoded of a damaged PNG: rows that are there, and black or transparent ones for those that are not."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from deidcli.errors import MediaError
from deidcli.media.image.container import check_size
from deidcli.media.image.png_chunks import SIGNATURE, Chunk, header

_STEP = 1024  # bytes that are inflated at once, so that little is lost where the data break off
_MOVING = (b"acTL", b"fcTL", b"fdAT")


def salvaged(data: bytes) -> list[Chunk]:
    """The chunks of a whole still made of a damaged file. Raises MediaError where not even its header is there."""
    found = list(_readable(data))
    if not found:
        raise MediaError("the PNG has no header", "get a whole copy of the file")
    head = header(found)
    size = head.packed(check_size(head.size))
    raw = _inflated(b"".join(part.payload for part in found if part.kind == b"IDAT"), size)
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


def _inflated(packed: bytes, size: int) -> bytes:
    inflater, raw = zlib.decompressobj(), bytearray()
    try:
        for at in range(0, len(packed), _STEP):
            raw += inflater.decompress(inflater.unconsumed_tail + packed[at : at + _STEP], max(size - len(raw), 1))
            if len(raw) >= size:
                break
    except zlib.error:
        pass
    return bytes(raw[:size])
