"""Train a network to undo a method, from pairs of new and old crops; it lives as long as the attack."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import keras
import numpy as np

from deidcli.networks.store import run
from deidcli.networks.undo import build_undo


def train_undo(
    new: np.ndarray, old: np.ndarray, steps: int, batch: int, seed: int
) -> Callable[[np.ndarray], np.ndarray]:
    """What takes new crops (n, size, size, 3) uint8 back to guesses of the old ones, learnt from m pairs of them.

    The mean absolute error is made small over `steps` batches, half of them mirrored, at a rate that falls along half a
    cosine.
    """
    keras.utils.set_random_seed(seed)
    network = build_undo(new.shape[1])
    rate = keras.optimizers.schedules.CosineDecay(2e-3, steps, alpha=0.02)
    network.compile(optimizer=keras.optimizers.Adam(rate), loss="mean_absolute_error")
    for x, y in _batches(new, old, steps, batch, seed):
        network.train_on_batch(x, y)

    def undo(crops: np.ndarray) -> np.ndarray:
        return np.clip(np.round(run(network, crops.astype(np.float32))[0]), 0, 255).astype(np.uint8)

    return undo


def _batches(new: np.ndarray, old: np.ndarray, steps: int, batch: int, seed: int) -> Iterator:
    generator = np.random.default_rng(seed)
    for _ in range(steps):
        rows = generator.integers(0, len(new), batch)
        x, y = new[rows].astype(np.float32), old[rows].astype(np.float32)
        if generator.random() < 0.5:
            x, y = x[:, :, ::-1], y[:, :, ::-1]
        yield x, y
