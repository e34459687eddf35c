"""The loop: each epoch once, whenever it was killed, and in the end the weights of a run that was not."""

import csv
import json
import warnings

import keras
import numpy as np
import pytest

from deidcli.errors import UsageError
from deidcli.training.fit import Checkpoint, FitOptions, compile_trainer, draw_log, fit

OPTIONS = FitOptions(epochs=3, steps=4, batch=8, rate=0.01, ema=0.9)


class Killed(BaseException):
    """As hard as a signal: nothing may catch it."""


@pytest.fixture
def trainer():
    """A maker of small trainers with everything that has a state: normalisation, noise, momentum, averages."""

    def build(width=5):
        keras.utils.set_random_seed(4)
        inputs = keras.layers.Input((6,), name="numbers")
        x = keras.layers.BatchNormalization()(keras.layers.Dense(width)(inputs))
        made = keras.Model(
            inputs, {"sum": keras.layers.Dense(1, name="sum")(keras.layers.GaussianNoise(0.1, seed=9)(x))}
        )
        compile_trainer(made, {"sum": "mse"}, OPTIONS)
        return made

    return build


def feed(epoch):
    random = np.random.default_rng(epoch)
    for _ in range(OPTIONS.steps):
        numbers = random.standard_normal((OPTIONS.batch, 6)).astype(np.float32)
        yield {"numbers": numbers}, {"sum": numbers.sum(axis=1, keepdims=True)}


def run(trainer, folder, options=OPTIONS, look=lambda epoch: None):
    fit(trainer, feed, options, folder, look)
    return trainer.get_weights()


def log(folder):
    with (folder / "log.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_learns_and_logs(trainer, tmp_path):
    drawn = []
    run(trainer(), tmp_path, FitOptions(epochs=30, steps=4, batch=8, rate=0.05, ema=0.5), drawn.append)
    rows = log(tmp_path)
    assert [int(row["epoch"]) for row in rows] == drawn == list(range(30))
    assert float(rows[-1]["loss"]) < 0.5 * float(rows[0]["loss"])


@pytest.fixture(scope="module")
def uninterrupted():
    """The weights of a run that nobody killed, once they are known."""
    return []


@pytest.mark.parametrize("epoch", [1, 2, 3])
@pytest.mark.parametrize("moment", ["before", "within", "after"])
def test_killed_and_gone_on_with(trainer, tmp_path, monkeypatch, uninterrupted, epoch, moment):
    """Killed around the moment in which an epoch is saved; the same call goes on from there."""
    save = Checkpoint.save

    def die(self, place):
        if place.epoch != epoch:
            return save(self, place)
        if moment == "within":
            self.trainer.save_weights(self.folder / "next.weights.h5")
        elif moment == "after":
            save(self, place)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "save", die)
        with pytest.raises(Killed):
            run(trainer(), tmp_path / "killed")
    gone_on = run(trainer(), tmp_path / "killed")
    if not uninterrupted:
        uninterrupted.append(run(trainer(), tmp_path / "whole"))
    at_once = uninterrupted[0]
    assert [row["epoch"] for row in log(tmp_path / "killed")] == ["0", "1", "2"]
    for one, other in zip(gone_on, at_once, strict=True):
        assert np.allclose(one, other, atol=1e-5)


def test_a_run_that_is_done_changes_nothing(trainer, tmp_path):
    first = run(trainer(), tmp_path)
    again = run(trainer(), tmp_path)
    assert all(np.allclose(a, b, atol=1e-5) for a, b in zip(first, again, strict=True))
    assert len(log(tmp_path)) == 3


def test_minutes_end_a_run(trainer, tmp_path):
    run(trainer(), tmp_path, FitOptions(epochs=1000, steps=4, batch=8, minutes=0.001))
    assert 1 <= len(log(tmp_path)) < 1000


def test_a_log_that_was_torn(trainer, tmp_path):
    run(trainer(), tmp_path, FitOptions(epochs=2, steps=4, batch=8))
    with (tmp_path / "log.csv").open("a") as file:
        file.write("2,0.")
    run(trainer(), tmp_path)
    assert [row["epoch"] for row in log(tmp_path)] == ["0", "1", "2"]


def test_a_checkpoint_of_other_networks_is_refused(trainer, tmp_path):
    run(trainer(), tmp_path)
    kept = (tmp_path / "last.weights.h5").read_bytes()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras counts what it could not load, one by one
        with pytest.raises(UsageError, match="--work"):
            run(trainer(width=7), tmp_path)
    assert (tmp_path / "last.weights.h5").read_bytes() == kept


SCORES = [5.0, 3.0, 4.0, 3.5, 3.2, 6.0, 1.0]


@pytest.mark.parametrize(("patience", "epochs", "best"), [(0, 7, 6), (2, 4, 1), (4, 6, 1)])
def test_the_best_weights_are_kept(trainer, tmp_path, monkeypatch, patience, epochs, best):
    """And the run ends when they have not become better for a while."""
    monkeypatch.setattr("deidcli.training.fit.draw_log", draw_log)
    seen, made = [], trainer()

    def look(epoch):
        seen.append(made.get_weights())
        return {"score": SCORES[epoch], "other": 1}

    options = FitOptions(epochs=len(SCORES), steps=4, batch=8, rate=0.01, ema=0.9, patience=patience)
    kept = run(made, tmp_path, options, look)
    rows = log(tmp_path)
    assert len(rows) == len(seen) == epochs and [float(row["score"]) for row in rows] == SCORES[:epochs]
    assert all(np.array_equal(a, b) for a, b in zip(kept, seen[best], strict=True))
    assert (tmp_path / "log.png").stat().st_size > 1000


def test_a_score_that_is_no_number_is_not_the_best(trainer, tmp_path):
    scores = iter([2.0, float("nan"), 3.0])
    run(trainer(), tmp_path, OPTIONS, lambda epoch: {"score": next(scores)})
    assert json.loads((tmp_path / "last.json").read_text())["best_epoch"] == 0
