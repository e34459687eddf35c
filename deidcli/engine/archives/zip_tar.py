"""Zip archives, and tar archives as WebDataset makes shards of them.

In a shard files of one sample stand together and share the name before the first point.
"""

from __future__ import annotations

import io
import shutil
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from functools import cached_property
from typing import Any, BinaryIO, cast

from deidcli.engine.archives import Archive, Entry, Rewriter
from deidcli.errors import MediaError

_ENCRYPTED = 0x1
_KEPT = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_LINK, _FORMAT = 0o120000, 0o170000


class Zip(Archive):
    """A zip archive; its members are read where they lie."""

    @cached_property
    def _file(self) -> zipfile.ZipFile:
        return zipfile.ZipFile(self.local)

    @property
    def infos(self) -> list[zipfile.ZipInfo]:
        """What the archive says of its members."""
        with self._reading:
            return self._file.infolist()

    def entries(self) -> Iterator[Entry]:
        for info in self.infos:
            link = (info.external_attr >> 16) & _FORMAT == _LINK
            yield Entry(info.filename, info.file_size, plain=not (info.is_dir() or link))

    def open(self, index: int) -> BinaryIO:
        info = self.infos[index]
        if info.flag_bits & _ENCRYPTED:
            raise MediaError(f"{info.filename} is encrypted", "pack it again without a password")
        try:
            return cast(BinaryIO, self._file.open(info))
        except (zipfile.BadZipFile, NotImplementedError) as error:
            raise MediaError(f"{info.filename} is damaged in its archive: {error}", "get a whole copy of it") from error

    def rewriter(self, file: BinaryIO) -> Rewriter:
        return _ZipRewriter(self, file)

    def close(self) -> None:
        if "_file" in self.__dict__:
            self._file.close()
            del self.__dict__["_file"]
        super().close()


class _ZipRewriter(Rewriter):
    """Names, times, permissions and the way of compression are kept; comments and extra fields are not."""

    def __init__(self, archive: Zip, file: BinaryIO):
        self.infos = archive.infos
        self.file = zipfile.ZipFile(file, "w")

    def put(self, index: int, data: BinaryIO | None, size: int) -> None:
        if data is None:
            return
        old = self.infos[index]
        info = zipfile.ZipInfo(old.filename, old.date_time)
        info.compress_type = old.compress_type if old.compress_type in _KEPT else zipfile.ZIP_DEFLATED
        info.external_attr = old.external_attr & 0xFFFF0000
        info.file_size = size  # by which it chooses the form for more than 4 GB
        with self.file.open(info, "w") as target:
            shutil.copyfileobj(data, target)

    def finish(self) -> None:
        self.file.close()

    def close(self) -> None:
        with suppress(OSError, ValueError):  # the file that it would end may be full, or gone
            self.file.close()


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
