"""A sheet of samples: what the networks make of faces they were not trained on, to be looked at while they train."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from deidcli.methods.cleanir import rotate
from deidcli.networks.cleanir import Pair

FACES = 24  # columns of a sheet


def save_sheet(pair: Pair, crops: np.ndarray, path: Path, angles: Sequence[float]) -> None:
    """Write a PNG: a row of faces out of `crops` (n, side, side, 3) uint8, then a row for each angle in degrees."""
    picked = crops[np.random.default_rng(3).choice(len(crops), min(FACES, len(crops)), replace=False)]
    identity, attributes = pair.encode(picked)
    axis = np.random.default_rng(5).standard_normal((len(picked), len(pair.spread))) @ pair.spread
    rows = [picked, *(pair.decode(rotate(identity, axis, angle), attributes) for angle in angles)]
    sheet = np.concatenate([np.concatenate(list(row), axis=1) for row in rows], axis=0)
    Image.fromarray(sheet).save(path)
