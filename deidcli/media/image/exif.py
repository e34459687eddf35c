"""EXIF, XMP, Photoshop resources and IPTC cut to what a metadata policy keeps (see `media.metadata`).

And the orientation that a picture states elsewhere: in XMP, or in ImageMagick's raw profile.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from xml.etree import ElementTree

from deidcli.errors import MediaError
from deidcli.media.image.ifd import (
    LONG,
    SHORT,
    Directory,
    Entry,
    Header,
    first_number,
    laid_out,
    number,
    read_directory,
    read_header,
)
from deidcli.media.metadata import holds_picture

ORIENTATION, X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT = 274, 282, 283, 296
EXIF, IPTC, PHOTOSHOP, XMP = 34665, 33723, 34377, 700
_COLOUR_SPACE, _INTEROPERABILITY = 0xA001, 0xA005
_RULES = (b"R98\0", b"R03\0", b"THM\0")
_DIMENSIONS = {256: 0, 257: 1, 40962: 0, 40963: 1}
_COPIES = {
    330,  # SubIFDs: previews
    37500,  # MakerNote
    513, 514,  # the thumbnail's place
    273, 279, 288, 289, 324, 325,  # data that an EXIF block cannot have
    37724,  # Photoshop's layers
    50341,  # PrintImageMatching
    50740,  # DNGPrivateData, often maker notes
    59932, 59933,  # padding
    400,  # GlobalParametersIFD
}  # fmt: skip
_LONGEST = 1 << 16


@dataclass(frozen=True)
class Exif:
    """The few facts of an EXIF block that are needed under every policy. dpi: None where it is not stated."""

    orientation: int = 1
    dpi: tuple[float, float] | None = None


def read_exif(block: bytes) -> Exif:
    """Facts of an EXIF block that begins at its TIFF header; a damaged block states nothing."""
    try:
        header = read_header(block)
        directory, _ = read_directory(block, header, header.first)
    except (MediaError, struct.error):
        return Exif()
    return Exif(orientation_of(directory, header.order), dpi_of(directory, header.order))


def orientation_of(directory: Directory, order: str) -> int:
    """1 to 8; 1 where the tag is absent or out of range."""
    value = first_number(directory, ORIENTATION, order, 1)
    return value if 1 <= value <= 8 else 1


def dpi_of(directory: Directory, order: str) -> tuple[float, float] | None:
    """Pixels an inch on both axes."""
    scale = 2.54 if first_number(directory, RESOLUTION_UNIT, order, 2) == 3 else 1.0
    x, y = (_rational(directory.get(tag), order) * scale for tag in (X_RESOLUTION, Y_RESOLUTION))
    return (x, y) if x > 0 and y > 0 else None


def _rational(entry: Entry | Directory | None, order: str) -> float:
    """The first value of a rational tag; 0 where there is none."""
    if not isinstance(entry, Entry) or entry.kind != 5 or not entry.count:
        return 0.0
    top, bottom = struct.unpack(order + "II", entry.raw[:8])
    return top / bottom if bottom else 0.0


def kept_exif(block: bytes, policy: str, rewritten: tuple[int, int] | None) -> bytes | None:
    """The EXIF block to write, from its TIFF header on, or None for none at all.

    rewritten: (width, height) of a picture that is written upright, None for one whose pixels are copied.
    """
    try:
        header = read_header(block)
        directory, _ = read_directory(block, header, header.first)
    except (MediaError, struct.error):
        return None
    order = header.order
    kept = without_copies(directory, order, rewritten) if policy == "all" else facts(directory, order, policy)
    if policy != "all" and rewritten is None and (orientation := orientation_of(directory, order)) != 1:
        kept[ORIENTATION] = number(orientation, order)
    start = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    return start + laid_out(kept, 8, order) if kept else None


def facts(directory: Directory, order: str, policy: str) -> Directory:
    """The colour space and its interoperability index, which say how to read colours and identify no person."""
    inner = directory.get(EXIF)
    if policy == "none" or not isinstance(inner, dict):
        return {}
    kept: Directory = {}
    if (space := first_number(inner, _COLOUR_SPACE, order, 0)) in (1, 2, 0xFFFF):
        kept[_COLOUR_SPACE] = Entry(SHORT, struct.pack(order + "H", space))
    rules = inner.get(_INTEROPERABILITY)
    index = rules.get(1) if isinstance(rules, dict) else None
    if isinstance(index, Entry) and index.raw in _RULES:
        kept[_INTEROPERABILITY] = {1: Entry(2, index.raw)}
    return {EXIF: kept} if kept else {}


def scrubbed_exif(block: bytes, rewritten: tuple[int, int] | None, oriented: bool = True) -> bytes | None:
    """All of an EXIF block but copies of the picture; None for a damaged block. See `kept_exif`.

    oriented: whether the format's readers take the orientation from EXIF; without it the tag is left out.
    """
    try:
        header = read_header(block)
        directory, _ = read_directory(block, header, header.first)
    except (MediaError, struct.error):
        return None
    kept = without_copies(directory, header.order, rewritten)
    kept = kept if oriented else {tag: value for tag, value in kept.items() if tag != ORIENTATION}
    start = (b"II*\0" if header.order == "<" else b"MM\0*") + struct.pack(header.order + "I", 8)
    return start + laid_out(kept, 8, header.order)


def without_copies(directory: Directory, order: str, rewritten: tuple[int, int] | None) -> Directory:
    """A directory under the policy `all`: no copies of the picture, and true of the size that is written."""
    kept: Directory = {}
    for tag, value in directory.items():
        if isinstance(value, dict):
            kept[tag] = without_copies(value, order, rewritten)
        elif (entry := _entry(tag, value)) is not None:
            kept[tag] = entry
    if rewritten is not None:
        kept.update({tag: number(1, order) for tag in kept.keys() & {ORIENTATION}})
        sizes = {tag: rewritten[axis] for tag, axis in _DIMENSIONS.items() if tag in kept}
        kept.update({tag: Entry(LONG, struct.pack(order + "I", size)) for tag, size in sizes.items()})
    return kept


def _entry(tag: int, entry: Entry) -> Entry | None:
    if tag in _COPIES:
        return None
    if tag == XMP:
        packet = scrubbed_xmp(entry.raw)
        return None if packet is None else Entry(1, packet)
    if tag == PHOTOSHOP:
        return Entry(1, scrubbed_photoshop(entry.raw))
    if tag == IPTC:
        # Some writers declare IPTC as LONG; as bytes it is the same in both byte orders.
        return Entry(7, scrubbed_iptc(entry.raw))
    return None if len(entry.raw) > _LONGEST or holds_picture(entry.raw) else entry


def scrubbed_photoshop(block: bytes) -> bytes:
    """Photoshop's 8BIM resources without its thumbnails and without anything that holds a picture."""
    kept, at = b"", 0
    while block[at : at + 4] == b"8BIM" and at + 12 <= len(block):
        name = (block[at + 6] + 2) // 2 * 2
        (size,) = struct.unpack_from(">I", block.ljust(at + 10 + name, b"\0"), at + 6 + name)
        value = block[at + 10 + name : at + 10 + name + size]
        kept += _resource(struct.unpack_from(">H", block, at + 4)[0], block[at : at + 6 + name], value)
        at += 10 + name + size + size % 2
    return kept


