"""TIFF directories (the structure of TIFF files and of EXIF): read, cut, and laid out anew. BigTIFF is read as well."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

from deidcli.errors import MediaError

SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
"""Bytes of one value, by the type number of the TIFF 6.0 and BigTIFF specifications."""
SHORT, LONG = 3, 4
_LETTERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
_MAX_DIRECTORIES = 65536
_EXIF, _GPS, _INTEROPERABILITY = 0x8769, 0x8825, 0xA005
NESTED = (_EXIF, _GPS, _INTEROPERABILITY)


@dataclass(frozen=True)
class Entry:
    """One tag's values, raw, in the byte order of their file. kind: the TIFF type number."""

    kind: int
    raw: bytes

    @property
    def count(self) -> int:
        return len(self.raw) // SIZES[self.kind]

    def numbers(self, order: str) -> tuple[int, ...]:
        """The values as whole numbers. Raises MediaError where the type has none."""
        if self.kind not in _LETTERS:
            raise MediaError(f"a TIFF tag has type {self.kind} where a number was expected", "get a whole copy")
        return struct.unpack(f"{order}{self.count}{_LETTERS[self.kind]}", self.raw)


Directory = dict[int, "Entry | Directory"]
"""Tags to values; the EXIF, GPS and interoperability directories stand nested under the tag that points to them."""


@dataclass(frozen=True)
class Header:
    """order: "<" or ">". big: BigTIFF. first: offset of the first directory."""

    order: str
    big: bool
    first: int


def number(value: int, order: str) -> Entry:
    """An entry with one number: SHORT where it fits, else LONG."""
    return Entry(SHORT, struct.pack(order + "H", value)) if value < 65536 else longs([value], order)


def longs(values: list[int], order: str) -> Entry:
    """An entry of 32-bit numbers. order: "<" or ">"."""
    return Entry(LONG, struct.pack(f"{order}{len(values)}I", *values))


def first_number(directory: Directory, tag: int, order: str, default: int) -> int:
    """The first value of a tag, or `default` where it is absent, empty or no number."""
    entry = directory.get(tag)
    if not isinstance(entry, Entry) or entry.kind not in _LETTERS or not entry.count:
        return default
    return entry.numbers(order)[0]


def read_header(data: bytes) -> Header:
    """Raises MediaError where `data` does not begin as a TIFF structure does."""
    order = {b"II": "<", b"MM": ">"}.get(bytes(data[:2]))
    if order is None or len(data) < 8:
        raise MediaError("not a TIFF structure", "get a whole copy of the file")
    magic = struct.unpack_from(order + "H", data, 2)[0]
    if magic == 43:
        return Header(order, True, struct.unpack_from(order + "Q", data, 8)[0])
    return Header(order, False, struct.unpack_from(order + "I", data, 4)[0])


class Room:
    """How many bytes may still be taken out of a file: values of a valid file do not overlap.

    Without such a bound a megabyte of tags that all point at the same megabyte would take gigabytes.
    """

    def __init__(self, size: int):
        self.left = size

    def take(self, size: int) -> None:
        """Raises MediaError where no room is left."""
        self.left -= size
        if self.left < 0:
            raise MediaError("the TIFF structure states more data than the file holds", "get a whole copy of the file")


def read_chain(data: bytes, header: Header) -> list[Directory]:
    """Every directory of the main chain, nested ones included.

    Raises MediaError for a chain that never ends, and for values that lie over each other.
    """
    chain: list[Directory] = []
    room = _room(data)
    seen, at = set(), header.first
    while at:
        if at in seen or len(chain) >= _MAX_DIRECTORIES:
            raise MediaError("the TIFF directories form a loop", "get a whole copy of the file")
        seen.add(at)
        directory, at = read_directory(data, header, at, room=room)
        chain.append(directory)
    return chain


def _room(data: bytes) -> Room:
    return Room(2 * len(data) + 4096)


def read_directory(
    data: bytes, header: Header, at: int, depth: int = 0, room: Room | None = None
) -> tuple[Directory, int]:
    """The directory at offset `at` and the offset of the next one (0 after the last).

    Raises MediaError where its values, or those of the directories read before from the same `room`, take more bytes
    than the file can hold, and struct.error where it reaches past the end.
    """
    order, room = header.order, room or _room(data)
    counts, step, inline = ("Q", 20, 8) if header.big else ("H", 12, 4)
    (count,), at = struct.unpack_from(order + counts, data, at), at + struct.calcsize(order + counts)
    room.take(count * step)
    directory: Directory = {}
    for here in range(at, at + count * step, step):
        tag, kind = struct.unpack_from(order + "HH", data, here)
        (many,) = struct.unpack_from(order + ("Q" if header.big else "I"), data, here + 4)
        size, place = SIZES.get(kind, 0) * many, here + step - inline
        if size > inline:
            (place,) = struct.unpack_from(order + ("Q" if header.big else "I"), data, place)
        room.take(min(size, len(data)))
        raw = bytes(data[place : place + size])
        if kind in SIZES and len(raw) == size:
            directory[tag] = Entry(kind, raw)
    for tag in NESTED if depth < 2 else ():
        _nest(data, header, directory, tag, depth, room)
    return directory, struct.unpack_from(order + ("Q" if header.big else "I"), data, at + count * step)[0]


def _nest(data: bytes, header: Header, directory: Directory, tag: int, depth: int, room: Room) -> None:
    at = first_number(directory, tag, header.order, 0)
    if directory.pop(tag, None) is None or not at:
        return
    try:
        directory[tag] = read_directory(data, header, at, depth + 1, room)[0]
    except struct.error:
        # A pointer into nowhere carries nothing that could be kept.
        return


def swapped(directory: Directory) -> Directory:
    """The same values in the other byte order."""
    return {tag: swapped(value) if isinstance(value, dict) else _swap(value) for tag, value in directory.items()}


def _swap(entry: Entry) -> Entry:
    unit = 4 if entry.kind in (5, 10) else SIZES[entry.kind]
    if unit == 1:
        return entry
    return Entry(entry.kind, np.frombuffer(entry.raw, f"u{unit}").byteswap().tobytes())


def laid_out(directory: Directory, at: int, order: str, following: int = 0) -> bytes:
    """The directory as it stands at offset `at` (even) of a classic TIFF, values and nested directories behind it."""
    head, tail = [], b""
    behind = at + 2 + 12 * len(directory) + 4
    for tag, value in sorted(directory.items()):
        if isinstance(value, dict):
            place = behind + len(tail)
            tail += laid_out(value, place, order)
            value = Entry(LONG, struct.pack(order + "I", place))
        value = _classic(value, order)
        inline = value.raw.ljust(4, b"\0")
        if len(value.raw) > 4:
            inline = struct.pack(order + "I", behind + len(tail))
            tail += value.raw + b"\0" * (len(value.raw) % 2)
        head.append(struct.pack(order + "HHI", tag, value.kind, value.count) + inline)
    return struct.pack(order + "H", len(head)) + b"".join(head) + struct.pack(order + "I", following) + tail


def _classic(entry: Entry, order: str) -> Entry:
    """Eight-byte numbers belong to BigTIFF alone."""
    if entry.kind not in (16, 18):
        return entry
    return longs([min(value, 0xFFFFFFFF) for value in entry.numbers(order)], order)
