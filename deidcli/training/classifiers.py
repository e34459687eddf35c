"""How classifiers are trained: packs and labels to a preset, with the loop of `fit`."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import cv2
import keras
import numpy as np
from keras import ops

from deidcli.errors import UsageError
from deidcli.faces.attributes import load_labels
from deidcli.networks.classifiers import METHOD, Classifier, ClassifierConfig, Head, build_classifier, load, save
from deidcli.networks.store import Network
from deidcli.presets import Preset, load_preset, save_preset
from deidcli.training.data import MARGIN, Pack, check_apart, labelled, load_pack
from deidcli.training.fit import FitOptions, compile_trainer, fit
from deidcli.training.sampling import Augment, StrongAugment, batches

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
    augment: Augment = field(default_factory=StrongAugment)
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
    network = learnt(faces, targets, recipe, work)
    return _write(network, recipe, (strangers, answers), out, {"faces": len(faces), "data": [p.name for p in data]})


def learnt(faces: Pack, targets: Targets, recipe: Recipe, work: Path) -> keras.Model:
    """The network, trained on faces of its size and their targets; checkpoints and log go to `work`."""
    network = build_classifier(recipe.network())
    if recipe.start:
        _take_blocks(network, load(load_preset(recipe.start, METHOD)).network.model)
    trainer = keras.Model({"crops": network.input}, dict(zip(targets, network.outputs, strict=True)))
    compile_trainer(trainer, {name: _loss(rows, recipe.balance) for name, rows in targets.items()}, recipe.fit)
    fit(trainer, _feed(faces, targets, recipe), recipe.fit, work, lambda epoch: None)
    return network


def reader(faces: Pack, targets: Targets, recipe: Recipe) -> Classifier:
    """A classifier for the moment, trained from the seed of `recipe.fit`; nothing of it is kept."""
    keras.utils.set_random_seed(recipe.fit.seed)
    with tempfile.TemporaryDirectory() as work:
        return Classifier(recipe.network(), Network.of(learnt(faces, targets, recipe, Path(work))))


def _split(data: Sequence[Path], val: Sequence[Path], recipe: Recipe) -> tuple[Pack, Pack]:
    """The faces to train on and those to measure on. Raises UsageError where a person is in both."""
    pack = resized(load_pack(*data), recipe.size)
    if not val:
        kept = held_out(pack.names, recipe.hold_out)
        return pack.where(~kept), pack.where(kept)
    others = resized(load_pack(*val), recipe.size)
    check_apart(pack, others)
    return pack, others


def resized(pack: Pack, side: int) -> Pack:
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


# --- Labels of a pack as targets for the heads of a classifier

Targets = dict[str, np.ndarray]  # (n, classes) float32 by the name of the head


def with_labels(pack: Pack, paths: Sequence[Path]) -> Pack:
    """The pack with the columns of CSV files added (`load_labels`). Raises UsageError where they fit no face."""
    columns = dict(pack.labels)
    for path in paths:
        columns.update(labelled(pack.names, load_labels(path)))
    return replace(pack, labels=columns)


def with_targets(pack: Pack, heads: Sequence[Head]) -> tuple[Pack, Targets]:
    """The faces of `pack` that have a usable label for every head, and their targets.

    A word is one-hot; a number is shared by the two places it lies between, so that their mean is that number. Raises
    UsageError for a label that the pack does not have, and where no face is left.
    """
    rows = {head.name: _rows(pack.label(head.name), head) for head in heads}
    known = np.all([values.sum(axis=1) > 0 for values in rows.values()], axis=0)
    if not known.any():
        asked = ", ".join(rows)
        raise UsageError(f"no face of the packs has a usable label for {asked}", "look at the values in --labels")
    return pack.where(known), {name: values[known] for name, values in rows.items()}


def _rows(words: np.ndarray, head: Head) -> np.ndarray:
    """Targets (n, classes) float32 of labels (n,) str; all zero where a label is missing or of no class."""
    return np.stack([_target(str(word), head) for word in words]).astype(np.float32)


def _target(word: str, head: Head) -> np.ndarray:
    if head.places is None:
        return np.array([word == known for known in head.classes], float)
    try:
        place = np.clip(float(word), head.places[0], head.places[-1])
    except ValueError:
        return np.zeros(len(head.places))
    return np.array([np.interp(place, head.places, unit) for unit in np.eye(len(head.places))])


def held_out(names: np.ndarray, share: float) -> np.ndarray:
    """Which of the files (n,) str are kept from training, (n,) bool: `share` of them, by a hash of the name alone."""
    numbers = [int.from_bytes(hashlib.sha256(str(name).encode()).digest()[:4], "big") for name in names]
    return np.array(numbers) < share * 2**32


# --- Figures of a classifier on faces it was not trained on, and its card

SOFT = 0.02  # standard deviation of the blur that stands for a generated face's softness, as a share of the picture
AGES = (0, 5, 13, 20, 30, 45, 60, 200)  # bounds of the age groups for which figures are given


def measure(classifier: Classifier, crops: np.ndarray, targets: dict[str, np.ndarray]) -> dict:
    """How often the answers for crops (n, size, size, 3) uint8 are those of `targets` (n, classes) by head.

    For each head: `accuracy`, `soft` (the same on blurred crops), `f_measure` by class and their mean, `confusion`
    (counts; row: what is true, column: what was said). A scale has `error` instead: the mean absolute error. `groups`:
    the accuracy (or error) among the faces of each class of the other heads.
    """
    predicted, soft = classifier.predict(crops), classifier.predict(_softened(crops))
    heads = classifier.heads
    return {
        "faces": len(crops),
        **{name: _head(heads[name], targets[name], predicted[name], soft[name]) for name in heads},
        "groups": {name: _groups(heads, name, targets, predicted[name]) for name in heads} if len(heads) > 1 else {},
    }


def _softened(crops: np.ndarray) -> np.ndarray:
    return np.stack([cv2.GaussianBlur(crop, (0, 0), SOFT * len(crop)) for crop in crops])


def _head(head: Head, target: np.ndarray, predicted: np.ndarray, soft: np.ndarray) -> dict:
    if head.places is not None:
        return {
            "error": _rounded(_right(head, target, predicted).mean()),
            "soft": _rounded(_right(head, target, soft).mean()),
        }
    confusion = np.zeros((len(head.classes), len(head.classes)), int)
    np.add.at(confusion, (target.argmax(axis=-1), predicted.argmax(axis=-1)), 1)
    measures = 2 * np.diag(confusion) / np.maximum(confusion.sum(axis=0) + confusion.sum(axis=1), 1)
    return {
        "accuracy": _rounded(_right(head, target, predicted).mean()),
        "soft": _rounded(_right(head, target, soft).mean()),
        "f_measure": {
            **dict(zip(head.classes, map(_rounded, measures), strict=True)),
            "mean": _rounded(measures.mean()),
        },
        "confusion": confusion.tolist(),
    }


def _right(head: Head, target: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """For each face 1 or 0 for a right or wrong word, or on a scale how far off the number is."""
    if head.places is not None:
        return np.abs((predicted - target) @ head.places)
    return (predicted.argmax(axis=-1) == target.argmax(axis=-1)).astype(float)


def _groups(
    heads: dict[str, Head], name: str, targets: dict[str, np.ndarray], predicted: np.ndarray
) -> dict[str, float]:
    right = _right(heads[name], targets[name], predicted)
    found = {}
    for other in (head for head in heads.values() if head.name != name):
        for word, member in _members(other, targets[other.name]).items():
            if member.any():
                found[f"{other.name} {word}"] = _rounded(right[member].mean())
    return found


def _members(head: Head, target: np.ndarray) -> dict[str, np.ndarray]:
    """Which faces (n,) bool belong to each class, or to each span of a scale."""
    if head.places is None:
        return {word: target.argmax(axis=-1) == i for i, word in enumerate(head.classes)}
    numbers = target @ head.places
    spans = zip(AGES[:-1], AGES[1:], strict=True)
    return {f"{low}+": (numbers >= low) & (numbers < high) for low, high in spans}


def _rounded(value: float) -> float:
    return round(float(value), 4)


def card(name: str, config: dict) -> str:
    """card.md of a classifier, made from its configuration."""
    training, figures = config["training"], config["figures"]
    heads = [Head(head["name"], tuple(head["classes"])) for head in config["network"]["heads"]]
    return f"""# {name}

