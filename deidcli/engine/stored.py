"""Files that lie in no folder of this machine: a member of an archive, an object of a bucket; and their copies here."""

from __future__ import annotations

import hashlib
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO

from deidcli.errors import MediaError
from deidcli.media import sniff

IN_MEMORY = 32 << 20  # bytes of a file that are held in memory; a larger one, and a video, is copied to the disk
BLOCK = 1 << 20
LONGEST = 1024  # letters of a name, as of the longest key of a bucket


class Stored(ABC):
    """A file that can be read and does not lie in a folder. It can be sent to another process.

    name: the last part of its name. size: in bytes, None where that is unknown.
    """

    name: str
    size: int | None

    @abstractmethod
    def open(self, mode: str = "rb") -> BinaryIO:
        """Its bytes, from the first one on. mode: "rb". Raises OSError and MediaError."""

    def changed(self) -> float | None:
        """When it was last changed, in seconds since 1970; None where that is unknown."""
        return None

    def stamp(self) -> tuple[int, int] | None:
        """As `files.stamp_of`: size and time of the last change in nanoseconds, None where these show no change."""
        return None


class Refused(Stored):
    """An archive or an object that cannot be listed: opening it raises why."""

    def __init__(self, name: str, reason: str):
        self.name, self.size, self.reason = name, None, reason

    def open(self, mode: str = "rb") -> BinaryIO:
        raise MediaError(self.reason)


class Copy:
    """The bytes of a stored file on this machine's disk, in a file without a name (in TMPDIR).

    It is gone when it is closed or nobody uses it any more, or the process dies. path: where it can be opened.
    """

    def __init__(self) -> None:
        self.file: IO[bytes] = tempfile.TemporaryFile(prefix="deid-")  # noqa: SIM115 - lives as long as the copy does
        self.path = Path(f"/proc/self/fd/{self.file.fileno()}")
        if not self.path.exists():  # no Linux: the file needs a name
            self.file.close()
            self.file = tempfile.NamedTemporaryFile(prefix="deid-")  # noqa: SIM115
            self.path = Path(self.file.name)

    def close(self) -> None:
        """Let the file go."""
        self.file.close()


def copied(stored: Stored) -> Copy:
    """A stored file, whole, on the disk. Raises OSError and MediaError."""
    copy = Copy()
    with stored.open() as source:
        while block := source.read(BLOCK):
            copy.file.write(block)
    copy.file.flush()
    return copy


def fetched(stored: Stored) -> tuple[bytes | Copy, str]:
    """A stored file and its sha256: a picture in memory, a video or a large file on the disk.

    Raises OSError and MediaError.
    """
    digest, copy, length = hashlib.sha256(), None, 0
    parts: list[bytes] = []
    with stored.open() as source:
        while block := source.read(BLOCK):
            digest.update(block)
            length += len(block)
            if copy is None and (length > IN_MEMORY or (not parts and sniff.video_kind(block[: sniff.HEAD]))):
                copy = Copy()
                copy.file.writelines(parts)
                parts = []
            if copy is not None:
                copy.file.write(block)
            else:
                parts.append(block)
    if copy is None:
        return b"".join(parts), digest.hexdigest()
    copy.file.flush()
    return copy, digest.hexdigest()


def digest_of(stored: Stored) -> str:
    """The sha256 of a stored file. Raises OSError and MediaError."""
    digest = hashlib.sha256()
    with stored.open() as source:
        while block := source.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def unsafe(name: str) -> str:
    """What is wrong with the name of a member or an object, which becomes a path below an output; "" where nothing."""
    if not name or len(name) > LONGEST:
        return f"a name of {len(name)} letters"
    if "\0" in name or "\\" in name or name.startswith("/") or (len(name) > 1 and name[1] == ":"):
        return f"the name {name!r}, which leads elsewhere"
    if ".." in name.split("/") or "." in name.split("/") or "" in name.rstrip("/").split("/"):
        return f"the name {name!r}, which leads elsewhere"
    return ""


def head_of(open_it: Callable[[], BinaryIO]) -> bytes:
    """The first bytes of a stored file, as `sniff` wants them; none of one that cannot be read."""
    try:
        with open_it() as file:
            return file.read(sniff.HEAD)
    except (OSError, MediaError):
        return b""


def suffix_of(name: str) -> str:
    """Of the last part of a name, in small letters, like ".jpg"."""
    return PurePosixPath(name).suffix.lower()
