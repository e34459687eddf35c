"""Fit: the loop around any trainer, with checkpoints, log and early end; and the batches that it takes from a pack."""

from __future__ import annotations

import csv
import itertools
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import cv2
import keras
import numpy as np

from deidcli.errors import UsageError
from deidcli.faces.attributes import MISSING
from deidcli.training.data import Pack

CLIP = 5000.0  # largest norm of all gradients; twice what losses summed over 64 x 64 pixels have in a common batch
CALIBRATION = 40  # batches over which the statistics of normalisations are recomputed


@dataclass(frozen=True)
class FitOptions:
    """How long and how fast to train.

    epochs: of `steps` batches each. minutes: stop after this long at the end of an epoch, None for no limit; the
    learning rate falls to a twentieth along half a cosine over the epochs or the minutes, whichever is further.
    ema: momentum of the moving average of the weights that is kept, 0 for none. patience: epochs without a better score
    after which the run ends, 0 for none; with scores the best weights are kept and not the last.
    """

    epochs: int = 100
    steps: int = 250
    batch: int = 64
    rate: float = 3e-4
    minutes: float | None = None
    ema: float = 0.998
    patience: int = 0
    seed: int = 1


def compile_trainer(trainer: keras.Model, losses: dict, options: FitOptions) -> None:
    """Adam as in Section 4.1 (beta 0.9 and 0.999), with a moving average of the weights beside it."""
    adam = keras.optimizers.Adam(
        options.rate,
        global_clipnorm=CLIP,
        use_ema=options.ema > 0,
        ema_momentum=options.ema or 0.99,
        ema_overwrite_frequency=None,
    )
    trainer.compile(optimizer=adam, loss=losses)


