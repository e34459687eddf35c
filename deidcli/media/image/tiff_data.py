"""The strips and tiles of a TIFF page: unpacked to plain whole-byte samples, or packed anew with exactly what is shown.

Deflate and LZMA are the standard library's; LZW, PackBits and Zstandard go through libtiff by way of Pillow, a strip
as a grey picture of its bytes. Nothing is unpacked further than the piece can hold. A piece that is only packed anew is
unpacked to rows of bytes, before any predictor; what it holds behind its rows, below the page, beside it in the padding
of a tile, and behind the end of its own compressed data is lost on the way.
"""

from __future__ import annotations

import ctypes
import lzma
import zlib
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from io import BytesIO

import numpy as np
from PIL import Image, TiffImagePlugin, _imaging

from deidcli.errors import MediaError
from deidcli.media.image import decoded, encoded
from deidcli.media.image.ifd import SHORT, Directory, Entry, number
from deidcli.media.image.tiff_pages import (
    COLOURS,
    COMPRESSION,
    FILL_ORDER,
    PHOTOMETRIC,
    PLANAR,
    PREDICTOR,
    SAMPLES,
    STRIP_ROWS,
    TILE_HEIGHT,
    TILE_WIDTH,
    Page,
    file_of,
    pages,
)

NONE, LZW, DEFLATE, OLD_DEFLATE, PACKBITS, LZMA, ZSTD = 1, 5, 8, 32946, 32773, 34925, 50000
PLAIN = {NONE, LZW, DEFLATE, OLD_DEFLATE, PACKBITS, LZMA, ZSTD}
"""Compressions that give back the very bytes, whatever the samples are."""
_THROUGH_LIBTIFF = {LZW: "tiff_lzw", PACKBITS: "packbits", ZSTD: "zstd"}
_HORIZONTAL, _FLOATING = 2, 3
_LZMA_MEMORY = 1 << 28  # bytes of its dictionary: four times what the strongest setting takes
_REVERSED = 2  # fill order: the first bit is the lowest
_TURNED_BYTES = bytes(int(f"{value:08b}"[::-1], 2) for value in range(256))


def unpacked(page: Page) -> Page:
    """The page without compression, predictor and bit packing: samples of 8, 16, 32 or 64 bits, one after the other.

    Raises MediaError for data that are cut off or damaged, and for depths that no sample can have.
    """
    width, rows = _piece_size(page)
    samples = 1 if _planar(page) else page.number(277, 1)
    bits, count = page.bits, width * samples
    pieces = []
    wanted = _count(page, width, rows)
    if len(page.pieces) < wanted:
        raise MediaError("the TIFF is truncated: pixels are missing", "get a whole copy of the file")
    # What stands behind the last piece that is shown belongs to no picture.
    for place, piece in enumerate(page.pieces[:wanted]):
        height = _rows_of(page, place, rows)
        row = (count * bits + 7) // 8
        raw = plain(piece, page, row, height)
        raw = _unpredicted(raw, page, height, count)
        pieces.append(_whole_samples(raw, height, count, bits))
    depth = next(whole for whole in (8, 16, 32, 64) if bits <= whole) if bits <= 64 else bits
    order = "<" if page.number(317, 1) == _FLOATING or depth != bits else page.order
    tags = {tag: value for tag, value in page.tags.items() if tag not in (259, 266, 317)}
    tags |= {258: _shorts([depth] * page.number(277, 1), page.order), 259: number(NONE, page.order)}
    return Page(tags, tuple(pieces), page.tiled, page.order) if order == page.order else _swapped(tags, pieces, page)


def packed(rows: bytes, length: int, compression: int) -> bytes:
    """Rows of `length` bytes each as the data of one strip."""
    if compression == NONE:
        return rows
    if compression in (DEFLATE, OLD_DEFLATE):
        return zlib.compress(rows)
    if compression == LZMA:
        return lzma.compress(rows)
    height = len(rows) // length
    image = Image.frombytes("L", (length, height), rows)
    data = encoded(image, "TIFF", compression=_THROUGH_LIBTIFF[compression], tiffinfo={278: height})
    return b"".join(pages(data)[0].pieces)


def predicted(rows: np.ndarray) -> np.ndarray:
    """(rows, width, samples) whole numbers as differences to the pixel on the left (predictor 2)."""
    new = rows.copy()
    new[:, 1:] -= rows[:, :-1]
    return new


def _swapped(tags: dict, pieces: list[bytes], page: Page) -> Page:
    """Samples that were decoded to little-endian, in a page whose tags are not."""
    return Page(tags, tuple(pieces), page.tiled, page.order).in_order("<")


