"""What CLEANIR's networks reach on faces of strangers: the figures of the log, of early stopping and of the card."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import keras
import numpy as np
from keras import layers

from deidcli.errors import MissingDependency
from deidcli.methods.cleanir import turn
from deidcli.networks import classifiers
from deidcli.networks.cleanir import Pair, together
from deidcli.networks.dlib_recogniser import SAME_PERSON
from deidcli.networks.store import run
from deidcli.presets import load_preset
from deidcli.training.cleanir_latent import ridge
from deidcli.training.data import Pack, describe_crops

QUICK = 256  # faces that are looked at after an epoch
HALF = 180.0  # degrees
USUAL = 120.0  # degrees: what the method turns by where nothing else is asked


@dataclass(frozen=True)
class FaceFigures:
    """What networks that took no part in making the new faces (the recogniser aside) say of them.

    pair, space: what is measured, and its IdentitySpace. val: the faces. identity (n, d), attributes (n, d): of them.
    """

    pair: Pair
    space: Any
    val: Pack
    identity: np.ndarray
    attributes: np.ndarray

    def figures(self) -> dict[str, float]:
        """Those of `measure` for which a recogniser is needed. Raises MissingDependency."""
        half, usual = self._turned(HALF, {}), self._turned(USUAL, self.pair.traits)
        faces = {"0": self.still, "120": self._made(usual)}
        near, far = self._apart(self.still), self._apart(self._made(half))
        new = describe_crops(faces["120"])
        follows = np.sum(_unit(self.space.target(new)) * usual, axis=1).mean()
        judged = {"likeness": near.mean(), "recognised_0": _same(near), "recognised_180": _same(far)}
        kept = {f"expression_{angle}": self._expression(made) for angle, made in faces.items()}
        return judged | {"follows_120": follows} | self._alike(new) | kept

    @cached_property
    def still(self) -> np.ndarray:
        """The faces (n, side, side, 3) uint8 at 0 degrees."""
        return self._made(self.identity)

    def _made(self, identity: np.ndarray) -> np.ndarray:
        return self.pair.decode(identity, self.attributes)

    def _turned(self, degrees: float, kept: Mapping[str, np.ndarray]) -> np.ndarray:
        axes = np.random.default_rng(5).standard_normal((len(self.identity), len(self.pair.spread))) @ self.pair.spread
        rows = together(kept, self.identity.shape[1])
        return turn(self.identity, axes, np.full(len(self.identity), degrees), rows)

    def _apart(self, made: np.ndarray) -> np.ndarray:
        return np.linalg.norm(describe_crops(made) - self.val.descriptors, axis=1)

    def _alike(self, new: np.ndarray) -> dict[str, float]:
        """The share of pairs of two people whose new faces, described by `new` (n, 128), pass for one person's.

        Nothing where all faces are of one person.
        """
        people = np.array([name.split("/")[0] for name in self.val.names])
        squared = np.sum(new**2, axis=1)
        distances = np.sqrt(np.maximum(squared[:, None] + squared[None] - 2 * new @ new.T, 0))
        strangers = distances[people[:, None] != people[None]]
        return {"alike_120": _same(strangers)} if len(strangers) else {}

    def _expression(self, made: np.ndarray) -> float:
        return float(np.mean(self._said(made) == self._told))

    @cached_property
    def _told(self) -> np.ndarray:
        return self._said(self.val.crops)

    def _said(self, crops: np.ndarray) -> np.ndarray:
        side = self._judge.config.size
        small = [cv2.resize(crop, (side, side), interpolation=cv2.INTER_AREA) for crop in crops]
        return self._judge.read(np.stack(small))["expression"]

    @cached_property
    def _judge(self) -> classifiers.Classifier:
        return classifiers.load(load_preset("expression-judge", classifiers.METHOD))


def measure(pair: Pair, space: Any, val: Pack) -> dict[str, float]:
    """Figures on the aligned crops of `val`, without blending.

    embedding_distance: Equation 3 between encoder and recogniser. picture_error: mean absolute error of the picture at
    0 degrees, as a share of the range. Where the recogniser's weights are there: likeness, the mean distance of
    descriptors at 0 degrees; recognised_0, recognised_180: shares of new faces that it takes for their original with
    nothing kept. At 120 degrees with all traits kept: follows_120, the mean cosine between what it reads in the new
    face and the turned identity; alike_120, the share of pairs of two people whose new faces it takes for one person's.
    expression_0, expression_120: shares of faces in which `expression-judge` reads what it reads in the original.
    space: the IdentitySpace.
    """
    identity, attributes = pair.encode(val.crops)
    judged = FaceFigures(pair, space, val, identity, attributes)
    target = _unit(space.target(val.descriptors))
    figures = {
        "embedding_distance": 1 - float(np.mean(np.sum(identity * target, axis=1))),
        "picture_error": float(np.abs(judged.still.astype(np.float32) - val.crops).mean() / 255),
    }
    try:
        return _rounded(figures | judged.figures())
    except MissingDependency:  # a machine that only trains
        return _rounded(figures)


def quick(pair: Pair, space: Any, val: Pack) -> dict[str, float]:
    """`measure` on a few faces, and the score: what is lost at 0 degrees plus what is left of the person at 180."""
    rows = np.random.default_rng(3).permutation(len(val))[:QUICK]
    figures = measure(pair, space, val.where(rows))
    lost = figures.get("likeness", figures["embedding_distance"])
    return figures | {"score": round(figures["picture_error"] + lost + figures.get("recognised_180", 0.0), 4)}


def _same(distances: np.ndarray) -> float:
    return float(np.mean(distances <= SAME_PERSON))


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _rounded(figures: dict[str, Any]) -> dict[str, float]:
    return {name: round(float(value), 4) for name, value in figures.items()}


# --- Probes: how much of the identity can be read from the half of the latent vector that is not rotated

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
