"""Labels as targets: what people said of the faces of a pack, for the heads of a classifier."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from deidcli.errors import UsageError
from deidcli.methods.labels import load_labels
from deidcli.networks.classifiers import Head
from deidcli.training.data import Pack, labelled

Targets = dict[str, np.ndarray]  # (n, classes) float32 by the name of the head


def with_labels(pack: Pack, paths: Sequence[Path]) -> Pack:
    """The pack with the columns of CSV files added (`load_labels`). Raises UsageError where they fit no face."""
    columns = dict(pack.labels)
    for path in paths:
        columns.update(labelled(pack.names, load_labels(path)))
    return replace(pack, labels=columns)


def with_targets(pack: Pack, heads: Sequence[Head]) -> tuple[Pack, Targets]:
    """The faces of `pack` that have a usable label for every head, and their targets.

    A word is one-hot; a number is shared by the two places it lies between, so that their mean is that number. Raises
    UsageError for a label that the pack does not have, and where no face is left.
    """
    rows = {head.name: _rows(pack.label(head.name), head) for head in heads}
    known = np.all([values.sum(axis=1) > 0 for values in rows.values()], axis=0)
    if not known.any():
        asked = ", ".join(rows)
        raise UsageError(f"no face of the packs has a usable label for {asked}", "look at the values in --labels")
    return pack.where(known), {name: values[known] for name, values in rows.items()}


def _rows(words: np.ndarray, head: Head) -> np.ndarray:
    """Targets (n, classes) float32 of labels (n,) str; all zero where a label is missing or of no class."""
    return np.stack([_target(str(word), head) for word in words]).astype(np.float32)


def _target(word: str, head: Head) -> np.ndarray:
    if head.places is None:
        return np.array([word == known for known in head.classes], float)
    try:
        place = np.clip(float(word), head.places[0], head.places[-1])
    except ValueError:
        return np.zeros(len(head.places))
    return np.array([np.interp(place, head.places, unit) for unit in np.eye(len(head.places))])


def held_out(names: np.ndarray, share: float) -> np.ndarray:
    """Which of the files (n,) str are kept from training, (n,) bool: `share` of them, by a hash of the name alone."""
    numbers = [int.from_bytes(hashlib.sha256(str(name).encode()).digest()[:4], "big") for name in names]
    return np.array(numbers) < share * 2**32
