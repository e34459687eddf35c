"""How k-Same-Net is trained: a gallery of proxies to a preset, with the loop of `fit`.

Two departures from Section 4.2: beside single identities the network is shown mixes of several, because mixes are all
that it is asked for later (the paper trains on single ones and relies on the network to mix); and the loss is the mean
absolute difference of pixels and of their differences to neighbours, where the paper names none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import keras
import numpy as np
from keras import ops
from PIL import Image

from deidcli.methods.ksame_m import STEPS
from deidcli.methods.mixes import Proxies
from deidcli.methods.proxies import Gallery
from deidcli.networks.ksame_net import Generator, GeneratorConfig, build_generator, load, save
from deidcli.presets import Preset, save_preset
from deidcli.training.data import load_pack
from deidcli.training.fit import FitOptions, compile_trainer, fit
from deidcli.training.proxy_set import Frontal, ProxySet, Samples, expression_moves, mixed, pure

METHOD = "ksame-net"
EXPRESSIONS = ("neutral", "happiness", "surprise", "anger", "sadness")
CHECKED = 200  # mixes that were not trained on, for the figures


@dataclass(frozen=True)
class Recipe:
    """All that decides what is trained.

    size, margin: of the faces. dense, channels, last: of GeneratorConfig. strength: how far expressions are moved, 1 as
    people move. mixes: how many mixes are trained on, of 2 to `largest` proxies. detail: weight of the differences to
    neighbours.
    """

    size: int = 96
    margin: float = 0.04
    dense: tuple[int, int] = (256, 128)
    channels: tuple[int, ...] = (256, 160, 96, 64, 32)
    last: int = 12
    strength: float = 1.3
    mixes: int = 3000
    largest: int = 10
    detail: float = 1.0
    fit: FitOptions = field(default_factory=FitOptions)

    def network(self, known: ProxySet) -> GeneratorConfig:
        return GeneratorConfig(known.identities, known.appearances, self.size, self.dense, self.channels, self.last)


def train(gallery: str, faces: Path, recipe: Recipe, out: Path, work: Path) -> Preset:
    """Train on the proxies of `gallery` and write the preset `out`; checkpoints, log and samples go to `work`.

    faces: a pack with landmarks and the label expression, from which expressions are learnt. Raises UsageError for a
    pack that does not serve, PresetError for a gallery that is none.
    """
    shown = Gallery.load(gallery)
    moves = expression_moves(load_pack(faces), EXPRESSIONS, recipe.strength)
    known = ProxySet.of(shown, moves, Frontal(recipe.size, recipe.margin))
    random = np.random.default_rng(recipe.fit.seed)
    single, several = pure(known), mixed(known, recipe.mixes, recipe.largest, random)
    unseen = mixed(known, CHECKED, recipe.largest, random)
    config = recipe.network(known)
    network = build_generator(config)
    network.get_layer("bias").begin(several.pictures.mean(axis=0) / 255)
    trainer = keras.Model({"inputs": network.input}, {"picture": network.output})
    compile_trainer(trainer, {"picture": _loss(recipe.detail)}, recipe.fit)
    made = Generator(config, network)
    fit(trainer, _feed(single, several, recipe.fit), recipe.fit, work, _sheet(made, unseen, work / "sheet.png"))
    return _write(network, known, shown, recipe, unseen, out, faces.name)


def _loss(detail: float):
    def absolute(truth, made):
        apart = ops.cast(made, "float32") - truth
        down, across = apart[:, 1:] - apart[:, :-1], apart[:, :, 1:] - apart[:, :, :-1]
        return ops.mean(ops.abs(apart)) + detail * (ops.mean(ops.abs(down)) + ops.mean(ops.abs(across)))

    return absolute


def _feed(single: Samples, several: Samples, options: FitOptions):
    """Batches of which one half are single identities, the other half mixes."""

    def feed(epoch: int) -> Iterator:
        for step in range(epoch * options.steps, (epoch + 1) * options.steps):
            random = np.random.default_rng([options.seed, step])
            halves = (single, options.batch // 2), (several, options.batch - options.batch // 2)
            picked = [(part, random.integers(len(part), size=count)) for part, count in halves]
            inputs = np.concatenate([part.inputs[rows] for part, rows in picked])
            pictures = np.concatenate([part.pictures[rows] for part, rows in picked])
            yield {"inputs": inputs}, {"picture": pictures.astype(np.float32) / 255}

    return feed


def _sheet(made: Generator, unseen: Samples, path: Path):
    """Draws pairs of what was wanted and what was made, one above the other."""

    def draw(epoch: int) -> None:
        count = made.config.identities
        wanted = unseen.pictures[:24]
        faces = made.generate(unseen.inputs[:24, :count], unseen.inputs[:24, count:])
        rows = [
            np.concatenate(list(half), axis=1) for i in (0, 8, 16) for half in (wanted[i : i + 8], faces[i : i + 8])
        ]
        Image.fromarray(np.concatenate(rows)).save(path)

    return draw


def _write(
    network: keras.Model, known: ProxySet, gallery: Gallery, recipe: Recipe, unseen: Samples, out: Path, faces: str
) -> Preset:
    rows = gallery.traits, gallery.descriptors[:, 0], known.shapes, known.moves
    proxies = Proxies(EXPRESSIONS, STEPS, *rows, gallery.probe, recipe.size, recipe.margin)
    names = [*save(out, network), *proxies.save(out)]
    config = {
        "method": METHOD,
        **proxies.stored(),
        "network": recipe.network(known).stored(),
        "training": {**asdict(recipe), "gallery": gallery.preset.name, "faces": faces},
    }
    made = load(save_preset(out, config, names, ""))
    config["figures"] = measure(made, unseen)
    return save_preset(out, config, names, card(out.name, config))


def measure(made: Generator, unseen: Samples) -> dict[str, float]:
    """The mean absolute error of a pixel, as a share of the range, on mixes that were not trained on."""
    count = made.config.identities
    faces = made.generate(unseen.inputs[:, :count], unseen.inputs[:, count:])
    apart = np.abs(faces.astype(np.float32) - unseen.pictures)
    return {"picture_error": round(float(apart.mean() / 255), 4)}


def card(name: str, config: dict) -> str:
    """card.md, made from the configuration."""
    training, network, shown = config["training"], config["network"], config["appearance"]
    return f"""# {name}

k-Same-Net (Meden et al. 2018, Figure 4) at {config["picture"]["size"]} pixels: {network["identities"]} identities;
expressions {", ".join(shown["expression"])}; {len(shown["mouth"]) + 1} mouths. FC1 and FC2 of {network["dense"]} units,
channels {network["channels"]}, {network["last"]} before ToRGB. Weights in float16.

- Identities: the proxies of the preset {training["gallery"]}, each the average of 50 people and more; no real person
  is in the set. Expressions: moves of the landmarks learnt from the labelled faces of {training["faces"]}, times
  {training["strength"]}.
- Trained on every proxy with every expression and mouth, and as often on {training["mixes"]} mixes of 2 to
  {training["largest"]} proxies. Loss: absolute difference of pixels, and of differences to neighbours times
  {training["detail"]}.
- Schedule: {training["fit"]}
- On {CHECKED} mixes that were not trained on: mean absolute error of a pixel
  {config["figures"]["picture_error"]} of the range.
"""
