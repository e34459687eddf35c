"""Fit: the loop around any trainer. Epochs of so many steps, checkpoints, a log, a look, a budget, an early end."""

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

import keras
import numpy as np

from deidcli.errors import UsageError

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


def compile_trainer(
    trainer: keras.Model, losses: dict, options: FitOptions, kind: type[keras.optimizers.Adam] = keras.optimizers.Adam
) -> None:
    """Adam as in Section 4.1 (beta 0.9 and 0.999), with a moving average of the weights beside it."""
    adam = kind(
        options.rate,
        global_clipnorm=CLIP,
        use_ema=options.ema > 0,
        ema_momentum=options.ema or 0.99,
        ema_overwrite_frequency=None,
    )
    # Before the first step, which would be traced once more after it had made them.
    adam.build(trainer.trainable_variables)
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
