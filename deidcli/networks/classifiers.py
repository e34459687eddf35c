"""Classifiers: what can be read off an aligned face (gender, age, expression), as probabilities for each question.

The network is small: a few blocks that halve the picture, the mean over what is left of it, and one fully connected
layer for each question. The blocks are those of CLEANIR's encoder (`blocks.encoder_block`), or those of mini-Xception
(Arriaga et al. 2017) on a grey picture, so that a second opinion can be had that shares no weight, block or colour with
the first. A preset says which questions it answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path

import keras
import numpy as np
from keras import layers, ops

from deidcli.errors import PresetError, UsageError
from deidcli.networks.blocks import MOMENTUM, activate, conv_norm, conv_norm_relu, encoder_block
from deidcli.networks.store import STEADY, run, save_half
from deidcli.presets import Preset, load_preset

METHOD, WEIGHTS = "classifier", "classifier.weights.h5"
Answers = dict[str, np.ndarray]  # probabilities (n, classes) float32 by the name of the head


@dataclass(frozen=True)
class Head:
    """A question and the answers to choose from. Where all are numbers they are places on a scale, like ages."""

    name: str
    classes: tuple[str, ...]

    @cached_property
    def places(self) -> np.ndarray | None:
        """The classes as rising numbers (classes,), or None where they are words."""
        try:
            return np.array([float(word) for word in self.classes])
        except ValueError:
            return None

    def read(self, probabilities: np.ndarray) -> np.ndarray:
        """(n, classes) to (n,): the likeliest word, or on a scale the mean place."""
        if self.places is not None:
            return probabilities @ self.places
        return np.array(self.classes)[probabilities.argmax(axis=-1)]


@dataclass(frozen=True)
class ClassifierConfig:
    """size: side of the crops in pixels. channels: of the first convolution and of each block; every one halves the
    picture. dropout: share of the last features that is left out in training. style: "residual" or "xception"."""

    heads: tuple[Head, ...]
    size: int = 64
    channels: tuple[int, ...] = (16, 32, 64, 128)
    dropout: float = 0.3
    style: str = "residual"

    @classmethod
    def of(cls, network: dict) -> ClassifierConfig:
        """From what config.json holds. Raises KeyError, TypeError or ValueError where that makes no sense."""
        heads = tuple(Head(head["name"], tuple(head["classes"])) for head in network["heads"])
        return cls(**{**network, "heads": heads, "channels": tuple(network["channels"])})

    def stored(self) -> dict:
        return asdict(self)


@dataclass(frozen=True)
class Classifier:
    """A network that answers. margin: of the crops it reads, as `deid align --margin` cuts them."""

    config: ClassifierConfig
    network: keras.Model = field(repr=False)
    margin: float = 0.06

    @property
    def heads(self) -> dict[str, Head]:
        return {head.name: head for head in self.config.heads}

    def predict(self, crops: np.ndarray) -> Answers:
        """Probabilities for aligned crops (n, size, size, 3) uint8 RGB; a face gets the same ones in any company.

        Raises UsageError for crops of another shape.
        """
        size = self.config.size
        if crops.shape[1:] != (size, size, 3):
            raise UsageError(f"crops of shape {crops.shape[1:]}, not {(size, size, 3)}", "align them to that size")
        return dict(zip(self.heads, run(self.network, crops.astype(np.float32), STEADY), strict=True))

    def read(self, crops: np.ndarray) -> Answers:
        """The answer to each question, (n,): words, or numbers on a scale."""
        return {name: self.heads[name].read(rows) for name, rows in self.predict(crops).items()}


def build_classifier(config: ClassifierConfig) -> keras.Model:
    """Picture (batch, size, size, 3) in [0, 255] to a list of probabilities (batch, classes), one for each head."""
    picture = layers.Input((config.size, config.size, 3), name="crops")
    x = layers.Rescaling(1 / 127.5, -1, name="range")(picture)
    x = _BODIES[config.style](x, config.channels)
    x = layers.Dropout(config.dropout, seed=3, name="dropout")(layers.GlobalAveragePooling2D(name="pool")(x))
    answers = [_answer(x, head) for head in config.heads]
    return keras.Model(picture, answers, name="classifier")


def _residual(x, channels: Sequence[int]):
    x = conv_norm_relu(x, channels[0], kernel=7, stride=2, name="stem")
    for i, count in enumerate(channels[1:], 1):
        x = encoder_block(x, count, f"block{i}")
    return x


def _xception(x, channels: Sequence[int]):
    x = conv_norm_relu(ops.mean(x, axis=-1, keepdims=True), channels[0], stride=2, name="stem")
    for i, count in enumerate(channels[1:], 1):
        shortcut = conv_norm(x, count, kernel=1, stride=2, name=f"module{i}_short")
        y = activate(_separable(x, count, f"module{i}_a"), f"module{i}_relu")
        y = layers.MaxPooling2D(3, 2, padding="same", name=f"module{i}_pool")(_separable(y, count, f"module{i}_b"))
        x = layers.Add(name=f"module{i}")([y, shortcut])
    return x


def _separable(x, channels: int, name: str):
    x = layers.SeparableConv2D(channels, 3, padding="same", use_bias=False, name=f"{name}_conv")(x)
    return layers.BatchNormalization(momentum=MOMENTUM, name=f"{name}_norm")(x)


_BODIES = {"residual": _residual, "xception": _xception}


def _answer(x, head: Head):
    x = layers.Dense(len(head.classes), dtype="float32", name=f"{head.name}_dense")(x)
    return layers.Softmax(dtype="float32", name=head.name)(x)


def load(preset: Preset | str) -> Classifier:
    """The classifier of a preset, its files verified. Raises PresetError."""
    preset = load_preset(preset, METHOD) if isinstance(preset, str) else preset
    try:
        config = ClassifierConfig.of(preset.config["network"])
        margin = float(preset.config["crop"]["margin"])
    except (KeyError, TypeError, ValueError) as error:
        raise PresetError(f"preset {preset.name} does not say its network: {error}", "fetch it again") from error
    network = build_classifier(config)
    network.load_weights(preset.file(WEIGHTS))
    return Classifier(config, network, margin)


def save(folder: Path, network: keras.Model) -> list[str]:
    """Write the weights in half precision. Returns the names of the files."""
    folder.mkdir(parents=True, exist_ok=True)
    save_half(network, folder / WEIGHTS)
    return [WEIGHTS]
