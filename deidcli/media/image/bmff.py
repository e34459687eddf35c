"""The boxes of HEIC and AVIF: which item of the file lies where, and how it depends on the others.

`Bits` reads numbers of any number of bits, as the headers of HEVC and AV1 in such items hold them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from deidcli.errors import MediaError

_NEEDED = (b"ftyp", b"meta", b"mdat", b"moov")
Span = tuple[int, int]
"""First byte and the byte behind the last, as offsets in the file."""


@dataclass(frozen=True)
class Box:
    """kind: four letters, at `start` + 4. body: the first byte behind the header."""

    kind: bytes
    start: int
    body: int
    end: int


@dataclass(frozen=True)
class Item:
    """spans: where its bytes lie. hidden: not to be shown on its own. content: the type of a "mime" item."""

    kind: bytes
    spans: tuple[Span, ...] = ()
    hidden: bool = False
    content: bytes = b""


@dataclass(frozen=True)
class Reference:
    """Item `source` points to `targets`."""

    kind: bytes
    source: int
    targets: tuple[int, ...]


@dataclass(frozen=True)
class Structure:
    """top: the boxes of the file. used: the properties of each item, and whether a reader has to know them."""

    top: list[Box]
    primary: int
    items: dict[int, Item]
    references: list[Reference]
    used: dict[int, list[tuple[Box, bool]]] = field(default_factory=dict)

    @property
    def end(self) -> int:
        """The first byte behind the last box."""
        return self.top[-1].end

    def targets(self, kind: bytes, source: int) -> tuple[int, ...]:
        """What an item points to by one kind of reference."""
        return next((r.targets for r in self.references if (r.kind, r.source) == (kind, source)), ())

    def properties(self, item: int, kind: bytes) -> list[Box]:
        return [box for box, _ in self.used.get(item, ()) if box.kind == kind]


class _Cursor:
    """Big-endian numbers from one box, one after the other."""

    def __init__(self, data: bytes, box: Box):
        self.data, self.at, self.end = data, box.body, box.end

    def take(self, size: int) -> int:
        if self.at + size > self.end:
            raise MediaError("the boxes of the file are damaged", "get a whole copy of the file")
        self.at += size
        return int.from_bytes(self.data[self.at - size : self.at], "big")


def boxes(data: bytes, start: int, end: int) -> Iterator[Box]:
    """The boxes that lie side by side in data[start:end]. Raises MediaError where one reaches past the end."""
    while start + 8 <= end:
        size, kind, body = int.from_bytes(data[start : start + 4], "big"), data[start + 4 : start + 8], start + 8
        if size == 1:
            size, body = int.from_bytes(data[start + 8 : start + 16], "big"), start + 16
        stop = end if size == 0 else start + size
        if stop > end or stop < body:
            raise MediaError("the file is truncated, or its boxes are damaged", "get a whole copy of the file")
        yield Box(kind, start, body, stop)
        start = stop


def structure(data: bytes) -> Structure:
    """The tables of the `meta` box. Raises MediaError where there is none, or it is damaged."""
    top = _top(data)
    meta = next((box for box in top if box.kind == b"meta"), None)
    if meta is None:
        raise MediaError("the file holds no picture: it has no meta box", "get a whole copy of the file")
    inner = list(boxes(data, meta.body + 4, meta.end))
    found = {box.kind: box for box in inner}
    if not {b"pitm", b"iinf", b"iloc"} <= found.keys():
        raise MediaError("the file holds no picture: it names none", "get a whole copy of the file")
    cursor = _Cursor(data, found[b"pitm"])
    primary = cursor.take(4) and cursor.take(4) if data[cursor.at] else _skip(cursor).take(2)
    spans = _spans(data, found[b"iloc"], found.get(b"idat"))
    items = {key: replace(item, spans=spans.get(key, ())) for key, item in _items(data, found[b"iinf"])}
    references = list(_references(data, found[b"iref"])) if b"iref" in found else []
    used = _properties(data, found[b"iprp"]) if b"iprp" in found else {}
    return Structure(top, primary, items, references, used)


def _top(data: bytes) -> list[Box]:
    """The boxes of the file; text behind the last one is no box."""
    found: list[Box] = []
    try:
        for box in boxes(data, 0, len(data)):
            found.append(box)
    except MediaError:
        end = found[-1].end if found else 0
        if data[end + 4 : end + 8] in _NEEDED or not {b"meta", b"mdat"} <= {box.kind for box in found}:
            raise
    return found


def _skip(cursor: _Cursor) -> _Cursor:
    cursor.take(4)
    return cursor


def _items(data: bytes, box: Box) -> Iterator[tuple[int, Item]]:
    cursor = _Cursor(data, box)
    version = cursor.take(4) >> 24
    cursor.take(4 if version else 2)
    for entry in boxes(data, cursor.at, box.end):
        inner = _Cursor(data, entry)
        head = inner.take(4)
        if entry.kind == b"infe" and head >> 24 >= 2:
            identity = inner.take(4 if head >> 24 >= 3 else 2)
            protected = inner.take(2)
            # The kind, the item's name, and for "mime" what it holds.
            kind = data[inner.at : inner.at + 4] if not protected else b"prot"
            texts = data[inner.at + 4 : entry.end].split(b"\0")
            yield identity, Item(kind, hidden=bool(head & 1), content=texts[1] if len(texts) > 1 else b"")


def _spans(data: bytes, box: Box, held: Box | None) -> dict[int, tuple[Span, ...]]:
    cursor = _Cursor(data, box)
    version, sizes = cursor.take(4) >> 24, cursor.take(2)
    offset_size, length_size, base_size, index_size = (sizes >> shift & 15 for shift in (12, 8, 4, 0))
    wide = 4 if version == 2 else 2
    found = {}
    for _ in range(cursor.take(wide)):
        identity = cursor.take(wide)
        method = cursor.take(2) & 15 if version else 0
        cursor.take(2)
        base = cursor.take(base_size) + (held.body if method == 1 and held else 0)
        spans = []
        for _ in range(cursor.take(2)):
            cursor.take(index_size if version else 0)
            start, size = base + cursor.take(offset_size), cursor.take(length_size)
            spans.append((start, start + size if size else len(data)))
        if method == 2 or any(end > len(data) for _, end in spans):
            raise MediaError("the file is truncated: an item lies outside of it", "get a whole copy of the file")
        found[identity] = tuple(spans)
    return found


def _references(data: bytes, box: Box) -> Iterator[Reference]:
    wide = 4 if _Cursor(data, box).take(4) >> 24 else 2
    for entry in boxes(data, box.body + 4, box.end):
        cursor = _Cursor(data, entry)
        source = cursor.take(wide)
        yield Reference(entry.kind, source, tuple(cursor.take(wide) for _ in range(cursor.take(2))))


def _properties(data: bytes, box: Box) -> dict[int, list[tuple[Box, bool]]]:
    inner = list(boxes(data, box.body, box.end))
    held = [entry for part in inner if part.kind == b"ipco" for entry in boxes(data, part.body, part.end)]
    used: dict[int, list[tuple[Box, bool]]] = {}
    for part in (part for part in inner if part.kind == b"ipma"):
        cursor = _Cursor(data, part)
        head = cursor.take(4)
        for _ in range(cursor.take(4)):
            identity = cursor.take(4 if head >> 24 else 2)
            size = 2 if head & 1 else 1
            for _ in range(cursor.take(1)):
                value = cursor.take(size)
                essential, index = divmod(value, 1 << (8 * size - 1))
                if 0 < index <= len(held):
                    used.setdefault(identity, []).append((held[index - 1], bool(essential)))
    return used


class Bits:
    """Reads bits from the first on. Raises MediaError behind the last.

    What was read can be had again by `read`, without what was left out meanwhile (`replace`).
    """

    def __init__(self, data: bytes):
        self.data, self.at = data, 0
        self.replaced: list[tuple[int, int, str]] = []

    def replace(self, start: int, bits: str) -> None:
        """Have `bits` ("0" and "1") in place of those that were read since the place `start`."""
        self.replaced.append((start, self.at, bits))

    def take(self, count: int) -> int:
        """The next `count` bits as one number, the highest first."""
        end = self.at + count
        if end > 8 * len(self.data):
            raise MediaError("the headers of the picture are damaged", "get a whole copy of the file")
        whole = int.from_bytes(self.data[self.at // 8 : (end + 7) // 8], "big")
        self.at = end
        return whole >> (-end % 8) & (1 << count) - 1

    def flag(self) -> bool:
        return bool(self.take(1))

    def signed(self) -> int:
        """A signed Exp-Golomb number (se(v))."""
        number = self.golomb()
        return (number + 1) // 2 if number & 1 else -(number // 2)

    def more(self) -> bool:
        """Whether anything comes before the bit 1 with which a header ends (more_rbsp_data of H.264 and HEVC)."""
        whole = int.from_bytes(self.data, "big")
        last = 8 * len(self.data) - (whole & -whole).bit_length() if whole else 0
        return self.at < last

    def golomb(self) -> int:
        """An unsigned Exp-Golomb number (ue(v) of HEVC); the same bits as uvlc() of AV1."""
        zeros = 0
        while not self.flag():
            zeros += 1
            if zeros > 32:
                raise MediaError("the headers of the picture are damaged", "get a whole copy of the file")
        return (1 << zeros) - 1 + self.take(zeros)

    def read(self) -> bytes:
        """What was read so far, ended as both formats end a header: a bit 1, and zeros up to a whole byte."""
        whole = int.from_bytes(self.data[: (self.at + 7) // 8], "big") >> (-self.at % 8)
        said, done, at = f"{whole:0{self.at}b}" if self.at else "", "", 0
        for start, end, other in sorted(self.replaced):
            done, at = done + said[at:start] + other, end
        done += said[at:] + "1"
        return int(done.ljust(-(-len(done) // 8) * 8, "0"), 2).to_bytes(-(-len(done) // 8), "big")
