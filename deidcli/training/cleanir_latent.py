"""Erasure: the linear map after which no linear reader predicts a descriptor from a latent vector's attribute half.

Least-squares concept erasure (LEACE; Belrose et al. 2023, Theorem 4.3): of all linear maps after which attributes and
descriptors are uncorrelated, the one that changes the attributes least. Without it the half that CLEANIR never rotates
identifies the person, however far the other half is rotated.
"""

from __future__ import annotations

import keras
import numpy as np

from deidcli.faces.align import LEFT_EYE, RIGHT_EYE
from deidcli.faces.attributes import MISSING
from deidcli.faces.face_model import ridge
from deidcli.networks.store import run
from deidcli.training.data import Pack

LEAST = 0.25  # canonical correlation below which a direction is left alone: so much comes by chance in FACES faces
FACES = 8000  # that are looked at


def erasure(attributes: np.ndarray, descriptors: np.ndarray, least: float = LEAST) -> tuple[np.ndarray, np.ndarray]:
    """The map as (kernel, bias), for `attributes @ kernel + bias`: float32 (d, d) and (d,).

    attributes: (n, d). descriptors: (n, k). Directions whose canonical correlation is at or below `least` stay.
    """
    a, b = np.asarray(attributes, np.float64), np.asarray(descriptors, np.float64)
    middle = a.mean(axis=0)
    a, b = a - middle, b - b.mean(axis=0)
    whiten, color = _roots(a)
    shared = whiten @ (a.T @ b / len(a)) @ _roots(b)[0]
    left, correlation, _ = np.linalg.svd(shared, full_matrices=False)
    correlated = left[:, correlation > least]
    kernel = (np.eye(len(middle)) - color @ correlated @ correlated.T @ whiten).T
    return kernel.astype(np.float32), (middle - middle @ kernel).astype(np.float32)


def erase(encoder: keras.Model, faces: Pack) -> None:
    """Set the layer "erase" of `encoder` to the erasure of `faces`, as its other weights are now."""
    rows = np.sort(np.random.default_rng(6).permutation(len(faces))[:FACES])
    raw = keras.Model(encoder.input, encoder.get_layer("attributes").output)
    parts = [
        run(raw, faces.crops[part].astype(np.float32) / 255)[0] for part in np.array_split(rows, -(-len(rows) // 512))
    ]
    encoder.get_layer("erase").set_weights(erasure(np.concatenate(parts), faces.descriptors[rows]))


def _roots(centred: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The inverse square root and the square root of the covariance; what hardly varies counts as it is."""
    covariance = centred.T @ centred / len(centred)
    values, vectors = np.linalg.eigh(covariance)
    values = np.maximum(values, 1e-6 * max(values[-1], 1e-12))
    return (vectors * values**-0.5) @ vectors.T, (vectors * values**0.5) @ vectors.T


# --- Traits: where gender, age, tone and expression lie among identities, so that a method can leave them as they are.
#
# A recogniser's descriptor holds a little of the expression, too. That was taken out of the attribute half by
# the erasure; turned along with the identity, it makes the serious smile.

# The label of a pack that tells each trait. UTKFace's race is used for tone, since it has no label of tone.
LABELS = {"gender": "gender", "age": "age", "tone": "race", "expression": "expression"}
FEWEST = 30  # faces that a class has to have
RIDGE = 10.0  # on unit identities; changes little between 1 and 100


def directions(pack: Pack, targets: np.ndarray) -> dict[str, np.ndarray]:
    """For each trait the pack has labels of, the directions (k, d) whose product with an identity predicts it best.

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
        shapes = _regression(targets[known], mouths(pack.landmarks[known]))
        found["expression"] = np.concatenate([found["expression"], shapes])
    return found


def _usable(column: np.ndarray) -> np.ndarray:
    """Which labels (n,) are known and, where they are words, not of a class that hardly any face has."""
    words, number, count = np.unique(column, return_inverse=True, return_counts=True)
    scale = all(word.isdigit() for word in words if word != MISSING)
    return (column != MISSING) & (scale | (count >= FEWEST)[number])


def mouths(landmarks: np.ndarray) -> np.ndarray:
    """(n, 68, 2) to (n, 2): gap of the lips and width of the mouth, by the distance between the eyes."""
    apart = np.linalg.norm(landmarks[:, LEFT_EYE].mean(axis=1) - landmarks[:, RIGHT_EYE].mean(axis=1), axis=-1)
    gap = np.linalg.norm(landmarks[:, 66] - landmarks[:, 62], axis=-1)
    width = np.linalg.norm(landmarks[:, 54] - landmarks[:, 48], axis=-1)
    return np.stack([gap, width], axis=1) / apart[:, None]


def _answers(values: np.ndarray) -> np.ndarray:
    """(n, k) numbers to be predicted: one column for an age, else one for each class but the last."""
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


# --- Ridge regression in NumPy: training needs nothing else.
