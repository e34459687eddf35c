"""Whether a video file is as long as it says: the boxes of MP4, the segment of Matroska, the chunks of AVI."""

from __future__ import annotations

from typing import BinaryIO


def missing(file: BinaryIO, kind: str) -> int:
    """How many bytes a file lacks at its end by its own account; 0 for a whole one, or a kind that does not say."""
    size = file.seek(0, 2)
    file.seek(0)
    measure = {"mp4": _boxes, "mov": _boxes, "mkv": _segment, "webm": _segment, "avi": _chunks}.get(kind)
    return max(0, measure(file, size) - size) if measure else 0


def _boxes(file: BinaryIO, size: int) -> int:
    """Where the last box ends. ISO/IEC 14496-12, 4.2: a size, a kind, and the real size where the first is 1."""
    at = 0
    while at + 8 <= size:
        file.seek(at)
        head = file.read(16)
        length = int.from_bytes(head[:4], "big")
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        # 0 is a box up to the end of the file; less than its own head is none, as the bytes behind some cameras' files.
        if length < 8 or not head[4:8].isalnum():
            return size
        at += length
    return at


def _segment(file: BinaryIO, size: int) -> int:
    """Where the segment ends. RFC 8794: an identity, a length of 1 to 8 bytes, then so many bytes."""
    _, header = _number(file, identity=True), _number(file)
    file.seek(header or 0, 1)
    _, length = _number(file, identity=True), _number(file)
    return size if length is None else file.tell() + length


def _number(file: BinaryIO, identity: bool = False) -> int | None:
    """A number of variable length; None for one that is left open, as in a live recording, or that is torn."""
    first = file.read(1)
    if not first or not first[0]:
        return None
    count = 9 - first[0].bit_length()
    whole = int.from_bytes(first + file.read(count - 1), "big")
    if identity:
        return whole
    value = whole & ((1 << 7 * count) - 1)
    return None if value == (1 << 7 * count) - 1 else value


def _chunks(file: BinaryIO, size: int) -> int:
    """Where the last RIFF chunk ends; long files have several."""
    at = 0
    while at + 12 <= size:
        file.seek(at)
        head = file.read(8)
        if head[:4] != b"RIFF":
            return size
        at += 8 + int.from_bytes(head[4:], "little")
        at += at % 2
    # An encoder that was stopped leaves a length of 0.
    return at if at > 8 else size
