"""What EPD-Net's generator reaches, by the measures of the paper's Section IV: for the log, the card and the tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cv2
import keras
import numpy as np
from keras import ops

from deidcli.errors import MissingDependency
from deidcli.networks.dlib_recogniser import SAME_PERSON, describe
from deidcli.networks.epd_net import Translator, packed
from deidcli.networks.store import run
from deidcli.training.epd_graph import structural

THRESHOLD, RANKS = 0.35, 5  # mu of Section IV, and the ranks of Figure 4


def translated(translator: Translator, given: np.ndarray, seed: int = 3) -> np.ndarray:
    """G(x, z) of pictures (n, size, size, 3 or 6) uint8 with drawn noise, as (n, size, size, 3) uint8."""
    random, made = np.random.default_rng(seed), []
    for start in range(0, len(given), 64):
        part = given[start : start + 64].astype(np.float32) / 255
        rows = packed(part, random.random((len(part), translator.config.noise), np.float32))
        made.append(run(translator.network.model, rows)[0])
    return np.clip(np.concatenate(made) * 255 + 0.5, 0, 255).astype(np.uint8)


def answers(verifier: keras.Model, crops: np.ndarray) -> np.ndarray:
    """What a verifier says (n, classes) of crops (n, side, side, 3) uint8, which are shrunk to what it sees."""
    side = verifier.input_shape[1]
    small = [cv2.resize(c, (side, side), interpolation=cv2.INTER_AREA) for c in crops] if len(crops) else crops
    return run(verifier, np.asarray(small, np.float32).reshape(-1, side, side, 3))[0]


def distances(said: np.ndarray) -> np.ndarray:
    """How far answers (n, M) lie from the one-hot vector of each person (Equation 8), (n, M)."""
    return np.sqrt(np.maximum(np.sum(said**2, axis=1, keepdims=True) + 1 - 2 * said, 0))


def places(said: np.ndarray, people: np.ndarray) -> np.ndarray:
    """How many other people an answer (n, M) puts before the person (n, M) that it is of, (n,)."""
    return np.sum(said > said[people.astype(bool)][:, None], axis=1)


def identities(said: np.ndarray, people: np.ndarray) -> dict[str, float]:
    """Section IV by what the identity verifier says (n, M) of new faces whose people (n, M) are one-hot.

    self: the share that lies farther than THRESHOLD from the own person, I_x of Equation 8; switching: farther from
    every other one. missed_1 to missed_5: shares whose own person is not among the first ranks (Figure 4).
    """
    apart, own, missed = distances(said), people.astype(bool), places(said, people)
    others = np.where(own, np.inf, apart).min(axis=1)
    figures = {"self": np.mean(apart[own] > THRESHOLD), "switching": np.mean(others > THRESHOLD)}
    return figures | {f"missed_{rank}": np.mean(missed >= rank) for rank in range(1, RANKS + 1)}


def measure(
    translator: Translator, known: Any, strangers: Any, verifiers: Mapping[str, keras.Model], samplers: tuple
) -> dict[str, float]:
    """Figures on faces that took no part. known: pictures of the gallery's people; strangers: of others (both Faces).

    identity_before, self, switching, missed_1 ...: `identities`, of the gallery's people, before: the share that the
    verifier names rightly without any translation. emotion_error: Table I, of strangers, by the emotion verifier. ssim:
    Figure 5. unmatched: the share of strangers' new faces that dlib's recogniser does not take for the original.
    """
    figures: dict[str, float] = {}
    made = translated(translator, strangers.given)
    if "identity" in verifiers and len(known.pack):
        before, people = answers(verifiers["identity"], known.pack.crops), known.people
        after = answers(verifiers["identity"], translated(translator, known.given))
        figures |= {"identity_before": np.mean(before.argmax(axis=1) == people.argmax(axis=1))}
        figures |= identities(after, people)
    if "emotion" in verifiers:
        said = [answers(verifiers["emotion"], crops) for crops in (strangers.pack.crops, made)]
        figures["emotion_error"] = np.mean((said[0] - said[1]) ** 2)
    pair = (ops.convert_to_tensor(x.astype(np.float32) / 255) for x in (strangers.pack.crops, made))
    figures["ssim"] = 1 - 2 * float(np.mean(ops.convert_to_numpy(structural(*pair))))
    try:
        apart = np.linalg.norm(described(made, samplers) - strangers.pack.descriptors, axis=1)
        figures["unmatched"] = np.mean(apart > SAME_PERSON)
    except MissingDependency:  # a machine that only trains
        pass
    return {name: round(float(value), 4) for name, value in figures.items()}


def described(crops: np.ndarray, samplers: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """dlib's descriptors (n, 128) of crops (n, side, side, 3) uint8, cut as `chip_samplers` says."""
    chips = [np.einsum("ry,yxc,sx->rsc", samplers[0], c.astype(np.float32), samplers[1], optimize=True) for c in crops]
    return describe(np.stack(chips))
