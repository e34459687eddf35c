"""How k-Same-Net is trained: a gallery of proxies to a preset, with the loop of `fit`.

Two departures from Section 4.2: beside single identities the network is shown mixes of several, because mixes are all
that it is asked for later (the paper trains on single ones and relies on the network to mix); and the loss is the mean
absolute difference of pixels and of their differences to neighbours, where the paper names none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import cv2
import keras
import numpy as np
from keras import ops
from PIL import Image

from deidcli.errors import UsageError
from deidcli.faces.pose import mouth_gap, upright
from deidcli.faces.warp import warp_face
from deidcli.methods.ksame.m import STEPS
from deidcli.methods.ksame.proxies import Gallery, Proxies, mouth_weights
from deidcli.networks.ksame_net import Generator, GeneratorConfig, build_generator, load, save
from deidcli.networks.store import Network
from deidcli.presets import Preset, save_preset
from deidcli.training.data import Pack, load_pack
from deidcli.training.fit import FitOptions, compile_trainer, fit

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
    made = Generator(config, Network.of(network))
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


# --- The proxy set of k-Same-Net: every proxy of a gallery with every expression and mouth, and mixes of several.
#
# The gallery's faces are averages of 50 people and more, so no real person is in the set. A gallery has a picture for
# each mouth (closed, teeth, open); the expressions are made by bending: how brows, eyes and corners of the mouth of
# people lie with an expression, beyond what their open or closed mouth explains, is learnt from labelled faces.

MOUTHS = len(STEPS) + 1
ENOUGH = 50  # faces that an expression is learnt from, at least
FINE = 1.5  # how much larger faces are mixed than the set's are


@dataclass(frozen=True)
class Frontal:
    """Where a face lies in the set's pictures: `size` pixels, `margin` around the face square."""

    size: int = 96
    margin: float = 0.04

    def points(self, shape: np.ndarray) -> np.ndarray:
        """From the unit of the face square (..., 2) to pixels; pixel (0, 0) covers [-0.5, 0.5]."""
        return (shape + self.margin) * self.size / (1 + 2 * self.margin) - 0.5

    def larger(self, factor: float) -> Frontal:
        return Frontal(round(self.size * factor), self.margin)


def expression_moves(pack: Pack, expressions: tuple[str, ...], strength: float = 1.0) -> np.ndarray:
    """How 68 points move from the first expression to each: (e, 68, 2) in the unit of the face square.

    strength: by how much more than people's. Least squares over the upright shapes of the pack: a shape is what its
    mouth (`mouth_weights`) brings plus what its expression brings. Raises UsageError for a pack without landmarks, or
    fewer than 50 faces of an expression.
    """
    if pack.landmarks is None:
        raise UsageError("the pack has no landmarks", "make it with this version's `deid align --pack`")
    said = pack.label("expression")
    seen = np.isfinite(pack.landmarks).all(axis=(1, 2))
    rows = [np.flatnonzero(seen & (said == word)) for word in expressions]
    for word, found in zip(expressions, rows, strict=True):
        if len(found) < ENOUGH:
            raise UsageError(f"{len(found)} faces of {word} are too few", f"{ENOUGH} and more show what is common")
    points = pack.landmarks[np.concatenate(rows)].astype(np.float64)
    words = np.repeat(np.eye(len(expressions)), [len(found) for found in rows], axis=0)[:, 1:]
    mouths = np.stack([mouth_weights(mouth_gap(face), STEPS) for face in points])
    shapes = np.stack([upright(face) for face in points]).reshape(len(points), -1)
    moves = np.linalg.lstsq(np.column_stack([words, mouths]), shapes, rcond=None)[0][: len(expressions) - 1]
    return strength * np.concatenate([np.zeros((1, 68, 2)), moves.reshape(-1, 68, 2)])


@dataclass(frozen=True)
class ProxySet:
    """The faces that mixes are made of.

    shapes: (p, m, 68, 2) of each proxy and mouth, upright. moves: (e, 68, 2) of each expression. laid: (p, m, side,
    side, 3) uint8, every face laid on the mean shape of its mouth, FINE times as large as `frontal`.
    """

    shapes: np.ndarray
    moves: np.ndarray
    laid: np.ndarray
    frontal: Frontal

    @classmethod
    def of(cls, gallery: Gallery, moves: np.ndarray, frontal: Frontal) -> ProxySet:
        """The set of a gallery's proxies."""
        shapes = np.stack([[upright(points) for points in proxy] for proxy in gallery.landmarks])
        large = frontal.larger(FINE)
        size = (large.size, large.size)
        common = large.points(shapes.mean(axis=0))
        laid = [
            [warp_face(gallery.picture(p, m), gallery.landmarks[p, m], common[m], size) for m in range(MOUTHS)]
            for p in range(len(shapes))
        ]
        return cls(shapes, moves, np.array(laid), frontal)

    @property
    def identities(self) -> int:
        return len(self.shapes)

    @property
    def appearances(self) -> int:
        return len(self.moves) + MOUTHS

    def appearance(self, expression: int, mouth: int) -> np.ndarray:
        """y (e + m,): one-hot for the expression, then one-hot for the mouth."""
        return np.concatenate([np.eye(len(self.moves))[expression], np.eye(MOUTHS)[mouth]])

    def picture(self, weights: np.ndarray, expression: int, mouth: int) -> np.ndarray:
        """The face (size, size, 3) uint8 that mixes the proxies by `weights` (p,), sum 1."""
        mixed = np.flatnonzero(weights)
        pixels = np.tensordot(weights[mixed], self.laid[mixed, mouth].astype(np.float32), 1)
        shape = np.tensordot(weights, self.shapes[:, mouth], 1) + self.moves[expression]
        source = self.frontal.larger(FINE).points(self.shapes[:, mouth].mean(axis=0))
        wanted = self.frontal.larger(FINE).points(shape)
        bent = warp_face(np.clip(pixels + 0.5, 0, 255).astype(np.uint8), source, wanted, pixels.shape[:2])
        return cv2.resize(bent, (self.frontal.size, self.frontal.size), interpolation=cv2.INTER_AREA)


@dataclass(frozen=True)
class Samples:
    """x and y side by side (n, p + e + m) float32, and the faces (n, size, size, 3) uint8 that belong to them."""

    inputs: np.ndarray
    pictures: np.ndarray

    def __len__(self) -> int:
        return len(self.inputs)


def pure(known: ProxySet) -> Samples:
    """Every proxy with every expression and every mouth, as the paper's network is trained."""
    rows = [(np.eye(known.identities)[p], e, m)
            for p in range(known.identities) for e in range(len(known.moves)) for m in range(MOUTHS)]  # fmt: skip
    return _samples(known, rows)


def mixed(known: ProxySet, count: int, largest: int, random: np.random.Generator) -> Samples:
    """Mixes of 2 to `largest` proxies, alike in every second one, by drawn weights in the others."""
    rows = []
    for number in range(count):
        k = int(random.integers(2, min(largest, known.identities) + 1))
        weights = np.zeros(known.identities)
        shares = np.full(k, 1 / k) if number % 2 else random.dirichlet(np.ones(k))
        weights[random.choice(known.identities, k, replace=False)] = shares
        rows.append((weights, int(random.integers(len(known.moves))), int(random.integers(MOUTHS))))
    return _samples(known, rows)


def _samples(known: ProxySet, rows: list[tuple[np.ndarray, int, int]]) -> Samples:
    inputs = np.stack([np.concatenate([x, known.appearance(e, m)]) for x, e, m in rows]).astype(np.float32)
    return Samples(inputs, np.stack([known.picture(*row) for row in rows]))
