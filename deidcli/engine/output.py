"""Where files go: the output folder with its lock, and files that are built under a private name and moved into place.

A temporary file is made exclusively, under a random name, readable for its owner alone, and moved to its final name
whole or not at all. Names below the output folder are resolved step by step from the opened folder and never through
a link, so that nothing outside of it is opened for writing, whatever is put there meanwhile.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import stat
import sys
import tempfile
import threading
from abc import abstractmethod
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import BinaryIO

from deidcli.engine import files
from deidcli.engine.files import PART, FolderLock
from deidcli.engine.stored import Stored
from deidcli.errors import MediaError, UsageError

# In such a folder every file is going to fail for itself.
_UNWRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT)
# What a file system answers that has no hard links.
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EACCES, errno.EXDEV)


class OutputFolder:
    """The folder that a run writes into; as a context manager it is made, opened and locked.

    root: None where single files are written, each beside whatever lies there; nothing is locked then. overwrite:
    whether files that exist may be replaced. stale: a message about the lock of a run that was killed.
    """

    def __init__(self, root: Path | None, overwrite: bool = False):
        self.root, self.overwrite, self.stale = root, overwrite, ""
        files.new_mode()  # read before threads are started
        self._held = ExitStack()
        self._locked = False
        self._fd: int | None = None
        self._swept: set[tuple[int, int]] = set()
        self._sweeping = threading.Lock()

    def lock(self, shared: bool = False) -> None:
        """Make and open the folder and claim it. shared: with other parts of the same run (--shard).

        Raises UsageError where it cannot be made, and DeidError where another run writes into it.
        """
        if self.root is None or self._locked:
            return
        try:
            lock = FolderLock(self.root, os.dup(self._opened()), shared)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise UsageError(f"{self.root} cannot be written: {reason}", "name another output folder") from error
        try:
            self.stale = self._held.enter_context(lock).stale
        except OSError as error:
            if error.errno not in _UNWRITABLE:
                raise
        self._locked = True

    @property
    def exists(self) -> bool:
        """Whether there is a folder that can be claimed."""
        return self.root is not None and self.root.is_dir()

    def close(self) -> None:
        """Give the lock back."""
        self._held.close()
        self._fd, self._locked = None, False

    def target(self, path: Path | None, source: Path | Stored | None = None) -> Target:
        """A file to be written at `path`, None for standard output. source: whose permissions it takes."""
        return Target(path, self, source)

    def folder_fd(self, folder: Path, source: Path | None = None) -> int:
        """The opened folder, to be closed by the caller; it and those above it are made where they are missing.

        source: the folder whose permissions a new one takes. Raises OSError, also where a link leads elsewhere or the
        output folder is no longer where it was.
        """
        if self.root is None:
            folder.mkdir(parents=True, exist_ok=True)
            return os.open(folder, files.FOLDER)
        self.check_place()
        # Links within the output folder are followed once, here; what lies behind them is opened step by step.
        real, root = Path(os.path.realpath(folder)), Path(os.path.realpath(self.root))
        if not real.is_relative_to(root):
            raise OSError(errno.EACCES, f"a link leads out of {self.root}")
        inside = real.relative_to(root)
        modes, fd = _modes(inside, source), os.dup(self._opened())
        for part, mode in zip(inside.parts, modes, strict=True):
            try:
                fd = _step(fd, part, mode)
            except BaseException:
                os.close(fd)
                raise
        return fd

    def sweep(self, fd: int) -> None:
        """Remove what killed runs have left in an opened folder: temporary files that nobody holds any more."""
        place = files.inode(os.fstat(fd))
        # Another thread makes no file here before this is done: it would be swept away before it is locked.
        with self._sweeping:
            if place in self._swept:
                return
            with os.scandir(fd) as entries:
                left = [entry.name for entry in entries if entry.name.endswith(PART)]
            for name in left:
                with suppress(OSError):
                    files.remove_unheld(fd, name)
            self._swept.add(place)

    def _opened(self) -> int:
        assert self.root is not None
        if self._fd is None:
            self.root.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(self.root, files.FOLDER)
            self._held.callback(os.close, self._fd)
        return self._fd

    def check_place(self) -> None:
        """Raises OSError where the folder was moved, or another one lies in its place: rows would name what is not."""
        if self.root is None:
            return
        then = files.inode(os.fstat(self._opened()))
        try:
            now = files.inode(os.stat(self.root))
        except FileNotFoundError:
            now = None
        if now != then:
            raise OSError(errno.ESTALE, f"the output folder {self.root} was moved or replaced while the run went on")


class Target:
    """A file or a folder in the making. `path` None means standard output, which gets the whole file at once."""

    def __init__(self, path: Path | None, output: OutputFolder, source: Path | Stored | None = None):
        self.path, self.output = path, output
        self.source = source if isinstance(source, Path) else None
        self.file: BinaryIO | None = None
        self.folder: Path | None = None
        self._part = ""
        self._fd: int | None = None  # the opened folder that it will lie in
        self._claim: int | None = None  # the opened folder in the making, which is locked

    @property
    def suffix(self) -> str:
        """Of the name it will have, like ".mp4"; empty for standard output."""
        return self.path.suffix if self.path else ""

    @property
    def exists(self) -> bool:
        """Whether something lies at its path."""
        return self.path is not None and os.path.lexists(self.path)

    def open(self) -> BinaryIO:
        """The file to write into. Raises MediaError where it exists and may not be replaced, or cannot be made."""
        if self.path is None:
            self.file = io.BytesIO()
            return self.file
        try:
            fd = self._begin(self.exists)
            self.file = open(  # noqa: SIM115 - closed by commit or discard
                self.path.parent / self._part, "x+b", opener=lambda _, flags: files.exclusive(self._part, flags, fd)
            )
        except OSError as error:
            self._end()
            raise unwritable(self.path, error) from error
        return self.file

    def open_folder(self) -> Path:
        """An empty folder to write into. Raises MediaError where it exists and may not be replaced, or cannot be."""
        if self.path is None:
            raise MediaError("a folder cannot go to standard output", "name an output folder")
        try:
            fd = self._begin(self.exists and not _is_empty(self.path))
            self._claim = files.exclusive_folder(self._part, fd)
        except OSError as error:
            self._end()
            raise unwritable(self.path, error) from error
        self.folder = self.path.parent / self._part
        return self.folder

    def commit(self) -> str:
        """Put the file in its place. Returns its sha256. Raises MediaError and leaves nothing behind on failure."""
        try:
            return self._commit()
        except OSError as error:
            raise unwritable(self.path, error) from error
        finally:
            self.discard()

    def discard(self) -> None:
        """Drop what was written so far; what is committed stays."""
        # A full disk refuses what is still in the buffer, and that is to be dropped anyway.
        if self.file is not None:
            with suppress(OSError):
                self.file.close()
        if self._fd is not None and self._part:
            with suppress(OSError):
                files.remove(self._fd, self._part)
        self._end()

    def _begin(self, exists: bool) -> int:
        """Open the folder that it will lie in, and choose a name. Raises MediaError where it may not be replaced."""
        assert self.path is not None
        if exists and not self.output.overwrite:
            raise MediaError(f"{self.path} exists", "use --overwrite, or --resume to go on with an earlier run")
        self._fd = self.output.folder_fd(self.path.parent, self.source.parent if self.source else None)
        self.output.sweep(self._fd)
        self._part = files.part_name()
        return self._fd

    def _end(self) -> None:
        for fd in (self._claim, self._fd):
            if fd is not None:
                os.close(fd)
        self.file = self.folder = self._fd = self._claim = None
        self._part = ""

    def _commit(self) -> str:
        if self.path is None and isinstance(self.file, io.BytesIO):
            whole = self.file.getvalue()
            if sys.stdout is None:
                raise OSError(errno.EBADF, "it is closed")
            sys.stdout.buffer.write(whole)
            sys.stdout.buffer.flush()
            return hashlib.sha256(whole).hexdigest()
        assert self.path is not None and self._fd is not None
        self.output.check_place()
        written = self._settled_folder() if self.folder is not None else self._settled_file()
        self._move(self._fd, self.path.name)
        self._part = ""
        # Without this a power cut could take the name away again.
        with suppress(OSError):
            os.fsync(self._fd)
        return written

    def _settled_file(self) -> str:
        """Everything on the disk, with its permissions; the sha256."""
        assert self.file is not None
        self.file.flush()
        os.fchmod(self.file.fileno(), files.mode_of(self.source))
        os.fsync(self.file.fileno())
        self.file.seek(0)
        digest = hashlib.sha256()
        while block := self.file.read(1 << 20):
            digest.update(block)
        return digest.hexdigest()

    def _settled_folder(self) -> str:
        assert self.folder is not None and self._claim is not None
        like = files.mode_of(self.source)
        for path in self.folder.iterdir():
            # Of a sequence each picture has its own; the frames of a video have the video's.
            original = self.source / path.name if self.source and self.source.is_dir() else None
            path.chmod(files.mode_of(original) if original and original.exists() else like & 0o666)
        os.fchmod(self._claim, like | 0o700 if self.source and self.source.is_dir() else files.searchable(like))
        return files.digest(self.folder)

    def _move(self, fd: int, name: str) -> None:
        """Give it its name, in one step wherever the system can."""
        assert self.path is not None
        old = files.kind(fd, name)
        if not self.output.overwrite and old is not None and not _is_empty(self.path):
            raise FileExistsError(errno.EEXIST, "it exists by now")
        if not self.output.overwrite and self.folder is None:
            # Unlike a rename this does not replace what another program has put there meanwhile.
            try:
                os.link(self._part, name, src_dir_fd=fd, dst_dir_fd=fd, follow_symlinks=False)
                os.unlink(self._part, dir_fd=fd)
                return
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
        if old == stat.S_IFDIR:
            self._clear(fd, name)
        elif old is not None and self.folder is not None:
            os.unlink(name, dir_fd=fd)
        os.replace(self._part, name, src_dir_fd=fd, dst_dir_fd=fd)

    def _clear(self, fd: int, name: str) -> None:
        """Take an earlier folder away, if nothing lies in it but what this one brings again, or pictures by number."""
        assert self.path is not None
        new = {path.name for path in self.folder.iterdir()} if self.folder else set()
        there = [path.name for path in self.path.iterdir()]
        kept = [each for each in there if each not in new and not Path(each).stem.isdigit()]
        if kept:
            raise MediaError(f"{self.path} holds other things, like {kept[0]}", "name another output folder")
        files.remove(fd, name)


class HandedTarget(Target):
    """A file that is built in a file without a name, and handed on whole."""

    @property
    def exists(self) -> bool:
        """Whether something lies at its path."""
        return False

    def open(self) -> BinaryIO:
        self.file = tempfile.TemporaryFile(prefix="deid-")  # noqa: SIM115 - closed by commit or discard
        return self.file

    def open_folder(self) -> Path:
        raise MediaError(f"{self.path}: a folder has no place in an archive or a bucket", "write one file")

    @abstractmethod
    def hand(self, file: BinaryIO, size: int) -> None:
        """Take the whole file, `size` bytes from its beginning on. Raises OSError and MediaError."""

    def _commit(self) -> str:
        assert self.file is not None
        self.file.flush()
        size = self.file.seek(0, os.SEEK_END)
        self.file.seek(0)
        digest = hashlib.sha256()
        while block := self.file.read(1 << 20):
            digest.update(block)
        self.file.seek(0)
        self.hand(self.file, size)
        return digest.hexdigest()


def _step(fd: int, part: str, mode: int) -> int:
    """The folder `part` of an opened folder, which is closed on success; made with `mode` where there is none."""
    with suppress(FileExistsError):
        os.mkdir(part, mode, dir_fd=fd)
    inner = os.open(part, files.FOLDER | os.O_NOFOLLOW, dir_fd=fd)
    os.close(fd)
    return inner


def _modes(inside: Path, source: Path | None) -> list[int]:
    """The permissions of each folder on the way: those of the input's folder that has the same name there."""
    modes = []
    for _ in inside.parts:
        alike = source is not None and source.name == inside.name
        modes.append(stat.S_IMODE(source.stat().st_mode) & 0o777 | 0o700 if source and alike else 0o777)
        inside, source = inside.parent, source.parent if source and alike else None
    return modes[::-1]


def _is_empty(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink() and next(path.iterdir(), None) is None


def unwritable(path: Path | None, error: OSError) -> MediaError:
    """The error for a file that cannot be written, and why."""
    reason = (error.strerror or str(error)).lower()
    return MediaError(f"{path or 'standard output'} cannot be written: {reason}", "check room and permissions")
