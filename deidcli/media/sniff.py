"""What a file is, by its first bytes and never by its name."""

from __future__ import annotations

HEAD = 64
"""How many bytes of a file are enough to tell."""
_AVIF = (b"avif", b"avis")
_HEIF = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1", b"mif2")


def image_kind(head: bytes) -> str | None:
    """ "jpeg", "png", "webp", "gif", "bmp", "tiff", "avif" or "heif"; None for another. head: 64 bytes or more."""
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
    size = int.from_bytes(head[:4], "big")
    brands = [head[8:12], *(head[at : at + 4] for at in range(16, min(size, len(head)), 4))]
    if head[8:12] not in _AVIF + _HEIF:
        return None
    return "avif" if any(brand in _AVIF for brand in brands) else "heif"


def _bitmap(head: bytes) -> str | None:
    # Two letters are too little to go by: the size of the second header has few values.
    known = int.from_bytes(head[14:18], "little") in (12, 40, 52, 56, 64, 108, 124)
    return "bmp" if head[:2] == b"BM" and known else None
