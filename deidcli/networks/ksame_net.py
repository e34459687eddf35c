"""k-Same-Net's generative network (Meden et al. 2018, Figure 4): identities and appearance in, a face out.

x says which identities are mixed (k of them, 1 / k each), y what the face shows. Both pass through a fully connected
layer of their own (FC1, FC2), are put side by side (C1), and grow from FC3 through layers that double the picture (UP)
to ToRGB.

The paper's MaxUP is a max pooling with kernels of 1 x 1 that reduces the number of channels just before the last
doubling. Over one pixel nothing can be pooled but channels, so here it is the largest of each pair of them. ToRGB's
bias is a picture here (`PictureBias`), which saves most of the training.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from deidcli.errors import PresetError
from deidcli.networks.backend import keras, layers, ops
from deidcli.networks.blocks import activate, conv_norm_relu
from deidcli.networks.store import Network, loaded, save_half
from deidcli.presets import Preset

WEIGHTS = "generator.weights.h5"
PAIR = 2  # channels of which MaxUP keeps the largest


@dataclass(frozen=True)
class GeneratorConfig:
    """identities, appearance: lengths of x and y. size: side of the picture in pixels. dense: units of FC1 and FC2.
    channels: of the first map, and after each UP; MaxUP is one doubling more. last: channels before ToRGB."""

    identities: int
    appearance: int
    size: int = 96
    dense: tuple[int, int] = (256, 128)
    channels: tuple[int, ...] = (256, 160, 96, 64, 32)
    last: int = 12

    @property
    def start(self) -> int:
        """Side of the first map. Raises ValueError where the size cannot be doubled to."""
        side, rest = divmod(self.size, 2 ** len(self.channels))
        if rest or not side:
            raise ValueError(f"{self.size} pixels cannot be reached by doubling {len(self.channels)} times")
        return side

    @classmethod
    def of(cls, network: dict) -> GeneratorConfig:
        """From what config.json holds. Raises TypeError, KeyError or ValueError where that makes no sense."""
        made = cls(**{**network, "dense": tuple(network["dense"]), "channels": tuple(network["channels"])})
        made.start  # noqa: B018 - checked here
        return made

    def stored(self) -> dict:
        return asdict(self)


@dataclass(frozen=True)
class Generator:
    """The network of a preset, ready to make faces."""

    config: GeneratorConfig
    network: Network = field(repr=False)

    def generate(self, identities: np.ndarray, appearance: np.ndarray) -> np.ndarray:
        """Equation 1: x (n, identities) and y (n, appearance) to pictures (n, size, size, 3) uint8 RGB.

        A row comes out the same in any company.
        """
        inputs = np.concatenate([identities, appearance], axis=1).astype(np.float32)
        return np.clip(self.network(inputs)[0] * 255 + 0.5, 0, 255).astype(np.uint8)


def build_generator(config: GeneratorConfig) -> keras.Model:
    """x and y side by side (batch, identities + appearance) to pictures (batch, size, size, 3) in [0, 1]."""
    from deidcli.networks.own_layers import PictureBias

    inputs = layers.Input((config.identities + config.appearance,), name="inputs")
    x, y = inputs[:, : config.identities], inputs[:, config.identities :]
    x = activate(layers.Dense(config.dense[0], name="fc1")(x), "fc1_relu")
    y = activate(layers.Dense(config.dense[1], name="fc2")(y), "fc2_relu")
    side = config.start
    joined = layers.Concatenate(name="c1")([x, y])
    z = activate(layers.Dense(side * side * config.channels[0], name="fc3")(joined), "fc3_relu")
    z = layers.Reshape((side, side, config.channels[0]), name="map")(z)
    for i, channels in enumerate(config.channels[1:], 1):
        z = conv_norm_relu(layers.UpSampling2D(2, name=f"up{i}")(z), channels, name=f"up{i}")
    z = layers.UpSampling2D(2, name="maxup")(_max_of_pairs(z))
    z = conv_norm_relu(z, config.last, kernel=5, name="out")
    rgb = layers.Conv2D(3, 3, padding="same", use_bias=False, dtype="float32", name="to_rgb")(z)
    rgb = layers.Activation("sigmoid", dtype="float32", name="picture")(PictureBias(dtype="float32", name="bias")(rgb))
    return keras.Model(inputs, rgb, name="generator")


def _max_of_pairs(z):
    _, height, width, channels = z.shape
    return ops.max(layers.Reshape((height, width, channels // PAIR, PAIR), name="pairs")(z), axis=-1)


def load(preset: Preset) -> Generator:
    """The network of a preset, its files verified. Raises PresetError."""
    try:
        config = GeneratorConfig.of(preset.config["network"])
    except (KeyError, TypeError, ValueError) as error:
        raise PresetError(f"preset {preset.name} does not say its network: {error}", "fetch it again") from error
    preset.file(WEIGHTS)
    return Generator(
        config, Network(lambda: loaded(build_generator(config), preset.file(WEIGHTS)), preset, "generator")
    )


def save(folder: Path, network: keras.Model) -> list[str]:
    """Write the weights in half precision. Returns the names of the files."""
    folder.mkdir(parents=True, exist_ok=True)
    save_half(network, folder / WEIGHTS)
    return [WEIGHTS]
