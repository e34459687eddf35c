"""The manifest: one JSON line a file, written when the file is in its place; and what a later run takes from it."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from deidcli.engine.output import digest
from deidcli.errors import MediaError, UsageError

DONE, SKIPPED, FAILED = "done", "skipped", "failed"
ACTIONS = ("replaced", "covered")
SALVAGED = "salvaged"  # what could be decoded of a damaged file was written


@dataclass(frozen=True)
class Row:
    """What became of one file.

    input: its name below the folder that was given. output: its path, None where nothing lies there; of a failed file
    what lies there is of an earlier run, or not ours at all. sha256,
    output_sha256: of both files. size: [width, height] in pixels. faces: a dict for each face of each frame, of
    closed-set methods with `person`, `surrogate`, `group` and `guarantee` (methods/closed.py); tracks: in their place,
    where faces were followed through a video, a dict for each track. detector: what found them, None where they were
    given. settings: the fingerprint of all that decides what is written. seconds: from opening to writing. error: one
    line. notes: what is not as in the source.
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
    detector: str | None = None
    method: str | None = None
    options: dict[str, Any] | None = None
    settings: str | None = None
    seconds: float = 0.0
    error: str | None = None
    notes: tuple[str, ...] = ()

    def actions(self) -> dict[str, int]:
        """How many faces were "replaced" and "covered"; one that is in many frames counts in each."""
        count = {word: sum(track.get(word, 0) for track in self.tracks) for word in ACTIONS}
        for face in self.faces:
            count[face["action"]] += 1
        return {word: number for word, number in count.items() if number}

    def as_json(self) -> str:
        return json.dumps(asdict(self), ensure_ascii=False)


class Manifest:
    """An open manifest. A line is on disk before the next is made; the torn last line of a killed run is dropped."""

    def __init__(self, path: Path, keep: bool):
        """keep: go on after the lines that are there; otherwise they are replaced. Raises UsageError if it cannot."""
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if keep:
                _drop_torn_line(path)
            # Unbuffered: a line that does not fit on a full disk is not tried again with the next one.
            self._file: IO[bytes] = path.open("ab" if keep else "wb", buffering=0)
        except OSError as error:
            reason = f"the manifest {path} cannot be written: {error.strerror}"
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

    def close(self) -> None:
        self._file.close()


def encoded(text: str) -> bytes:
    """JSON as UTF-8. A byte of a name that is no UTF-8 becomes the escape "\\udcXX", which JSON reads back."""
    return text.encode("utf-8", "backslashreplace")


@dataclass(frozen=True)
class Earlier:
    """What an earlier run has done. rows: the last row of each input."""

    rows: dict[str, dict]

    @classmethod
    def load(cls, path: Path) -> Earlier:
        """The rows of a manifest; none where there is no such file."""
        if not path.exists():
            return cls({})
        known: dict[str, dict] = {}
        for line in _whole_lines(path):
            row = json.loads(line)
            if not (left_alone(row) and row["input"] in known):
                known[row["input"]] = row
        return cls(known)

    def has(self, name: str, source: Path | None, target: Path | None, settings: str) -> bool:
        """Whether a file needs no second run: same input, same settings, and its output is still what was written."""
        row = self.rows.get(name)
        if row is None or row.get("status") not in (DONE, SKIPPED) or row.get("settings") != settings or source is None:
            return False
        if _digest(source) != row.get("sha256"):
            return False
        if row["status"] == SKIPPED:
            return True
        return target is not None and _digest(target) == row.get("output_sha256")


def left_alone(row: dict[str, Any]) -> bool:
    """Whether a row says that the file failed and that its output is as it was: an earlier row tells of that."""
    return row.get("status") == FAILED and row.get("output") is not None


def _digest(path: Path) -> str:
    try:
        return digest(path)
    except OSError:
        return "unreadable"  # is no sha256: the run itself will say what is wrong with the file


def _whole_lines(path: Path) -> list[bytes]:
    """The lines of a manifest that are whole JSON; the last one of a killed run may not be."""
    if not path.exists():
        return []
    # Bytes, because a line may be torn within a letter, and a name may hold what text counts as the end of a line.
    return [line for line in path.read_bytes().splitlines(keepends=True) if _is_whole(line)]


def _drop_torn_line(path: Path) -> None:
    """Replace the file by its whole lines, in one step, if a killed run left half a line."""
    lines = _whole_lines(path)
    if path.exists() and sum(map(len, lines)) != path.stat().st_size:
        repaired = path.with_name(path.name + ".deid-part")
        repaired.write_bytes(b"".join(lines))
        repaired.replace(path)


def _is_whole(line: bytes) -> bool:
    try:
        row = json.loads(line)
    except ValueError:
        return False
    return line.endswith(b"\n") and isinstance(row, dict) and "input" in row


def totals(rows: Iterable[Row]) -> dict[str, int]:
    """How many files ended with each status, and how many faces of the files that were written with each action."""
    count: dict[str, int] = {}
    for row in rows:
        said = {row.status: 1, **(row.actions() if row.status in (DONE, SALVAGED) else {})}
        for word, number in said.items():
            count[word] = count.get(word, 0) + number
    return count
