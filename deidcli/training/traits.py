"""Traits: where gender, age and tone lie among identities, so that a method can leave them as they are."""

from __future__ import annotations

import numpy as np

from deidcli.methods.labels import MISSING
from deidcli.training.data import Pack
from deidcli.training.ridge import ridge

# The label of a pack that tells each trait. UTKFace's races stand for tone: they are the only label of it there is.
LABELS = {"gender": "gender", "age": "age", "tone": "race"}
RIDGE = 10.0  # on unit identities; changes little between 1 and 100


def directions(pack: Pack, targets: np.ndarray) -> dict[str, np.ndarray]:
    """For each trait the pack has labels of, the directions (k, d) whose product with an identity tells it best.

    targets: (n, d), the identities of the pack's faces. Linear regression: one direction for a number (an age, as the
    logarithm of the years and one), for classes one fewer than there are. Every class and every age weighs what it has.
    """
    found = {}
    for trait, column in LABELS.items():
        if column in pack.labels:
            known = pack.labels[column] != MISSING
            found[trait] = _regression(targets[known], _answers(pack.labels[column][known]))
    return found


def _answers(values: np.ndarray) -> np.ndarray:
    """(n, k) numbers to be told: one column for an age, else one for each class but the last."""
    classes = np.unique(values)
    if len(classes) > 10:
        years = np.log1p(values.astype(float))
        return ((years - years.mean()) / years.std())[:, None]
    return (values[:, None] == classes[None, :-1]).astype(float)


def _regression(identities: np.ndarray, answers: np.ndarray) -> np.ndarray:
    """The ridge regression's weights (k, d), of length 1 each, without its constant."""
    unit = identities / np.maximum(np.linalg.norm(identities, axis=1, keepdims=True), 1e-9)
    weights = ridge(unit, answers, RIDGE)
    return (weights / np.maximum(np.linalg.norm(weights, axis=0), 1e-12)).T
