"""Fit: the loop around any trainer. Epochs of so many steps, checkpoints, a log, a look, a budget, an early end."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import keras

from deidcli.training import log
from deidcli.training.checkpoint import Checkpoint, Place

CLIP = 5000.0  # largest norm of all gradients; twice what losses summed over 64 x 64 pixels have in a common batch
CALIBRATION = 40  # batches over which the normalisations are measured anew


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
    log.cut(folder, place.epoch)
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
        log.add(folder, {"epoch": place.epoch, "minutes": round(spent / 60, 2), **row, **figures})
        place = replace(place, epoch=place.epoch + 1, seconds=spent)
        state.save(place)
        log.draw(folder)
    if place.best is None:
        _take_average(trainer, options, batches(0))
    else:
        state.restore_best()


def _over(place: Place, options: FitOptions) -> bool:
    late = options.minutes is not None and place.seconds >= options.minutes * 60
    tired = options.patience and place.best is not None and place.epoch - place.best_epoch > options.patience
    return bool(place.epoch >= options.epochs or late or tired)


def _better(score: float | None, place: Place) -> bool:
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


def _progress(place: Place, options: FitOptions) -> float:
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
