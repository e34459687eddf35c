"""Probes: how much of a person the half of the latent vector that is not turned still tells, and to what reader."""

from __future__ import annotations

import keras
import numpy as np
from keras import layers

from deidcli.networks.cleanir import Pair
from deidcli.networks.store import run
from deidcli.training.data import Pack
from deidcli.training.ridge import ridge

FACES = 8000  # that a probe learns from
HIDDEN = 512
EPOCHS = 12


def probe(pair: Pair, faces: Pack, val: Pack) -> dict[str, float]:
    """What a ridge regression and a network of one hidden layer, fitted on `faces`, read of `val` in its attributes.

    probe_cosine: mean cosine between the descriptors that the regression reads and the true ones, both less their mean;
    probe_rank1: share of faces whose own descriptor is the nearest of all of `val` to what is read; probe_net_cosine,
    probe_net_rank1: the same for the network; probe_chance: what guessing would reach.
    """
    rows = np.random.default_rng(4).permutation(_alike(faces))[:FACES]
    known, asked = (pair.encode(crops)[1].astype(np.float64) for crops in (faces.crops[rows], val.crops))
    centre, scale, middle = known.mean(axis=0), known.std(axis=0) + 1e-6, faces.descriptors[rows].mean(axis=0)
    answers, true = faces.descriptors[rows] - middle, val.descriptors - middle
    straight = (asked - centre) @ ridge(known, answers, 0.1 * len(known))
    network = _network(((known - centre) / scale).astype(np.float32), answers)
    bent = run(network, ((asked - centre) / scale).astype(np.float32))[0]
    found = {**_said("probe", straight, true), **_said("probe_net", bent, true), "probe_chance": 1 / len(val)}
    return {name: round(float(value), 4) for name, value in found.items()}


def _alike(faces: Pack) -> np.ndarray:
    """The rows of people with a name, as `val` has them: pictures of the same kind teach a probe most."""
    named = np.flatnonzero(["/" in name for name in faces.names])
    return named if len(named) else np.arange(len(faces))


def _network(known: np.ndarray, answers: np.ndarray) -> keras.Model:
    """512 hidden units, half of them dropped while it learns: without that it knows its faces by heart."""
    attributes = layers.Input(known.shape[1:])
    hidden = layers.Dropout(0.5, seed=1)(layers.Dense(HIDDEN, "gelu")(attributes))
    network = keras.Model(attributes, layers.Dense(answers.shape[1], dtype="float32")(hidden))
    rate = keras.optimizers.schedules.CosineDecay(1e-3, EPOCHS * -(-len(known) // 64))
    network.compile(keras.optimizers.AdamW(rate, weight_decay=1e-2), loss="cosine_similarity")
    network.fit(known, answers, batch_size=64, epochs=EPOCHS, verbose=0)
    return network


def _said(name: str, told: np.ndarray, true: np.ndarray) -> dict[str, float]:
    told, true = (v / np.maximum(np.linalg.norm(v, axis=1, keepdims=True), 1e-9) for v in (told, true))
    cosines = told @ true.T
    right = cosines.argmax(axis=1) == np.arange(len(true))
    return {f"{name}_cosine": np.mean(np.diag(cosines)), f"{name}_rank1": right.mean()}
