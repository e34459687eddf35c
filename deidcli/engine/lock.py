"""The lock of an output folder: one run at a time writes into it, or several parts of one run."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import stat
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from deidcli.engine.files import NO_LOCKS, inode, inode_of
from deidcli.errors import DeidError

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
