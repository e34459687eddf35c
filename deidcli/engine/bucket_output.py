"""Outputs in buckets: a lock, files that get their names whole, and a manifest that survives the end of its process."""

from __future__ import annotations

import json
import os
import secrets
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, BinaryIO

from deidcli.engine.buckets import (
    PIECE,
    Url,
    as_os_error,
    begins_with,
    filesystem,
    is_whole_at_once,
    key_of,
    object_at,
    objects,
    saved,
    server_of,
)
from deidcli.engine.files import LOCK, PART, holder_text, is_alive, part_name
from deidcli.engine.manifest import Manifest, Row, encoded, whole_manifest
from deidcli.engine.output import HandedTarget, OutputFolder, Target, unwritable
from deidcli.engine.stored import BLOCK, IN_MEMORY, Copy, Stored
from deidcli.errors import DeidError, MediaError, UsageError, one_line

SIGN, GONE = 30.0, 300.0  # seconds between two heartbeats of a run, and without one after which it counts as dead
SAVE = 10.0  # seconds between two savings of new lines


class BucketFolder(OutputFolder):
    """A folder of a bucket.

    When a run is killed nothing is left of its lock but an object, so the run renews it at intervals (a heartbeat).
    """

    def __init__(self, root: Path | None, overwrite: bool = False):
        super().__init__(root, overwrite)
        self._lock: _ObjectLock | None = None
        self._standing: set[str] | None = None  # what lay here when it was claimed

    def has_object(self, url: str) -> bool:
        """Whether an object lies at a URL, or did when the folder was claimed. Raises OSError."""
        if self._standing is not None:
            return key_of(url) in self._standing
        return object_at(url) is not None

    @property
    def exists(self) -> bool:
        """Whether there is a folder that can be claimed: there always is."""
        return self.root is not None

    def lock(self, shared: bool = False) -> None:
        if self.root is None or self._lock is not None:
            return
        try:
            lock = _ObjectLock(str(self.root), shared)
            self.stale = lock.acquire()
            self._lock = lock
            if not self.overwrite:
                self._standing = {key_of(str(self.root)) + f"/{name}" for name, _ in objects(self.root)}
            if not is_whole_at_once(str(self.root)):
                self._sweep()
        except OSError as error:
            raise UsageError(f"{self.root} cannot be written: {one_line(error)}", "name another output") from error

    def close(self) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def check_place(self) -> None:
        """A bucket does not move."""

    def target(self, path: Path | None, source: Path | Stored | None = None) -> Target:
        return ObjectTarget(path, self, source)

    def _sweep(self) -> None:
        """Remove what killed runs have left: nobody else writes here."""
        fs = filesystem(server_of(str(self.root)))
        with suppress(OSError):
            for key in fs.find(key_of(str(self.root))):
                if key.endswith(PART):
                    fs.rm_file(key)


class ObjectTarget(HandedTarget):
    """An object in the making."""

    @property
    def exists(self) -> bool:
        """Whether an object lies at its URL."""
        return object_at(str(self.path)) is not None

    def open(self) -> BinaryIO:
        try:
            assert isinstance(self.output, BucketFolder)
            exists = not self.output.overwrite and self.output.has_object(str(self.path))
        except OSError as error:
            raise unwritable(self.path, error) from error
        if exists:
            raise MediaError(f"{self.path} exists", "use --overwrite, or --resume to go on with an earlier run")
        return super().open()

    def hand(self, file: BinaryIO, size: int) -> None:
        send(str(self.path), file, size, self.output.overwrite)


def send(url: str, file: IO[bytes], size: int, overwrite: bool) -> None:
    """Put a file in its place in one step. Raises OSError, and nothing is there then.

    Where a service puts objects in their place whole, that is one request, or many parts that are joined by the last
    one. Elsewhere the file is written under a temporary name and moved.
    """
    fs, key = filesystem(server_of(url)), key_of(url)
    with as_os_error(url):
        if is_whole_at_once(url):
            if size <= IN_MEMORY:
                fs.pipe_file(key, file.read(), mode="overwrite" if overwrite else "create")
            else:
                _in_parts(fs, key, file, "wb" if overwrite else "xb")
            return
        fs.makedirs(fs._parent(key), exist_ok=True)
        part = f"{fs._parent(key)}/{part_name()}"
        try:
            _in_parts(fs, part, file, "wb")
            if not overwrite and fs.exists(key):
                raise FileExistsError(17, "it exists by now")
            if fs.exists(key):
                fs.rm_file(key)
            fs.mv(part, key)
        except BaseException:
            with suppress(Exception):
                fs.rm_file(part)
            raise


def _in_parts(fs: Any, key: str, file: IO[bytes], mode: str) -> None:
    """Write a file in blocks; nothing of it is there before the end of the last one."""
    target = fs.open(key, mode, autocommit=False)
    try:
        while block := file.read(BLOCK):
            target.write(block)
        target.close()
        target.commit()
    except BaseException:
        with suppress(Exception):
            target.discard()
        with suppress(AttributeError):
            target.closed = True  # otherwise its end would put it in its place
        raise


