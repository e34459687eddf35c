"""Classifiers: what can be read off an aligned face (gender, age, expression), as probabilities for each question.

The network is small: a few of the blocks of CLEANIR's encoder, the mean over what is left of the picture, and one fully
connected layer for each question. For a second opinion there is another style that shares no weight, no block and no
colour with it: histograms of oriented gradients (Dalal and Triggs 2005) on the grey picture, and one hidden layer.
EPD-Net's verifiers are two styles more: VGG-16 (Simonyan and Zisserman 2015), as wide as asked, and the mini-Xception
of Arriaga et al. (2017).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from deidcli.errors import PresetError, UsageError
from deidcli.networks.backend import keras, layers, ops
from deidcli.networks.blocks import MOMENTUM, activate, conv_norm, conv_norm_relu, encoder_block
from deidcli.networks.store import Network, loaded, save_half
from deidcli.presets import Preset, load_preset

METHOD, WEIGHTS = "classifier", "classifier.weights.h5"
CELL, BLOCK = 4, 12  # pixels over which slopes are averaged, and by whose strength they are divided
VGG = (2, 2, 3, 3, 3)  # convolutions of VGG-16's stages, after each of which the picture is halved
FAINT = 0.01  # strength of slopes, of the range, that counts as none
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
    """size: side of the crops in pixels. dropout: share of the last features that is left out in training.

    channels: with style "residual" of the first convolution and of each block, every one of which halves the picture;
    with "gradients" the first is the number of directions, the last that of hidden units; with "vgg" of each of
    VGG-16's five stages, 64, 128, 256, 512 and 512 in the paper; with "xception" of the two first convolutions, and of
    each module.
    """

    heads: tuple[Head, ...]
    size: int = 64
    channels: tuple[int, ...] = (16, 32, 64, 128)
    dropout: float = 0.3
    style: str = "residual"

    @classmethod
    def of(cls, network: dict) -> ClassifierConfig:
        """From what config.json holds. Raises KeyError, TypeError or ValueError where that makes no sense."""
        heads = tuple(Head(head["name"], tuple(head["classes"])) for head in network["heads"])
        if network.get("style", cls.style) not in _BODIES:
            raise ValueError(f"no style is called {network['style']!r}")
        return cls(**{**network, "heads": heads, "channels": tuple(network["channels"])})

    def stored(self) -> dict:
        return asdict(self)


@dataclass(frozen=True)
class Classifier:
    """A network that answers. margin: of the crops it reads, as `deid align --margin` cuts them."""

    config: ClassifierConfig
    network: Network = field(repr=False)
    margin: float = 0.06

    @property
    def heads(self) -> dict[str, Head]:
        return {head.name: head for head in self.config.heads}

    def predict(self, crops: np.ndarray) -> Answers:
        """Probabilities for aligned crops (n, size, size, 3) uint8 RGB; a face gets the same ones whatever else is in
        its batch.

        Raises UsageError for crops of another shape.
        """
        size = self.config.size
        if crops.shape[1:] != (size, size, 3):
            raise UsageError(f"crops of shape {crops.shape[1:]}, not {(size, size, 3)}", "align them to that size")
        return dict(zip(self.heads, self.network(crops.astype(np.float32)), strict=True))

    def read(self, crops: np.ndarray) -> Answers:
        """The answer to each question, (n,): words, or numbers on a scale."""
        return {name: self.heads[name].read(rows) for name, rows in self.predict(crops).items()}


def build_classifier(config: ClassifierConfig) -> keras.Model:
    """Picture (batch, size, size, 3) in [0, 255] to a list of probabilities (batch, classes), one for each head."""
    picture = layers.Input((config.size, config.size, 3), name="crops")
    x = layers.Rescaling(1 / 127.5, -1, name="range")(picture)
    x = _BODIES[config.style](x, config.channels)
    x = layers.Dropout(config.dropout, seed=3, name="dropout")(x)
    answers = [_answer(x, head) for head in config.heads]
    return keras.Model(picture, answers, name="classifier")


def _residual(x, channels: Sequence[int]):
    x = conv_norm_relu(x, channels[0], kernel=7, stride=2, name="stem")
    for i, count in enumerate(channels[1:], 1):
        x = encoder_block(x, count, f"block{i}")
    return layers.GlobalAveragePooling2D(name="pool")(x)


def _gradients(x, channels: Sequence[int]):
    """The grey picture's slopes in so many directions, by the strength around them, averaged over cells."""
    grey = ops.mean(x, axis=-1, keepdims=True)
    across, down = grey[:, 1:-1, 2:] - grey[:, 1:-1, :-2], grey[:, 2:, 1:-1] - grey[:, :-2, 1:-1]
    angles = np.linspace(0, 2 * np.pi, channels[0], endpoint=False)
    slopes = ops.concatenate([ops.relu(float(np.cos(a)) * across + float(np.sin(a)) * down) for a in angles], axis=-1)
    around = ops.mean(layers.AveragePooling2D(BLOCK, 1, padding="same", name="block")(slopes), axis=-1, keepdims=True)
    cells = layers.AveragePooling2D(CELL, CELL, padding="same", name="cell")(slopes / (around + FAINT))
    cells = layers.BatchNormalization(momentum=MOMENTUM, name="cell_norm")(layers.Flatten(name="cells")(cells))
    return activate(
        layers.Dense(channels[-1], name="hidden")(layers.Dropout(0.3, seed=5, name="thin")(cells)), "hidden_relu"
    )


