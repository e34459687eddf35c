"""The blocks of CLEANIR's Figure 3: two branches that are added, then a residual pair.

Every function takes and returns a Keras tensor of shape (batch, height, width, channels).
"""

from __future__ import annotations

from deidcli.networks.backend import layers

SLOPE = 0.2  # of every leaky ReLU; the paper gives none
MOMENTUM = 0.9  # of the batch statistics: Keras' 0.99 lags behind in runs of a few thousand steps


def activate(x, name: str):
    """LReLU."""
    return layers.LeakyReLU(SLOPE, name=name)(x)


def conv_norm(x, channels: int, kernel: int = 3, stride: int = 1, *, name: str):
    """Conv-BN, without a bias because the normalisation has one."""
    x = layers.Conv2D(channels, kernel, stride, padding="same", use_bias=False, name=f"{name}_conv")(x)
    return layers.BatchNormalization(momentum=MOMENTUM, name=f"{name}_norm")(x)


def conv_norm_relu(x, channels: int, kernel: int = 3, stride: int = 1, *, name: str):
    """Conv-BN-LReLU."""
    return activate(conv_norm(x, channels, kernel, stride, name=name), f"{name}_relu")


def add_relu(a, b, name: str):
    """Add-LReLU."""
    return activate(layers.Add(name=f"{name}_add")([a, b]), f"{name}_relu")


def residual_pair(x, channels: int, name: str):
    """Rows _4 and _5 of a block: two Conv-BN-LReLU and the way around them."""
    y = conv_norm_relu(x, channels, name=f"{name}_4a")
    y = conv_norm_relu(y, channels, name=f"{name}_4b")
    return add_relu(x, y, f"{name}_5")


def encoder_block(x, channels: int, name: str):
    """EncBlockN_1 to _5 of Table 1: halves height and width."""
    y = conv_norm_relu(x, channels, stride=2, name=f"{name}_1a")
    y = conv_norm_relu(y, channels, name=f"{name}_1b")
    shortcut = conv_norm(x, channels, stride=2, name=f"{name}_2")
    return residual_pair(add_relu(y, shortcut, f"{name}_3"), channels, name)


def decoder_block(x, channels: int, name: str):
    """DecBlockN_1 to _5 of Table 1: doubles height and width (nearest neighbour)."""
    x = layers.UpSampling2D(2, name=f"{name}_up")(x)
    y = conv_norm_relu(x, channels, name=f"{name}_1a")
    y = conv_norm_relu(y, channels, name=f"{name}_1b")
    shortcut = conv_norm(x, channels, name=f"{name}_2")
    return residual_pair(add_relu(y, shortcut, f"{name}_3"), channels, name)