class _ObjectLock:
    """A lock that is an object. Parts of one run have one each; a run of its own wants to be alone."""

    def __init__(self, root: str, shared: bool):
        self.root, self.shared, self.token = root, shared, secrets.token_hex(8)
        self.url = f"{root}/{LOCK}" + (f"-{self.token}" if shared else "")
        self.fs, self.since = filesystem(server_of(root)), time.strftime("%Y-%m-%d %H:%M:%S")
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._show, name="deid-lock", daemon=True)

    def acquire(self) -> str:
        """Claim the folder; a message about a lock whose run was killed. Raises DeidError where it is taken."""
        stale = ""
        with as_os_error(self.root):
            for key, holder in self._others():
                if _is_alive(holder):
                    self._refuse(holder)
                self.fs.rm_file(key)
                stale = f"the run that was writing into {self.root}{holder_text(holder)} did not end properly; going on"
            try:
                self._write("create")
            except (FileExistsError, OSError) as error:
                others = self._others()
                if not others:
                    raise
                self._refuse(others[0][1], error)
            # Two that came at once see each other now.
            if rivals := [holder for _, holder in self._others() if _is_alive(holder)]:
                self.release()
                self._refuse(rivals[0])
        self._thread.start()
        return "" if self.shared else stale

    def release(self) -> None:
        """Give the folder back."""
        self._over.set()
        with suppress(Exception):
            if self._read(key_of(self.url)).get("run") == self.token:
                self.fs.rm_file(key_of(self.url))

    def _others(self) -> list[tuple[str, dict[str, Any]]]:
        """The locks that do not go with this one, and what each says."""
        own = key_of(self.url)
        names = [key for key in begins_with(self.root, LOCK) if key != own]
        if self.shared:
            names = [key for key in names if key.endswith(LOCK)]
        elif self.fs.exists(own) and self._read(own).get("run") != self.token:
            names.append(own)
        return [(key, self._read(key)) for key in names]

    def _read(self, key: str) -> dict[str, Any]:
        with suppress(ValueError, FileNotFoundError):
            said = json.loads(self.fs.cat_file(key))
            if isinstance(said, dict) and isinstance(said.get("pid"), int) and isinstance(said.get("host"), str):
                return said
        return {}

    def _write(self, mode: str) -> None:
        said = {"pid": os.getpid(), "host": socket.gethostname(), "since": self.since, "seen": time.time()}
        data = json.dumps({**said, "run": self.token}).encode()
        if mode == "create" and not is_whole_at_once(self.root):
            self.fs.makedirs(key_of(self.root), exist_ok=True)
            if self.fs.exists(key_of(self.url)):
                raise FileExistsError(17, "it exists")
            mode = "overwrite"
        self.fs.pipe_file(key_of(self.url), data, **({"mode": mode} if mode == "create" else {}))

    def _show(self) -> None:
        while not self._over.wait(SIGN):
            with suppress(Exception):
                self._write("overwrite")

    def _refuse(self, holder: dict[str, Any], error: Exception | None = None) -> None:
        said = f"another run writes into {self.root}{holder_text(holder)}"
        raise DeidError(said, "wait for it, or name another output folder") from error


def _is_alive(holder: dict[str, Any]) -> bool:
    """Whether the run of a lock is still there: by its process on this machine, by its last heartbeat elsewhere."""
    if not holder:
        return False
    if holder["host"] == socket.gethostname():
        return is_alive(holder["pid"])
    seen = holder.get("seen")
    return not isinstance(seen, (int, float)) or time.time() - seen < GONE


class BucketManifest(Manifest):
    """A manifest in a bucket, where nothing can be appended: it grows on this machine's disk.

    New lines are saved as objects beside it (`NAME.piece-...`) every few seconds, and all as one in the end. Of a run
    that is killed the lines of the last seconds are missing: those files are done again.
    """

    def __init__(self, url: Url, keep: bool):
        """Raises UsageError where it cannot be read, or is no manifest."""
        self.path, self._copy = url, Copy()
        try:
            for data in saved(url):
                self._copy.file.write(data)
            self._copy.file.flush()
            lines = whole_manifest(self._copy.path, url)
            self._copy.file.seek(0)
            self._copy.file.truncate()
            self._copy.file.writelines(lines if keep else ())
            self._pieces = begins_with(str(url.parent), url.name + PIECE)
            if not keep:
                self._clear()
        except OSError as error:
            raise UsageError(f"the manifest {url} cannot be read: {one_line(error)}", "give --manifest FILE") from error
        self._saved, self._when = self._copy.file.tell(), time.monotonic()
        self._token = secrets.token_hex(4)

    def add(self, row: Row) -> None:
        """As `Manifest.add`; raises OSError where it cannot be saved."""
        self._copy.file.write(encoded(row.as_json()) + b"\n")
        if time.monotonic() - self._when > SAVE:
            self.sync()

    def sync(self) -> None:
        """Save what is new. Raises OSError."""
        end = self._copy.file.tell()
        if end > self._saved:
            self._copy.file.seek(self._saved)
            data = self._copy.file.read(end - self._saved)
            url = f"{self.path}{PIECE}{time.time_ns():020}-{self._token}"
            with as_os_error(url):
                filesystem(server_of(url)).pipe_file(key_of(url), data)
            self._pieces.append(key_of(url))
            self._saved = end
        self._when = time.monotonic()

    def close(self) -> None:
        """Put all lines in their place, and take the pieces away. Raises DeidError."""
        size = self._copy.file.tell()
        self._copy.file.seek(0)
        try:
            send(str(self.path), self._copy.file, size, overwrite=True)
            self._clear_pieces()
        except OSError as error:
            said = f"the manifest {self.path} cannot be written: {one_line(error)}"
            raise DeidError(said, "--resume does again what it does not list") from error
        finally:
            self._copy.close()

    def _clear(self) -> None:
        if object_at(self.path):
            filesystem(server_of(str(self.path))).rm_file(key_of(str(self.path)))
        self._clear_pieces()

    def _clear_pieces(self) -> None:
        for key in self._pieces:
            filesystem(server_of(str(self.path))).rm_file(key)
        self._pieces = []
