"""The pages of a TIFF: read from the file's directories, and laid out in a new file with the tags that may stay.

Each tag is of the type, count and range that TIFF 6.0 gives it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from deidcli.errors import MediaError
from deidcli.media.image import check_size, exif, icc
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


# --- Tags that may stay


SUBFILE, WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC = 254, 256, 257, 258, 259, 262
FILL_ORDER, STRIPS, SAMPLES, STRIP_ROWS, STRIP_SIZES, PLANAR = 266, 273, 277, 278, 279, 284
PAGE, PREDICTOR, COLOURS, TILE_WIDTH, TILE_HEIGHT, TILES, TILE_SIZES = 297, 317, 320, 322, 323, 324, 325
EXTRA, JPEG_TABLES, SUBSAMPLING, ICC = 338, 347, 530, 34675
PLACES = {STRIPS, STRIP_SIZES, TILES, TILE_SIZES}
_SHORT, _LONG, _RATIONAL = 3, 4, 5
_WHOLE = {1, 3, 4, 13, 16, 18}

Form = Callable[[Entry, str, int, int], "Entry | None"]
"""Takes an entry, the byte order, samples a pixel and bits a sample; gives the entry to write, None for none."""


def _numbers(count: Callable[[int, int], int], least: int = 1, most: int = 0xFFFFFFFF, kind: int = 0) -> Form:
    """Whole numbers: at most count(samples, bits) of them, `least` at least. kind: 0 for SHORT where they fit."""

    def form(entry: Entry, order: str, samples: int, bits: int) -> Entry | None:
        if entry.kind not in _WHOLE:
            return None
        values = entry.numbers(order)[: count(samples, bits)]
        if len(values) < least or max(values) > most:
            return None
        chosen = kind or (_SHORT if max(values) < 65536 else _LONG)
        return Entry(chosen, struct.pack(f"{order}{len(values)}{'H' if chosen == _SHORT else 'I'}", *values))

    return form


def _fractions(count: int, most: int, precision: int = 10_000) -> Form:
    """Rationals, rounded to `precision`, so that their two numbers cannot spell anything."""

    def form(entry: Entry, order: str, samples: int, bits: int) -> Entry | None:
        if entry.kind != _RATIONAL or entry.count < count:
            return None
        pairs = list(struct.iter_unpack(order + "II", entry.raw[: 8 * count]))
        if not all(bottom and top <= most * bottom for top, bottom in pairs):
            return None
        rounded = (Fraction(top, bottom).limit_denominator(precision) for top, bottom in pairs)
        raw = b"".join(struct.pack(order + "II", value.numerator, value.denominator) for value in rounded)
        return Entry(_RATIONAL, raw)

    return form


def _one(samples: int, bits: int) -> int:
    return 1


def _each(samples: int, bits: int) -> int:
    return samples


_SHOWN: dict[int, Form] = {
    SUBFILE: _numbers(_one, most=7, kind=_LONG),
    WIDTH: _numbers(_one),
    HEIGHT: _numbers(_one),
    BITS: _numbers(_each, most=64, kind=_SHORT),
    COMPRESSION: _numbers(_one, most=65535),
    PHOTOMETRIC: _numbers(_one, most=65535),
    FILL_ORDER: _numbers(_one, most=2),
    SAMPLES: _numbers(_one, most=65535),
    STRIP_ROWS: _numbers(_one),
    PLANAR: _numbers(_one, most=2),
    292: _numbers(_one, most=7, kind=_LONG),
    293: _numbers(_one, most=3, kind=_LONG),
    PAGE: _numbers(lambda samples, bits: 2, least=2, most=65535, kind=_SHORT),
    PREDICTOR: _numbers(_one, most=3),
    318: _fractions(2, 2),
    319: _fractions(6, 2),
    COLOURS: _numbers(lambda samples, bits: 3 << bits if bits <= 16 else 0, most=65535, kind=_SHORT),
    TILE_WIDTH: _numbers(_one),
    TILE_HEIGHT: _numbers(_one),
    332: _numbers(_one, most=2),
    334: _numbers(_one, most=65535),
    EXTRA: _numbers(_each, most=2, kind=_SHORT),
    339: _numbers(_each, most=6, kind=_SHORT),
    529: _fractions(3, 1),
    SUBSAMPLING: _numbers(lambda samples, bits: 2, least=2, most=4, kind=_SHORT),
    531: _numbers(_one, most=2),
    532: _fractions(6, 65535),
}
_RESOLVED: dict[int, Form] = {
    282: _fractions(1, 1_000_000, 1000),
    283: _fractions(1, 1_000_000, 1000),
    296: _numbers(_one, most=3),
}
STRUCTURE = set(_SHOWN) | PLACES | {JPEG_TABLES}
"""Tags that say how the pixels are stored; a page that is written anew has its own."""


def structure(tags: Directory, order: str) -> Directory:
    """The tags without which a page cannot be shown, or not in its colours. JPEG tables are passed on as they are."""
    return _formed(tags, _SHOWN, order) | {tag: value for tag, value in tags.items() if tag == JPEG_TABLES}


def kept(tags: Directory, order: str, policy: str, rewritten: tuple[int, int] | None) -> Directory:
    """The tags of a page under a policy. rewritten: as for `exif.kept_exif`."""
    found: Directory = {}
    if policy == "all":
        # Strips, tiles, JPEG tables and the fields of old-style JPEG belong to the data.
        data = STRUCTURE | set(range(512, 522)) | {exif.EXIF, ICC}
        found |= exif.without_copies({t: v for t, v in tags.items() if t not in data}, order, rewritten)
        inner = {tag: value for tag, value in tags.items() if tag == exif.EXIF}
        found |= exif.without_copies(inner, order, rewritten)
    else:
        found |= exif.facts(tags, order, policy)
    found |= _formed(tags, _RESOLVED, order) if policy != "none" else {}
    profile = tags.get(ICC)
    if isinstance(profile, Entry) and (fresh := icc.scrubbed(profile.raw, policy)):
        found[ICC] = Entry(7, fresh)
    if rewritten is None and exif.ORIENTATION in tags:
        turned = exif.orientation_of(tags, order)
        found[exif.ORIENTATION] = Entry(_SHORT, struct.pack(order + "H", turned))
    # Tables of JPEG go with the data that needs them: such pages are coded anew.
    return _formed(tags, _SHOWN, order) | found


def _formed(tags: Directory, forms: dict[int, Form], order: str) -> Directory:
    samples = first_number(tags, SAMPLES, order, 1)
    depth = tags.get(BITS)
    whole = isinstance(depth, Entry) and depth.kind in _WHOLE and depth.count
    bits = max(depth.numbers(order)) if isinstance(depth, Entry) and whole else 1
    found: Directory = {}
    for tag, form in forms.items():
        value = tags.get(tag)
        if isinstance(value, Entry) and value.count and (entry := form(value, order, samples, bits)) is not None:
            found[tag] = entry
    return found