def _resource(identity: int, head: bytes, value: bytes) -> bytes:
    # 1033 and 1036 are thumbnails, 1058 and 1059 EXIF with its own, 1060 XMP with its own.
    if identity in (1033, 1036, 1058, 1059, 1060) or len(value) > _LONGEST or holds_picture(value):
        return b""
    value = scrubbed_iptc(value) if identity == 1028 else value
    return head + struct.pack(">I", len(value)) + value + b"\0" * (len(value) % 2)


def scrubbed_iptc(block: bytes) -> bytes:
    """IPTC datasets without the object preview (2:200 to 2:202); cut where the block is damaged."""
    kept, at = b"", 0
    while at + 5 <= len(block) and block[at] == 0x1C:
        size = struct.unpack_from(">H", block, at + 3)[0]
        if size & 0x8000:
            # Extended datasets exist only for values above 32 KiB, which are previews.
            break
        dataset = block[at : at + 5 + size]
        preview = block[at + 1] == 2 and block[at + 2] in (200, 201, 202)
        kept += b"" if preview or holds_picture(dataset) else dataset
        at += 5 + size
    return kept


# --- Orientation outside of EXIF


_EXIF, _XMP = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"
_IN_XMP = re.compile(rb"tiff:Orientation\s{0,9}(?:=\s{0,9}[\"']|>)\s{0,9}([1-8])\s{0,9}[\"'<]")
_RAW_PROFILE = re.compile(rb"\s{0,9}(\w{1,9})\s{1,9}\d{1,9}\s([0-9a-fA-F\s]*)")


