"""What CLEANIR's networks reach on faces of strangers: the figures of the log, of early stopping and of the card."""

from __future__ import annotations

from typing import Any

import numpy as np

from deidcli.errors import MissingDependency
from deidcli.methods.cleanir import turn
from deidcli.networks.cleanir import Pair
from deidcli.networks.dlib_recogniser import SAME_PERSON
from deidcli.training.chips import describe_crops
from deidcli.training.data import Pack

QUICK = 256  # faces that are looked at after an epoch
TURN = 180.0  # degrees


def measure(pair: Pair, space: Any, val: Pack) -> dict[str, float]:
    """Figures on the aligned crops of `val`, without blending.

    embedding_distance: Equation 3 between encoder and recogniser. picture_error: mean absolute error of the picture at
    0 degrees, as a share of the range. Where the recogniser's weights are there: likeness, the mean distance of
    descriptors at 0 degrees; recognised_0, recognised_180: shares of new faces that it takes for their original with
    nothing kept. space: the IdentitySpace.
    """
    identity, attributes = pair.encode(val.crops)
    made = pair.decode(identity, attributes)
    target = space.target(val.descriptors)
    target = target / np.linalg.norm(target, axis=1, keepdims=True)
    figures = {
        "embedding_distance": 1 - float(np.mean(np.sum(identity * target, axis=1))),
        "picture_error": float(np.abs(made.astype(np.float32) - val.crops).mean() / 255),
    }
    try:
        near = _apart(made, val)
        far = _apart(pair.decode(_turned(pair, identity), attributes), val)
    except MissingDependency:  # a machine that only trains
        return _rounded(figures)
    judged = {"likeness": near.mean(), "recognised_0": _same(near), "recognised_180": _same(far)}
    return _rounded(figures | judged)


def quick(pair: Pair, space: Any, val: Pack) -> dict[str, float]:
    """`measure` on a few faces, and the score: what is lost at 0 degrees plus what is left of the person at 180."""
    rows = np.random.default_rng(3).permutation(len(val))[:QUICK]
    figures = measure(pair, space, val.where(rows))
    lost = figures.get("likeness", figures["embedding_distance"])
    return figures | {"score": round(figures["picture_error"] + lost + figures.get("recognised_180", 0.0), 4)}


def _turned(pair: Pair, identity: np.ndarray) -> np.ndarray:
    axes = np.random.default_rng(5).standard_normal((len(identity), len(pair.spread))) @ pair.spread
    return turn(identity, axes, np.full(len(identity), TURN), np.zeros((0, identity.shape[1])))


def _apart(made: np.ndarray, val: Pack) -> np.ndarray:
    return np.linalg.norm(describe_crops(made) - val.descriptors, axis=1)


def _same(distances: np.ndarray) -> float:
    return float(np.mean(distances <= SAME_PERSON))


def _rounded(figures: dict[str, Any]) -> dict[str, float]:
    return {name: round(float(value), 4) for name, value in figures.items()}
