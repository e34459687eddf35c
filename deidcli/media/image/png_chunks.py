"""The chunks of a PNG: read, checked against what the specification allows, written, and made of pixels.

What stays is listed here: known chunks of the length that the specification (PNG, third edition, section 11) gives
them, in their place, once.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from deidcli.errors import MediaError
from deidcli.media.image import SALVAGE, Native, encoded, to_pillow

SIGNATURE = b"\x89PNG\r\n\x1a\n"
PICTURE = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"acTL", b"fcTL", b"fdAT"}
"""Chunks that are the picture itself."""
TEXTS = {b"tEXt", b"zTXt", b"iTXt"}
GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6
"""The colour types of the header."""
_DEPTHS = {GREY: (1, 2, 4, 8, 16), RGB: (8, 16), PALETTE: (1, 2, 4, 8), GREY_ALPHA: (8, 16), RGBA: (8, 16)}
_CHANNELS = {GREY: 1, RGB: 3, PALETTE: 1, GREY_ALPHA: 2, RGBA: 4}
_SIGNIFICANT = {GREY: 1, RGB: 3, PALETTE: 3, GREY_ALPHA: 2, RGBA: 4}
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""First column and row of each pass, and the steps to the next."""
_MASTERING = (
    {(32000, 16500), (15000, 30000), (7500, 3000)},
    {(34000, 16000), (13250, 34500), (7500, 3000)},
    {(35400, 14600), (8500, 39850), (6550, 2300)},
)
"""Primaries of mastering displays: BT.709, P3 and BT.2020, in 1/50,000."""
_WHITES = ((15635, 16450), (15700, 17550))
_SLICE = 1 << 20
_MOST_PACKED, _MOST_A_BYTE = 1_500_000_000, 400
"""Bytes of all frames of an animation that are inflated, and more for each byte of the file: some 12 seconds."""


@dataclass(frozen=True)
class Chunk:
    """A part of a PNG file. kind: its four letters."""

    kind: bytes
    payload: bytes

    def written(self) -> bytes:
        body = self.kind + self.payload
        return struct.pack(">I", len(self.payload)) + body + struct.pack(">I", zlib.crc32(body))


