"""TIFF: pages kept with their strips and tiles as they are, or written anew at their own depth and compression."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from deidcli.errors import MediaError
from deidcli.media.image import exif, tiff_pixels
from deidcli.media.image.container import Container, Rewriter, check_size, turned
from deidcli.media.image.ifd import (
    Directory,
    Entry,
    Room,
    first_number,
    laid_out,
    longs,
    number,
    read_chain,
    read_header,
    swapped,
)
from deidcli.media.image.modes import Native, upright

STRUCTURE = {
    254, 255, 256, 257, 258, 259, 262, 263, 266, 273, 277, 278, 279, 280, 281, 284, 290, 291, 292, 293, 297, 301, 317,
    318, 319, 320, 322, 323, 324, 325, 332, 334, 336, 338, 339, 340, 341, 347, 529, 530, 531, 532,
}  # fmt: skip
"""Tags without which a page cannot be shown, or not in its colours."""
_SUBFILE, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 254, 256, 257, 258, 259, 262
_STRIPS, _STRIP_SIZES, _TILES, _TILE_SIZES, _EXTRA, _ICC, _PAGE = 273, 279, 324, 325, 338, 34675, 297
_PLACES = {_STRIPS, _STRIP_SIZES, _TILES, _TILE_SIZES}
_RESOLUTION = {282, 283, 296}
_SHARED, _LEAST_ROOM = 8, 1 << 28
_REDUCED, _OLD_JPEG = 1, 6


@dataclass(frozen=True)
class Page:
    """tags: in the byte order `order`, without the places of the data. pieces: the strips, or (tiled) the tiles."""

    tags: Directory
    pieces: tuple[bytes, ...]
    tiled: bool
    order: str

    def number(self, tag: int, default: int) -> int:
        return first_number(self.tags, tag, self.order, default)

    @property
    def bits(self) -> int:
        entry = self.tags.get(_BITS)
        return max(entry.numbers(self.order)) if isinstance(entry, Entry) and entry.count else 1

    @property
    def size(self) -> tuple[int, int]:
        return self.number(_WIDTH, 0), self.number(_HEIGHT, 0)

    @property
    def orientation(self) -> int:
        return exif.orientation_of(self.tags, self.order)

    def in_order(self, order: str) -> Page:
        return self if order == self.order else Page(swapped(self.tags), self.pieces, self.tiled, order)

    def with_tags(self, tags: Directory) -> Page:
        return Page(tags, self.pieces, self.tiled, self.order)


def pages(data: bytes) -> list[Page]:
    """The full pictures of a file; previews (reduced copies) are left out. Raises MediaError for missing data."""
    header = read_header(data)
    chain = read_chain(data, header)
    full = [tags for tags in chain if not first_number(tags, _SUBFILE, header.order, 0) & _REDUCED and _WIDTH in tags]
    if not full:
        raise MediaError("the TIFF holds no full picture, only previews", "export it as a plain TIFF (raw is not read)")
    # Some writers let equal tiles share their bytes, so that pieces may come to more than the file; not to much more.
    room = Room(max(_SHARED * len(data), _LEAST_ROOM))
    return [_page(data, tags, header.order, room) for tags in full]


def _page(data: bytes, tags: Directory, order: str, room: Room) -> Page:
    tiled = _TILES in tags
    places, sizes = (_TILES, _TILE_SIZES) if tiled else (_STRIPS, _STRIP_SIZES)
    kept = {tag: value for tag, value in tags.items() if tag not in _PLACES}
    bare = Page(kept, (), tiled, order)
    offsets = _all(tags, places, order)
    lengths = _all(tags, sizes, order) if sizes in tags else (_whole(bare),)
    check_size(bare.size)
    room.take(sum(lengths))
    pieces = tuple(data[offset : offset + length] for offset, length in zip(offsets, lengths, strict=True))
    if any(len(piece) != length for piece, length in zip(pieces, lengths, strict=True)):
        raise MediaError("the TIFF is truncated: pixels are missing", "get a whole copy of the file")
    return Page(kept, pieces, tiled, order)


def _all(tags: Directory, tag: int, order: str) -> tuple[int, ...]:
    entry = tags.get(tag)
    if not isinstance(entry, Entry):
        raise MediaError(f"the TIFF is damaged: tag {tag} is missing", "get a whole copy of the file")
    return entry.numbers(order)


def _whole(page: Page) -> int:
    """Old writers left out the size of a single plain strip."""
    return (page.size[0] * page.number(277, 1) * page.bits + 7) // 8 * page.size[1]


def file_of(parts: list[Page], order: str) -> bytes:
    """A classic TIFF of these pages. Raises MediaError above 4 GiB."""
    body = bytearray((b"II*\0" if order == "<" else b"MM\0*") + bytes(4))
    link = 4
    for part in parts:
        places = []
        for piece in part.pieces:
            places.append(len(body))
            body += piece + b"\0" * (len(piece) % 2)
        if len(body) >= 1 << 32:
            raise MediaError("the TIFF would be larger than 4 GiB", "split it into several files")
        at, sizes = len(body), [len(piece) for piece in part.pieces]
        keys = (_TILES, _TILE_SIZES) if part.tiled else (_STRIPS, _STRIP_SIZES)
        tags = part.in_order(order).tags | dict(zip(keys, (longs(places, order), longs(sizes, order)), strict=True))
        struct.pack_into(order + "I", body, link, at)
        body += laid_out(tags, at, order)
        link = at + 2 + 12 * len(tags)
    return bytes(body)


class Tiff(Container):
    """TIFF of one or more pages."""

    format = "TIFF"

    def __init__(self, data: bytes, name: str, salvage: bool = False):
        super().__init__(data, name, salvage)
        self.order = read_header(data).order
        self.pages = pages(data)
        for page in self.pages:
            check_size(page.size)
        self.size = turned(self.pages[0].size, self.pages[0].orientation)
        self.times: tuple[None, ...] = (None,) * len(self.pages)

    def natives(self) -> Iterator[Native]:
        for page in self.pages:
            yield upright(self._native(page), page.orientation)

    def scrubbed(self, metadata: str) -> bytes:
        if any(page.number(_COMPRESSION, 1) == _OLD_JPEG for page in self.pages):
            # Old-style JPEG points into the file from within its own data and cannot be moved.
            return self._anew(metadata)
        return file_of([page.with_tags(kept(page, metadata, None)) for page in self.pages], self.order)

    def rewriter(self, metadata: str) -> Rewriter:
        return _TiffRewriter(self, metadata)

    def _anew(self, metadata: str) -> bytes:
        writer = _TiffRewriter(self, metadata)
        for native in self.natives():
            writer.add(native, np.zeros(native.data.shape[:2], bool))
        return writer.finish()

    @staticmethod
    def _native(page: Page) -> Native:
        tags = {tag: value for tag, value in page.tags.items() if tag in STRUCTURE | {_ICC}}
        return tiff_pixels.decode(file_of([page.with_tags(tags)], page.order), page.bits, page.number(_PHOTOMETRIC, 1))


def kept(page: Page, metadata: str, rewritten: tuple[int, int] | None) -> Directory:
    """The tags of a page under a policy. rewritten: as for `metadata.kept_exif`."""
    tags = {tag: value for tag, value in page.tags.items() if tag in STRUCTURE}
    if metadata == "all":
        tags |= exif.without_copies(page.tags, page.order, rewritten)
        tags |= {tag: value for tag, value in page.tags.items() if tag in STRUCTURE}
    wanted = _RESOLUTION | {_ICC} if metadata != "none" else set()
    wanted = wanted | {exif.ORIENTATION} if rewritten is None else wanted
    return tags | {tag: page.tags[tag] for tag in wanted & page.tags.keys()}


class _TiffRewriter(Rewriter):
    """Pages that were not changed keep their data, unless wide numbers would stand in the wrong byte order."""

    def __init__(self, source: Tiff, metadata: str):
        self.source, self.metadata = source, metadata
        self.done: list[Page] = []

    def add(self, native: Native, changed: np.ndarray | None) -> None:
        page = self.source.pages[len(self.done)]
        if changed is None and (page.order == "<" or page.bits <= 8):
            self.done.append(page.with_tags(kept(page, self.metadata, None)).in_order("<"))
        else:
            self.done.append(self._coded(page, native))

    def finish(self) -> bytes:
        return file_of(self.done, "<")

    def _coded(self, page: Page, native: Native) -> Page:
        fresh = pages(tiff_pixels.encode(native, page.number(_COMPRESSION, 1), page.number(317, 1)))[0].in_order("<")
        old = page.with_tags(kept(page, self.metadata, native.size)).in_order("<").tags
        tags = {tag: value for tag, value in old.items() if tag not in STRUCTURE}
        tags |= {tag: value for tag, value in fresh.tags.items() if tag in STRUCTURE}
        tags |= {tag: old[tag] for tag in (_SUBFILE, _PAGE) if tag in old}
        if native.data.ndim == 3 and _EXTRA in old and _EXTRA in tags and native.mode.endswith(";16"):
            tags[_EXTRA] = old[_EXTRA]
        if native.mode in ("I;16", "I", "F"):
            tags[_PHOTOMETRIC] = number(page.number(_PHOTOMETRIC, 1), "<")
        return fresh.with_tags(tags)
