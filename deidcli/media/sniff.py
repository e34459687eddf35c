"""What a file is, by its first bytes and never by its name."""

from __future__ import annotations

import re

HEAD = 1024
"""Bytes of a file that are needed to recognise it; a transport stream is recognised only by where its packets begin."""
_AVIF = (b"avif", b"avis")
_HEIF = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1", b"mif2")


def image_kind(head: bytes) -> str | None:
    """ "jpeg", "png", "webp", "gif", "bmp", "tiff", "jpeg2000", "avif" or "heif"; None for another.

    head: `HEAD` bytes.
    """
    if head.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "gif"
    if head.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return "tiff"
    if head.startswith((b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51")):
        return "jpeg2000"
    return _boxed(head) or _bitmap(head)


def _boxed(head: bytes) -> str | None:
    if head[4:8] != b"ftyp":
        return None
    if head[8:12] not in _AVIF + _HEIF:
        return None
    return "avif" if any(brand in _AVIF for brand in _brands(head)) else "heif"


def _brands(head: bytes) -> list[bytes]:
    size = int.from_bytes(head[:4], "big")
    return [head[8:12], *(head[at : at + 4] for at in range(16, min(size, len(head)), 4))]


def _bitmap(head: bytes) -> str | None:
    # Two letters are too little to go by: the size of the second header has few values.
    known = int.from_bytes(head[14:18], "little") in (12, 40, 52, 56, 64, 108, 124)
    return "bmp" if head[:2] == b"BM" and known else None


_MAGIC = (
    (b"FLV\1", "flv"),
    (b"YUV4MPEG2", "y4m"),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "asf"),
    (b"OggS", "ogg"),
    (b"\0\0\1\xba", "mpeg"),
    (b"\x06\x0e\x2b\x34\x02\x05\x01\x01\x0d\x01\x02\x01\x01\x02", "mxf"),
    (b"nut/multimedia container\0", "nut"),
    (b"DKIF", "ivf"),
)
_ATOMS = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")


def video_kind(head: bytes) -> str | None:
    """The container of a video, "mp4", "mov", "mkv", "webm", "avi", "mpegts" and others; None for anything else.

    Each of them may hold sound alone, which shows only when it is opened. head: `HEAD` bytes.
    """
    if image_kind(head) is not None:
        return None
    if head[4:8] == b"ftyp" and any(brand in _AVIF + _HEIF for brand in _brands(head)):
        return None  # a picture whose first brand is damaged
    if head[4:8] in _ATOMS:
        return "mp4" if head[4:8] == b"ftyp" and head[8:12] != b"qt  " else "mov"
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        return "webm" if b"webm" in head[:64] else "mkv"
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return "avi"
    if any(_beats(head, start, step) for start, step in ((0, 188), (4, 192))):
        return "mpegts"
    return next((kind for magic, kind in _MAGIC if head.startswith(magic)), None) or _elementary(head)


_UNIT = re.compile(rb"\x00\x00\x01([^\x00])(.)", re.DOTALL)
_PARTS = re.compile(rb"--[^\r\n]{1,70}\r?\nContent-Type: *image/jpeg", re.IGNORECASE)


def _elementary(head: bytes) -> str | None:
    """ "h264", "hevc", "mpegvideo", "mpeg4es", "vc1", "av1obu", "dv" or "mpjpeg" for a stream without a container."""
    if re.match(rb"\x00{2,3}\x01[^\x00]", head):
        return _started(_UNIT.findall(head))
    if head[:3] == b"\x1f\x07\x00" and head[80:83] == b"\x3f\x07\x00":
        return "dv"
    if head[:3] == b"\x12\x00\x0a":
        return "av1obu"
    return "mpjpeg" if _PARTS.match(head.lstrip(b"\r\n")) else None


def _started(units: list[tuple[bytes, bytes]]) -> str | None:
    """What a stream with start codes is, by the first bytes of its units."""
    first, second = units[0][0][0], units[0][1][0]
    if first in (0xB3, 0xB0, 0x0F):
        return {0xB3: "mpegvideo", 0xB0: "mpeg4es", 0x0F: "vc1"}[first]
    if second == 1 and first in (0x40, 0x42, 0x46, 0x4E) and any(unit[0] in b"\x40\x42" for unit, _ in units):
        return "hevc"
    kinds = [unit[0] & 31 for unit, _ in units if not unit[0] & 0x80]
    # A delimiter or a message may come before the parameters.
    return "h264" if kinds and kinds[0] in (6, 7, 9) and 7 in kinds else None


_NEXT_JPEG = re.compile(rb"\xff\xd9[\x00\r\n]{0,1024}\xff\xd8\xff")
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
FRAMES = 3
"""So many pictures of one size, one behind the other, make a file of JPEGs a video."""


def is_motion_jpeg(data: bytes) -> bool:
    """Whether JPEGs of one size follow each other, as network cameras write them.

    Photographs with a second picture behind the first (MPO, gain maps) are none: they say so in an MPF segment.
    """
    if not data.startswith(b"\xff\xd8\xff") or _NEXT_JPEG.search(data) is None:
        return False
    at = 0
    sizes: list[bytes] = []
    while len(sizes) < FRAMES and data[at : at + 2] == b"\xff\xd8":
        size, at = _jpeg(data, at)
        if size is None:
            return False
        sizes.append(size)
        while data[at : at + 1] in (b"\0", b"\r", b"\n"):
            at += 1
    return len(sizes) == FRAMES and len(set(sizes)) == 1


def _jpeg(data: bytes, at: int) -> tuple[bytes | None, int]:
    """The size (its four bytes) of the JPEG that begins there, and where it ends; None where that is unclear."""
    size: bytes | None = None
    at += 2
    while (found := _MARKER.search(data, at)) is not None:
        at, code = found.start(), data[found.start() + 1]
        if code == 0xD9:
            return size, at + 2
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        if code == 0xE2 and data[at + 4 : at + 8] == b"MPF\0":
            return None, at
        if 0xC0 <= code <= 0xCF and code not in (0xC4, 0xC8, 0xCC):
            size = data[at + 5 : at + 9]
        at += 2 + length
    return None, len(data)


def _beats(head: bytes, start: int, step: int) -> bool:
    """Whether every packet begins with the byte of a transport stream; one proves nothing, four of them do."""
    places = head[start::step]
    return len(places) >= 4 and set(places) == {0x47}
