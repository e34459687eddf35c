"""Crop: what a container cuts off every frame before it is shown: Matroska's PixelCrop and the clean aperture of MP4.

Neither FFmpeg's decoders nor PyAV apply these; a program that ignores them shows, and keeps, what the author cut away.
"""

from __future__ import annotations

from fractions import Fraction
from typing import BinaryIO

Window = tuple[int, int, int, int]
"""Left, top, right and bottom of what is shown, in pixels of the stored frame."""

_MOST = 1 << 24  # bytes of an index that are looked at
_PARENTS = (b"\x18\x53\x80\x67", b"\x16\x54\xae\x6b")  # segment, tracks
_TRACK, _VIDEO = b"\xae", b"\xe0"
_BOTTOM, _TOP, _LEFT, _RIGHT = b"\x54\xaa", b"\x54\xbb", b"\x54\xcc", b"\x54\xdd"
_BOXES = (b"trak", b"mdia", b"minf", b"stbl")


def window(file: BinaryIO, kind: str, size: tuple[int, int]) -> Window | None:
    """What is shown of frames of `size` (width, height) in a file of this kind; None for all of them.

    Where tracks differ the first that is cropped counts. A crop that leaves nothing is none.
    """
    if kind in ("mkv", "webm"):
        left, top, right, bottom = _matroska(file)
    elif kind in ("mp4", "mov"):
        left, top, right, bottom = _clean_aperture(file, size)
    else:
        return None
    # Inwards to whole samples of halved chroma: what is cut away must not come back.
    shown = left + left % 2, top + top % 2, size[0] - right, size[1] - bottom
    nothing = shown[2] - shown[0] < 2 or shown[3] - shown[1] < 2 or min(left, top, right, bottom) < 0
    return None if nothing or shown == (0, 0, *size) else shown


def _matroska(file: BinaryIO) -> tuple[int, int, int, int]:
    """Pixels cut off on the left, at the top, on the right and at the bottom (RFC 9559, 5.1.4.1.28.8 and following)."""
    file.seek(0)
    data = file.read(_MOST)
    sides = dict.fromkeys((_LEFT, _TOP, _RIGHT, _BOTTOM), 0)
    waiting = [(0, len(data))]
    while waiting:
        at, end = waiting.pop()
        while at + 2 <= end:
            identity, at = _number(data, at, mask=False)
            length, at = _number(data, at, mask=True)
            if not identity:
                break
            stop = min(end, at + length)
            if identity in (*_PARENTS, _TRACK, _VIDEO):
                waiting.append((at, stop))
            elif identity in sides:
                sides[identity] = int.from_bytes(data[at:stop], "big")
            at = stop
    return sides[_LEFT], sides[_TOP], sides[_RIGHT], sides[_BOTTOM]


def _number(data: bytes, at: int, mask: bool) -> tuple:
    """A number of variable length: its bytes, or its value with `mask`, and where it ends."""
    if at >= len(data) or not data[at]:
        return (0 if mask else b""), len(data)
    count = 9 - data[at].bit_length()
    raw = data[at : at + count]
    if not mask:
        return raw, at + count
    value = int.from_bytes(raw, "big") & ((1 << 7 * count) - 1)
    # All ones is a length that was left open.
    return (len(data) if value == (1 << 7 * count) - 1 else value), at + count


def _clean_aperture(file: BinaryIO, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """As `_matroska`, by the box "clap" of ISO/IEC 14496-12, 12.1.4.1."""
    found = _clap(_index(file))
    if found is None or any(bottom == 0 for _, bottom in found):
        return 0, 0, 0, 0
    wide, high, right, down = (Fraction(top, bottom) for top, bottom in found)
    left = (size[0] - wide) / 2 + right
    top = (size[1] - high) / 2 + down
    sides = left, top, size[0] - wide - left, size[1] - high - top
    return tuple(max(0, -int(-side // 1)) for side in sides)  # type: ignore[return-value]


def _index(file: BinaryIO) -> bytes:
    """What the box "moov" holds, b"" where there is none."""
    end, at = file.seek(0, 2), 0
    while at + 8 <= end:
        file.seek(at)
        head = file.read(16)
        length, start = int.from_bytes(head[:4], "big"), 8
        if length == 1:
            length, start = int.from_bytes(head[8:16], "big"), 16
        if head[4:8] == b"moov":
            file.seek(at + start)
            return file.read(min(length - start if length else end, _MOST))
        if length < 8:
            break
        at += length
    return b""


def _clap(data: bytes) -> list[tuple[int, int]] | None:
    """The four fractions of the first clean aperture below these boxes: width, height, and how far off the middle."""
    at = 0
    while at + 8 <= len(data):
        length, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        if length < 8:
            return None
        body = data[at + 8 : at + length]
        found = None
        if kind in _BOXES:
            found = _clap(body)
        elif kind == b"stsd" and len(body) > 16:
            # A description of pictures has 78 bytes before its own boxes.
            found = _clap(body[16 + 78 :]) if body[12:16] != b"mp4a" else None
        elif kind == b"clap" and len(body) >= 32:
            words = [int.from_bytes(body[n : n + 4], "big", signed=True) for n in range(0, 32, 4)]
            return list(zip(words[::2], words[1::2], strict=True))
        if found is not None:
            return found
        at += length
    return None
