"""A HEIC or AVIF file laid out from its items: nothing stands in it but what is given here."""

from __future__ import annotations

import struct

from deidcli.media.image.heif_items import Part

_BRANDS = {
    *(b"mif1", b"mif2", b"miaf", b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"MiHB", b"MiHE", b"MiHA"),
    *(b"avif", b"avis", b"MA1A", b"MA1B", b"MiPr"),
}


def brands(file_type: bytes) -> tuple[bytes, ...]:
    """The known brands of an `ftyp` box's body, the major one first."""
    each = [file_type[:4], *(file_type[at : at + 4] for at in range(8, len(file_type), 4))]
    return tuple(dict.fromkeys(brand for brand in each if brand in _BRANDS))


def written(parts: list[Part], primary: int, known: tuple[bytes, ...]) -> bytes:
    """The file. primary: the key of the first picture. known: brands, the major one first."""
    numbers = {part.key: number for number, part in enumerate(parts, 1)}
    kind = _box(b"ftyp", known[0] + bytes(4) + b"".join(known))
    inner = [
        _full(b"hdlr", bytes(4) + b"pict" + bytes(13)),
        _full(b"pitm", struct.pack(">H", numbers[primary])),
        _information(parts),
        _references(parts, numbers),
        _properties(parts),
    ]
    room = 12 + sum(map(len, inner)) + 12 + 4 + 14 * len(parts)
    locations, at = b"", len(kind) + room + 8
    for number, part in enumerate(parts, 1):
        locations += struct.pack(">HHHII", number, 0, 1, at, len(part.data))
        at += len(part.data)
    table = _full(b"iloc", b"\x44\0" + struct.pack(">H", len(parts)) + locations)
    meta = _full(b"meta", b"".join([*inner[:2], table, *inner[2:]]))
    return kind + meta + _box(b"mdat", b"".join(part.data for part in parts))


def _box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", 8 + len(body)) + kind + body


def _full(kind: bytes, body: bytes, version: int = 0, flags: int = 0) -> bytes:
    return _box(kind, struct.pack(">I", version << 24 | flags) + body)


def _information(parts: list[Part]) -> bytes:
    entries = b""
    for number, part in enumerate(parts, 1):
        # An empty name, and for "mime" what the item holds.
        names = b"\0" + (part.content + b"\0" if part.kind == b"mime" else b"")
        body = struct.pack(">HH", number, 0) + part.kind + names
        entries += _full(b"infe", body, 2, int(part.hidden))
    return _full(b"iinf", struct.pack(">H", len(parts)) + entries)


def _references(parts: list[Part], numbers: dict[int, int]) -> bytes:
    found = b""
    for part in parts:
        for kind, targets in part.links:
            kept = [numbers[target] for target in targets if target in numbers]
            if kept:
                found += _box(kind, struct.pack(f">HH{len(kept)}H", numbers[part.key], len(kept), *kept))
    return _full(b"iref", found) if found else b""


def _properties(parts: list[Part]) -> bytes:
    """Each property once, and which item has which."""
    each = list(dict.fromkeys(body for part in parts for body, _ in part.properties))
    place = {body: index for index, body in enumerate(each, 1)}
    rows, count = b"", 0
    for number, part in enumerate(parts, 1):
        if part.properties:
            used = b"".join(struct.pack(">H", place[body] | essential << 15) for body, essential in part.properties)
            rows += struct.pack(">HB", number, len(part.properties)) + used
            count += 1
    return _box(b"iprp", _box(b"ipco", b"".join(each)) + _full(b"ipma", struct.pack(">I", count) + rows, flags=1))