def fit(
    trainer: keras.Model,
    batches: Callable[[int], Iterator],
    options: FitOptions,
    folder: Path,
    look: Callable[[int], Mapping[str, float] | None],
) -> None:
    """Train `trainer` and leave its averaged weights in place: the last, or the best where there are scores.

    batches(epoch) yields `options.steps` pairs (inputs, targets), both dicts by name. look(epoch) is called with the
    averaged weights in place; it draws what it likes and returns figures for the log, of which "score" tells how good
    the weights are (lower is better). folder takes the checkpoint, the log and what `look` draws; a run that finds a
    checkpoint there goes on from it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state = Checkpoint(trainer, folder)
    place = state.restore()
    cut_log(folder, place.epoch)
    while not _over(place, options):
        began = time.monotonic()
        trainer.optimizer.learning_rate = options.rate * _falloff(_progress(place, options))
        row = _run_epoch(trainer, batches(place.epoch), options.steps, place.epoch)
        with _average(trainer, options, batches(place.epoch)):
            figures = dict(look(place.epoch) or {})
            if _better(figures.get("score"), place):
                place = replace(place, best=figures["score"], best_epoch=place.epoch)
                state.save_best()
        spent = place.seconds + time.monotonic() - began
        add_to_log(folder, {"epoch": place.epoch, "minutes": round(spent / 60, 2), **row, **figures})
        place = replace(place, epoch=place.epoch + 1, seconds=spent)
        state.save(place)
        draw_log(folder)
    if place.best is None:
        _take_average(trainer, options, batches(0))
    else:
        state.restore_best()


def _over(place: Progress, options: FitOptions) -> bool:
    late = options.minutes is not None and place.seconds >= options.minutes * 60
    tired = options.patience and place.best is not None and place.epoch - place.best_epoch > options.patience
    return bool(place.epoch >= options.epochs or late or tired)


def _better(score: float | None, place: Progress) -> bool:
    return score is not None and math.isfinite(score) and (place.best is None or score < place.best)


def _run_epoch(trainer: keras.Model, batches: Iterator, steps: int, epoch: int) -> dict[str, float]:
    """Train on every batch; the means of loss and metrics, and pictures a second. A bar shows it on a terminal."""
    from tqdm import tqdm

    trainer.reset_metrics()
    began, count, row = time.monotonic(), 0, {}
    for inputs, targets in tqdm(batches, f"epoch {epoch}", steps, leave=False, disable=None, unit="batch"):
        row = trainer.train_on_batch(inputs, targets, return_dict=True)
        count += len(next(iter(inputs.values())))
    figures = {name: round(float(value), 4) for name, value in row.items()}
    return {**figures, "rate": round(count / (time.monotonic() - began), 1)}


def _progress(place: Progress, options: FitOptions) -> float:
    by_time = place.seconds / (options.minutes * 60) if options.minutes else 0.0
    return min(1.0, max(place.epoch / options.epochs, by_time))


def _falloff(progress: float) -> float:
    return 0.05 + 0.95 * (1 + math.cos(math.pi * progress)) / 2


@contextmanager
def _average(trainer: keras.Model, options: FitOptions, batches: Iterator) -> Iterator[None]:
    """Let the averaged weights stand in for the trained ones while the body runs."""
    kept = [keras.ops.convert_to_numpy(v) for v in trainer.variables]
    _take_average(trainer, options, batches)
    try:
        yield
    finally:
        for variable, value in zip(trainer.variables, kept, strict=True):
            variable.assign(value)


def _take_average(trainer: keras.Model, options: FitOptions, batches: Iterator) -> None:
    """Put the averaged weights in place, and recompute the statistics of the normalisations with them.

    The running means and variances belong to the weights that were trained: with others the pictures turn grey.
    """
    if not options.ema:
        return
    trainer.optimizer.finalize_variable_values(trainer.trainable_variables)
    norms = [layer for layer in _leaves(trainer) if isinstance(layer, keras.layers.BatchNormalization)]
    momentum = [layer.momentum for layer in norms]
    for seen, (inputs, _) in enumerate(itertools.islice(batches, CALIBRATION)):
        for layer in norms:
            layer.momentum = seen / (seen + 1)  # the plain mean over all batches
        trainer(inputs, training=True)
    for layer, value in zip(norms, momentum, strict=True):
        layer.momentum = value


def _leaves(model: keras.Model) -> Iterator[keras.layers.Layer]:
    for layer in model.layers:
        yield from _leaves(layer) if isinstance(layer, keras.Model) else (layer,)


# --- Checkpoints: the state of a run, so that one that was killed can be resumed with the same result

BEST = "best.weights.h5"


@dataclass(frozen=True)
class Progress:
    """A place between two epochs. epoch: the next one. seconds: spent so far.

    best: the lowest score so far, None where none was given; best_epoch: when that was.
    """

    epoch: int = 0
    seconds: float = 0.0
    best: float | None = None
    best_epoch: int = 0


@dataclass(frozen=True)
class Checkpoint:
    """Weights and optimizer in `last.weights.h5`, the place in the run in `last.json`; each replaced in one step."""

    trainer: keras.Model
    folder: Path

    def save(self, place: Progress) -> None:
        """Keep the run as it is at `place`."""
        self._write("last.weights.h5")
        # Keras keeps the state of noise out of its file of weights.
        noise = [keras.ops.convert_to_numpy(v).tolist() for v in self._noise()]
        temporary = self.folder / "next.json"
        temporary.write_text(json.dumps({**asdict(place), "noise": noise}))
        temporary.replace(self.folder / "last.json")

    def restore(self) -> Progress:
        """Load what was saved; the place it was saved at, the start for a fresh run.

        Raises UsageError for a checkpoint that does not fit these networks.
        """
        place = self.folder / "last.json"
        if not place.exists():
            return Progress()
        self._read("last.weights.h5")
        stored = json.loads(place.read_text())
        for variable, value in zip(self._noise(), stored.pop("noise", ()), strict=False):
            variable.assign(np.array(value, np.uint32))
        return Progress(**stored)

    def save_best(self) -> None:
        """Keep the weights as they are now as the best so far."""
        self._write(BEST)

    def restore_best(self) -> None:
        """Put the best weights in place."""
        self._read(BEST)

    def _write(self, name: str) -> None:
        temporary = self.folder / "next.weights.h5"
        self.trainer.save_weights(temporary)
        temporary.replace(self.folder / name)

    def _read(self, name: str) -> None:
        # Keras silently skips what is not built yet.
        self.trainer.optimizer.build(self.trainer.trainable_variables)
        try:
            self.trainer.load_weights(self.folder / name)
        except (OSError, ValueError, KeyError) as error:
            reason = f"the checkpoint in {self.folder} is not of these networks"
            raise UsageError(reason, "give the settings it was begun with, or another --work") from error

    def _noise(self) -> list:
        return [v for v in self.trainer.variables if v.path.endswith("seed_generator_state")]


# --- The log of a run: a row an epoch in `log.csv`, and the same as curves in `log.png`.

LOG, PLOT = "log.csv", "log.png"
_CLOCK = ("epoch", "minutes", "rate")  # columns that are no curves


def cut_log(folder: Path, start: int) -> None:
    """Drop the rows of epochs from `start` on: a run was killed after it logged an epoch and before it was saved."""
    path = folder / LOG
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    kept = [line for line in lines[1:] if line.endswith("\n") and int(line.split(",")[0]) < start]
    if lines:
        path.write_text("".join([lines[0], *kept]))


def add_to_log(folder: Path, row: Mapping[str, float]) -> None:
    """Append a row, with a head if it is the first."""
    path = folder / LOG
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, list(row))
        if new:
            writer.writeheader()
        writer.writerow(row)


def draw_log(folder: Path) -> None:
    """Draw every column over the epochs; nothing is drawn where matplotlib (the extra eval) is not installed."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return
    with (folder / LOG).open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = [name for name in rows[0] if name not in _CLOCK]
    figure = Figure(figsize=(8, 2.2 * len(names)), layout="constrained")
    axes = figure.subplots(len(names), sharex=True, squeeze=False)[:, 0]
    for axis, name in zip(axes, names, strict=True):
        axis.plot([int(row["epoch"]) for row in rows], [float(row[name] or "nan") for row in rows], linewidth=1.2)
        axis.set_ylabel(name.replace("_", " "))
        axis.grid(alpha=0.3)
    axes[-1].set_xlabel("epoch")
    figure.savefig(folder / PLOT, dpi=90)