def completed(block: bytes, packet: bytes) -> bytes:
    """An EXIF block that states the orientation, from its TIFF header on; `block` itself where nothing is to be added.

    block: the picture's own EXIF block, or nothing; what it states counts. packet: its XMP packet, or nothing.
    """
    stated = _IN_XMP.search(packet)
    if stated is None:
        return block
    header, directory = Header("<", False, 8), Directory()
    try:
        header = read_header(block)
        directory = read_directory(block, header, header.first)[0]
    except (MediaError, struct.error):
        pass
    if ORIENTATION in directory:
        return block
    order = header.order
    start = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    return start + laid_out(directory | {ORIENTATION: number(int(stated.group(1)), order)}, 8, order)


def raw_profile(text: bytes) -> tuple[bytes, bytes]:
    """The EXIF block and the XMP packet in a text of ImageMagick's ("Raw profile type exif"); empty where none is."""
    match = _RAW_PROFILE.match(text)
    if match is None:
        return b"", b""
    digits = b"".join(match.group(2).split())
    value = bytes.fromhex(digits[: len(digits) // 2 * 2].decode("ascii"))
    if value.startswith(_XMP) or match.group(1) == b"xmp":
        return b"", value.removeprefix(_XMP)
    return value.removeprefix(_EXIF), b""


_PICTURES = ("Thumbnails", "PageInfo", "GImage", "Data", "Container", "Directory", "HasExtendedXMP")
_NAMESPACES = (
    "http://ns.adobe.com/xap/1.0/g/img/",
    "http://ns.google.com/photos/",
    "http://ns.adobe.com/hdr-gain-map/",
    "http://ns.apple.com/HDRGainMap/",
    "http://ns.apple.com/pixeldatainfo/",
)
_ORIENTATION = "{http://ns.adobe.com/tiff/1.0/}Orientation"
_LONGEST_PROPERTY = 4096
_HEAD = b'<?xpacket begin="\xef\xbb\xbf" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
_TAIL = b'\n<?xpacket end="w"?>'


def scrubbed_xmp(packet: bytes) -> bytes | None:
    """The packet without thumbnails, gain maps, depth maps, long opaque values and orientation.

    None where it cannot be read: what cannot be read cannot be checked. Declarations of entities are refused.
    """
    try:
        text = packet.decode("utf-8-sig").strip("\0 \r\n\t")
        if "<!DOCTYPE" in text or "<!ENTITY" in text:
            return None
        root = ElementTree.fromstring(text)
    except (UnicodeDecodeError, ElementTree.ParseError):
        return None
    _cut(root)
    return _HEAD + ElementTree.tostring(root, encoding="utf-8", xml_declaration=False) + _TAIL


def _cut(element: ElementTree.Element) -> None:
    for name in [name for name, value in element.attrib.items() if _unwanted(name, value)]:
        del element.attrib[name]
    for child in [child for child in element if _unwanted(child.tag, child.text or "")]:
        element.remove(child)
    if len(element):
        # Text beside elements has no meaning here.
        element.text = None
    for child in element:
        child.tail = None
        # A list entry that is itself a picture in base64 has a harmless name.
        _cut(child)


def _unwanted(name: object, value: str) -> bool:
    if not isinstance(name, str) or len(value) > _LONGEST_PROPERTY or holds_picture(value.encode("utf-8", "replace")):
        return True
    space, _, local = name.rpartition("}")
    return local in _PICTURES or name == _ORIENTATION or space[1:].startswith(_NAMESPACES)
