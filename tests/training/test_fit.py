"""The loop: each epoch once, whenever it was killed, and in the end the weights of a run that was not."""

import csv
import warnings

import keras
import numpy as np
import pytest

from deidcli.errors import UsageError
from deidcli.training.fit import Checkpoint, FitOptions, compile_trainer, fit

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


def run(trainer, folder, options=OPTIONS, sheet=lambda epoch: None):
    fit(trainer, feed, options, folder, sheet)
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


@pytest.mark.parametrize("epoch", [1, 2, 3])
@pytest.mark.parametrize("moment", ["before", "within", "after"])
def test_killed_and_gone_on_with(trainer, tmp_path, monkeypatch, epoch, moment):
    """Killed around the moment in which an epoch is saved; the same call goes on from there."""
    save = Checkpoint.save

    def die(self, done, spent):
        if done != epoch:
            return save(self, done, spent)
        if moment == "within":
            self.trainer.save_weights(self.folder / "next.weights.h5")
        elif moment == "after":
            save(self, done, spent)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "save", die)
        with pytest.raises(Killed):
            run(trainer(), tmp_path / "killed")
    gone_on = run(trainer(), tmp_path / "killed")
    at_once = run(trainer(), tmp_path / "whole")
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
