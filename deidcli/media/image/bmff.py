"""The boxes of HEIC and AVIF: which item of the file lies where, and how it depends on the others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from deidcli.errors import MediaError

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
    """kind_at: where the four letters of the kind stand. spans: where its bytes lie."""

    kind: bytes
    kind_at: int
    spans: tuple[Span, ...] = ()


@dataclass(frozen=True)
class Reference:
    """Item `source` points to `targets`; box: the reference itself."""

    kind: bytes
    source: int
    targets: tuple[int, ...]
    box: Box


@dataclass(frozen=True)
class Structure:
    """properties: the boxes of `ipco`, numbered from 1 in `used`, which lists those of each item."""

    top: list[Box]
    meta: list[Box]
    primary: int
    items: dict[int, Item]
    references: list[Reference]
    properties: list[Box]
    used: dict[int, list[int]] = field(default_factory=dict)


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
    top = list(boxes(data, 0, len(data)))
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
    items = {i: Item(kind, at, spans.get(i, ())) for i, kind, at in _items(data, found[b"iinf"])}
    references = list(_references(data, found[b"iref"])) if b"iref" in found else []
    properties, used = _properties(data, found[b"iprp"]) if b"iprp" in found else ([], {})
    return Structure(top, inner, primary, items, references, properties, used)


def _skip(cursor: _Cursor) -> _Cursor:
    cursor.take(4)
    return cursor


def _items(data: bytes, box: Box) -> Iterator[tuple[int, bytes, int]]:
    cursor = _Cursor(data, box)
    version = cursor.take(4) >> 24
    cursor.take(4 if version else 2)
    for entry in boxes(data, cursor.at, box.end):
        inner = _Cursor(data, entry)
        version = inner.take(4) >> 24
        if entry.kind == b"infe" and version >= 2:
            identity = inner.take(4 if version >= 3 else 2)
            inner.take(2)
            yield identity, data[inner.at : inner.at + 4], inner.at


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
        yield Reference(entry.kind, source, tuple(cursor.take(wide) for _ in range(cursor.take(2))), entry)


def _properties(data: bytes, box: Box) -> tuple[list[Box], dict[int, list[int]]]:
    inner = list(boxes(data, box.body, box.end))
    held = [entry for part in inner if part.kind == b"ipco" for entry in boxes(data, part.body, part.end)]
    used: dict[int, list[int]] = {}
    for part in (part for part in inner if part.kind == b"ipma"):
        cursor = _Cursor(data, part)
        head = cursor.take(4)
        for _ in range(cursor.take(4)):
            identity = cursor.take(4 if head >> 24 else 2)
            size = 2 if head & 1 else 1
            mask = 0x7FFF if size == 2 else 0x7F
            used.setdefault(identity, []).extend(cursor.take(size) & mask for _ in range(cursor.take(1)))
    return held, used
