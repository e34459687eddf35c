"""Labels: what people said of the faces of a pack, read from a CSV, as targets for the heads of a classifier."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from deidcli.errors import UsageError
from deidcli.networks.classifiers import Head
from deidcli.training.data import Pack

IMAGE = "image"  # the column that names the file as a pack does


def read_labels(paths: Sequence[Path]) -> dict[str, dict[str, str]]:
    """The rows of CSV files with a column `image`, by its value. Raises UsageError for a file that has none."""
    rows: dict[str, dict[str, str]] = {}
    for path in paths:
        try:
            with path.open(encoding="utf-8", newline="") as file:
                rows.update({row[IMAGE]: row for row in csv.DictReader(file)})
        except (OSError, KeyError, UnicodeDecodeError) as error:
            raise UsageError(f"--labels {path}: {error}", f"give a CSV with the column {IMAGE}") from error
    return rows


def labelled(pack: Pack, labels: dict[str, dict[str, str]], heads: Sequence[Head]) -> tuple[Pack, dict]:
    """The faces of `pack` that have a usable label for every head, and their targets (n, classes) float32 by head.

    A word is one-hot; a number is shared by the two places it lies between, so that their mean is that number. Raises
    UsageError where no face is left.
    """
    said = [_targets(labels.get(str(name), {}), heads) for name in pack.names]
    kept = np.array([row is not None for row in said], bool)
    if not kept.any():
        asked = ", ".join(head.name for head in heads)
        raise UsageError(f"no face of the pack has a label for {asked}", "give --labels with these columns")
    columns = zip(*(row for row in said if row is not None), strict=True)
    return pack_rows(pack, kept), {head.name: np.stack(rows) for head, rows in zip(heads, columns, strict=True)}


def pack_rows(pack: Pack, rows: np.ndarray) -> Pack:
    """The rows (mask or indices) of a pack."""
    return Pack(pack.crops[rows], pack.descriptors[rows], pack.names[rows])


def _targets(row: dict[str, str], heads: Sequence[Head]) -> list[np.ndarray] | None:
    targets = [_target(row.get(head.name) or "", head) for head in heads]
    known = [target for target in targets if target is not None]
    return known if len(known) == len(heads) else None


def _target(word: str, head: Head) -> np.ndarray | None:
    if head.places is None:
        return np.eye(len(head.classes), dtype=np.float32)[head.classes.index(word)] if word in head.classes else None
    try:
        place = float(np.clip(float(word), head.places[0], head.places[-1]))
    except ValueError:
        return None
    return np.array([np.interp(place, head.places, unit) for unit in np.eye(len(head.places))], np.float32)


def held_out(names: np.ndarray, share: float) -> np.ndarray:
    """Which of the files (n,) str are kept from training, (n,) bool: `share` of them, by a hash of the name alone."""
    numbers = [int.from_bytes(hashlib.sha256(str(name).encode()).digest()[:4], "big") for name in names]
    return np.array(numbers) < share * 2**32
