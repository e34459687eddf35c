"""The one reader for what people and other programs write: JSON lines and CSV, checked for type, range, depth and size.

Whatever a file holds, a reader gives values that are what they say, or raises UsageError with one line that names the
file and the entry.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn, TextIO

from deidcli.errors import UsageError

LONGEST = 1 << 26  # bytes of a line; the row of a long video has a few million
DEEPEST = 16  # arrays and objects within each other
NAMES = 1 << 15  # characters of a name; no system allows as many
BOM = b"\xef\xbb\xbf"


class Missing(KeyError, ValueError):
    """An entry lacks a key that it has to have."""

    def __str__(self) -> str:
        return str(self.args[0])


class Record(dict[str, Any]):
    """One entry of a file. Its methods raise ValueError for a value that is not what was asked for."""

    def __missing__(self, key: str) -> Any:
        raise Missing(f"it has no {key!r}")

    def name(self, key: str) -> str:
        """The name of a file, as `os.fsdecode` gives it."""
        text = self[key]
        if not isinstance(text, str) or not text or len(text) > NAMES or "\0" in text:
            raise ValueError(f"{key} is the name of a file, not {shortened(text)}")
        text.encode("utf-8", "surrogateescape")
        return text

    def text(self, key: str) -> str | None:
        """A text, None where it is missing or null."""
        value = self.get(key)
        if value is not None and not isinstance(value, str):
            raise ValueError(f"{key} is a text, not {shortened(value)}")
        return value

    def whole(self, key: str, low: int, high: int, default: int | None = None) -> int:
        """A whole number from `low` to `high`."""
        return whole(self[key] if default is None or key in self else default, key, low, high)

    def number(self, key: str, low: float, high: float, default: float | None = None) -> float:
        """A finite number from `low` to `high`."""
        return number(self[key] if default is None or key in self else default, key, low, high)

    def array(self, key: str, default: bool = False) -> list[Any]:
        """A list; default: an empty one where it is missing or null."""
        value = self.get(key) if default else self[key]
        if value is None and default:
            return []
        if not isinstance(value, list):
            raise ValueError(f"{key} is a list, not {shortened(value)}")
        return value

    def records(self, key: str, default: bool = False) -> Iterator[Record]:
        """A list of objects, as records."""
        for value in self.array(key, default):
            yield record(value, key)


def record(value: Any, what: str = "an entry") -> Record:
    """`value` as a record. Raises ValueError where it is no object."""
    if not isinstance(value, dict):
        raise ValueError(f"{what} is an object, not {shortened(value)}")
    return Record(value)


def whole(value: Any, what: str, low: int, high: int) -> int:
    """`value` as a whole number from `low` to `high`. Raises ValueError."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ValueError(f"{what} is a whole number from {low} to {high}, not {shortened(value)}")
    return value


def number(value: Any, what: str, low: float, high: float) -> float:
    """`value` as a finite number from `low` to `high`. Raises ValueError."""
    # Written so that nan is out of range as well.
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise ValueError(f"{what} is a number from {low:g} to {high:g}, not {shortened(value)}")
    return float(value)


def shortened(value: Any) -> str:
    """A value as it is shown in an error, of whatever size and depth it is."""
    if isinstance(value, (list, tuple)):
        return f"a list of {len(value)}"
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 10**30:
        return "a number of many digits"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def json_lines(path: Path) -> Iterator[tuple[int, Record]]:
    """(number from 1, entry) of the lines of a file that are not empty. Raises UsageError, OSError."""
    with path.open("rb") as file:
        for number_, line in enumerate(iter(lambda: file.readline(LONGEST + 1), b""), 1):
            line = line.removeprefix(BOM) if number_ == 1 else line
            if line.strip():
                try:
                    yield number_, parsed(line)
                except ValueError as error:
                    refuse(path, number_, error)


def parsed(line: bytes, longest: int = LONGEST) -> Record:
    """One line of JSON, or a whole file, as a record. Raises ValueError."""
    if len(line) > longest:
        raise ValueError(f"it is longer than {longest} bytes")
    try:
        value = json.loads(line.decode("utf-8", "surrogateescape"), parse_constant=_no_number, object_pairs_hook=_once)
    except RecursionError:
        raise ValueError("lists lie too deep within each other") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not JSON: {error.msg} at character {error.pos}") from None
    if _depth(value) > DEEPEST:
        raise ValueError(f"lists lie more than {DEEPEST} deep within each other")
    return record(value)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON, none of whose keys comes twice: programs differ in which of the two they take."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key comes twice in one object")
    return found


def csv_rows(path: Path) -> Iterator[tuple[int, Mapping[str, str]]]:
    """(number from 1, row by the names of the head) of a CSV file. Raises UsageError, OSError."""
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader, number_ = csv.DictReader(iter(lambda: _line(file), "")), 0
        while True:
            number_ += 1
            try:
                row = next(reader, None)
            except (csv.Error, ValueError) as error:
                refuse(path, number_, error)
            if number_ == 1 and len(set(reader.fieldnames or ())) < len(reader.fieldnames or ()):
                refuse(path, number_, ValueError("a column comes twice"))
            if row is None:
                return
            if None in row or None in row.values():
                refuse(path, number_, ValueError("it has more or fewer columns than the head"))
            yield number_, row


def _line(file: TextIO) -> str:
    line = file.readline(LONGEST + 1)
    if len(line) > LONGEST:
        raise ValueError(f"it is longer than {LONGEST} letters")
    return line


def refuse(path: Path, entry: int, error: Exception) -> NoReturn:
    """Raise UsageError for an entry of a file."""
    said = " ".join(str(error).split()) or type(error).__name__
    raise UsageError(f"{path}, entry {entry}: {said}", "see `deid detect --help` for the format") from error


def finite(text: str, what: str) -> float:
    """The number that `text` writes. Raises ValueError."""
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"{what} is a number, not {shortened(text)}") from None
    if not math.isfinite(value):
        raise ValueError(f"{what} is a number, not {shortened(text)}")
    return value


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number of JSON")


def _depth(value: Any) -> int:
    """How deep lists and objects lie within each other; no deeper than one more than allowed is looked."""
    level, depth = [value], 0
    while level and depth <= DEEPEST:
        inner = [each for each in level if isinstance(each, (list, dict))]
        if not inner:
            return depth
        depth += 1
        level = [item for each in inner for item in (each.values() if isinstance(each, dict) else each)]
    return depth
