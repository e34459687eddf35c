"""A sheet of samples: what the networks make of faces they were not trained on, to be looked at while they train."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from deidcli.methods.cleanir import turn
from deidcli.networks.cleanir import Pair, together

FACES = 24  # columns of a sheet


def save_sheet(pair: Pair, crops: np.ndarray, path: Path, angles: Sequence[float]) -> None:
    """Write a PNG: a row of faces out of `crops` (n, side, side, 3) uint8, then a row for each angle in degrees.

    Traits are kept, as the method keeps them where nothing else is asked.
    """
    picked = crops[np.random.default_rng(3).choice(len(crops), min(FACES, len(crops)), replace=False)]
    identity, attributes = pair.encode(picked)
    axis = np.random.default_rng(5).standard_normal((len(picked), len(pair.spread))) @ pair.spread
    kept = together(pair.traits, identity.shape[1])
    turned = [turn(identity, axis, np.full(len(picked), angle), kept) for angle in angles]
    rows = [picked, *(pair.decode(each, attributes) for each in turned)]
    sheet = np.concatenate([np.concatenate(list(row), axis=1) for row in rows], axis=0)
    Image.fromarray(sheet).save(path)
