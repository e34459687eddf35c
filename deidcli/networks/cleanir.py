"""CLEANIR's variational autoencoder (Cho et al. 2020, Table 1): the networks, and the pair as a preset stores it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from deidcli.networks.backend import keras, layers, ops
from deidcli.networks.blocks import activate, conv_norm_relu, decoder_block, encoder_block
from deidcli.networks.store import Network, loaded, run, save_half
from deidcli.presets import Preset


@dataclass(frozen=True)
class VaeConfig:
    """The sizes of Table 1. Values other than the defaults are this project's own and listed in the preset's card.

    size: side of the square picture in pixels, a multiple of 32. identity, attributes: lengths of the two halves of the
    latent vector. encoder: channels of Enc0 and of each encoder block. decoder: channels of Dec0 and of each decoder
    block. pool: the layer before EncL's fully connected one: "average" as in the paper, or "flatten", which keeps
    where things are (at a reduced width the average leaves fewer numbers than the latent vector has). rank: None as in
    the paper, or how many numbers make up the identity half through a fixed matrix: as many as the recogniser's
    descriptor has. Without it the rest of the 512 takes up expression and light, and they turn with the identity.
    erase: whether a fixed linear map takes out of the attributes what tells the person (`training.erasure`); with
    `rank` only. seen: side in pixels that the encoder averages the picture down to, None for its own size: what it
    has to tell does not need the detail that the decoder draws.
    """

    size: int = 64
    identity: int = 512
    attributes: int = 512
    encoder: tuple[int, ...] = (64, 64, 128, 192, 256)
    decoder: tuple[int, ...] = (512, 256, 128, 64, 32)
    pool: str = "average"
    rank: int | None = None
    erase: bool = False
    seen: int | None = None

    def scaled(self, width: float) -> VaeConfig:
        """The same network with every channel count multiplied by `width`."""
        scale = lambda row: tuple(max(8, round(c * width)) for c in row)  # noqa: E731
        return replace(self, encoder=scale(self.encoder), decoder=scale(self.decoder))


def build_encoder(config: VaeConfig) -> keras.Model:
    """Picture (batch, size, size, 3) in [0, 1] to latent mean and log variance, each (batch, identity + attributes)."""
    picture = layers.Input((config.size, config.size, 3), name="picture")
    x = picture
    if config.seen and config.seen < config.size:
        x = layers.AveragePooling2D(config.size // config.seen, name="seen")(x)
    x = conv_norm_relu(x, config.encoder[0], kernel=7, stride=2, name="enc0")
    for i, channels in enumerate(config.encoder[1:], 1):
        x = encoder_block(x, channels, f"enc{i}")
    x = layers.Flatten(name="encl_pool")(x) if config.pool == "flatten" else _average(x)
    latent = config.identity + config.attributes
    x = layers.Dense(latent, name="encl_dense")(x)
    x = layers.BatchNormalization(momentum=0.9, name="encl_norm")(activate(x, "encl_relu"))
    mean = _mean(x, config)
    # Starting near zero variance lets the decoder see the code before the prior pulls on it.
    log_variance = layers.Dense(latent, dtype="float32", bias_initializer=keras.initializers.Constant(-4.0), name="var")
    return keras.Model(picture, [mean, log_variance(x)], name="encoder")


def _mean(x, config: VaeConfig):
    if config.rank is None:
        return layers.Dense(config.identity + config.attributes, dtype="float32", name="mean")(x)
    code = layers.Dense(config.rank, dtype="float32", name="code")(x)
    # Its matrix is set once, from the preset's identity space, and never trained.
    lift = layers.Dense(config.identity, use_bias=False, trainable=False, dtype="float32", name="lift")
    attributes = layers.Dense(config.attributes, dtype="float32", name="attributes")(x)
    if config.erase:
        # Set from the training faces, as the rest of the network is, and never trained.
        same = {"kernel_initializer": "identity", "trainable": False, "dtype": "float32"}
        attributes = layers.Dense(config.attributes, name="erase", **same)(attributes)
    return layers.Concatenate(dtype="float32", name="mean")([lift(code), attributes])


def _average(x):
    # At 64 px the 3x3 average of Table 1 sees the whole 2x2 map, so it is the mean over the map at any size.
    return layers.GlobalAveragePooling2D(name="encl_pool")(x)


def build_decoder(config: VaeConfig) -> keras.Model:
    """Latent vector (batch, identity + attributes) to picture (batch, size, size, 3) in [0, 1]."""
    start = config.size // 2 ** (len(config.decoder) - 1)
    latent = layers.Input((config.identity + config.attributes,), name="latent")
    x = layers.Dense(start * start * config.decoder[0], name="dec0_dense")(latent)
    x = activate(layers.Reshape((start, start, config.decoder[0]), name="dec0_shape")(x), "dec0_relu")
    for i, channels in enumerate(config.decoder[1:], 1):
        x = decoder_block(x, channels, f"dec{i}")
    x = layers.Conv2D(3, 3, padding="same", name="decl_conv")(activate(x, "decl_relu"))
    return keras.Model(latent, layers.Activation("sigmoid", dtype="float32", name="picture")(x), name="decoder")


def unit(x):
    """x / |x| along the last axis."""
    return x / ops.maximum(ops.sqrt(ops.sum(ops.square(x), axis=-1, keepdims=True)), 1e-6)


def join_latent(identity, attributes):
    """The decoder's input: the identity half on the unit sphere (Section 3.3), then the attributes.

    The sphere is given the radius sqrt(identity), so that its coordinates are as large as the attributes' and the
    decoder does not have to learn first to listen to them.
    """
    radius = float(identity.shape[-1]) ** 0.5
    return ops.concatenate([unit(identity) * radius, attributes], axis=-1)


ENCODER, DECODER, IDENTITY = "encoder.weights.h5", "decoder.weights.h5", "identity.npz"
FILES = [ENCODER, DECODER, IDENTITY]
TRAIT = "trait_"  # before the name of a trait, in IDENTITY


@dataclass(frozen=True)
class Pair:
    """encoder, decoder: the networks. spread: (k, identity) float32; k normal numbers times it are an identity.

    traits: for each trait ("gender", "age", ...) the directions of the identity space that tell it, (n, identity).
    exact: whether each face is computed alone, so that its bits depend on no other face of the batch; training measures
    thousands of faces and does not need that.
    """

    config: VaeConfig
    encoder: Network
    decoder: Network
    spread: np.ndarray
    traits: Mapping[str, np.ndarray] = field(default_factory=dict)
    exact: bool = True

    def encode(self, pictures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(n, size, size, 3) uint8 to the means of identity (n, 512), of length 1, and attributes (n, 512)."""
        rows = pictures.astype(np.float32) / 255
        mean = self.encoder(rows)[0] if self.exact else run(self.encoder.model, rows)[0]
        identity, attributes = mean[:, : self.config.identity], mean[:, self.config.identity :]
        return identity / np.maximum(np.linalg.norm(identity, axis=1, keepdims=True), 1e-6), attributes

    def decode(self, identity: np.ndarray, attributes: np.ndarray) -> np.ndarray:
        """The pictures (n, size, size, 3) uint8 of unit identities and attributes."""
        latent = _joined(identity.astype(np.float32), attributes)
        made = self.decoder(latent)[0] if self.exact else run(self.decoder.model, latent)[0]
        return np.clip(made * 255 + 0.5, 0, 255).astype(np.uint8)


