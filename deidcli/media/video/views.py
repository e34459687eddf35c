"""Files as FFmpeg is to see them: without a mark behind their end, and without what it would copy beside the tracks."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from io import RawIOBase
from typing import Any, BinaryIO

from deidcli.media.video.units import display

_LAST_MARK = re.compile(rb"(?<=\xff\xd9)\s*--[^\r\n]{1,72}\s*\Z")  # RFC 2046, 5.1.1
_BESIDE = re.compile(rb"pssh|colr(?=prof|rICC)|mdcv|SmDm")
_PICTURES = (b"mdat", b"free", b"skip", b"wide")
_FREE = b"free"
_STEP, _OVERLAP = 1 << 20, 64


class _View(RawIOBase):
    """A file with some of its bytes changed."""

    def __init__(self, file: BinaryIO):
        self._file = file
        self._end = file.seek(0, 2)
        file.seek(0)

    def readable(self) -> bool:
        """As for every file."""
        return True

    def seekable(self) -> bool:
        """As for every file."""
        return True

    def readinto(self, buffer: Any) -> int:
        """As for every file."""
        at = self._file.tell()
        data = self._changed(at, self._file.read(max(0, min(len(buffer), self._end - at))))
        buffer[: len(data)] = data
        return len(data)

    def _changed(self, at: int, data: bytes) -> bytes:
        """Bytes of the file from the place `at` on, as they are to be seen."""
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        """As for every file."""
        return self._file.seek(self._end + offset) if whence == 2 else self._file.seek(offset, whence)

    def tell(self) -> int:
        """As for every file."""
        return self._file.tell()

    def close(self) -> None:
        """As for every file."""
        self._file.close()
        super().close()


class WithoutLastMark(_View):
    """Parts of a message, as cameras send them, without the mark behind the last: FFmpeg waits for another part."""

    def __init__(self, file: BinaryIO):
        super().__init__(file)
        start = file.seek(max(0, self._end - 200))
        if mark := _LAST_MARK.search(file.read()):
            self._end = start + mark.start()
        file.seek(0)


class WithoutBeside(_View):
    """MP4 and MOV without the boxes whose bytes FFmpeg takes from one file to the other: colour profiles, keys, and
    displays that are none. They are seen as free space, wherever they lie. places: where. profile: whether there is a
    colour profile among them.
    """

    def __init__(self, file: BinaryIO):
        super().__init__(file)
        found = tuple(beside(file))
        self.places = tuple(place for place, _ in found)
        self.profile = any(name == b"colr" for _, name in found)
        file.seek(0)

    def _changed(self, at: int, data: bytes) -> bytes:
        seen = bytearray(data)
        for place in self.places[bisect_right(self.places, at - len(_FREE)) : bisect_left(self.places, at + len(data))]:
            first, skipped = max(place - at, 0), max(at - place, 0)
            shown = _FREE[skipped:][: len(data) - first]
            seen[first : first + len(shown)] = shown
        return bytes(seen)


def beside(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """The names of such boxes and where they stand, in any box but those of the pictures and sounds."""
    end, at = file.seek(0, 2), 0
    while at + 8 <= end:
        file.seek(at)
        head = file.read(16)
        length, kind = int.from_bytes(head[:4], "big"), head[4:8]
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        # What cannot be followed is looked through to the end.
        stop = min(at + length, end) if length >= 8 else end
        if length < 8 or kind not in _PICTURES:
            yield from _within(file, at, stop)
        at = stop


def _within(file: BinaryIO, start: int, stop: int) -> Iterator[tuple[int, bytes]]:
    for at in range(start, stop, _STEP):
        file.seek(at)
        data = file.read(min(_STEP + _OVERLAP, stop - at))
        for found in _BESIDE.finditer(data):
            name, body = found[0], data[found.end() : found.end() + 28]
            plain = (name == b"mdcv" and display(body[:24])) or (name == b"SmDm" and display(body[4:28]))
            if found.start() < _STEP and not plain:
                yield at + found.start(), name
