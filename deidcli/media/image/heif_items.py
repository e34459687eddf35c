"""Which items of a HEIC or AVIF file are shown, and each of them with its own pixels and properties alone.

Only what a reader needs for the pictures is taken: the shown items, the tiles that they are made of, their alpha, and
the properties listed here, each of the size and range that the specifications give it. `None` everywhere means that
something cannot be taken over and the picture has to be encoded anew.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field, replace

from deidcli.media.image import av1, exif, hevc, icc
from deidcli.media.image.bmff import Box, Structure

CODED = (b"hvc1", b"av01")
_PICTURES = (*CODED, b"grid")
_ALPHA = (b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha", b"urn:mpeg:hevc:2015:auxid:1")
_BLOCK = 8
_MOST_CROPPED = 64
"""Rows or columns of a coded picture that may be cropped away, in pixels: encoders fill their last block."""
_MOST_HIDDEN = 128
"""Rows or columns of a grid's last tiles that may lie outside of the picture, in pixels, as cameras fill them."""
_XMP = b"application/rdf+xml"


@dataclass(frozen=True)
class Part:
    """An item to write. links: kind of reference and the items it points to, by their numbers in the source."""

    key: int
    kind: bytes
    data: bytes
    properties: tuple[tuple[bytes, bool], ...] = ()
    links: tuple[tuple[bytes, tuple[int, ...]], ...] = ()
    hidden: bool = False
    content: bytes = b""
    size: tuple[int, int] = field(default=(0, 0), compare=False)


def top_level(at: Structure) -> list[int]:
    """The items that are shown on their own, in the order of the file."""
    part = {target for r in at.references if r.kind == b"dimg" for target in r.targets}
    aside = {r.source for r in at.references if r.kind in (b"thmb", b"auxl", b"base", b"dpnd")}
    apart = [key for key, item in at.items.items() if item.kind in _PICTURES and not item.hidden]
    return [key for key in apart if key not in part | aside or key == at.primary]


def parts(data: bytes, at: Structure, shown: list[int], metadata: str) -> list[Part] | None:
    """Everything that belongs to the items `shown`, metadata by the policy."""
    alphas = [r.source for r in at.references if r.kind == b"auxl" and set(r.targets) & set(shown)]
    wanted = [*shown, *(key for key in alphas if _is_alpha(data, at, key))]
    tiles = [key for top in wanted for key in at.targets(b"dimg", top)]
    keys = dict.fromkeys([*tiles, *wanted])
    found: dict[int, Part] = {}
    # Tiles first: a grid is checked against their sizes.
    for key in keys:
        part = _picture(data, at, key, found, metadata) if key in at.items else None
        if part is None:
            return None
        found[key] = part
    ordered = [found[key] for key in at.items if key in found]
    return ordered + (_metadata_items(data, at, shown[0]) if metadata == "all" else [])


def window(data: bytes, at: Structure, key: int) -> tuple[int, int, int, int] | None:
    """left, top, right, bottom of what an item's clean aperture shows, in coded pixels; None for the whole picture."""
    box = next(iter(at.properties(key, b"clap")), None)
    width, height = _extent(data, at, key)
    body = data[box.body : box.end] if box is not None else b""
    if len(body) != 32:
        return None
    columns, rows, right, down = (a / b if b else 0.0 for a, b in struct.iter_unpack(">iI", body))
    # ISO/IEC 14496-12, 12.1.4: the offsets are those of the middle.
    left, top = (
        round(off + (whole - part) / 2) for off, whole, part in ((right, width, columns), (down, height, rows))
    )
    found = max(left, 0), max(top, 0), min(left + round(columns), width), min(top + round(rows), height)
    return found if found[2] > found[0] and found[3] > found[1] else None


def shortened(part: Part, length: int) -> Part:
    """A coded picture whose last slice or frame ends sooner, so that the item has about `length` bytes."""
    away = len(part.data) - length
    if part.kind == b"av01":
        units = av1.units(part.data)
        units[-1] = replace(units[-1], payload=units[-1].payload[: max(len(units[-1].payload) - away, 0)])
        return replace(part, data=b"".join(unit.written() for unit in units))
    at, size = 0, int.from_bytes(part.data[:4], "big")
    while at + 4 + size < len(part.data):
        at += 4 + size
        size = int.from_bytes(part.data[at : at + 4], "big")
    left = max(size - away, 3)
    return replace(part, data=part.data[:at] + struct.pack(">I", left) + part.data[at + 4 : at + 4 + left])


