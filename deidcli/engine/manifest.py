"""The manifest: one JSON line a file, written when the file is in its place; and what a later run takes from it."""

from __future__ import annotations

import errno
import json
import os
import stat
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from deidcli.engine.buckets import Url, saved
from deidcli.engine.files import claimed, digest, replace_file, stamp_of
from deidcli.engine.records import LONGEST, Record, parsed
from deidcli.engine.stored import Copy, Stored
from deidcli.errors import DeidError, MediaError, UsageError

DONE, SKIPPED, FAILED = "done", "skipped", "failed"
_BEGIN = b'{"input": '  # of every row
Place = Path | Stored | None
ACTIONS = ("replaced", "covered", "left")
COPIED = "copied"  # a file that is neither a picture nor a video was copied as it is
NAMED = 3  # files that failed and are named in the summary
SALVAGED = "salvaged"  # what could be decoded of a damaged file was written


@dataclass(frozen=True)
class Row:
    """What became of one file.

    input: its name below the folder that was given. output: its path, None where nothing lies there; of a failed file
    what lies there is of an earlier run, or not ours at all. sha256,
    output_sha256: of both files. size: [width, height] in pixels. faces: a dict for each face of each frame, of
    closed-set methods with `person`, `surrogate`, `group` and `guarantee` (methods/closed.py); tracks: in their place,
    where faces were followed through a video, a dict for each track. zones: frames in which a zone was covered. sound:
    what of a video is kept beside its pictures: "audio", "subtitle", "data". detector: what found them, None where they
    were given. search: what decided which faces were found (detector, threshold, min_face and so on), or the sha256 of
    the list that gave them. settings: the fingerprint of all that decides what is written. seconds: from opening to
    writing. error: one line. notes: what is not as in the source. stamp: size in bytes and time of the last change in
    nanoseconds of the input when it was read, None where these would not show a change. made: by what it was made: see
    `engine.settings.made_by`, and "at", when, in UTC.
    """

    input: str
    output: str | None
    status: str
    sha256: str | None = None
    output_sha256: str | None = None
    format: str | None = None
    size: tuple[int, int] | None = None
    frames: int = 0
    faces: tuple[dict[str, Any], ...] = ()
    tracks: tuple[dict[str, Any], ...] = ()
    zones: int = 0
    sound: tuple[str, ...] = ()
    detector: str | None = None
    search: dict[str, Any] | None = None
    method: str | None = None
    options: dict[str, Any] | None = None
    settings: str | None = None
    seconds: float = 0.0
    error: str | None = None
    notes: tuple[str, ...] = ()
    stamp: tuple[int, int] | None = None
    made: dict[str, Any] | None = None

    def actions(self) -> dict[str, int]:
        """How many faces were "replaced", "covered" and "left"; one that is in many frames counts in each."""
        count = {word: sum(track.get(word, 0) for track in self.tracks) for word in ACTIONS}
        for face in self.faces:
            count[face["action"]] += 1
        return {word: number for word, number in count.items() if number}

    def as_json(self) -> str:
        return json.dumps(asdict(self), ensure_ascii=False)


