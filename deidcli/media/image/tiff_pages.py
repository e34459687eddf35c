"""The pages of a TIFF: read from the file's directories, and laid out in a new file."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from deidcli.errors import MediaError
from deidcli.media.image import exif
from deidcli.media.image.container import check_size
from deidcli.media.image.ifd import (
    Directory,
    Entry,
    Room,
    first_number,
    laid_out,
    longs,
    read_chain,
    read_header,
    swapped,
)
from deidcli.media.image.tiff_tags import BITS, HEIGHT, PLACES, STRIP_SIZES, STRIPS, SUBFILE, TILE_SIZES, TILES, WIDTH

_SHARED, _LEAST_ROOM = 8, 1 << 28
_REDUCED = 1


@dataclass(frozen=True)
class Page:
    """tags: in the byte order `order`, without the places of the data. pieces: the strips, or (tiled) the tiles."""

    tags: Directory
    pieces: tuple[bytes, ...]
    tiled: bool
    order: str

    def number(self, tag: int, default: int) -> int:
        return first_number(self.tags, tag, self.order, default)

    def numbers(self, tag: int) -> tuple[int, ...]:
        """All values of a tag; none where it is absent."""
        entry = self.tags.get(tag)
        return entry.numbers(self.order) if isinstance(entry, Entry) else ()

    @property
    def depths(self) -> tuple[int, ...]:
        """Bits of each sample, as far as they are stated."""
        entry = self.tags.get(BITS)
        return entry.numbers(self.order) if isinstance(entry, Entry) and entry.count else (1,)

    @property
    def bits(self) -> int:
        return max(self.depths)

    @property
    def size(self) -> tuple[int, int]:
        return self.number(WIDTH, 0), self.number(HEIGHT, 0)

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
    full = [tags for tags in chain if not first_number(tags, SUBFILE, header.order, 0) & _REDUCED and WIDTH in tags]
    if not full:
        raise MediaError("the TIFF holds no full picture, only previews", "export it as a plain TIFF (raw is not read)")
    # Some writers let equal tiles share their bytes, so that pieces may come to more than the file; not to much more.
    room = Room(max(_SHARED * len(data), _LEAST_ROOM))
    return [_page(data, tags, header.order, room) for tags in full]


def _page(data: bytes, tags: Directory, order: str, room: Room) -> Page:
    tiled = TILES in tags
    places, sizes = (TILES, TILE_SIZES) if tiled else (STRIPS, STRIP_SIZES)
    kept = {tag: value for tag, value in tags.items() if tag not in PLACES}
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
        keys = (TILES, TILE_SIZES) if part.tiled else (STRIPS, STRIP_SIZES)
        tags = part.in_order(order).tags | dict(zip(keys, (longs(places, order), longs(sizes, order)), strict=True))
        struct.pack_into(order + "I", body, link, at)
        body += laid_out(tags, at, order)
        link = at + 2 + 12 * len(tags)
    return bytes(body)
