"""What a file is, by its first bytes and never by its name."""

from __future__ import annotations

HEAD = 1024
"""How many bytes of a file are enough to tell; a transport stream shows itself only by where its packets begin."""
_AVIF = (b"avif", b"avis")
_HEIF = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1", b"mif2")


def image_kind(head: bytes) -> str | None:
    """ "jpeg", "png", "webp", "gif", "bmp", "tiff", "avif" or "heif"; None for another. head: `HEAD` bytes."""
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
    return next((kind for magic, kind in _MAGIC if head.startswith(magic)), None)


def _beats(head: bytes, start: int, step: int) -> bool:
    """Whether every packet begins with the byte of a transport stream; one letter says nothing, four of them do."""
    places = head[start::step]
    return len(places) >= 4 and set(places) == {0x47}
