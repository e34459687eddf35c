"""Labels of pictures from a CSV file, for packs, for evaluation, and for groups of one attribute value."""

from __future__ import annotations

import csv
from pathlib import Path

from deidcli.errors import UsageError

IMAGE = "image"  # the column that names the file; where none is called so, the first does
MISSING = ""  # a label that is not known


def load_labels(path: Path) -> dict[str, dict[str, str]]:
    """For each column the value of each file, named relative to the folder of the pictures. Raises UsageError."""
    hint = f"give a CSV with a head, file names in the column {IMAGE} or the first column"
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            rows = csv.DictReader(file)
            columns = list(rows.fieldnames or [])
            name = IMAGE if IMAGE in columns else columns[0] if columns else ""
            table = [(row[name], row) for row in rows]
    except (OSError, ValueError, KeyError, csv.Error) as error:
        raise UsageError(f"{path}: {error}", hint) from error
    columns = [column for column in columns if column != name]
    if not columns:
        raise UsageError(f"{path}: has no labels", hint)
    return {column: {name: row[column] or MISSING for name, row in table} for column in columns}
