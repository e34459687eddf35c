"""The strips and tiles of a TIFF page, packed anew with exactly the rows and columns that the page shows.

Samples are not interpreted: a piece is unpacked to rows of bytes, before any predictor, and packed by the same
compression. What a piece holds behind its rows, below the page, beside it in the padding of a tile, and behind the end
of its own compressed data is lost on the way.
"""

from __future__ import annotations

import lzma
import zlib
from dataclasses import dataclass

import numpy as np

from deidcli.errors import MediaError
from deidcli.media.image.ifd import SHORT, Directory, Entry
from deidcli.media.image.tiff_codecs import PLAIN, packed, plain
from deidcli.media.image.tiff_pages import Page
from deidcli.media.image.tiff_tags import (
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
)

_PALETTE, _YCBCR, _FLOATING = 3, 6, 3


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
