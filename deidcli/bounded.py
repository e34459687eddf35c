"""Files that are read whole: no more of them than can be held, though they be sparse, growing or without an end."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from typing import BinaryIO

PICTURE = 1 << 31
LIST, SECRET = 1 << 28, 1 << 20
_STEP = 1 << 24


class TooLong(ValueError):
    """A file that holds more than is read of one."""

    def __init__(self, most: int):
        super().__init__(f"it holds more than {most >> 20} MB")


def read(file: BinaryIO, most: int) -> bytes:
    """All that an open file holds. Raises TooLong where that is more than `most` bytes, and OSError."""
    with suppress(OSError, AttributeError):  # one in memory has no number
        found = os.fstat(file.fileno())
        if stat.S_ISREG(found.st_mode) and found.st_size > most:
            raise TooLong(most)
    parts, size = [], 0
    while part := file.read(min(_STEP, most + 1 - size)):
        parts.append(part)
        size += len(part)
        if size > most:
            raise TooLong(most)
    return parts[0] if len(parts) == 1 else b"".join(parts)
