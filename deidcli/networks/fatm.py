"""FATM's networks (Li and Lyu 2019, Figure 3) as a preset stores them: one encoder for all face sets, and one decoder
for each donor.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from deidcli.errors import PresetError
from deidcli.networks.backend import keras, layers
from deidcli.networks.store import Network, loaded, save_half
from deidcli.presets import Preset

SLOPE = 0.1  # of every leaky ReLU: f(x) = max(0.1 x, x)
ENCODER, DECODER = (128, 256, 512, 1024), (512, 256, 128, 64)  # kernels of Figure 3
SEEN, MOVED = 32, 64  # sides of what the linear part of a code sees, and of what it draws
DENSE = 1024  # of the first fully connected layer; the second one has as many numbers as the map before it


@dataclass(frozen=True)
class FatmConfig:
    """size: side in pixels of what the encoder sees, a multiple of 16. drawn: of what a decoder draws, `size` times a
    power of two. width: kernels and units as a share of the paper's. residual: whether a decoder draws what is added
    to a picture, 0 before it is trained, and not a picture in [0, 1] as in the paper. linear: numbers of the code that
    are a linear function of the picture at SEEN pixels, and to which a decoder's picture answers linearly beside its
    layers; 0 as in the paper. Training begins with these, which are found in one step.
    """

    size: int = 64
    drawn: int = 64
    width: float = 1.0
    residual: bool = False
    linear: int = 0

    @property
    def code(self) -> int:
        """Numbers of a code: 16,384 in the paper."""
        return int(np.prod(self.map)) + self.linear

    @property
    def map(self) -> tuple[int, int, int]:
        """Height, width and channels of what a code is reshaped to: 4 x 4 x 1,024 in the paper."""
        return self.size // 16, self.size // 16, self.scaled(ENCODER[-1])

    def scaled(self, count: float) -> int:
        """A number of kernels or units at this width."""
        return max(4, round(count * self.width))

    @property
    def upscales(self) -> list[int]:
        """Kernels of each upscale layer; beyond the paper's four each has half of those before it."""
        rows = self.map[0]
        channels: list[int] = []
        while rows < self.drawn:
            count = DECODER[len(channels)] if len(channels) < len(DECODER) else channels[-1] / self.width / 2
            channels.append(self.scaled(count))
            rows *= 2
        return channels


def build_encoder(config: FatmConfig) -> keras.Model:
    """Picture (batch, size, size, 3) in [0, 1] to the code: (batch, 16,384) at the paper's size and width."""
    picture = layers.Input((config.size, config.size, 3), name="picture")
    x = picture
    for i, kernels in enumerate(ENCODER):
        x = layers.Conv2D(config.scaled(kernels), 5, 2, padding="same", name=f"conv{i}")(x)
        x = layers.LeakyReLU(SLOPE, name=f"relu{i}")(x)
    x = layers.Dense(config.scaled(DENSE), name="dense0")(layers.Flatten(name="flat")(x))
    code = layers.Dense(int(np.prod(config.map)), name="code")(x)
    if config.linear:
        small = layers.AveragePooling2D(config.size // SEEN, name="small")(picture)
        linear = layers.Dense(config.linear, name="linear")(layers.Flatten(name="pixels")(small))
        code = layers.Concatenate(name="codes")([code, linear])
    return keras.Model(picture, code, name="encoder")


def build_decoder(config: FatmConfig, name: str) -> keras.Model:
    """Code to the face of the donor `name`, (batch, drawn, drawn, 3)."""
    from deidcli.networks.own_layers import PixelShuffle

    code = layers.Input((config.code,), name="code")
    x = code[:, : config.code - config.linear] if config.linear else code
    x = layers.Reshape(config.map, name="map")(x)
    for i, kernels in enumerate(config.upscales):
        x = layers.Conv2D(4 * kernels, 3, padding="same", name=f"upscale{i}")(x)
        x = PixelShuffle(name=f"shuffle{i}")(layers.LeakyReLU(SLOPE, name=f"relu{i}")(x))
    start = {"kernel_initializer": "zeros"} if config.residual else {}
    x = layers.Conv2D(3, 5, padding="same", name="colours", **start)(x)
    if config.linear:
        moved = layers.Dense(3 * MOVED**2, kernel_initializer="zeros", name="linear")(code[:, -config.linear :])
        moved = layers.Reshape((MOVED, MOVED, 3), name="moved")(moved)
        wide = layers.UpSampling2D(config.drawn // MOVED, interpolation="bilinear", name="wide")(moved)
        x = layers.Add(name="both")([x, wide])
    drawn = layers.Activation("linear" if config.residual else "sigmoid", dtype="float32", name="face")(x)
    return keras.Model(code, drawn, name=name)


@dataclass(frozen=True)
class Faces:
    """The networks of a preset. decoders: by the names of the donors."""

    config: FatmConfig
    encoder: Network
    decoders: Mapping[str, Network]

    def __call__(self, pictures: np.ndarray, donor: str) -> np.ndarray:
        """What the decoder of `donor` draws, (n, drawn, drawn, 3) float32, of pictures (n, size, size, 3) float32 in
        [0, 1].
        """
        code = self.encoder(np.asarray(pictures, np.float32))[0]
        return self.decoders[donor](code)[0]


def load(preset: Preset) -> Faces:
    """The networks of a preset, its files verified. Raises PresetError."""
    try:
        config, donors = config_of(preset.config["network"]), list(preset.config["donors"])
    except (KeyError, TypeError, ValueError) as error:
        raise PresetError(f"preset {preset.name} does not say its networks", "fetch the preset again") from error
    for name in (encoder_file(), *map(decoder_file, donors)):
        preset.file(name)
    encoder = Network(lambda: loaded(build_encoder(config), preset.file(encoder_file())), preset, "encoder")
    decoders = {name: Network(partial(_decoder, config, preset, name), preset, f"decoder-{name}") for name in donors}
    return Faces(config, encoder, decoders)


def _decoder(config: FatmConfig, preset: Preset, donor: str) -> keras.Model:
    return loaded(build_decoder(config, donor), preset.file(decoder_file(donor)))


def encoder_file() -> str:
    """The name of the encoder's weights in a preset."""
    return "encoder.weights.h5"


def decoder_file(donor: str) -> str:
    """The name of a donor's weights in a preset."""
    return f"decoder-{donor}.weights.h5"


def save(folder: Path, encoder: keras.Model, decoders: Mapping[str, keras.Model]) -> list[str]:
    """Write the weights in half precision, a file for the encoder and one for each donor. Returns their names."""
    folder.mkdir(parents=True, exist_ok=True)
    networks: Iterable[tuple[str, keras.Model]] = [
        (encoder_file(), encoder),
        *((decoder_file(name), decoder) for name, decoder in decoders.items()),
    ]
    for name, network in networks:
        save_half(network, folder / name)
    return [name for name, _ in networks]


def config_of(network: Mapping[str, Any]) -> FatmConfig:
    """The sizes as config.json holds them."""
    return FatmConfig(**{f.name: network[f.name] for f in fields(FatmConfig)})