def _vgg(x, channels: Sequence[int]):
    """VGG-16 with batch normalisation, and two hidden layers of twice the last channels where the paper has 4096."""
    for i, (count, convolutions) in enumerate(zip(channels, VGG, strict=True)):
        for j in range(convolutions):
            x = conv_norm_relu(x, count, name=f"stage{i}_{j}")
        x = layers.MaxPooling2D(name=f"stage{i}_pool")(x)
    x = layers.Flatten(name="map")(x)
    for i in range(2):
        x = activate(layers.Dense(2 * channels[-1], name=f"hidden{i}")(x), f"hidden{i}_relu")
    return x


def _xception(x, channels: Sequence[int]):
    """Mini-Xception on the grey picture: separable convolutions with a strided way around each pair."""
    x = ops.mean(x, axis=-1, keepdims=True)
    for i in range(2):
        x = conv_norm_relu(x, channels[0], name=f"stem{i}")
    for i, count in enumerate(channels[1:]):
        # A strided convolution of one pixel looks at every second one, but its gradient kills TensorFlow 2.21.
        around = conv_norm(x[:, ::2, ::2], count, kernel=1, name=f"module{i}_around")
        for j in range(2):
            x = x if j == 0 else activate(x, f"module{i}_relu")
            x = layers.SeparableConv2D(count, 3, padding="same", use_bias=False, name=f"module{i}_{j}")(x)
            x = layers.BatchNormalization(momentum=MOMENTUM, name=f"module{i}_{j}_norm")(x)
        x = layers.Add(name=f"module{i}_add")([layers.MaxPooling2D(3, 2, "same", name=f"module{i}_pool")(x), around])
    return layers.GlobalAveragePooling2D(name="pool")(x)


_BODIES = {"residual": _residual, "gradients": _gradients, "vgg": _vgg, "xception": _xception}


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
    preset.file(WEIGHTS)
    network = Network(lambda: loaded(build_classifier(config), preset.file(WEIGHTS)), preset, METHOD)
    return Classifier(config, network, margin)


def save(folder: Path, network: keras.Model) -> list[str]:
    """Write the weights in half precision. Returns the names of the files."""
    folder.mkdir(parents=True, exist_ok=True)
    save_half(network, folder / WEIGHTS)
    return [WEIGHTS]
