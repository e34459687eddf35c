"""Where a file or a folder goes: built under another name beside its place, and moved there whole or not at all."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import sys
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from deidcli.errors import MediaError
from deidcli.presets import sha256

PART = ".deid-part"


class Target:
    """A file in the making. `path` None means standard output, which gets the whole file at once or nothing."""

    def __init__(self, path: Path | None, overwrite: bool):
        self.path, self.overwrite = path, overwrite
        self.file: BinaryIO | None = None
        self.folder: Path | None = None

    @property
    def suffix(self) -> str:
        """Of the name it will have, like ".mp4"; empty for standard output."""
        return self.path.suffix if self.path else ""

    def open(self) -> BinaryIO:
        """The file to write into. Raises MediaError where it exists and may not be replaced, or cannot be made."""
        if self.path is None:
            self.file = io.BytesIO()
            return self.file
        if os.path.lexists(self.path) and not self.overwrite:
            raise MediaError(f"{self.path} exists", "use --overwrite, or --resume to go on with an earlier run")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.file = self._part.open("wb")
        except OSError as error:
            raise _unwritable(self.path, error) from error
        return self.file

    def open_folder(self) -> Path:
        """An empty folder to write into. Raises MediaError where it exists and may not be replaced, or cannot be."""
        if self.path is None:
            raise MediaError("a folder cannot go to standard output", "name an output folder")
        if os.path.lexists(self.path) and not (self.overwrite or _is_empty(self.path)):
            raise MediaError(f"{self.path} exists", "use --overwrite, or --resume to go on with an earlier run")
        try:
            shutil.rmtree(self._part, ignore_errors=True)
            self._part.mkdir(parents=True)
        except OSError as error:
            raise _unwritable(self.path, error) from error
        self.folder = self._part
        return self.folder

    def commit(self) -> str:
        """Put the file in its place. Returns its sha256. Raises MediaError and leaves nothing behind on failure."""
        try:
            return self._commit()
        except OSError as error:
            self.discard()
            raise _unwritable(self.path, error) from error

    def discard(self) -> None:
        """Drop what was written so far."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder = None
        if self.file is None:
            return
        # A full disk refuses what is still in the buffer, and that is to be dropped anyway.
        with suppress(OSError):
            self.file.close()
        self.file = None
        if self.path is not None:
            with suppress(OSError):
                self._part.unlink(missing_ok=True)

    @property
    def stands(self) -> bool:
        """Whether something lies at its path."""
        return self.path is not None and os.path.lexists(self.path)

    def _commit(self) -> str:
        if self.folder is not None:
            return self._commit_folder(self.folder)
        assert self.file is not None
        if self.path is None and isinstance(self.file, io.BytesIO):
            whole = self.file.getvalue()
            sys.stdout.buffer.write(whole)
            sys.stdout.buffer.flush()
            return hashlib.sha256(whole).hexdigest()
        self.file.flush()
        # Without this a power cut could leave an empty file under the final name.
        os.fsync(self.file.fileno())
        self.file.close()
        written = digest(self._part)
        os.replace(self._part, self.path)
        self.file = None
        return written

    def _commit_folder(self, folder: Path) -> str:
        written = digest(folder)
        if self.path.is_dir() and not self.path.is_symlink():
            self._clear(folder)
        elif os.path.lexists(self.path):
            self.path.unlink()
        os.replace(folder, self.path)
        self.folder = None
        return written

    def _clear(self, folder: Path) -> None:
        """Take an earlier folder away, if nothing lies in it but what this one brings again, or pictures by number."""
        new = {path.name for path in folder.iterdir()}
        kept = [path for path in self.path.iterdir() if path.name not in new and not path.stem.isdigit()]
        if kept:
            raise MediaError(f"{self.path} holds other things, like {kept[0].name}", "name another output folder")
        shutil.rmtree(self.path)

    @property
    def _part(self) -> Path:
        # The same name in every run, so that a killed one leaves no litter once it was resumed; short, because the
        # final name may be as long as the system allows.
        return self.path.parent / f".{hashlib.sha256(os.fsencode(self.path.name)).hexdigest()[:24]}{PART}"


def _is_empty(path: Path) -> bool:
    return path.is_dir() and next(path.iterdir(), None) is None


def _unwritable(path: Path | None, error: OSError) -> MediaError:
    reason = (error.strerror or str(error)).lower()
    return MediaError(f"{path or 'standard output'} cannot be written: {reason}", "check room and permissions")


def digest(path: Path) -> str:
    """The sha256 of a file; of a folder that of all files in it, by name. Raises OSError."""
    if not path.is_dir():
        return sha256(path)
    whole = hashlib.sha256()
    for inside in sorted((p for p in path.iterdir() if p.is_file()), key=lambda p: p.name):
        whole.update(f"{sha256(inside)}  {inside.name}\n".encode("utf-8", "surrogateescape"))
    return whole.hexdigest()
