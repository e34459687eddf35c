"""The networks of "Deep Autoencoders" (Nousi et al. 2020): encoders, mirrored decoders, deblurrer and smoother.

An encoder is fine-tuned for each shift (`training/autoencoder.py`), and the decoder never changes. So a preset holds
one plain encoder, one decoder, one deblurrer and one smoother, and for each shift the layers of its encoder that differ
from the plain one. The paper names neither activations nor the channels of its convolutions; these are this project's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from deidcli.errors import PresetError
from deidcli.networks.backend import keras, layers, ops
from deidcli.networks.blocks import SLOPE
from deidcli.networks.store import Network, load_bytes, save_bytes
from deidcli.presets import Preset

ENCODER, DECODER, DEBLURRER, SMOOTHER = PARTS = ("encoder.npz", "decoder.npz", "deblurrer.npz", "smoother.npz")
PLAIN = "none"  # the shift that is none: the encoder as it was trained to reconstruct
SPREAD = "spread"  # in the file of a shift
LUMA = (0.299, 0.587, 0.114)  # of grey pictures, ITU-R BT.601


@dataclass(frozen=True)
class AutoencoderConfig:
    """What a preset's networks are.

    kind: "dense", "convolutional", or "vector" (dense layers over numbers that are no picture). size: side of the
    square picture in pixels, or how many numbers there are. channels: of a picture, 1 for grey or 3. widths: of the
    encoder's layers behind the input, the code last; the decoder mirrors them. Of a convolutional one each is the
    channels of a 3x3 convolution, behind which a maximum halves height and width. shared: how many of the encoder's
    layers are the same in all shifts.
    """

    kind: str = "dense"
    size: int = 64
    channels: int = 1
    widths: tuple[int, ...] = (1024, 768, 512)
    shared: int = 1

    @classmethod
    def of(cls, network: dict) -> AutoencoderConfig:
        """From what config.json holds. Raises KeyError, TypeError or ValueError where that makes no sense."""
        config = cls(**{**network, "widths": tuple(int(width) for width in network["widths"])})
        if config.kind not in ("dense", "convolutional", "vector") or not config.widths:
            raise ValueError(f"no autoencoder is {config.kind!r} with the widths {config.widths}")
        return config

    def stored(self) -> dict:
        return asdict(self)

    @property
    def vector(self) -> bool:
        """Whether inputs are numbers and no pictures."""
        return self.kind == "vector"

    @property
    def inputs(self) -> tuple[int, ...]:
        """The shape of one input: (size, size, channels), or (size,)."""
        return (self.size,) if self.vector else (self.size, self.size, self.channels)

    @property
    def code(self) -> tuple[int, ...]:
        """The shape of one code: (d,), or (height, width, d) of a convolutional network."""
        if self.kind != "convolutional":
            return (self.widths[-1],)
        side = self.size // 2 ** len(self.widths)
        return (side, side, self.widths[-1])


def build_encoder(config: AutoencoderConfig) -> keras.Sequential:
    """Inputs in [0, 1] (batch, *config.inputs), or numbers, to codes (batch, *config.code)."""
    stack: list[keras.layers.Layer] = []
    if config.kind == "dense":
        stack.append(layers.Flatten(name="pixels"))
    for number, width in enumerate(config.widths):
        last = number == len(config.widths) - 1
        if config.kind == "convolutional":
            stack.append(layers.Conv2D(width, 3, padding="same", name=f"enc{number}"))
        else:
            stack.append(layers.Dense(width, name=f"enc{number}"))
        if not last:
            stack.append(layers.LeakyReLU(SLOPE, name=f"enc{number}_relu"))
        if config.kind == "convolutional":
            stack.append(layers.MaxPooling2D(2, name=f"enc{number}_pool"))
    stack.append(layers.Activation("linear", dtype="float32", name="code"))
    return keras.Sequential([layers.Input(config.inputs), *stack], name="encoder")


def build_decoder(config: AutoencoderConfig) -> keras.Sequential:
    """Codes (batch, *config.code) to what the encoder was given: the encoder's layers, mirrored."""
    stack: list[keras.layers.Layer] = []
    for number, width in enumerate(reversed(config.widths[:-1])):
        if config.kind == "convolutional":
            stack.append(layers.UpSampling2D(2, name=f"dec{number}_up"))
            stack.append(layers.Conv2D(width, 3, padding="same", name=f"dec{number}"))
        else:
            stack.append(layers.Dense(width, name=f"dec{number}"))
        stack.append(layers.LeakyReLU(SLOPE, name=f"dec{number}_relu"))
    if config.kind == "convolutional":
        stack.append(layers.UpSampling2D(2, name="out_up"))
        stack.append(layers.Conv2D(config.channels, 3, padding="same", dtype="float32", name="out"))
    else:
        stack.append(layers.Dense(int(np.prod(config.inputs)), dtype="float32", name="out"))
    if not config.vector:
        stack.append(layers.Activation("sigmoid", dtype="float32", name="range"))
        stack.append(layers.Reshape(config.inputs, dtype="float32", name="picture"))
    return keras.Sequential([layers.Input(config.code), *stack], name="decoder")


