"""Files of our own: made exclusively under a private name, locked while they are open, removed without following links.

Folders are given as opened file descriptors (`fd`), so that a name means the same file whatever is moved meanwhile.
Also the lock of an output folder: one run at a time writes into it, or several parts of one run.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import secrets
import socket
import stat
import time
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from deidcli.engine.stored import Stored, digest_of
from deidcli.errors import DeidError
from deidcli.media.image.reader import numbered
from deidcli.presets import sha256

PART = ".deid-part"
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
SETTLED = 2_000_000_000  # nanoseconds; the coarsest clock of a file system in use
# What a file system answers that knows no locks.
NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EBADF)


def part_name() -> str:
    """A new name for a file in the making; short, because the final name may be as long as the system allows."""
    return f".{secrets.token_hex(12)}{PART}"


def digest(path: Path | Stored) -> str:
    """The sha256 of a file; of a folder that of its numbered pictures, or of all its files where it has none, by name.

    Raises OSError, and MediaError for a stored file.
    """
    if isinstance(path, Stored):
        return digest_of(path)
    if not path.is_dir():
        return sha256(path)
    names = sorted(p.name for p in path.iterdir() if p.is_file())
    whole = hashlib.sha256()
    for name in sorted(name for _, name in numbered(names)) or names:
        whole.update(f"{sha256(path / name)}  {name}\n".encode("utf-8", "surrogateescape"))
    return whole.hexdigest()


def tree_digest(path: Path) -> str:
    """The sha256 of a file; of a folder that of all files below it, by their names. Raises OSError."""
    if not path.is_dir():
        return sha256(path)
    whole = hashlib.sha256()
    for each in sorted(each for each in path.rglob("*") if each.is_file()):
        whole.update(f"{sha256(each)}  {each.relative_to(path).as_posix()}\n".encode("utf-8", "surrogateescape"))
    return whole.hexdigest()


def replace_file(path: Path, data: bytes) -> None:
    """Put `data` in the place of a file in one step, whatever links lead there. Raises OSError."""
    fd = os.open(path.parent, FOLDER)
    name = part_name()
    try:
        with open(name, "xb", opener=lambda _, flags: exclusive(name, flags, fd)) as file:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), mode_of(path))
            os.fsync(file.fileno())
        os.replace(name, path.name, src_dir_fd=fd, dst_dir_fd=fd)
    finally:
        with suppress(OSError):
            os.unlink(name, dir_fd=fd)
        os.close(fd)


def claimed(fd: int) -> bool:
    """Whether this process now holds the lock of an opened file, or nobody can hold one there."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in NO_LOCKS
    return True


def exclusive(name: str, flags: int, fd: int) -> int:
    """Make a file that was not there, for its owner alone, and lock it. Raises OSError."""
    while True:
        file = os.open(name, flags | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=fd)
        if ours(file, name, fd):
            return file
        os.close(file)


def exclusive_folder(name: str, fd: int) -> int:
    """As `exclusive`, an empty folder."""
    while True:
        os.mkdir(name, 0o700, dir_fd=fd)
        with suppress(FileNotFoundError):  # taken away already
            folder = os.open(name, FOLDER | os.O_NOFOLLOW, dir_fd=fd)
            if ours(folder, name, fd):
                return folder
            os.close(folder)


def ours(file: int, name: str, fd: int) -> bool:
    """Lock a temporary file for as long as it is open, so that no other run takes it for one that was left behind.

    False where one has taken it away between its making and its locking (see `remove_unheld`).
    """
    with suppress(OSError):
        fcntl.flock(file, fcntl.LOCK_EX)
    return inode_of(name, fd) == inode(os.fstat(file))


def mode_of(source: Path | Stored | None) -> int:
    """The permissions that an output takes from its input; what a new file gets where there is none."""
    if isinstance(source, Path):
        with suppress(OSError):
            return stat.S_IMODE(source.stat().st_mode) & 0o777
    return new_mode()


@cache
def new_mode() -> int:
    """The permissions of a new file. The system tells the mask only while it is changed, so it is asked once."""
    mask = os.umask(0o077)
    os.umask(mask)
    return 0o666 & ~mask


def searchable(mode: int) -> int:
    """The permissions of a folder for whoever may read a file of `mode`."""
    return mode | (mode & 0o444) >> 2 | 0o700


def inode(place: os.stat_result) -> tuple[int, int]:
    """The identity of a file (device and inode), whatever its name."""
    return place.st_dev, place.st_ino


def inode_of(name: str, folder: int) -> tuple[int, int] | None:
    """The `inode` of a name in an opened folder, None where there is none."""
    try:
        return inode(os.stat(name, dir_fd=folder, follow_symlinks=False))
    except FileNotFoundError:
        return None