@dataclass(frozen=True)
class Head:
    """The header (IHDR). size: (width, height) in pixels. depth: bits a sample. colour: the colour type."""

    size: tuple[int, int]
    depth: int
    colour: int
    interlaced: bool

    @property
    def bits(self) -> int:
        """Bits a pixel."""
        return self.depth * _CHANNELS[self.colour]

    def packed(self, size: tuple[int, int]) -> int:
        """Bytes of a picture of this kind before compression, with the filter byte of each row."""
        width, height = size
        if not self.interlaced:
            return height * (1 + (width * self.bits + 7) // 8)
        passes = [(-(-(width - x) // dx), -(-(height - y) // dy)) for x, y, dx, dy in _ADAM7]
        return sum(rows * (1 + (columns * self.bits + 7) // 8) for columns, rows in passes if columns > 0 and rows > 0)


def chunks(data: bytes) -> list[Chunk]:
    """Everything up to IEND; what stands behind it is left out. Raises MediaError where the file ends before."""
    found: list[Chunk] = []
    at = len(SIGNATURE)
    while not found or found[-1].kind != b"IEND":
        if at + 12 > len(data):
            raise MediaError("the PNG is truncated: it has no end", SALVAGE)
        (size,), kind = struct.unpack_from(">I", data, at), data[at + 4 : at + 8]
        payload = data[at + 8 : at + 8 + size]
        # Pillow and OpenCV do not agree on which damage they forgive; a wrong sum within the picture is never forgiven.
        if kind in PICTURE and data[at + 8 + size : at + 12 + size] != struct.pack(">I", zlib.crc32(kind + payload)):
            raise MediaError("the PNG is truncated or damaged: a checksum is wrong", SALVAGE)
        found.append(Chunk(kind, payload))
        at += 12 + size
    return found


def header(parts: list[Chunk]) -> Head:
    """The header of a file. Raises MediaError where there is none, or it states what does not exist."""
    payload = parts[0].payload
    if parts[0].kind != b"IHDR" or len(payload) != 13:
        raise MediaError("the PNG has no header", "get a whole copy of the file")
    width, height, depth, colour, packing, filters, interlacing = struct.unpack(">IIBBBBB", payload)
    if depth not in _DEPTHS.get(colour, ()) or packing or filters or interlacing > 1:
        raise MediaError("the PNG is damaged: its header states an unknown kind", "get a whole copy of the file")
    return Head((width, height), depth, colour, bool(interlacing))


def accepted(parts: list[Chunk], head: Head) -> list[Chunk]:
    """The chunks that a file of this kind may have: header, side chunks, animation control, frames, end.

    Side chunks whose text, profile or EXIF has to be cut by a metadata policy are passed on as they are. Raises
    MediaError where the picture itself is incomplete.
    """
    place = next((index for index, part in enumerate(parts) if part.kind == b"IDAT"), None)
    if place is None:
        raise MediaError("the PNG holds no picture", "get a whole copy of the file")
    end = next(index for index in range(place, len(parts)) if parts[index].kind != b"IDAT")
    side: dict[bytes, Chunk] = {}
    texts = [part for part in parts if part.kind in TEXTS]
    for part in (*parts[1:place], *parts[end:-1]):
        if part.kind not in TEXTS and _fits(part, head):
            side.setdefault(part.kind, part)
    if head.colour == PALETTE and b"PLTE" not in side:
        raise MediaError("the PNG has indices but no palette", "get a whole copy of the file")
    entries = len(side[b"PLTE"].payload) // 3 if b"PLTE" in side else 0
    for kind in (b"tRNS", b"bKGD"):
        if head.colour == PALETTE and kind in side and not _names_entries(side[kind], entries):
            del side[kind]
    held = [side[kind] for kind in _ORDER if kind in side]
    frames = _frames(parts, place, end, head)
    return [parts[0], *held, *texts, *frames, Chunk(b"IEND", b"")]


def _frames(parts: list[Chunk], place: int, end: int, head: Head) -> list[Chunk]:
    """IDAT, or acTL and every frame of an animation, its sequence numbers counted anew."""
    still = _exact([part.payload for part in parts[place:end]], head, head.size)
    pixels = [Chunk(b"IDAT", piece) for piece in still]
    control = next((part.payload for part in parts[:place] if part.kind == b"acTL"), b"")
    if len(control) != 8:
        return pixels
    stated, loops = struct.unpack(">II", control)
    first = next((part.payload for part in parts[:place] if part.kind == b"fcTL" and len(part.payload) == 26), None)
    moving = list(_moving(parts[end:]))[: max(stated - (first is not None), 0)]
    if not moving and first is None:
        return pixels
    total = sum(head.packed(struct.unpack_from(">II", fcTL, 4)) for fcTL, _ in moving)
    if total > _MOST_PACKED + _MOST_A_BYTE * sum(len(piece) for _, pieces in moving for piece in pieces):
        raise MediaError(
            f"{len(moving)} frames of {total} bytes are a decompression bomb", "convert it to a video first"
        )
    shown = [Chunk(b"acTL", struct.pack(">II", len(moving) + (first is not None), loops))]
    number = 0
    if first is not None:
        shown.append(_control(first, number))
        number += 1
    shown += pixels
    for fcTL, pieces in moving:
        shown.append(_control(fcTL, number))
        number += 1
        size: tuple[int, int] = struct.unpack_from(">II", fcTL, 4)
        for piece in _exact(pieces, head, size):
            shown.append(Chunk(b"fdAT", struct.pack(">I", number) + piece))
            number += 1
    return shown


def _moving(parts: list[Chunk]) -> Iterator[tuple[bytes, list[bytes]]]:
    """The control and the compressed pieces of each frame behind IDAT."""
    control: bytes | None = None
    pieces: list[bytes] = []
    for part in [*parts, Chunk(b"IEND", b"")]:
        if part.kind in (b"fcTL", b"IEND"):
            if control is not None and pieces:
                yield control, pieces
            control, pieces = (part.payload if len(part.payload) == 26 else None), []
        elif part.kind == b"fdAT" and control is not None and len(part.payload) > 4:
            pieces.append(part.payload[4:])


def _control(payload: bytes, number: int) -> Chunk:
    return Chunk(b"fcTL", struct.pack(">I", number) + payload[4:])


def _exact(pieces: list[bytes], head: Head, size: tuple[int, int]) -> list[bytes]:
    """The compressed pixels of one frame: as they are where they hold its rows and nothing else, or packed anew.

    Bytes may hide behind the last row within the compressed stream, and behind its end. Raises MediaError where rows
    are missing.
    """
    wanted = head.packed(size)
    inflater, count = zlib.decompressobj(), 0
    clean = True
    try:
        for piece in pieces:
            clean = clean and not inflater.eof
            while piece and count <= wanted and not inflater.eof:
                count += len(inflater.decompress(piece, min(_SLICE, wanted - count + 1)))
                piece = inflater.unconsumed_tail
    except zlib.error as error:
        if count < wanted:
            raise MediaError(f"the PNG is damaged: {error}", "get a whole copy of the file") from error
        clean = False
    if count < wanted:
        raise MediaError("the PNG is truncated: rows are missing", SALVAGE)
    if clean and inflater.eof and count == wanted and not inflater.unused_data:
        return pieces
    rows = zlib.decompressobj().decompress(b"".join(pieces), wanted)
    return [zlib.compress(rows)]


def _names_entries(part: Chunk, entries: int) -> bool:
    """Whether a tRNS or bKGD chunk refers to entries that the palette has."""
    return len(part.payload) <= entries if part.kind == b"tRNS" else part.payload[0] < entries


def _fits(part: Chunk, head: Head) -> bool:
    """Whether a side chunk is known and has the form that the specification gives it."""
    check = _SIDE.get(part.kind)
    return check is not None and check(part.payload, head)


def _is_palette(payload: bytes, head: Head) -> bool:
    return head.colour == PALETTE and len(payload) % 3 == 0 and 3 <= len(payload) <= 3 << head.depth


def _is_transparency(payload: bytes, head: Head) -> bool:
    if head.colour == PALETTE:
        return bool(payload)
    return head.colour in (GREY, RGB) and _are_samples(payload, head)


def _are_samples(payload: bytes, head: Head) -> bool:
    """One value for each colour channel, of 16 bits and within the depth."""
    channels = 3 if head.colour in (RGB, RGBA) else 1
    return len(payload) == 2 * channels and max(struct.unpack(f">{channels}H", payload)) < 1 << head.depth


def _is_background(payload: bytes, head: Head) -> bool:
    return len(payload) == 1 if head.colour == PALETTE else _are_samples(payload, head)


def _is_significant(payload: bytes, head: Head) -> bool:
    most = 8 if head.colour == PALETTE else head.depth
    return len(payload) == _SIGNIFICANT[head.colour] and all(1 <= bits <= most for bits in payload)


def _is_gamma(payload: bytes, head: Head) -> bool:
    return len(payload) == 4 and 0 < int.from_bytes(payload, "big") <= 1_000_000


def _are_chromaticities(payload: bytes, head: Head) -> bool:
    # In 1/100,000; some primaries of wide spaces lie a little outside of 0 to 1.
    return len(payload) == 32 and max(struct.unpack(">8I", payload)) <= 120_000


def _is_density(payload: bytes, head: Head) -> bool:
    return len(payload) == 9 and max(struct.unpack(">II", payload[:8])) <= 1_000_000 and payload[8] <= 1


def _is_mastering(payload: bytes, head: Head) -> bool:
    """Whether the mastering display (mDCV) has the primaries of a standard: free numbers could be text."""
    if len(payload) != 24:
        return False
    numbers = struct.unpack(">8HII", payload)
    *primaries, white = zip(numbers[0:8:2], numbers[1:8:2], strict=True)
    return set(primaries) in _MASTERING and white in _WHITES and max(numbers[8:]) <= 100_000_000


def _is_light(payload: bytes, head: Head) -> bool:
    return len(payload) == 8 and max(struct.unpack(">II", payload)) <= 100_000_000


_SIDE: dict[bytes, Callable[[bytes, Head], bool]] = {
    b"PLTE": _is_palette,
    b"tRNS": _is_transparency,
    b"cHRM": _are_chromaticities,
    b"gAMA": _is_gamma,
    b"sRGB": lambda payload, head: len(payload) == 1 and payload[0] <= 3,
    b"cICP": lambda payload, head: len(payload) == 4,
    b"sBIT": _is_significant,
    b"bKGD": _is_background,
    b"pHYs": _is_density,
    b"mDCV": _is_mastering,
    b"mDCv": _is_mastering,
    b"cLLI": _is_light,
    b"cLLi": _is_light,
    b"tIME": lambda payload, head: len(payload) == 7,
    b"iCCP": lambda payload, head: True,
    b"eXIf": lambda payload, head: True,
}
"""Side chunks that may stay, and the check of their form."""
_ORDER = (
    *(b"cHRM", b"gAMA", b"iCCP", b"sRGB", b"cICP", b"mDCV", b"mDCv", b"cLLI", b"cLLi", b"sBIT"),
    *(b"PLTE", b"tRNS", b"bKGD", b"pHYs", b"eXIf", b"tIME"),
)
"""In which order they are written: colour before the palette, transparency behind it."""


def cleaned(parts: list[Chunk], used: np.ndarray) -> list[Chunk]:
    """The same chunks with the palette entries that no pixel uses set to black, opaque. used: indices, any shape."""
    known = {part.kind: part.payload for part in parts}
    if b"PLTE" not in known:
        return parts
    table = np.frombuffer(known[b"PLTE"], np.uint8).reshape(-1, 3).copy()
    idle = np.ones(len(table), bool)
    idle[np.minimum(np.unique(used), len(table) - 1)] = False
    if b"bKGD" in known:
        idle[known[b"bKGD"][0]] = False
    table[idle] = 0
    alphas = np.frombuffer(known.get(b"tRNS", b""), np.uint8).copy()
    alphas[idle[: len(alphas)]] = 255
    fresh = {b"PLTE": table.tobytes(), b"tRNS": alphas.tobytes().rstrip(b"\xff")}
    return [Chunk(part.kind, fresh.get(part.kind, part.payload)) for part in parts if fresh.get(part.kind, b"-")]


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