class Manifest:
    """An open manifest. A line is on disk before the next is made; the torn last line of a killed run is dropped."""

    def __init__(self, path: Path, keep: bool):
        """keep: go on after the lines that are there; otherwise they are replaced.

        Raises UsageError if it cannot be written, or is a file that is no manifest; DeidError if another run writes it.
        """
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = _opened(path, keep)
        except OSError as error:
            reason = f"the manifest {path} cannot be written: {(error.strerror or str(error)).lower()}"
            raise UsageError(reason, "give --manifest FILE") from error

    def add(self, row: Row) -> None:
        """Append a row. Raises MediaError, and leaves no half of a line, where there is no room for it."""
        start, line = self._file.seek(0, os.SEEK_END), encoded(row.as_json()) + b"\n"
        try:
            if self._file.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            self._file.truncate(start)
            reason = f"{row.input}: has no line in {self.path}: {error.strerror}"
            raise MediaError(reason, "make room; --resume does the file again") from error

    def sync(self) -> None:
        """See to it that every line survives a power cut. Raises OSError."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


def _opened(path: Path, keep: bool) -> IO[bytes]:
    """The manifest, opened to append to it, without buffer: what does not fit is not tried again with the next line.

    A link is not followed, and a file that has other names too is replaced by its copy, so that only the manifest is
    written to.
    """
    there = path.lstat() if os.path.lexists(path) else None
    if there is not None and stat.S_ISCHR(there.st_mode):
        return path.open("wb", buffering=0)  # /dev/null
    if there is not None:
        if not stat.S_ISREG(there.st_mode):
            kind = "a link" if stat.S_ISLNK(there.st_mode) else "not a file"
            raise UsageError(f"the manifest {path} is {kind} and is not written to", "give another --manifest FILE")
        whole = _checked(path)
        kept = b"".join(whole) if keep else b""
        if len(kept) != there.st_size or there.st_nlink > 1:
            replace_file(path, kept)
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    file = os.fdopen(os.open(path, flags, 0o666), "ab", buffering=0)
    if not claimed(file.fileno()):
        file.close()
        raise _busy(path)
    return file


def _checked(path: Path) -> list[bytes]:
    """The whole lines of a manifest that nobody writes to. Raises UsageError for a file that is none, DeidError."""
    with path.open("rb") as file:
        if not claimed(file.fileno()):
            raise _busy(path)
        return whole_manifest(path, path)


def whole_manifest(copy: Path, path: Path) -> list[bytes]:
    """The whole lines of a manifest, or of a copy of it. Raises UsageError for a file that is none."""
    with copy.open("rb") as file:
        first = file.readline(LONGEST + 1)
    whole = _whole_lines(copy)
    # Of a run that was killed at its first line there is half of it.
    torn = not first.endswith(b"\n") and first[: len(_BEGIN)] == _BEGIN[: len(first)]
    if first and not torn and not _is_whole(first):
        said = f"{path} is not a manifest and would be written over"
        raise UsageError(said, "give --manifest the name of a new file, or of a manifest")
    return whole


def _fetched(url: Url) -> Copy:
    copy = Copy()
    copy.file.writelines(saved(url))
    copy.file.flush()
    return copy


def _busy(path: Path) -> DeidError:
    return DeidError(f"another run writes the manifest {path}", "wait for it, or give another --manifest")


def encoded(text: str) -> bytes:
    """JSON as UTF-8. A byte of a name that is no UTF-8 becomes the escape "\\udcXX", which JSON reads back."""
    return text.encode("utf-8", "backslashreplace")


@dataclass(frozen=True)
class Earlier:
    """What an earlier run has done. rows: the last row of each input."""

    rows: dict[str, Record]

    @classmethod
    def load(cls, path: Path) -> Earlier:
        """The rows of a manifest; none where there is no such file. Raises OSError for one in a bucket."""
        copy = _fetched(path) if isinstance(path, Url) else None
        known: dict[str, Record] = {}
        for line in _whole_lines(path if copy is None else copy.path):
            row = parsed(line)
            if not (left_alone(row) and row["input"] in known):
                known[row["input"]] = row
        return cls(known)

    def has(self, name: str, source: Place, target: Place, settings: str, by_stamp: bool = False) -> bool:
        """Whether a file needs no second run: same input, same settings, and its output is still what was written.

        by_stamp: an input of the same size and time is the same, and an output that is there is; only where one of
        them differs are the bytes compared.
        """
        row = self.rows.get(name)
        if row is None or row.get("status") not in (DONE, SKIPPED) or row.get("settings") != settings or source is None:
            return False
        same = by_stamp and row.get("stamp") is not None and row["stamp"] == list(stamp_of(source) or ())
        if not same and _digest(source) != row.get("sha256"):
            return False
        if row["status"] == SKIPPED:
            return True
        if same and _is_there(target):
            return True
        return target is not None and _digest(target) == row.get("output_sha256")


def left_alone(row: Mapping[str, Any]) -> bool:
    """Whether a row says that the file failed and that its output is as it was: an earlier row tells of that."""
    return row.get("status") == FAILED and row.get("output") is not None


def _is_there(target: Place) -> bool:
    if isinstance(target, Stored):
        return bool(target.size)
    return target is not None and os.path.isfile(target) and os.path.getsize(target) > 0


def _digest(path: Path | Stored) -> str:
    try:
        return digest(path)
    except (OSError, MediaError):
        return "unreadable"  # is no sha256: the run itself will say what is wrong with the file


def _whole_lines(path: Path) -> list[bytes]:
    """The lines of a manifest that are whole rows; the last one of a killed run may not be."""
    if not path.exists():
        return []
    # Bytes, because a line may be torn within a letter, and a name may hold what text counts as the end of a line.
    with path.open("rb") as file:
        return [line for line in iter(lambda: file.readline(LONGEST + 1), b"") if _is_whole(line)]


def _is_whole(line: bytes) -> bool:
    try:
        row = parsed(line)
        row.name("input"), row.text("status"), row.text("settings"), row.text("sha256"), row.text("output_sha256")
        return line.endswith(b"\n") and row.text("output") != "" and "status" in row
    except ValueError:
        return False


@dataclass
class Tally:
    """How many files of a run ended with each status, and how many faces with each action."""

    files: Counter[str] = field(default_factory=Counter)
    faces: Counter[str] = field(default_factory=Counter)
    sound: Counter[str] = field(default_factory=Counter)  # files that keep each kind of track beside their pictures
    doubts: int = 0  # faces of pictures, and tracks of videos, that somebody should look at
    zoned: int = 0  # files in which a zone was covered
    unchanged: int = 0  # files that were written without a face in them
    failures: list[str] = field(default_factory=list)  # the names of the first ones

    def add(self, row: Row) -> None:
        """Count a row."""
        self.files[row.status] += 1
        if row.status == FAILED and len(self.failures) < NAMED:
            self.failures.append(row.input)
        if row.status in (DONE, SALVAGED):
            self.faces.update(row.actions())
            self.unchanged += not (row.faces or row.tracks or row.zones)
            self.zoned += bool(row.zones)
            self.sound.update(row.sound)
            self.doubts += sum(bool(entry.get("doubt")) for entry in (*row.faces, *row.tracks))

    @property
    def written(self) -> int:
        """Files that were written, whole or salvaged."""
        return self.files[DONE] + self.files[SALVAGED]

    @property
    def failed(self) -> int:
        """Files of which nothing was written."""
        return self.files[FAILED]
