"""Erasure: the linear map after which nothing linear can tell a descriptor from a latent vector's attribute half.

Least-squares concept erasure (LEACE; Belrose et al. 2023, Theorem 4.3): of all linear maps after which attributes and
descriptors are uncorrelated, the one that changes the attributes least. Without it the half that CLEANIR never turns
gives away who it was, however far the other half is turned.
"""

from __future__ import annotations

import keras
import numpy as np

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
    told = left[:, correlation > least]
    kernel = (np.eye(len(middle)) - color @ told @ told.T @ whiten).T
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
