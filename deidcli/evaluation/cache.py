"""What was found in pictures, kept over runs: rows of numbers by name in one file, never a pixel.

SQLite, because several runs may share the file and a killed one leaves it whole.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import numpy as np

from deidcli.errors import UsageError

FILE = "faces.sqlite"


class Cache:
    """Rows of float64 by name in FILE of a folder. Raises UsageError where that cannot be used."""

    def __init__(self, folder: Path):
        self.path = folder / FILE
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with closing(self._open()) as base, base:
                base.execute("CREATE TABLE IF NOT EXISTS rows (name TEXT PRIMARY KEY, numbers BLOB NOT NULL)")
        except (OSError, sqlite3.Error) as error:
            raise UsageError(f"--cache {folder} cannot be used: {error}", "name another folder, or none") from error

    def get(self, name: str) -> np.ndarray | None:
        """The row called `name`, None where there is none."""
        with closing(self._open()) as base:
            found = base.execute("SELECT numbers FROM rows WHERE name = ?", (name,)).fetchone()
        return None if found is None else np.frombuffer(found[0], np.float64)

    def put(self, rows: Mapping[str, np.ndarray]) -> None:
        """Keep rows, all or none of them."""
        entries = [(name, np.asarray(row, np.float64).tobytes()) for name, row in rows.items()]
        with closing(self._open()) as base, base:
            base.executemany("INSERT OR REPLACE INTO rows VALUES (?, ?)", entries)

    def _open(self) -> sqlite3.Connection:
        return sqlite3.connect(self.path, timeout=60)


def default_folder() -> Path:
    """`deid` in the user's cache folder, which XDG_CACHE_HOME names."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "deid"
