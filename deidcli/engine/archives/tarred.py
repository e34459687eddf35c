"""Tar archives, as WebDataset makes shards of them: files of one sample stand together and share the name before the
first point."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from contextlib import suppress
from functools import cached_property
from typing import Any, BinaryIO, cast

from deidcli.engine.archives import Archive, Entry, Rewriter


class Tar(Archive):
    """A tar archive without compression; its members are read where they lie."""

    carries = True

    @cached_property
    def _infos(self) -> list[tarfile.TarInfo]:
        with tarfile.open(self.local, "r:") as file:
            return list(file)

    @property
    def infos(self) -> list[tarfile.TarInfo]:
        """What the archive says of its members."""
        with self._reading:
            return self._infos

    def entries(self) -> Iterator[Entry]:
        for info in self.infos:
            # A sparse file can be far longer than what is there of it.
            yield Entry(
                info.name.removeprefix("./"), info.size, _sample(info.name), info.isreg() and not info.issparse()
            )

    def open(self, index: int) -> BinaryIO:
        info = self.infos[index]
        return cast(BinaryIO, io.BufferedReader(_Part(self.local.open("rb"), info.offset_data, info.size)))

    def rewriter(self, file: BinaryIO) -> Rewriter:
        return _TarRewriter(self, file)

    def close(self) -> None:
        self.__dict__.pop("_infos", None)
        super().close()


class _Part(io.RawIOBase):
    """A part of an opened file, which is closed with it."""

    def __init__(self, file: BinaryIO, start: int, length: int):
        self._file, self._left = file, length
        file.seek(start)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._file.read(min(len(buffer), self._left))
        if not data and self._left:
            raise EOFError("the archive ends within it")
        self._left -= len(data)
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()


class _TarRewriter(Rewriter):
    """Names, times and permissions are kept; owners are not."""

    def __init__(self, archive: Tar, file: BinaryIO):
        self.infos = archive.infos
        self.file = tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT)  # noqa: SIM115 - closed by finish

    def put(self, index: int, data: BinaryIO | None, size: int) -> None:
        if data is None:
            return
        old = self.infos[index]
        info = tarfile.TarInfo(old.name)
        info.mtime, info.mode = int(old.mtime), old.mode & 0o777
        info.size = size
        self.file.addfile(info, data)

    def finish(self) -> None:
        self.file.close()

    def close(self) -> None:
        with suppress(OSError, ValueError):  # the file that it would end may be full, or gone
            self.file.close()


def _sample(path: str) -> str:
    folder, slash, name = path.rpartition("/")
    return folder + slash + name.partition(".")[0]
