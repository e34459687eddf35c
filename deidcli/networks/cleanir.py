"""CLEANIR's pair of networks as a preset stores it, ready to encode and decode."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from deidcli.networks.backend import keras
from deidcli.networks.store import Network, loaded, run, save_half
from deidcli.networks.vae import VaeConfig, build_decoder, build_encoder
from deidcli.presets import Preset

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