def stored(data: bytes, at: Structure, key: int) -> bytes:
    """The bytes of an item."""
    return b"".join(data[start:end] for start, end in at.items[key].spans)


def exif_block(item: bytes) -> bytes:
    """An Exif item from its TIFF header on; the first four bytes say how far into the rest that is."""
    return item[4 + int.from_bytes(item[:4], "big") :]


def _is_alpha(data: bytes, at: Structure, key: int) -> bool:
    return any(data[box.body + 4 : box.end].startswith(_ALPHA) for box in at.properties(key, b"auxC"))


def _picture(data: bytes, at: Structure, key: int, tiles: dict[int, Part], metadata: str) -> Part | None:
    item = at.items[key]
    if item.kind not in _PICTURES or not item.spans:
        return None
    kept: list[tuple[bytes, bool]] = []
    for box, essential in at.used.get(key, ()):
        body = data[box.body : box.end]
        if box.kind == b"clap" and not is_trimmed(data, at, key):
            return None
        fresh = _property(box, body, metadata)
        if fresh is None or (not fresh and essential and box.kind != b"colr"):
            return None
        if fresh:
            kept.append((fresh, essential))
    size = _extent(data, at, key)
    held = stored(data, at, key)
    payload = _grid(held, size, [tiles.get(t) for t in at.targets(b"dimg", key)]) if item.kind == b"grid" else None
    if item.kind == b"hvc1":
        payload = _hevc(held, at.properties(key, b"hvcC"), data, size)
    elif item.kind == b"av01":
        payload = _av1(held, size)
    if payload is None:
        return None
    links = [(b"dimg", at.targets(b"dimg", key))] if item.kind == b"grid" else []
    links += [(kind, at.targets(kind, key)) for kind in (b"auxl", b"prem") if at.targets(kind, key)]
    return Part(key, item.kind, payload, tuple(kept), tuple(links), item.hidden, size=size)


def _extent(data: bytes, at: Structure, key: int) -> tuple[int, int]:
    """(width, height) in pixels that the item states (ispe)."""
    box = next(iter(at.properties(key, b"ispe")), None)
    return struct.unpack_from(">II", data, box.body + 4) if box is not None else (0, 0)


def is_trimmed(data: bytes, at: Structure, key: int) -> bool:
    """Whether a clean aperture takes away no more than what an encoder adds on the right and below to fill a block."""
    shown = window(data, at, key) or (0, 0, *_extent(data, at, key))
    return shown[:2] == (0, 0) and all(
        0 <= b - a < _BLOCK for a, b in zip(shown[2:], _extent(data, at, key), strict=True)
    )


def _property(box: Box, body: bytes, metadata: str) -> bytes | None:
    """The box to write, empty for one that may be left out, None for one that a reader needs and that is not known."""
    kind = box.kind
    if kind == b"clap":
        return _boxed(kind, body) if len(body) == 32 else None
    if kind in _FIXED:
        return _boxed(kind, body) if len(body) == _FIXED[kind] and (kind not in _FULL or not any(body[:4])) else None
    if kind == b"pixi":
        count = body[4] if len(body) > 4 else 0
        return _boxed(kind, body) if len(body) == 5 + count and count <= 4 and max(body[5:], default=99) <= 16 else b""
    if kind == b"colr":
        return _colour(body, metadata)
    if kind == b"auxC":
        known = next((name for name in _ALPHA if body[4:].startswith(name + b"\0")), None)
        return None if known is None else _boxed(kind, bytes(4) + known + b"\0")
    if kind == b"hvcC":
        return _hevc_configuration(body)
    if kind == b"av1C":
        return _boxed(kind, body[:3] + bytes([body[3] & 0x1F if body[3] & 0x10 else 0])) if len(body) >= 4 else None
    if kind == b"clli":
        return _boxed(kind, body) if len(body) == 4 else b""
    return b""


_FIXED = {b"ispe": 12, b"irot": 1, b"imir": 1, b"pasp": 8}
_FULL = (b"ispe",)


