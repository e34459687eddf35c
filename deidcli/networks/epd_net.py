"""EPD-Net's networks (Aggarwal et al. 2020, Section III-A): a U-Net that translates faces, and a PatchGAN.

The verifiers of Section III-B are classifiers of the styles "vgg" and "xception" (`networks/classifiers.py`). Four
departures from the paper. The generator adds a change to a picture that it is given, so that it begins as the identity
and the adversary only has to teach detail. The noise z is a list of numbers from which the dropout of pix2pix is
decided, so that one list gives one face. The PatchGAN has spectral instead of batch normalisation, and sees a picture
without the original beside it: there is no de-identified face in the data that could stand beside one. And where the
generator is given a start, it changes only its detail, and the PatchGAN judges only that: what is wider than COARSE
pixels and what has colour is the start's, so that no blotches come into the skin. Of the face it then sees only what is
wider than COARSE pixels: with all of it, the cheapest way to please the adversary is to copy the old face's features.
There is no noise z then: which identity it starts from is drawn in secret already, and numbers that are dropped on
small maps made dark and bright patches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from deidcli.errors import PresetError
from deidcli.networks.backend import keras, layers, ops
from deidcli.networks.blocks import MOMENTUM, SLOPE
from deidcli.networks.classifiers import Classifier, ClassifierConfig, build_classifier
from deidcli.networks.store import Network, loaded, save_half
from deidcli.presets import Preset

METHOD, GENERATOR = "epdnet", "generator.weights.h5"
VERIFIERS = ("identity", "emotion")  # of Section III-B; NAME.weights.h5 and the entry NAME of config.json
KERNEL = 4
COARSE = 8  # pixels of the square whose mean is no detail any more
CRITIC = (32, 64, 96)  # channels of the PatchGAN, each at half the height and width of the one before
DROPPED, RATE = 2, 0.5  # blocks of the way up, the innermost ones, that drop this share of their numbers
LIMIT = 0.15  # what a pixel of a start changes by, at most, before what is wide is taken off; white is 1


@dataclass(frozen=True)
class EpdConfig:
    """size: side of the pictures in pixels. channels: of each block of the way down, which halves the picture.

    started: whether a second picture is given, the start, to which the change is added; else it is added to the first.
    fine: channels of a convolution at the picture's own resolution, which sees the picture, too, so that the change can
    take away every line of the old face; 0: none, and no change is finer than two pixels.
    """

    size: int = 64
    channels: tuple[int, ...] = (32, 64, 96, 128)
    started: bool = False
    fine: int = 0

    @property
    def inputs(self) -> int:
        """Channels that are given: RGB of the face, and of the start."""
        return 6 if self.started else 3

    @property
    def noise(self) -> int:
        """How many numbers z has."""
        return sum(rows * rows * channels for rows, channels in self.dropped())

    def dropped(self) -> list[tuple[int, int]]:
        """The side and the channels of the maps that are dropped from, the innermost first."""
        depth, count = len(self.channels), 0 if self.started else DROPPED
        sides = [self.size // 2 ** (depth - 1 - i) for i in range(count)]
        return list(zip(sides, self.channels[::-1][1 : count + 1], strict=True))

    @classmethod
    def of(cls, network: dict) -> EpdConfig:
        """From what config.json holds. Raises TypeError, KeyError or ValueError where that makes no sense."""
        made = cls(**{**network, "channels": tuple(network["channels"])})
        if len(made.channels) <= DROPPED or made.size % 2 ** len(made.channels):
            raise ValueError(f"{made.size} pixels cannot be halved {len(made.channels)} times, {DROPPED + 1} at least")
        return made

    def stored(self) -> dict:
        return asdict(self)


@dataclass(frozen=True)
class Translator:
    """The generator of a preset, ready to translate."""

    config: EpdConfig
    network: Network = field(repr=False)

    def translate(self, pictures: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """G(x, z): pictures (n, size, size, 3 or 6) in [0, 1] and noise (n, config.noise) in [0, 1) to (n, size, size,
        3) float32 in [0, 1]. A row comes out the same whatever else is in its batch.
        """
        return self.network(packed(pictures, noise))[0]


def packed(pictures: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """What the generator is given: a row (n, size * size * channels + noise) float32 for each picture."""
    return np.concatenate([pictures.reshape(len(pictures), -1), noise], axis=1).astype(np.float32)


def build_generator(config: EpdConfig) -> keras.Model:
    """Rows as `packed` makes them to pictures (batch, size, size, 3) in [0, 1]."""
    count = config.size**2 * config.inputs
    given = layers.Input((count + config.noise,), name="given")
    picture = layers.Reshape((config.size, config.size, config.inputs), name="pictures")(given[:, :count])
    noise, used, dropped = given[:, count:], 0, len(config.dropped())
    join = layers.Concatenate(name="seen")
    x = join([smooth(picture[..., :3]), picture[..., 3:]]) if config.started else picture
    x, skips = x * 2 - 1, []
    for i, channels in enumerate(config.channels):
        x = layers.Conv2D(channels, KERNEL, 2, "same", use_bias=i == 0, name=f"down{i}")(x)
        x = x if i == 0 else layers.BatchNormalization(momentum=MOMENTUM, name=f"down{i}_norm")(x)
        x = layers.LeakyReLU(SLOPE, name=f"down{i}_relu")(x)
        skips.append(x)
    for i, channels in enumerate(config.channels[-2::-1]):
        x = layers.Conv2DTranspose(channels, KERNEL, 2, "same", use_bias=False, name=f"up{i}")(x)
        x = layers.BatchNormalization(momentum=MOMENTUM, name=f"up{i}_norm")(x)
        if i < dropped:
            size = int(np.prod(x.shape[1:]))
            x = _dropped(x, noise[:, used : used + size], f"up{i}_drop")
            used += size
        x = layers.Concatenate(name=f"up{i}_join")([layers.ReLU(name=f"up{i}_relu")(x), skips[-2 - i]])
    x = layers.Conv2D(config.fine, 1, name="narrowed")(x) if config.fine else x
    # A transposed convolution here would leave a grid in skin until it has learnt for long.
    x = layers.UpSampling2D(2, interpolation="bilinear", name="enlarged")(x)
    if config.fine:
        x = layers.Concatenate(name="fine_join")([x, picture * 2 - 1])
        x = layers.LeakyReLU(SLOPE, name="fine_relu")(layers.Conv2D(config.fine, 3, padding="same", name="fine")(x))
    colours = 1 if config.started else 3
    change = layers.Conv2D(colours, 3, padding="same", kernel_initializer="zeros", dtype="float32", name="change")(x)
    change = detail(ops.tanh(change / LIMIT) * LIMIT) if config.started else change
    return keras.Model(given, ops.clip(picture[..., -3:] + change, 0.0, 1.0), name="generator")


def smooth(x):
    """The means of a map (batch, size, size, channels) over squares of COARSE pixels, interpolated."""
    means = layers.AveragePooling2D(COARSE, dtype="float32")(x)
    return layers.UpSampling2D(COARSE, interpolation="bilinear", dtype="float32")(means)


def detail(x):
    """What a map (batch, size, size, channels) holds that `smooth` leaves out."""
    return x - smooth(x)


def _dropped(x, noise, name: str):
    """A map without the numbers where those of z, uniform in [0, 1), are below RATE: at any time, as pix2pix does."""
    kept = layers.Reshape(x.shape[1:], name=name)(noise) >= RATE
    return x * ops.cast(kept, x.dtype) * (1 / (1 - RATE))


def build_critic(config: EpdConfig, channels: Sequence[int] = CRITIC) -> keras.Model:
    """PatchGAN: pictures (batch, size, size, 3) in [0, 1] to a verdict for each patch, (batch, rows, columns, 1).

    A verdict is the log of how much more likely the patch is one of a photograph; D of Equation 1 is its sigmoid.
    """
    picture = layers.Input((config.size, config.size, 3), name="picture")
    x = detail(ops.mean(picture, axis=-1, keepdims=True)) * 8 if config.started else picture * 2 - 1
    for i, count in enumerate(channels):
        conv = layers.Conv2D(count, KERNEL, 2, "same", name=f"critic{i}_conv")
        x = layers.LeakyReLU(SLOPE, name=f"critic{i}_relu")(layers.SpectralNormalization(conv, name=f"critic{i}")(x))
    last = layers.SpectralNormalization(layers.Conv2D(1, KERNEL, 1, "same", name="verdict_conv"), name="verdict")
    return keras.Model(picture, layers.Activation("linear", dtype="float32", name="logit")(last(x)), name="critic")


def load(preset: Preset) -> Translator:
    """The generator of a preset, its files verified. Raises PresetError."""
    try:
        config = EpdConfig.of(preset.config["network"])
    except (KeyError, TypeError, ValueError) as error:
        raise PresetError(f"preset {preset.name} does not say its network: {error}", "fetch it again") from error
    preset.file(GENERATOR)
    return Translator(
        config, Network(lambda: loaded(build_generator(config), preset.file(GENERATOR)), preset, "generator")
    )


def load_verifier(preset: Preset, name: str) -> Classifier:
    """A verifier that a preset was trained with, one of VERIFIERS. Raises PresetError where it has none."""
    try:
        config, margin = ClassifierConfig.of(preset.config[name]), float(preset.config["crop"]["margin"])
    except (KeyError, TypeError, ValueError) as error:
        raise PresetError(f"preset {preset.name} has no verifier of {name}: {error}", "choose another") from error
    file = preset.file(f"{name}.weights.h5")
    return Classifier(config, Network(lambda: loaded(build_classifier(config), file), preset, name), margin)


def save(folder: Path, generator: keras.Model, **verifiers: keras.Model) -> list[str]:
    """Write the weights in half precision, of the verifiers by their names, too. Returns the names of the files."""
    folder.mkdir(parents=True, exist_ok=True)
    networks = {GENERATOR: generator, **{f"{name}.weights.h5": network for name, network in verifiers.items()}}
    for name, network in networks.items():
        save_half(network, folder / name)
    return list(networks)
