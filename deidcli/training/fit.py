"""Fit: the loop around any trainer. Epochs of so many steps, checkpoints, a log, sheets, a budget of minutes."""

from __future__ import annotations

import csv
import itertools
import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from deidcli.errors import UsageError

CLIP = 5000.0  # largest norm of all gradients; twice what losses summed over 64 x 64 pixels have in a common batch
CALIBRATION = 40  # batches over which the normalisations are measured anew


@dataclass(frozen=True)
class FitOptions:
    """How long and how fast to train.

    epochs: of `steps` batches each. minutes: stop after this long at the end of an epoch, None for no limit; the
    learning rate falls to a twentieth along half a cosine over the epochs or the minutes, whichever is further.
    ema: momentum of the moving average of the weights that is kept, 0 for none.
    """

    epochs: int = 100
    steps: int = 250
    batch: int = 64
    rate: float = 3e-4
    minutes: float | None = None
    ema: float = 0.998
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
    sheet: Callable[[int], None],
) -> None:
    """Train `trainer` and leave its averaged weights in place.

    batches(epoch) yields `options.steps` pairs (inputs, targets), both dicts by name. folder takes the checkpoint,
    `log.csv` and what `sheet(epoch)` draws; a run that finds a checkpoint there goes on from it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state = Checkpoint(trainer, folder)
    start, spent = state.restore()
    _cut_log(folder / "log.csv", start)
    for epoch in range(start, options.epochs):
        if options.minutes is not None and spent >= options.minutes * 60:
            break
        began = time.monotonic()
        trainer.optimizer.learning_rate = options.rate * _falloff(_progress(epoch, spent, options))
        row = _run_epoch(trainer, batches(epoch))
        _log(folder / "log.csv", {"epoch": epoch, "minutes": round((spent + time.monotonic() - began) / 60, 2), **row})
        with _average(trainer, options, batches(epoch)):
            sheet(epoch)
        spent += time.monotonic() - began
        state.save(epoch + 1, spent)
    _take_average(trainer, options, batches(0))


def _run_epoch(trainer: keras.Model, batches: Iterator) -> dict[str, float]:
    """Train on every batch; the means of loss and metrics, and pictures a second."""
    trainer.reset_metrics()
    began, count, row = time.monotonic(), 0, {}
    for inputs, targets in batches:
        row = trainer.train_on_batch(inputs, targets, return_dict=True)
        count += len(next(iter(inputs.values())))
    figures = {name: round(float(value), 4) for name, value in row.items()}
    return {**figures, "rate": round(count / (time.monotonic() - began), 1)}


def _progress(epoch: int, spent: float, options: FitOptions) -> float:
    by_time = spent / (options.minutes * 60) if options.minutes else 0.0
    return min(1.0, max(epoch / options.epochs, by_time))


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
    """Put the averaged weights in place, and measure anew what the normalisations see of them.

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


@dataclass(frozen=True)
class Checkpoint:
    """Weights and optimizer in `last.weights.h5`, the place in the run in `last.json`; each replaced in one step."""

    trainer: keras.Model
    folder: Path

    def save(self, epoch: int, spent: float) -> None:
        temporary = self.folder / "next.weights.h5"
        self.trainer.save_weights(temporary)
        temporary.replace(self.folder / "last.weights.h5")
        place = self.folder / "next.json"
        # Keras keeps the state of noise out of its file of weights.
        noise = [keras.ops.convert_to_numpy(v).tolist() for v in self._noise()]
        place.write_text(json.dumps({"epoch": epoch, "seconds": spent, "noise": noise}))
        place.replace(self.folder / "last.json")

    def restore(self) -> tuple[int, float]:
        """Load what was saved. Returns the next epoch and the seconds spent so far; 0 and 0.0 for a fresh run.

        Raises UsageError for a checkpoint that does not fit these networks.
        """
        place = self.folder / "last.json"
        if not place.exists():
            return 0, 0.0
        self.trainer.optimizer.build(self.trainer.trainable_variables)
        try:
            self.trainer.load_weights(self.folder / "last.weights.h5")
        except (OSError, ValueError, KeyError) as error:
            reason = f"the checkpoint in {self.folder} is not of these networks"
            raise UsageError(reason, "give the settings it was begun with, or another --work") from error
        stored = json.loads(place.read_text())
        for variable, value in zip(self._noise(), stored.get("noise", ()), strict=False):
            variable.assign(np.array(value, np.uint32))
        return stored["epoch"], stored["seconds"]

    def _noise(self) -> list:
        return [v for v in self.trainer.variables if v.path.endswith("seed_generator_state")]


def _cut_log(path: Path, start: int) -> None:
    """Drop the rows of epochs from `start` on: a run was killed after it logged an epoch and before it was saved."""
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    kept = [line for line in lines[1:] if line.endswith("\n") and int(line.split(",")[0]) < start]
    if lines:
        path.write_text("".join([lines[0], *kept]))


def _log(path: Path, row: dict[str, float]) -> None:
    """Append a row to a CSV file, with a head if it is new."""
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, list(row))
        if new:
            writer.writeheader()
        writer.writerow(row)
