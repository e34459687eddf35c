"""The orientation that a picture states outside of its own EXIF block: in XMP, or in ImageMagick's raw profile."""

from __future__ import annotations

import re
import struct

from deidcli.errors import MediaError
from deidcli.media.image.exif import ORIENTATION
from deidcli.media.image.ifd import Directory, Header, laid_out, number, read_directory, read_header

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
