"""Traits: where gender, age, tone and expression lie among identities, so that a method can leave them as they are.

A recogniser's descriptor says a little of the expression, too. What it says was taken out of the attribute half by the
erasure; turned along with the identity, it makes the serious smile.
"""

from __future__ import annotations

import numpy as np

from deidcli.faces.shape import LEFT_EYE, RIGHT_EYE
from deidcli.methods.labels import MISSING
from deidcli.training.data import Pack
from deidcli.training.ridge import ridge

# The label of a pack that tells each trait. UTKFace's races stand for tone: they are the only label of it there is.
LABELS = {"gender": "gender", "age": "age", "tone": "race", "expression": "expression"}
FEWEST = 30  # faces that a class has to have
RIDGE = 10.0  # on unit identities; changes little between 1 and 100


def directions(pack: Pack, targets: np.ndarray) -> dict[str, np.ndarray]:
    """For each trait the pack has labels of, the directions (k, d) whose product with an identity tells it best.

    targets: (n, d), the identities of the pack's faces. Linear regression: one direction for a number (an age, as the
    logarithm of the years and one), for classes one fewer than there are. Every class and every age weighs what it has.
    To the expression belong the two directions that tell how far the mouth is open and how wide it is.
    """
    found = {}
    for trait, column in LABELS.items():
        if column in pack.labels:
            known = _usable(pack.labels[column])
            found[trait] = _regression(targets[known], _answers(pack.labels[column][known]))
    if "expression" in found and pack.landmarks is not None:
        known = np.isfinite(pack.landmarks).all(axis=(1, 2))
        mouths = _regression(targets[known], _mouth(pack.landmarks[known]))
        found["expression"] = np.concatenate([found["expression"], mouths])
    return found


def _usable(column: np.ndarray) -> np.ndarray:
    """Which labels (n,) are known and, where they are words, not of a class that hardly any face has."""
    words, number, count = np.unique(column, return_inverse=True, return_counts=True)
    scale = all(word.isdigit() for word in words if word != MISSING)
    return (column != MISSING) & (scale | (count >= FEWEST)[number])


def _mouth(landmarks: np.ndarray) -> np.ndarray:
    """(n, 68, 2) to (n, 2): gap of the lips and width of the mouth, by the distance between the eyes."""
    apart = np.linalg.norm(landmarks[:, LEFT_EYE].mean(axis=1) - landmarks[:, RIGHT_EYE].mean(axis=1), axis=-1)
    gap = np.linalg.norm(landmarks[:, 66] - landmarks[:, 62], axis=-1)
    width = np.linalg.norm(landmarks[:, 54] - landmarks[:, 48], axis=-1)
    return np.stack([gap, width], axis=1) / apart[:, None]


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
