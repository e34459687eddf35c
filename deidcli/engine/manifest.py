"""The manifest: one JSON line a file, written when the file is in its place; and what a later run takes from it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from deidcli.errors import UsageError
from deidcli.presets import sha256

DONE, SKIPPED, FAILED = "done", "skipped", "failed"


@dataclass(frozen=True)
class Row:
    """What became of one file.

    input: its name below the folder that was given. output: its path, None where nothing was written. sha256,
    output_sha256: of both files. size: [width, height] in pixels. faces: a dict for each face of each frame. settings:
    the fingerprint of all that decides what is written. seconds: from opening to writing. error: one line.
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
    method: str | None = None
    options: dict[str, Any] | None = None
    settings: str | None = None
    seconds: float = 0.0
    error: str | None = None

    def as_json(self) -> str:
        return json.dumps(asdict(self), ensure_ascii=False)


class Manifest:
    """An open manifest. Every line is on disk before the next file is begun; a torn last line of a killed run is dropped."""

    def __init__(self, path: Path, keep: bool):
        """keep: go on after the lines that are there; otherwise they are replaced. Raises UsageError where it cannot."""
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if keep:
                _drop_torn_line(path)
            self._file: IO[str] = path.open("a" if keep else "w", encoding="utf-8")
        except OSError as error:
            raise UsageError(f"the manifest {path} cannot be written: {error.strerror}", "give --manifest FILE") from error

    def add(self, row: Row) -> None:
        self._file.write(row.as_json() + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()


@dataclass(frozen=True)
class Earlier:
    """What an earlier run has done. rows: the last row of each input."""

    rows: dict[str, dict]

    @classmethod
    def load(cls, path: Path) -> Earlier:
        """The rows of a manifest; none where there is no such file."""
        if not path.exists():
            return cls({})
        rows = (json.loads(line) for line in _whole_lines(path))
        return cls({row["input"]: row for row in rows})

    def has(self, name: str, source: Path | None, target: Path | None, settings: str) -> bool:
        """Whether a file needs no second run: same input, same settings, and its output is still what was written."""
        row = self.rows.get(name)
        if row is None or row["status"] == FAILED or row["settings"] != settings or source is None:
            return False
        if sha256(source) != row["sha256"]:
            return False
        if row["status"] == SKIPPED:
            return True
        return target is not None and target.is_file() and sha256(target) == row["output_sha256"]


def _whole_lines(path: Path) -> list[str]:
    """The lines of a manifest that are whole JSON; the last one of a killed run may not be."""
    if not path.exists():
        return []
    return [line for line in path.read_text(encoding="utf-8").splitlines(keepends=True) if _is_whole(line)]


def _drop_torn_line(path: Path) -> None:
    """Replace the file by its whole lines, in one step, if a killed run left half a line."""
    lines = _whole_lines(path)
    if path.exists() and sum(len(line.encode()) for line in lines) != path.stat().st_size:
        repaired = path.with_name(path.name + ".deid-part")
        repaired.write_text("".join(lines), encoding="utf-8")
        repaired.replace(path)


def _is_whole(line: str) -> bool:
    try:
        return line.endswith("\n") and "input" in json.loads(line)
    except ValueError:
        return False


def totals(rows: Iterable[Row]) -> dict[str, int]:
    """How many files ended with each status, and how many faces with each action."""
    count: dict[str, int] = {}
    for row in rows:
        for word in (row.status, *(face["action"] for face in row.faces)):
            count[word] = count.get(word, 0) + 1
    return count
