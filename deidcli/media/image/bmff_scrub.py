"""HEIC and AVIF scrubbed in place: what may not stay is overwritten, so that every offset in the file stays true."""

from __future__ import annotations

from deidcli.media.image import exif, xmp
from deidcli.media.image.bmff import Box, Item, Span, Structure

_CODED = {b"hvc1", b"hev1", b"av01", b"grid", b"iovl", b"iden", b"jpeg", b"avc1", b"vvc1", b"lhv1", b"unci", b"j2k1"}
_TOLD = {b"udes", b"altt", b"crtt", b"mdft", b"uuid"}
_TOP = {b"ftyp", b"meta", b"mdat"}
_META = {b"hdlr", b"pitm", b"iinf", b"iloc", b"iref", b"iprp", b"idat", b"dinf", b"grpl"}
_PROFILES = (b"prof", b"rICC")
_ALPHA = (b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha", b"urn:mpeg:hevc:2015:auxid:1")
_NOTHING_TOLD = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"/>'
_NO_EXIF = b"\0\0\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0"


def scrub(data: bytes, at: Structure, metadata: str) -> bytes:
    """The file with thumbnails, gain maps, depth maps and, by the policy, EXIF, XMP and the profile overwritten."""
    out = bytearray(data)
    dropped = _dropped(data, at, metadata)
    _blank_between(out, at, [span for key, item in at.items.items() if key not in dropped for span in item.spans])
    for key in dropped:
        place = at.items[key].kind_at
        out[place : place + 4] = b"free"
    for reference in at.references:
        if reference.source in dropped or dropped & set(reference.targets):
            _free(out, reference.box, keep_body=True)
    for box in _unwanted(data, at, metadata):
        _free(out, box)
    for item in (item for key, item in at.items.items() if key not in dropped):
        _cut(out, item)
    return bytes(out)


def _dropped(data: bytes, at: Structure, metadata: str) -> set[int]:
    told = {b"Exif", b"mime"} if metadata == "all" else set()
    dropped = {key for key, item in at.items.items() if item.kind not in _CODED | told}
    dropped |= {r.source for r in at.references if r.kind == b"thmb"}
    dropped |= {r.source for r in at.references if r.kind == b"auxl" and not _is_alpha(data, at, r.source)}
    for _ in at.items:
        more = _only_parts_of(at, dropped) - dropped
        if not more:
            break
        dropped |= more
    return dropped - {at.primary}


def _only_parts_of(at: Structure, dropped: set[int]) -> set[int]:
    """Tiles and inputs that no kept picture is made of."""
    made = [r for r in at.references if r.kind == b"dimg"]
    needed = {target for r in made if r.source not in dropped for target in r.targets}
    return {target for r in made if r.source in dropped for target in r.targets} - needed - {at.primary}


def _is_alpha(data: bytes, at: Structure, key: int) -> bool:
    boxes = [at.properties[index - 1] for index in at.used.get(key, ()) if 0 < index <= len(at.properties)]
    return any(data[box.body + 4 : box.end].startswith(_ALPHA) for box in boxes if box.kind == b"auxC")


def _unwanted(data: bytes, at: Structure, metadata: str) -> list[Box]:
    found = [box for box in at.top if box.kind not in _TOP]
    found += [box for box in at.meta if box.kind not in _META]
    found += [box for box in at.properties if box.kind in _TOLD and metadata != "all"]
    if metadata == "none":
        found += [b for b in at.properties if b.kind == b"colr" and data[b.body : b.body + 4] in _PROFILES]
    return found


def _free(out: bytearray, box: Box, keep_body: bool = False) -> None:
    out[box.start + 4 : box.start + 8] = b"free"
    if not keep_body:
        out[box.body : box.end] = bytes(box.end - box.body)


def _blank_between(out: bytearray, at: Structure, kept: list[Span]) -> None:
    """Zeros wherever a data box holds bytes of no kept item: dropped items, and what no item ever named."""
    for box in [*at.top, *at.meta]:
        if box.kind in (b"mdat", b"idat"):
            place = box.body
            for start, end in sorted(kept):
                if end > place and start < box.end:
                    out[place : max(start, place)] = bytes(max(start - place, 0))
                    place = max(place, end)
            out[place : box.end] = bytes(max(box.end - place, 0))


def _cut(out: bytearray, item: Item) -> None:
    """EXIF and XMP that stay under the policy `all`, without their own thumbnails, in the room that they had."""
    if item.kind not in (b"Exif", b"mime"):
        return
    stored = b"".join(bytes(out[start:end]) for start, end in item.spans)
    fresh = _exif(stored) if item.kind == b"Exif" else xmp.scrubbed(stored) or _NOTHING_TOLD
    if len(fresh) > len(stored):
        fresh = _NO_EXIF if item.kind == b"Exif" else _NOTHING_TOLD
    fresh = fresh.ljust(len(stored), b"\0" if item.kind == b"Exif" else b" ")
    for start, end in item.spans:
        out[start:end], fresh = fresh[: end - start], fresh[end - start :]


def _exif(stored: bytes) -> bytes:
    block = exif_block(stored)
    cut = exif.scrubbed_exif(block, None) if block else None
    return _NO_EXIF if cut is None else b"\0\0\0\0" + cut


def exif_block(stored: bytes) -> bytes:
    """An Exif item from its TIFF header on; the first four bytes say how far into the rest that is."""
    return stored[4 + int.from_bytes(stored[:4], "big") :]
