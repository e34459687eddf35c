"""A small U-shaped network from a new face back to the old one; the reconstruction attack trains it."""

from __future__ import annotations

import keras
from keras import layers, ops

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