def build_deblurrer(config: AutoencoderConfig, width: int = 24) -> keras.Model:
    """Blurred pictures in [0, 1] (batch, size, size, channels) to sharp ones: four layers, no downsampling.

    They say what is missing, and that is added to the picture.
    """
    picture = layers.Input(config.inputs, name="blurred")
    x = picture
    for number in range(3):
        x = layers.Conv2D(width, 3, padding="same", name=f"deblur{number}")(x)
        x = layers.LeakyReLU(SLOPE, name=f"deblur{number}_relu")(x)
    # Begun at nothing, so that the network leaves a picture as it is before it has learnt anything.
    missing = layers.Conv2D(config.channels, 3, padding="same", kernel_initializer="zeros", name="missing")(x)
    sharp = layers.Add(dtype="float32", name="sharp")([picture, missing])
    return keras.Model(picture, layers.ReLU(1.0, dtype="float32", name="limits")(sharp), name="deblurrer")


def build_smoother(config: AutoencoderConfig, width: int = 16) -> keras.Model:
    """Pictures in [0, 1] to the same without what no face has: a shallow autoencoder, (size / 4)^2 x 8 in between."""
    picture = layers.Input(config.inputs, name="picture")
    x = picture
    for number, channels in enumerate((width, 2 * width)):
        x = layers.Conv2D(channels, 3, padding="same", name=f"smooth{number}")(x)
        x = layers.MaxPooling2D(2)(layers.LeakyReLU(SLOPE)(x))
    x = layers.Conv2D(8, 3, padding="same", name="smooth_code")(x)
    for number, channels in enumerate((2 * width, width)):
        x = layers.UpSampling2D(2)(x)
        x = layers.LeakyReLU(SLOPE)(layers.Conv2D(channels, 3, padding="same", name=f"unsmooth{number}")(x))
    x = layers.Conv2D(config.channels, 3, padding="same", dtype="float32", name="unsmooth_out")(x)
    return keras.Model(picture, layers.Activation("sigmoid", dtype="float32")(x), name="smoother")


def lower(encoder: keras.Sequential, config: AutoencoderConfig) -> keras.Sequential:
    """The layers of an encoder that all shifts share; with `upper` behind it, it is the encoder."""
    return keras.Sequential([layers.Input(config.inputs), *encoder.layers[: _cut(encoder, config)]], name="lower")


def upper(encoder: keras.Sequential, config: AutoencoderConfig) -> keras.Sequential:
    """The layers of an encoder that are each shift's own."""
    start = lower(encoder, config).output_shape[1:]
    return keras.Sequential([layers.Input(start), *encoder.layers[_cut(encoder, config) :]], name="upper")


def _cut(encoder: keras.Sequential, config: AutoencoderConfig) -> int:
    """The place in `encoder.layers` of the first layer with weights that is not shared."""
    weighted = [number for number, layer in enumerate(encoder.layers) if layer.weights]
    return weighted[config.shared]


