"""Train a network to undo a method, from pairs of new and old crops; it lives as long as the attack."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import keras
import numpy as np
from keras import layers, ops

from deidcli.networks.store import run


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


# --- A small U-shaped network from a new face back to the old one; the reconstruction attack trains it.

CHANNELS = (24, 48, 96, 128)


def build_undo(size: int) -> keras.Model:
    """(n, size, size, 3) in [0, 255] to the same; `size` is a multiple of 8. It begins as the identity."""
    picture = layers.Input((size, size, 3))
    x = ops.divide(picture, 127.5) - 1.0
    skips = []
    for depth, channels in enumerate(CHANNELS):
        x = _conv(x, channels, f"down{depth}", stride=1 if depth == 0 else 2)
        x = _conv(x, channels, f"down{depth}b")
        skips.append(x)
    for depth, channels in reversed(list(enumerate(CHANNELS[:-1]))):
        x = layers.UpSampling2D(interpolation="bilinear", name=f"up{depth}")(x)
        x = layers.Concatenate(name=f"join{depth}")([x, skips[depth]])
        x = _conv(x, channels, f"up{depth}a")
    change = layers.Conv2D(3, 3, padding="same", kernel_initializer="zeros", name="change")(x)
    return keras.Model(picture, ops.clip(picture + 127.5 * change, 0.0, 255.0), name="undo")


def _conv(x, channels: int, name: str, stride: int = 1):
    x = layers.Conv2D(channels, 3, strides=stride, padding="same", use_bias=False, name=f"{name}_conv")(x)
    x = layers.GroupNormalization(8, name=f"{name}_norm")(x)
    return layers.Activation("silu", name=f"{name}_silu")(x)