@dataclass(frozen=True)
class Augment:
    """How crops are varied. mirror: turn half of them over; a face's descriptor hardly changes in a mirror.

    shift: largest move on either axis as a share of the side; what comes in repeats the border. colour: standard
    deviation of the gain of each channel and of the whole picture's brightness, as a share of the range.
    """

    mirror: bool = True
    shift: float = 0.0
    colour: float = 0.0

    def __call__(self, crops: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """A varied copy of (n, side, side, 3) uint8."""
        made = crops.copy()
        if self.mirror:
            flip = random.random(len(made)) < 0.5
            made[flip] = made[flip, :, ::-1]
        if self.shift:
            moves = random.uniform(-self.shift, self.shift, (len(made), 2)) * made.shape[1]
            made = np.stack([_moved(crop, move) for crop, move in zip(made, moves, strict=True)])
        if self.colour:
            gain = 1 + self.colour * random.standard_normal((len(made), 1, 1, 3))
            light = 255 * self.colour * random.standard_normal((len(made), 1, 1, 1))
            made = np.clip(made * gain + light + 0.5, 0, 255).astype(np.uint8)
        return made


def batches(
    pack: Pack, size: int, seed: int, epoch: int, steps: int, augment: Augment | None = None, balance: str = ""
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield `steps` batches (crops uint8, rows of the pack) of `size`, the same for an epoch.

    augment: by default half of the crops are mirrored. Rows are drawn without repetition until all were seen; the order
    goes on over the epochs. balance: a label; then rows are drawn with repetition, every value of it equally often, and
    faces without that label never. Raises UsageError for a label that the pack does not have.
    """
    augment = augment or Augment()
    chances = _chances(pack, balance) if balance else None
    for step in range(epoch * steps, (epoch + 1) * steps):
        if chances is None:
            rows = _rows(len(pack), size, seed, step)
        else:
            rows = np.random.default_rng([seed, 2, step]).choice(len(pack), size, p=chances)
        yield augment(pack.crops[rows], np.random.default_rng([seed, 1, step])), rows


def _rows(count: int, size: int, seed: int, step: int) -> np.ndarray:
    """The rows of batch `step` in an endless chain of permutations."""
    places = np.arange(step * size, (step + 1) * size)
    rounds = places // count
    order = {r: np.random.default_rng([seed, 0, r]).permutation(count) for r in np.unique(rounds)}
    return np.array([order[r][p % count] for r, p in zip(rounds, places, strict=True)])


def _chances(pack: Pack, column: str) -> np.ndarray:
    """How likely each row is drawn, so that all values of a label come equally often."""
    values, index, count = np.unique(pack.label(column), return_inverse=True, return_counts=True)
    share = np.where(values == MISSING, 0.0, 1.0 / count)
    return share[index] / share[index].sum()


def _moved(crop: np.ndarray, move: np.ndarray) -> np.ndarray:
    side = crop.shape[0]
    shift = np.array([[1, 0, move[0]], [0, 1, move[1]]])
    return cv2.warpAffine(crop, shift, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


# --- Augment: aligned crops as they could have come out otherwise: moved, turned, lit, coloured and blurred a little.


@dataclass(frozen=True)
class StrongAugment(Augment):
    """As if every face had been photographed and aligned again.

    shift, scale: largest move and change of size, as shares of the side. turn: largest, in degrees. light: largest
    change of brightness and of contrast, as a share. colour: largest change of each channel, as a share. blur: largest
    standard deviation as a share of the side, for half of the faces; generated faces are soft by about 0.02. gray: how
    often a face loses its colour.
    """

    shift: float = 0.04
    scale: float = 0.06
    turn: float = 7.0
    light: float = 0.25
    colour: float = 0.08
    blur: float = 0.025
    gray: float = 0.1

    def __call__(self, crops: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """A varied copy of (n, side, side, 3) uint8."""
        return np.stack([self._retaken(crop, random) for crop in crops])

    def _retaken(self, crop: np.ndarray, random: np.random.Generator) -> np.ndarray:
        if random.random() < 0.5 and self.mirror:
            crop = np.ascontiguousarray(crop[:, ::-1])
        crop = self._moved(crop, random)
        if random.random() < 0.5 and self.blur:
            crop = cv2.GaussianBlur(crop, (0, 0), random.uniform(0.2, 1) * self.blur * len(crop))
        return self._lit(crop, random)

    def _moved(self, crop: np.ndarray, random: np.random.Generator) -> np.ndarray:
        middle = (len(crop) - 1) / 2
        turn, scale = random.uniform(-1, 1) * self.turn, 1 + random.uniform(-1, 1) * self.scale
        affine = cv2.getRotationMatrix2D((middle, middle), turn, scale)
        moved = np.array(affine, np.float64)
        moved[:, 2] += random.uniform(-1, 1, 2) * self.shift * len(crop)
        return cv2.warpAffine(crop, moved, crop.shape[:2], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)

    def _lit(self, crop: np.ndarray, random: np.random.Generator) -> np.ndarray:
        contrast, brightness = random.uniform(-1, 1, 2) * self.light
        channels = 1 + random.uniform(-1, 1, 3) * self.colour
        colours = crop.astype(np.float32)
        if random.random() < self.gray:
            colours = np.repeat(colours.mean(axis=-1, keepdims=True), 3, axis=-1)
        mean = colours.mean()
        changed = (mean + (colours - mean) * (1 + contrast)) * (1 + brightness) * channels
        return np.clip(changed + 0.5, 0, 255).astype(np.uint8)