Reads {", ".join(head.name for head in heads)} off aligned faces of {config["crop"]["size"]} pixels (margin
{config["crop"]["margin"]}). Channels {config["network"]["channels"]}, weights in float16.

- Trained on {training["faces"]} faces ({", ".join(training["data"])}); classes weighted by frequency to the power of
  -{training["balance"]}; varied by {training["augment"]}.
- Schedule: {training["fit"]}

## Figures

On {figures["faces"]} faces that were not trained on; "soft": the same faces blurred by {SOFT} of the picture.

{chr(10).join(_result_line(head, figures) for head in heads)}"""


def _result_line(head: Head, figures: dict) -> str:
    found = figures[head.name]
    groups = ", ".join(f"{word} {value}" for word, value in figures["groups"].get(head.name, {}).items())
    by_group = f"By group: {groups}.\n" if groups else ""
    if head.places is not None:
        return f"**{head.name}**: mean absolute error {found['error']}, soft {found['soft']}. {by_group}"
    rows = [f"| {word} | {' | '.join(map(str, row))} | {found['f_measure'][word]} |"
            for word, row in zip(head.classes, found["confusion"], strict=True)]  # fmt: skip
    mean = found["f_measure"]["mean"]
    return f"""**{head.name}**: accuracy {found["accuracy"]}, soft {found["soft"]}, mean F-measure {mean}.
{by_group}
| true \\ said | {" | ".join(head.classes)} | F |
|---|{"---|" * (len(head.classes) + 1)}
{chr(10).join(rows)}
"""