def _planar(page: Page) -> bool:
    return page.number(284, 1) == 2


def _piece_size(page: Page) -> tuple[int, int]:
    width, height = page.size
    if page.tiled:
        return page.number(322, 0), page.number(323, 0)
    return width, min(page.number(278, height) or height, height)


def _count(page: Page, across: int, down: int) -> int:
    """How many pieces the page is made of."""
    if across <= 0 or down <= 0:
        raise MediaError("the TIFF is damaged: its pieces have no size", "get a whole copy of the file")
    width, height = page.size
    plane = -(-height // down) * (-(-width // across) if page.tiled else 1)
    return plane * (page.number(277, 1) if _planar(page) else 1)


def _rows_of(page: Page, place: int, rows: int) -> int:
    if page.tiled:
        return rows
    height = page.size[1]
    strips = (height + rows - 1) // rows
    return min(rows, height - place % strips * rows)


def plain(piece: bytes, page: Page, row: int, height: int) -> bytes:
    """The first `height` rows of `row` bytes of one piece, predictor and bit packing as they are.

    Zeros where the file leaves a tile or strip out altogether. Raises MediaError (or zlib.error) for missing rows.
    """
    size, compression = row * height, page.number(259, 1)
    if not piece:
        return bytes(size)
    if page.number(266, 1) == _REVERSED:
        piece = piece.translate(_TURNED_BYTES)
    if compression in (DEFLATE, OLD_DEFLATE):
        raw = zlib.decompressobj().decompress(piece, size)
    elif compression == LZMA:
        raw = lzma.LZMADecompressor(memlimit=_LZMA_MEMORY).decompress(piece, size)
    elif compression in _THROUGH_LIBTIFF:
        raw = _by_libtiff(piece, compression, row, height)
    else:
        raw = piece[:size]
    if len(raw) < size:
        raise MediaError("the TIFF is truncated: pixels are missing", "get a whole copy of the file")
    return raw


@cache
def silence() -> None:
    """Keep libtiff's own lines off standard error, for the whole process: an error is raised and told once.

    Where Pillow's library does not show these functions, its lines stay.
    """
    with suppress(OSError, AttributeError):
        library = ctypes.CDLL(_imaging.__file__)
        for name in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
            handler = getattr(library, name)
            handler.argtypes, handler.restype = [ctypes.c_void_p], ctypes.c_void_p
            handler(None)


def _by_libtiff(piece: bytes, compression: int, row: int, height: int) -> bytes:
    tags = {256: row, 257: height, 258: 8, 259: compression, 262: 1, 277: 1, 278: height}
    data = file_of([Page({tag: number(value, "<") for tag, value in tags.items()}, (piece,), False, "<")], "<")
    silence()
    return decoded(TiffImagePlugin.TiffImageFile(BytesIO(data))).data.tobytes()


def _unpredicted(raw: bytes, page: Page, height: int, count: int) -> bytes:
    predictor, bits = page.number(317, 1), page.bits
    if predictor == 1 or page.number(259, 1) == NONE:
        return raw
    samples = 1 if _planar(page) else page.number(277, 1)
    if predictor == _HORIZONTAL and bits in (8, 16, 32, 64):
        numbers = np.frombuffer(raw, f"{page.order}u{bits // 8}").reshape(height, -1, samples)
        return np.cumsum(numbers, axis=1, dtype=numbers.dtype.newbyteorder("=")).astype(numbers.dtype).tobytes()
    if predictor == _FLOATING and bits in (16, 32, 64):
        # Bytes of equal weight stand together, the weightiest first, as differences to the one `samples` before.
        planes = np.frombuffer(raw, np.uint8).reshape(height, -1, samples)
        planes = np.cumsum(planes, axis=1, dtype=np.uint8).reshape(height, bits // 8, count)
        return np.ascontiguousarray(planes.transpose(0, 2, 1)[..., ::-1]).tobytes()
    raise MediaError(f"a TIFF with predictor {predictor} and {bits} bits is not supported", "convert it first")


def _whole_samples(raw: bytes, height: int, count: int, bits: int) -> bytes:
    """Samples of odd depths as little-endian ones of 8, 16 or 32 bits; rows begin at whole bytes."""
    if bits in (8, 16, 32, 64):
        return raw
    if bits > 31 or bits == 24:
        raise MediaError(f"a TIFF with {bits} bits a sample is not supported", "convert it to 16 bits first")
    fields = np.unpackbits(np.frombuffer(raw, np.uint8).reshape(height, -1), axis=1)[:, : count * bits]
    values = np.zeros((height, count), np.uint32)
    for bit in range(bits):
        values = values << np.uint32(1) | fields[:, bit::bits].astype(np.uint32)
    return values.astype("u1" if bits < 8 else "<u2" if bits < 16 else "<u4").tobytes()


def _shorts(values: list[int], order: str) -> Entry:
    return Entry(SHORT, np.array(values, f"{order}u2").tobytes())


# --- Pieces packed anew


_PALETTE, _YCBCR = 3, 6


@dataclass(frozen=True)
class Piece:
    """A strip or tile: the bytes a row and the rows that it holds, and what of it is shown.

    shown: (rows, bytes a row) of it within the page. spare: bits of the last of these bytes that no pixel uses.
    """

    width: int
    rows: int
    shown: tuple[int, int]
    spare: int


def cleaned(page: Page) -> Page | None:
    """The page with nothing but its own pixels and the colours they use; None where that takes decoding it."""
    packing, predictor, depth = page.number(COMPRESSION, 1), page.number(PREDICTOR, 1), page.depths[0]
    known = packing in PLAIN and page.number(FILL_ORDER, 1) == 1
    if not known or len(set(page.depths)) > 1 or page.number(PHOTOMETRIC, 1) == _YCBCR:
        return None
    layout = _layout(page, depth)
    if not layout or len(layout) > len(page.pieces):
        return None
    done: list[bytes] = []
    used = np.zeros(1 << 16, bool)
    for data, place in zip(page.pieces, layout, strict=False):
        rows = _rows(data, page, place)
        (height, width), whole = place.shown, place.shown[1] == place.width
        if rows is None or (predictor == _FLOATING and not whole):
            return None
        rows[height:] = 0
        rows[:, width:] = 0
        if predictor == 1 and place.spare:
            rows[:, width - 1] &= 0xFF << place.spare & 0xFF
        if page.number(PHOTOMETRIC, 1) == _PALETTE:
            used[_indices(rows[:height, :width], depth, predictor, page.order)] = True
        done.append(packed(rows.tobytes(), place.width, packing))
    return Page(page.tags | _colours(page, used), tuple(done), page.tiled, page.order)


def _layout(page: Page, bits: int) -> list[Piece]:
    """The pieces that the page needs, in the order of the file; none where its sizes make no sense."""
    width, height = page.size
    samples = page.number(SAMPLES, 1)
    planes, pixel = (samples, bits) if page.number(PLANAR, 1) == 2 else (1, bits * samples)
    across, down = width, min(page.number(STRIP_ROWS, height), height)
    if page.tiled:
        across, down = page.number(TILE_WIDTH, 0), page.number(TILE_HEIGHT, 0)
    if min(across, down, width, height, planes) <= 0:
        return []
    plane = []
    for top in range(0, height, down):
        for left in range(0, width, across):
            rows, columns = min(down, height - top), min(across, width - left) * pixel
            shown = rows, (columns + 7) // 8
            plane.append(Piece((across * pixel + 7) // 8, down if page.tiled else rows, shown, -columns % 8))
    return plane * planes


def _rows(data: bytes, page: Page, place: Piece) -> np.ndarray | None:
    """(rows, bytes a row) uint8 of one piece; None where some are missing."""
    try:
        raw = plain(data, page, place.width, place.rows)
    except (MediaError, OSError, SyntaxError, ValueError, zlib.error, lzma.LZMAError):
        return None
    return np.frombuffer(raw, np.uint8).reshape(place.rows, place.width).copy()


def _indices(rows: np.ndarray, bits: int, predictor: int, order: str) -> np.ndarray:
    """The colour map entries that these rows use."""
    if predictor == 2 and bits == 8:
        rows = np.cumsum(rows, axis=1, dtype=np.uint8)
    if bits == 16:
        return np.unique(np.ascontiguousarray(rows).view(order + "u2"))
    if bits == 8:
        return np.unique(rows)
    fields = np.unpackbits(rows, axis=1)
    fields = fields[:, : fields.shape[1] // bits * bits].reshape(len(rows), -1, bits)
    return np.unique(fields @ (1 << np.arange(bits)[::-1]))


def _colours(page: Page, used: np.ndarray) -> Directory:
    """The colour map with every unused entry black; nothing for a page without one."""
    entry = page.tags.get(COLOURS)
    if page.number(PHOTOMETRIC, 1) != _PALETTE or not isinstance(entry, Entry) or entry.kind != SHORT:
        return {}
    table = np.frombuffer(entry.raw, page.order + "u2")
    table = table[: len(table) // 3 * 3].reshape(3, -1) * used[: len(table) // 3]
    return {COLOURS: Entry(SHORT, table.astype(page.order + "u2").tobytes())}
