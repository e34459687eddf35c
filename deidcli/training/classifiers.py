"""How classifiers are trained: packs and labels to a preset, with the loop of `fit`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import cv2
import keras
import numpy as np
from keras import ops

from deidcli.errors import UsageError
from deidcli.networks.classifiers import METHOD, Classifier, ClassifierConfig, Head, build_classifier, load, save
from deidcli.presets import Preset, load_preset, save_preset
from deidcli.training.augment import Retaken
from deidcli.training.chips import MARGIN
from deidcli.training.classifier_figures import card, measure
from deidcli.training.data import Pack, check_apart, load_pack
from deidcli.training.fit import FitOptions, compile_trainer, fit
from deidcli.training.labels import Targets, held_out, with_labels, with_targets
from deidcli.training.sampling import Augment, batches

EXPRESSION = (Head("expression", ("neutral", "happiness", "surprise", "anger", "sadness")),)
ATTRIBUTES = (
    Head("gender", ("male", "female")),
    Head("age", tuple(str(year) for year in range(0, 100, 5))),
    Head("race", ("white", "black", "asian", "indian", "other")),
)


@dataclass(frozen=True)
class Recipe:
    """All that decides what is trained.

    size, channels, dropout, style: of ClassifierConfig. balance: a face counts by the frequency of its class to the
    power of minus this: 0 leaves the data as they are, 1 lets every class count alike. hold_out: the share of the faces
    that is kept for the figures where there is no pack of others. start: a preset with the same blocks whose weights
    are the first ones.
    """

    heads: tuple[Head, ...]
    size: int = 64
    channels: tuple[int, ...] = (16, 32, 64, 128)
    dropout: float = 0.3
    balance: float = 0.5
    hold_out: float = 0.1
    style: str = "residual"
    start: str | None = None
    augment: Augment = field(default_factory=Retaken)
    fit: FitOptions = field(default_factory=FitOptions)

    def network(self) -> ClassifierConfig:
        return ClassifierConfig(self.heads, self.size, self.channels, self.dropout, self.style)


def train(data: Sequence[Path], val: Sequence[Path], labels: Sequence[Path], recipe: Recipe, out: Path, work: Path):
    """Train on the packs `data` and write the preset `out`; checkpoints and log go to `work`. Returns the Preset.

    val: packs of other people; without one `recipe.hold_out` of the faces is kept back. labels: CSV files for packs
    that carry none. Raises UsageError for packs or labels that do not fit.
    """
    sides = [with_labels(pack, labels) for pack in _split(data, val, recipe)]
    (faces, targets), (strangers, answers) = (with_targets(pack, recipe.heads) for pack in sides)
    network = build_classifier(recipe.network())
    if recipe.start:
        _take_blocks(network, load(load_preset(recipe.start, METHOD)).network)
    trainer = keras.Model({"crops": network.input}, dict(zip(targets, network.outputs, strict=True)))
    compile_trainer(trainer, {name: _loss(rows, recipe.balance) for name, rows in targets.items()}, recipe.fit)
    fit(trainer, _feed(faces, targets, recipe), recipe.fit, work, lambda epoch: None)
    return _write(network, recipe, (strangers, answers), out, {"faces": len(faces), "data": [p.name for p in data]})


def _split(data: Sequence[Path], val: Sequence[Path], recipe: Recipe) -> tuple[Pack, Pack]:
    """The faces to train on and those to measure on. Raises UsageError where a person is in both."""
    pack = _small(load_pack(*data), recipe.size)
    if not val:
        kept = held_out(pack.names, recipe.hold_out)
        return pack.where(~kept), pack.where(kept)
    others = _small(load_pack(*val), recipe.size)
    check_apart(pack, others)
    return pack, others


def _small(pack: Pack, side: int) -> Pack:
    """The same pack with crops of `side` pixels. Raises UsageError where they would have to grow."""
    if pack.side < side:
        raise UsageError(f"crops of {pack.side} pixels, {side} are needed", f"align them with --size {side}")
    if pack.side == side:
        return pack
    crops = np.stack([cv2.resize(crop, (side, side), interpolation=cv2.INTER_AREA) for crop in pack.crops])
    return replace(pack, crops=crops, landmarks=None)


def _take_blocks(network: keras.Model, first: keras.Model) -> None:
    """Copy the weights of every layer but the heads. Raises UsageError where the sizes differ."""
    try:
        for layer in network.layers:
            if layer.weights and not layer.name.endswith("_dense"):
                layer.set_weights(first.get_layer(layer.name).get_weights())
    except ValueError as error:
        raise UsageError(f"--start: {error}", "give a preset with the same --channels") from error


def _loss(targets: np.ndarray, balance: float) -> Callable:
    """Cross entropy in which the classes count as `balance` says, 1 on the average of the faces."""
    shares = np.maximum(targets.mean(axis=0), 1e-4)
    weights = shares**-balance
    weights = (weights / (weights @ shares)).astype(np.float32)

    def weighted_cross_entropy(answer, probabilities):
        likely = ops.log(ops.clip(ops.cast(probabilities, "float32"), 1e-7, 1.0))
        return -ops.mean(ops.sum(weights * ops.cast(answer, "float32") * likely, axis=-1))

    return weighted_cross_entropy


def _feed(faces: Pack, targets: Targets, recipe: Recipe) -> Callable[[int], Iterator]:
    def feed(epoch: int) -> Iterator:
        options = recipe.fit
        for crops, rows in batches(faces, options.batch, options.seed, epoch, options.steps, recipe.augment):
            yield {"crops": crops.astype(np.float32)}, {name: answers[rows] for name, answers in targets.items()}

    return feed


def _write(network: keras.Model, recipe: Recipe, val: tuple[Pack, Targets], out: Path, data: dict) -> Preset:
    names = save(out, network)
    settings = {key: value for key, value in asdict(recipe).items() if key != "heads"}
    config = {
        "method": METHOD,
        "crop": {"size": recipe.size, "margin": MARGIN},
        "network": recipe.network().stored(),
        "training": {**settings, "start": recipe.start and Path(recipe.start).name, **data},
    }
    # Measured as it is loaded: with weights in half precision.
    made: Classifier = load(save_preset(out, config, names, ""))
    config["figures"] = measure(made, val[0].crops, val[1])
    return save_preset(out, config, names, card(out.name, config))