def _boxed(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", 8 + len(body)) + kind + body


def _colour(body: bytes, metadata: str) -> bytes:
    if body[:4] == b"nclx":
        return _boxed(b"colr", body[:10] + bytes([body[10] & 0x80])) if len(body) == 11 else b""
    if body[:4] in (b"prof", b"rICC"):
        profile = icc.scrubbed(body[4:], metadata)
        return _boxed(b"colr", b"prof" + profile) if profile else b""
    return b""


def _hevc_configuration(body: bytes) -> bytes | None:
    """The decoder configuration (ISO/IEC 14496-15, 8.3.3.1) with one parameter set of each kind."""
    sets: dict[int, bytes] = {}
    at = 23
    for _ in range(body[22] if len(body) > 22 else 0):
        (count,) = struct.unpack_from(">H", body, at + 1)
        at += 3
        for _ in range(count):
            (size,) = struct.unpack_from(">H", body, at)
            nal = body[at + 2 : at + 2 + size]
            at += 2 + size
            if len(nal) != size:
                return None
            if hevc.kind(nal) in (hevc.VPS, hevc.SPS, hevc.PPS):
                fresh = hevc.parameter_set(nal)
                if fresh is None or sets.setdefault(hevc.kind(nal), fresh[0]) != fresh[0]:
                    return None
    if len(sets) != 3:
        return None
    arrays = b"".join(
        bytes([0x80 | kind]) + struct.pack(">HH", 1, len(nal)) + nal for kind, nal in sorted(sets.items())
    )
    # The last two bits say that lengths have four bytes.
    return _boxed(b"hvcC", body[:21] + bytes([body[21] | 3, 3]) + arrays)


def _hevc(held: bytes, configurations: list[Box], data: bytes, size: tuple[int, int]) -> bytes | None:
    """The slices of a picture; supplemental information (SEI), delimiters and filling are left out."""
    if len(configurations) != 1:
        return None
    body = data[configurations[0].body : configurations[0].end]
    length = (body[21] & 3) + 1
    sizes = _sizes(body)
    if (
        sizes is None
        or sizes.shown != size
        or max(c - s for c, s in zip(sizes.coded, size, strict=True)) > _MOST_CROPPED
    ):
        return None
    kept, at = b"", 0
    while at + length <= len(held):
        count = int.from_bytes(held[at : at + length], "big")
        nal = held[at + length : at + length + count]
        if 0 <= hevc.kind(nal) < 32:
            kept += struct.pack(">I", len(nal)) + nal
        at += length + count
    return kept if kept and at >= len(held) - 3 else None


def _sizes(configuration: bytes) -> hevc.Sizes | None:
    fresh = _hevc_configuration(configuration)
    if fresh is None:
        return None
    at = 8 + 23
    while at < len(fresh):
        (size,) = struct.unpack_from(">H", fresh, at + 3)
        nal = fresh[at + 5 : at + 5 + size]
        if hevc.kind(nal) == hevc.SPS:
            found = hevc.parameter_set(nal)
            return None if found is None else found[1]
        at += 5 + size
    return None


def _av1(held: bytes, size: tuple[int, int]) -> bytes | None:
    found = av1.frame(held)
    if found is None or found[1] != size:
        return None
    return b"".join(unit.written() for unit in found[0])


def _grid(held: bytes, size: tuple[int, int], tiles: list[Part | None]) -> bytes | None:
    """The description of a grid whose tiles are all there, all of one size, and (all but) cover the picture."""
    if len(held) < 8 or held[0] or held[1] > 1 or len(held) != (12 if held[1] else 8):
        return None
    rows, columns = held[2] + 1, held[3] + 1
    stated = struct.unpack_from(">II" if held[1] else ">HH", held, 4)
    known = [tile for tile in tiles if tile is not None]
    if len(known) != len(tiles) or len(tiles) != rows * columns or len({tile.size for tile in known}) != 1:
        return None
    covered = columns * known[0].size[0], rows * known[0].size[1]
    hidden = [whole - part for whole, part in zip(covered, size, strict=True)]
    most = [min(_MOST_HIDDEN, side // 2) for side in known[0].size]
    if stated != size or not all(0 <= away <= limit for away, limit in zip(hidden, most, strict=True)):
        return None
    return held


def _metadata_items(data: bytes, at: Structure, primary: int) -> list[Part]:
    """EXIF and XMP, which the policy "all" keeps, without pictures in them."""
    found = []
    for key, item in at.items.items():
        held = stored(data, at, key)
        if item.kind == b"Exif":
            block = exif.scrubbed_exif(exif_block(held), None)
            kept = b"" if block is None else bytes(4) + block
        elif item.kind == b"mime" and item.content == _XMP:
            kept = exif.scrubbed_xmp(held) or b""
        else:
            continue
        if kept:
            content = _XMP if item.kind == b"mime" else b""
            found.append(Part(key, item.kind, kept, links=((b"cdsc", (primary,)),), content=content))
    return found