def _joined(identity: np.ndarray, attributes: np.ndarray) -> np.ndarray:
    """`vae.join_latent` without Keras."""
    length = np.maximum(np.sqrt(np.sum(np.square(identity), axis=-1, keepdims=True)), np.float32(1e-6))
    return np.concatenate([identity / length * np.float32(identity.shape[-1] ** 0.5), attributes], axis=-1)


def together(traits: Mapping[str, np.ndarray], size: int) -> np.ndarray:
    """The directions (n, size) of all `traits` of an identity space of `size`; none of no traits."""
    return np.concatenate([np.zeros((0, size)), *traits.values()])


def load(preset: Preset) -> Pair:
    """The networks of a preset, its files verified. Raises PresetError."""
    config = config_of(preset.config["network"])
    preset.file(ENCODER), preset.file(DECODER)
    encoder = Network(lambda: loaded(build_encoder(config), preset.file(ENCODER)), preset, "encoder")
    decoder = Network(lambda: loaded(build_decoder(config), preset.file(DECODER)), preset, "decoder")
    with np.load(preset.file(IDENTITY), allow_pickle=False) as stored:
        known = [name for name in stored.files if name.startswith(TRAIT)]
        traits = {name.removeprefix(TRAIT): stored[name].astype(np.float64) for name in known}
        return Pair(config, encoder, decoder, stored["spread"].astype(np.float32), traits)


def save(folder: Path, encoder: keras.Model, decoder: keras.Model, **identity: np.ndarray) -> list[str]:
    """Write the weights in half precision and the arrays of the identity space: spread, and trait_NAME for each trait.

    Returns the names of the files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    save_half(encoder, folder / ENCODER)
    save_half(decoder, folder / DECODER)
    arrays: dict[str, Any] = dict(identity)
    np.savez_compressed(folder / IDENTITY, **arrays)
    return FILES


def config_of(network: dict) -> VaeConfig:
    """The sizes as config.json holds them."""
    known = {f.name for f in fields(VaeConfig)}
    given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in network.items() if k in known}
    return VaeConfig(**given)