@dataclass(frozen=True)
class Parts:
    """The networks of a preset in Keras, to be trained and joined.

    deblurrer, smoother: None of a preset over numbers. uppers: for each shift by name the weights of its encoder's own
    layers. spreads: for each shift of a preset over numbers (d, d), see `training/autoencoder_targets.py`.
    """

    config: AutoencoderConfig
    encoder: keras.Sequential = field(repr=False)
    decoder: keras.Sequential = field(repr=False)
    deblurrer: keras.Model | None = field(default=None, repr=False)
    smoother: keras.Model | None = field(default=None, repr=False)
    uppers: Mapping[str, Sequence[np.ndarray]] = field(default_factory=dict, repr=False)
    spreads: Mapping[str, np.ndarray] = field(default_factory=dict, repr=False)

    @classmethod
    def built(cls, config: AutoencoderConfig) -> Parts:
        """The networks with new weights."""
        plain = build_encoder(config), build_decoder(config)
        return cls(config, *plain, *(() if config.vector else (build_deblurrer(config), build_smoother(config))))

    @property
    def files(self) -> dict[str, keras.Model]:
        """The networks that are there by the names of their files."""
        parts = (self.encoder, self.decoder, self.deblurrer, self.smoother)
        return {file: part for file, part in zip(PARTS, parts, strict=True) if part is not None}

    def shifted(self, shift: str) -> keras.Sequential:
        """The encoder that was fine-tuned for a shift; the plain one for PLAIN."""
        if shift == PLAIN:
            return self.encoder
        encoder, own = build_encoder(self.config), self.uppers[shift]
        encoder.set_weights([*self.encoder.get_weights()[: -len(own)], *own])
        return encoder

    def chain(self, shift: str) -> keras.Model:
        """All networks as one: pictures (batch, size, size, 3) in [0, 255] to new ones in [0, 1] and to codes.

        Of a preset over numbers it is the encoder alone.
        """
        if self.config.vector:
            rows = layers.Input(self.config.inputs, name="rows")
            return keras.Model(rows, [self.shifted(shift)(rows)], name="chain")
        pictures = layers.Input((self.config.size, self.config.size, 3), name="pictures")
        given = layers.Rescaling(1 / 255, dtype="float32")(pictures)
        if self.config.channels == 1:
            given = sum(given[..., place : place + 1] * share for place, share in enumerate(LUMA))
        code = self.shifted(shift)(given)
        return keras.Model(pictures, [self._drawn(code), code], name="chain")

    def tail(self) -> keras.Model:
        """What stands behind the encoder: codes (batch, ...) to pictures in [0, 1], or to numbers."""
        code = layers.Input(self.config.code, name="code")
        return keras.Model(code, [self._drawn(code)], name="tail")

    def _drawn(self, code):
        made = self.decoder(code)
        for network in (self.deblurrer, self.smoother):
            made = made if network is None else network(made)
        return ops.repeat(made, 3, axis=-1) if self.config.channels == 1 and not self.config.vector else made

    def save(self, folder: Path, files: Mapping[str, str]) -> list[str]:
        """Write all weights, one byte a number. files: for each shift the name of its file. Returns all names."""
        folder.mkdir(parents=True, exist_ok=True)
        for file, part in self.files.items():
            save_bytes(part.get_weights(), folder / file)
        for name, weights in self.uppers.items():
            further = {SPREAD: self.spreads[name].astype(np.float16)} if name in self.spreads else {}
            save_bytes(weights, folder / files[name], **further)
        return [*self.files, *files.values()]


def load_parts(preset: Preset) -> Parts:
    """The networks of a preset in Keras, its files verified. Raises PresetError."""
    config, files = _config(preset), _shift_files(preset)
    held = {name: load_bytes(preset.file(file)) for name, file in files.items()}
    uppers = {name: weights for name, (weights, _) in held.items()}
    spreads = {name: further[SPREAD].astype(np.float32) for name, (_, further) in held.items() if SPREAD in further}
    parts = replace(Parts.built(config), uppers=uppers, spreads=spreads)
    for file, network in parts.files.items():
        network.set_weights(load_bytes(preset.file(file))[0])
    return parts


@dataclass(frozen=True)
class Networks:
    """The networks of a preset, ready to run. chains, tail: those of `Parts`, for each shift by name and PLAIN."""

    config: AutoencoderConfig
    chains: Mapping[str, Network]
    tail: Network
    spreads: Mapping[str, np.ndarray] = field(default_factory=dict, repr=False)

    def picture(self, crops: np.ndarray, shift: str, push: float = 0.0) -> np.ndarray:
        """The new faces (n, size, size, 3) uint8 of crops of the same shape.

        push: how much farther from the plain code than the fine-tuned encoder takes a face, as a share of its way.
        """
        rows = crops.astype(np.float32)
        made, code = self.chains[shift](rows)
        if push:
            made = self.tail(code + push * (code - self.chains[PLAIN](rows)[1]))[0]
        return np.clip(made * 255 + 0.5, 0, 255).astype(np.uint8)


def load(preset: Preset) -> Networks:
    """The networks of a preset, its files verified. Raises PresetError."""
    config, files = _config(preset), _shift_files(preset)
    spreads = {}
    for name, file in files.items() if config.vector else ():
        spreads[name] = load_bytes(preset.file(file))[1][SPREAD].astype(np.float32)
    chains = {name: Network(partial(_chain, preset, name), preset, name) for name in (PLAIN, *files)}
    return Networks(config, chains, Network(lambda: load_parts(preset).tail(), preset, "tail"), spreads)


def _chain(preset: Preset, shift: str) -> keras.Model:
    return load_parts(preset).chain(shift)


def _config(preset: Preset) -> AutoencoderConfig:
    try:
        return AutoencoderConfig.of(preset.config["network"])
    except (KeyError, TypeError, ValueError) as error:
        raise PresetError(f"preset {preset.name} does not say its network: {error}", "fetch it again") from error


def _shift_files(preset: Preset) -> dict[str, str]:
    try:
        return {name: shift["file"] for name, shift in preset.config["shifts"].items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise PresetError(f"preset {preset.name} does not say its shifts: {error}", "fetch it again") from error
