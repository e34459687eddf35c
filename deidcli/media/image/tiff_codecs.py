"""The strips and tiles of a TIFF page: unpacked to plain whole-byte samples, and packed again.

Deflate and LZMA are the standard library's; LZW, PackBits and Zstandard go through libtiff by way of Pillow, a strip
as a grey picture of its bytes. Nothing is unpacked further than the piece can hold.
"""

from __future__ import annotations

import lzma
import zlib
from io import BytesIO

import numpy as np
from PIL import Image, TiffImagePlugin

from deidcli.errors import MediaError
from deidcli.media.image.container import decoded, encoded
from deidcli.media.image.ifd import SHORT, Entry, number
from deidcli.media.image.tiff_pages import Page, file_of, pages

NONE, LZW, DEFLATE, OLD_DEFLATE, PACKBITS, LZMA, ZSTD = 1, 5, 8, 32946, 32773, 34925, 50000
PLAIN = {NONE, LZW, DEFLATE, OLD_DEFLATE, PACKBITS, LZMA, ZSTD}
"""Compressions that give back the very bytes, whatever the samples are."""
_THROUGH_LIBTIFF = {LZW: "tiff_lzw", PACKBITS: "packbits", ZSTD: "zstd"}
_HORIZONTAL, _FLOATING = 2, 3
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
        raw = lzma.LZMADecompressor().decompress(piece, size)
    elif compression in _THROUGH_LIBTIFF:
        raw = _by_libtiff(piece, compression, row, height)
    else:
        raw = piece[:size]
    if len(raw) < size:
        raise MediaError("the TIFF is truncated: pixels are missing", "get a whole copy of the file")
    return raw


def _by_libtiff(piece: bytes, compression: int, row: int, height: int) -> bytes:
    tags = {256: row, 257: height, 258: 8, 259: compression, 262: 1, 277: 1, 278: height}
    data = file_of([Page({tag: number(value, "<") for tag, value in tags.items()}, (piece,), False, "<")], "<")
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