def kind(fd: int, name: str) -> int | None:
    """The type of a file, as in `stat.S_IFMT`; None where there is none."""
    try:
        return stat.S_IFMT(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return None


def remove(fd: int, name: str) -> None:
    """Remove a file, a link, or a folder with all that is in it. Raises OSError."""
    if kind(fd, name) == stat.S_IFDIR:
        for _, folders, files, inner in os.fwalk(name, topdown=False, dir_fd=fd):
            for each in files:
                os.unlink(each, dir_fd=inner)
            for each in folders:
                # A link to a folder counts as one here.
                (os.rmdir if kind(inner, each) == stat.S_IFDIR else os.unlink)(each, dir_fd=inner)
        os.rmdir(name, dir_fd=fd)
    else:
        os.unlink(name, dir_fd=fd)


def remove_unheld(fd: int, name: str) -> None:
    """Remove a file that no process has locked. Raises OSError for one that is locked."""
    if kind(fd, name) not in (stat.S_IFREG, stat.S_IFDIR):
        os.unlink(name, dir_fd=fd)
        return
    held = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=fd)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        remove(fd, name)
    finally:
        os.close(held)


def stamp_of(path: Path | Stored) -> tuple[int, int] | None:
    """Size and time of the last change (nanoseconds) of a file, by which a later run sees that it is another one.

    None for a folder, and for a file that was changed a moment ago or, by its clock, will be: it could be changed once
    more without its time showing it.
    """
    if isinstance(path, Stored):
        return path.stamp()
    try:
        found = path.stat()
    except OSError:
        return None
    settled = time.time_ns() - found.st_mtime_ns > SETTLED
    return (found.st_size, found.st_mtime_ns) if stat.S_ISREG(found.st_mode) and settled else None


LOCK = ".deid-lock"


class FolderLock:
    """The lock file of an output folder, as a context manager. The system frees it when its process ends in any way.

    fd: the opened folder, which is closed in the end. shared: with other parts of the same run. stale: a message about
    a lock whose run was killed. Entering raises DeidError where another run holds it, and OSError.
    """

    def __init__(self, root: Path, fd: int, shared: bool):
        self.root, self._folder, self.shared, self.stale = root, fd, shared, ""
        self._file: int | None = None

    def __enter__(self) -> FolderLock:
        try:
            while self._file is None:
                self._file = self._acquired()
        except BaseException:
            os.close(self._folder)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        assert self._file is not None
        with suppress(OSError):
            # Of several parts the last one removes it.
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(LOCK, dir_fd=self._folder)
        os.close(self._file)
        os.close(self._folder)

    def _acquired(self) -> int | None:
        """The locked file; None where it was taken away meanwhile. Raises DeidError where another run holds it."""
        file = _private(LOCK, self._folder)
        try:
            before = _holder(file)
            if not self._take(file, before):
                raise DeidError(
                    f"another run writes into {self.root}{holder_text(before)}",
                    "wait for it, or name another output folder",
                )
            if inode(os.fstat(file)) != inode_of(LOCK, self._folder):
                os.close(file)
                return None
        except BaseException:
            os.close(file)
            raise
        if before and not self.shared:
            self.stale = (
                f"the run that was writing into {self.root}{holder_text(before)} did not end properly; going on"
            )
        if not self.shared:
            said = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
            with suppress(OSError):  # on a full disk it is locked all the same
                os.ftruncate(file, 0)
                os.pwrite(file, json.dumps(said).encode(), 0)
        return file

    def _take(self, file: int, before: dict[str, Any]) -> bool:
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if self.shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in NO_LOCKS:
                return False
            # On a file system without locks the file's content decides.
            return not before or (before["host"] == socket.gethostname() and not is_alive(before["pid"]))
        return True


def _private(name: str, folder: int) -> int:
    """Open a file of this run's own: a link, or a file with other names too, is removed and never written to."""
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
    while True:
        try:
            return os.open(name, flags | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=folder)
        except FileExistsError:
            pass
        with suppress(FileNotFoundError):
            there = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if stat.S_ISREG(there.st_mode) and there.st_nlink == 1:
                return os.open(name, flags, dir_fd=folder)
            os.unlink(name, dir_fd=folder)


def _holder(file: int) -> dict[str, Any]:
    """Who wrote a lock file; {} where it cannot be read."""
    with suppress(ValueError, RecursionError):
        said = json.loads(os.pread(file, 4096, 0) or b"null")
        if isinstance(said, dict) and isinstance(said.get("pid"), int) and isinstance(said.get("host"), str):
            return {"pid": said["pid"], "host": said["host"], "since": str(said.get("since", ""))}
    return {}


def holder_text(holder: dict[str, Any]) -> str:
    """Who holds a lock, as text in parentheses for an error; "" where that is not known."""
    return " (process {pid} on {host}, since {since})".format(**holder) if holder else ""


def is_alive(pid: int) -> bool:
    """Whether there is a process of this number on this machine."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
