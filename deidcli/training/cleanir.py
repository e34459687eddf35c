"""How CLEANIR is trained: packs to a preset; and what its networks reach on faces of strangers, for log and card."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import keras
import numpy as np
from keras import layers
from PIL import Image

from deidcli.errors import MissingDependency, UsageError
from deidcli.faces.face_model import ridge
from deidcli.methods.cleanir import turn
from deidcli.networks import classifiers
from deidcli.networks.cleanir import TRAIT, Pair, VaeConfig, load, save, together
from deidcli.networks.dlib_recogniser import SAME_PERSON
from deidcli.networks.store import Network, run
from deidcli.presets import Preset, load_preset, save_preset
from deidcli.training.cleanir_graph import Losses, build_trainer, lift, lift_matrix, loss_functions
from deidcli.training.cleanir_latent import directions, erase
from deidcli.training.data import MARGIN, Pack, check_apart, describe_crops, load_pack
from deidcli.training.fit import FitOptions, compile_trainer, fit
from deidcli.training.sampling import Augment, batches

ANGLES = (0, 30, 60, 90, 120, 150, 180)  # of the sheet, degrees: those of the paper's Table 2


@dataclass(frozen=True)
class Recipe:
    """All that decides what is trained.

    seen, erase: of VaeConfig. start: a preset whose weights are the first ones, of every layer that both have.
    decoder_only: a later stage, in which the encoder of `start` stays as it is; always so with `erase`, which sets the
    erasure first where `start` has none. augment, balance: how batches are varied and drawn (`sampling.batches`).
    """

    encoder_width: float = 1.0
    decoder_width: float = 0.5
    pool: str = "flatten"
    rank: int | None = 128
    seen: int | None = None
    erase: bool = False
    decoder_only: bool = False
    start: str | None = None
    augment: Augment = field(default_factory=Augment)
    balance: str = ""
    losses: Losses = field(default_factory=Losses)
    fit: FitOptions = field(default_factory=FitOptions)

    def network(self, side: int) -> VaeConfig:
        """Table 1 at this recipe's width, for crops of `side` pixels: a larger picture has further decoder blocks."""
        paper = VaeConfig(size=side, pool=self.pool, rank=self.rank, erase=self.erase, seen=self.seen)
        encoder, decoder = paper.scaled(self.encoder_width).encoder, paper.scaled(self.decoder_width).decoder
        further = (side // VaeConfig().size).bit_length() - 1
        return replace(paper, encoder=encoder, decoder=decoder + decoder[-1:] * further)


@dataclass(frozen=True)
class IdentitySpace:
    """center (128,), matrix (128, 512): a descriptor's target is (descriptor - center) @ matrix.

    spread (128, 512): 128 standard normal numbers times it are an identity as frequent as in the training data.
    """

    center: np.ndarray
    matrix: np.ndarray
    spread: np.ndarray

    @classmethod
    def of(cls, descriptors: np.ndarray, identity: int) -> IdentitySpace:
        """Made from the descriptors (n, 128) of the training faces."""
        center, matrix = descriptors.mean(axis=0), lift_matrix(descriptors.shape[1], identity)
        covariance = np.cov(descriptors, rowvar=False) + 1e-9 * np.eye(descriptors.shape[1])
        return cls(center, matrix, (np.linalg.cholesky(covariance).T @ matrix).astype(np.float32))

    def target(self, descriptors: np.ndarray) -> np.ndarray:
        return lift(descriptors, self.center, self.matrix)


def train(data: Sequence[Path], val: Path, recipe: Recipe, out: Path, work: Path) -> Preset:
    """Train on the packs `data` and write the preset `out`; checkpoints, log and sheets go to `work`.

    Raises UsageError for packs that cannot be used together, or a person who is in both.
    """
    faces, strangers = load_pack(*data), load_pack(val)
    check_apart(faces, strangers)
    config, space = recipe.network(faces.side), IdentitySpace.of(faces.descriptors, VaeConfig().identity)
    targets = space.target(faces.descriptors)
    traits = directions(faces, targets)
    trainer = build_trainer(config, recipe.losses, space.spread, together(traits, config.identity))
    first = load(load_preset(recipe.start, "cleanir")) if recipe.start else None
    if first:
        _take(trainer.get_layer("encoder"), first.encoder.model)
        _take(trainer.get_layer("decoder"), first.decoder.model)
    if config.rank is not None:
        trainer.get_layer("encoder").get_layer("lift").set_weights([space.matrix])
    if config.erase and not (first and first.config.erase):
        erase(trainer.get_layer("encoder"), faces)
    # An encoder that is trained after the erasure encodes the identity in a nonlinear way; only the decoder learns on.
    trainer.get_layer("encoder").trainable = not (recipe.decoder_only or config.erase)
    compile_trainer(trainer, loss_functions(recipe.losses), recipe.fit)
    encoder, decoder = (Network.of(trainer.get_layer(name)) for name in ("encoder", "decoder"))
    pair = Pair(config, encoder, decoder, space.spread, traits, exact=False)

    def feed(epoch: int) -> Iterator:
        options = recipe.fit
        drawn = (faces, options.batch, options.seed, epoch, options.steps, recipe.augment, recipe.balance)
        for crops, picked in batches(*drawn):
            inputs = {"crops": crops, "descriptors": faces.descriptors[picked]}
            yield inputs, {"picture": crops.astype(np.float32) / 255, "identity": targets[picked]}

    def look(epoch: int) -> dict[str, float]:
        save_sheet(pair, strangers.crops, work / "sheet.png", ANGLES)
        figures = quick(pair, space, strangers)
        # The score has no term for the critic's loss, so it would choose the weights from before the critic.
        return {k: v for k, v in figures.items() if not (recipe.losses.adversarial and k == "score")}

    fit(trainer, feed, recipe.fit, work, look)
    figures = measure(pair, space, strangers) | probe(pair, faces, strangers)
    return _write(pair, space, recipe, figures, out, (len(faces), [p.name for p in data]))


def _take(network: keras.Model, first: keras.Model) -> None:
    """Copy the weights of every layer that the first network has. Raises UsageError where the sizes differ."""
    known = {layer.name: layer for layer in first.layers}
    try:
        for layer in network.layers:
            if layer.weights and layer.name in known:
                layer.set_weights(known[layer.name].get_weights())
    except ValueError as error:
        raise UsageError(f"--start: {error}", "give a preset of the same sizes") from error


def _write(pair: Pair, space: IdentitySpace, recipe: Recipe, figures: dict, out: Path, data: tuple) -> Preset:
    known = {TRAIT + name: rows.astype(np.float32) for name, rows in pair.traits.items()}
    names = save(out, pair.encoder.model, pair.decoder.model, **asdict(space), **known)
    config = {
        "method": "cleanir",
        "crop": {"size": pair.config.size, "margin": MARGIN},
        "network": asdict(pair.config),
        "traits": list(pair.traits),
        "training": {
            **asdict(recipe),
            "start": recipe.start and Path(recipe.start).name,
            "faces": data[0],
            "data": data[1],
        },
        "figures": figures,
    }
    return save_preset(out, config, names, _card(out.name, config))


def _card(name: str, config: dict) -> str:
    training, figures = config["training"], config["figures"]
    return f"""# {name}

CLEANIR (Cho et al. 2020) at {config["crop"]["size"]} pixels. Encoder channels {config["network"]["encoder"]}, decoder
channels {config["network"]["decoder"]}, {config["network"]["pool"]} before the encoder's fully connected layer.

- Trained on {training["faces"]} aligned faces ({", ".join(training["data"])}).
- Losses: {training["losses"]}
- Schedule: {training["fit"]}
- Kept on request: {", ".join(config["traits"]) or "nothing"}.
- On the faces of --val, whose people are not in the training data (`training/cleanir.py` says what each is):
  {", ".join(f"{name} {value}" for name, value in figures.items())}.
"""


# --- A sheet of samples: what the networks make of faces they were not trained on, to be looked at while they train.

COLUMNS = 24  # columns of a sheet


def save_sheet(pair: Pair, crops: np.ndarray, path: Path, angles: Sequence[float]) -> None:
    """Write a PNG: a row of faces out of `crops` (n, side, side, 3) uint8, then a row for each angle in degrees.

    Traits are kept, as the method keeps them where nothing else is asked.
    """
    picked = crops[np.random.default_rng(3).choice(len(crops), min(COLUMNS, len(crops)), replace=False)]
    identity, attributes = pair.encode(picked)
    axis = np.random.default_rng(5).standard_normal((len(picked), len(pair.spread))) @ pair.spread
    kept = together(pair.traits, identity.shape[1])
    turned = [turn(identity, axis, np.full(len(picked), angle), kept) for angle in angles]
    rows = [picked, *(pair.decode(each, attributes) for each in turned)]
    sheet = np.concatenate([np.concatenate(list(row), axis=1) for row in rows], axis=0)
    Image.fromarray(sheet).save(path)


QUICK = 256  # faces that are looked at after an epoch
HALF = 180.0  # degrees
USUAL = 120.0  # degrees: what the method turns by where nothing else is asked


@dataclass(frozen=True)
class FaceFigures:
    """What networks that took no part in making the new faces (the recogniser aside) say of them.

    pair, space: what is measured, and its IdentitySpace. val: the faces. identity (n, d), attributes (n, d): of them.
    """

    pair: Pair
    space: Any
    val: Pack
    identity: np.ndarray
    attributes: np.ndarray

    def figures(self) -> dict[str, float]:
        """Those of `measure` for which a recogniser is needed. Raises MissingDependency."""
        half, usual = self._turned(HALF, {}), self._turned(USUAL, self.pair.traits)
        faces = {"0": self.still, "120": self._made(usual)}
        near, far = self._apart(self.still), self._apart(self._made(half))
        new = describe_crops(faces["120"])
        follows = np.sum(_unit(self.space.target(new)) * usual, axis=1).mean()
        judged = {"likeness": near.mean(), "recognised_0": _same(near), "recognised_180": _same(far)}
        kept = {f"expression_{angle}": self._expression(made) for angle, made in faces.items()}
        return judged | {"follows_120": follows} | self._alike(new) | kept

    @cached_property
    def still(self) -> np.ndarray:
        """The faces (n, side, side, 3) uint8 at 0 degrees."""
        return self._made(self.identity)

    def _made(self, identity: np.ndarray) -> np.ndarray:
        return self.pair.decode(identity, self.attributes)

    def _turned(self, degrees: float, kept: Mapping[str, np.ndarray]) -> np.ndarray:
        axes = np.random.default_rng(5).standard_normal((len(self.identity), len(self.pair.spread))) @ self.pair.spread
        rows = together(kept, self.identity.shape[1])
        return turn(self.identity, axes, np.full(len(self.identity), degrees), rows)

    def _apart(self, made: np.ndarray) -> np.ndarray:
        return np.linalg.norm(describe_crops(made) - self.val.descriptors, axis=1)

    def _alike(self, new: np.ndarray) -> dict[str, float]:
        """The share of pairs of two people whose new faces, described by `new` (n, 128), pass for one person's.

        Nothing where all faces are of one person.
        """
        people = np.array([name.split("/")[0] for name in self.val.names])
        squared = np.sum(new**2, axis=1)
        distances = np.sqrt(np.maximum(squared[:, None] + squared[None] - 2 * new @ new.T, 0))
        strangers = distances[people[:, None] != people[None]]
        return {"alike_120": _same(strangers)} if len(strangers) else {}

    def _expression(self, made: np.ndarray) -> float:
        return float(np.mean(self._expressions(made) == self._true_expressions))

    @cached_property
    def _true_expressions(self) -> np.ndarray:
        return self._expressions(self.val.crops)

    def _expressions(self, crops: np.ndarray) -> np.ndarray:
        side = self._judge.config.size
        small = [cv2.resize(crop, (side, side), interpolation=cv2.INTER_AREA) for crop in crops]
        return self._judge.read(np.stack(small))["expression"]

    @cached_property
    def _judge(self) -> classifiers.Classifier:
        return classifiers.load(load_preset("expression-judge", classifiers.METHOD))


def measure(pair: Pair, space: Any, val: Pack) -> dict[str, float]:
    """Figures on the aligned crops of `val`, without blending.

    embedding_distance: Equation 3 between encoder and recogniser. picture_error: mean absolute error of the picture at
    0 degrees, as a share of the range. Where the recogniser's weights are there: likeness, the mean distance of
    descriptors at 0 degrees; recognised_0, recognised_180: shares of new faces that it takes for their original with
    nothing kept. At 120 degrees with all traits kept: follows_120, the mean cosine between what it reads in the new
    face and the turned identity; alike_120, the share of pairs of two people whose new faces it takes for one person's.
    expression_0, expression_120: shares of faces in which `expression-judge` reads what it reads in the original.
    space: the IdentitySpace.
    """
    identity, attributes = pair.encode(val.crops)
    judged = FaceFigures(pair, space, val, identity, attributes)
    target = _unit(space.target(val.descriptors))
    figures = {
        "embedding_distance": 1 - float(np.mean(np.sum(identity * target, axis=1))),
        "picture_error": float(np.abs(judged.still.astype(np.float32) - val.crops).mean() / 255),
    }
    try:
        return _rounded(figures | judged.figures())
    except MissingDependency:  # a machine that only trains
        return _rounded(figures)


def quick(pair: Pair, space: Any, val: Pack) -> dict[str, float]:
    """`measure` on a few faces, and the score: what is lost at 0 degrees plus what is left of the person at 180."""
    rows = np.random.default_rng(3).permutation(len(val))[:QUICK]
    figures = measure(pair, space, val.where(rows))
    lost = figures.get("likeness", figures["embedding_distance"])
    return figures | {"score": round(figures["picture_error"] + lost + figures.get("recognised_180", 0.0), 4)}


def _same(distances: np.ndarray) -> float:
    return float(np.mean(distances <= SAME_PERSON))


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _rounded(figures: dict[str, Any]) -> dict[str, float]:
    return {name: round(float(value), 4) for name, value in figures.items()}


# --- Probes: how much of the identity can be read from the half of the latent vector that is not rotated

FACES = 8000  # that a probe learns from
HIDDEN = 512
EPOCHS = 12


def probe(pair: Pair, faces: Pack, val: Pack) -> dict[str, float]:
    """What a ridge regression and a network of one hidden layer, fitted on `faces`, read of `val` in its attributes.

    probe_cosine: mean cosine between the descriptors that the regression reads and the true ones, both less their mean;
    probe_rank1: share of faces whose own descriptor is the nearest of all of `val` to what is read; probe_net_cosine,
    probe_net_rank1: the same for the network; probe_chance: what guessing would reach.
    """
    rows = np.random.default_rng(4).permutation(_alike(faces))[:FACES]
    known, asked = (pair.encode(crops)[1].astype(np.float64) for crops in (faces.crops[rows], val.crops))
    centre, scale, middle = known.mean(axis=0), known.std(axis=0) + 1e-6, faces.descriptors[rows].mean(axis=0)
    answers, true = faces.descriptors[rows] - middle, val.descriptors - middle
    straight = (asked - centre) @ ridge(known, answers, 0.1 * len(known))
    network = _network(((known - centre) / scale).astype(np.float32), answers)
    bent = run(network, ((asked - centre) / scale).astype(np.float32))[0]
    found = {**_said("probe", straight, true), **_said("probe_net", bent, true), "probe_chance": 1 / len(val)}
    return {name: round(float(value), 4) for name, value in found.items()}


def _alike(faces: Pack) -> np.ndarray:
    """The rows of people with a name, as `val` has them: pictures of the same kind teach a probe most."""
    named = np.flatnonzero(["/" in name for name in faces.names])
    return named if len(named) else np.arange(len(faces))


def _network(known: np.ndarray, answers: np.ndarray) -> keras.Model:
    """512 hidden units, half of them dropped while it learns: without that it knows its faces by heart."""
    attributes = layers.Input(known.shape[1:])
    hidden = layers.Dropout(0.5, seed=1)(layers.Dense(HIDDEN, "gelu")(attributes))
    network = keras.Model(attributes, layers.Dense(answers.shape[1], dtype="float32")(hidden))
    rate = keras.optimizers.schedules.CosineDecay(1e-3, EPOCHS * -(-len(known) // 64))
    network.compile(keras.optimizers.AdamW(rate, weight_decay=1e-2), loss="cosine_similarity")
    network.fit(known, answers, batch_size=64, epochs=EPOCHS, verbose=0)
    return network


def _said(name: str, predicted: np.ndarray, true: np.ndarray) -> dict[str, float]:
    predicted, true = (v / np.maximum(np.linalg.norm(v, axis=1, keepdims=True), 1e-9) for v in (predicted, true))
    cosines = predicted @ true.T
    right = cosines.argmax(axis=1) == np.arange(len(true))
    return {f"{name}_cosine": np.mean(np.diag(cosines)), f"{name}_rank1": right.mean()}
