"""`deid train cleanir` in miniature: drawn faces in, a preset out that the method loads; killed and gone on with."""

import csv

import keras
import numpy as np
import pytest

from deidcli.methods.base import Secret
from deidcli.methods.cleanir import Cleanir
from deidcli.presets import load_preset
from deidcli.training import fit
from deidcli.training.data import Pack
from deidcli.values import Box, Crop, Face

SIZE = ("--encoder-width", 0.13, "--decoder-width", 0.06, "--steps", 2, "--batch", 4, "--precision", "float32", "--likeness", 0)


@pytest.fixture(autouse=True)
def own_policy():
    """The command sets the arithmetic of the whole process."""
    policy = keras.mixed_precision.dtype_policy()
    yield
    keras.mixed_precision.set_dtype_policy(policy)


@pytest.fixture
def packs(tmp_path, portraits):
    """Faces of nobody, dimmed and shifted, with drawn descriptors: train.npz and val.npz."""
    random = np.random.default_rng(0)
    for name, count, person in (("train", 12, "ada"), ("val", 4, "ben")):
        crops = np.stack([portraits[i % 3][50 + i : 178 + i : 2, 48 : 176 : 2] for i in range(count)])
        descriptors = random.standard_normal((count, 128)).astype(np.float32) * 0.1
        Pack(crops, descriptors, np.array([f"{person}/{i}.jpg" for i in range(count)])).save(tmp_path / f"{name}.npz")
    return tmp_path


def train(deid, packs, out, *options):
    data = ("--data", packs / "train.npz", "--val", packs / "val.npz", "--out", out)
    return deid("train", "cleanir", *data, *SIZE, *options)


def epochs(out):
    with (out.with_name(out.name + ".training") / "log.csv").open(newline="") as file:
        return [int(row["epoch"]) for row in csv.DictReader(file)]


def weights(out):
    return [np.load(out / "identity.npz")["spread"], *load_pair(out)]


def load_pair(out):
    from deidcli.networks.cleanir import load

    pair = load(load_preset(str(out)))
    return [*pair.encoder.get_weights(), *pair.decoder.get_weights()]


def test_a_preset_comes_out(deid, packs):
    out = packs / "made"
    done = train(deid, packs, out, "--epochs", 2)
    assert done.status == 0 and done.out == b"", done.err
    assert epochs(out) == [0, 1]
    preset = load_preset(str(out), "cleanir")
    preset.verify()
    assert preset.config["crop"]["size"] == 64 and "12 aligned faces" in preset.card
    assert all(np.isfinite(list(preset.config["figures"].values())))
    method = Cleanir(Cleanir.Options(150, str(out)), Secret.seeded(1))
    crop = Crop(np.full((64, 64, 3), 90, np.uint8), np.eye(2, 3), Face(Box(0, 0, 64, 64)), "a#0")
    assert method.apply([crop])[0].pixels.shape == (64, 64, 3)


class Killed(BaseException):
    """As hard as a signal: nothing may catch it."""


@pytest.mark.parametrize("moment", ["save", "after"])
def test_killed_and_gone_on_with(deid, packs, monkeypatch, moment):
    """Killed in its second epoch, before or after that was saved, and run again with the same command."""
    out, save = packs / "made", fit.Checkpoint.save

    def die(self, epoch, spent):
        if moment == "after":
            save(self, epoch, spent)
        if epoch == 2:
            raise Killed
        if moment == "save":
            save(self, epoch, spent)

    with monkeypatch.context() as patch:
        patch.setattr(fit.Checkpoint, "save", die)
        with pytest.raises(Killed):
            train(deid, packs, out, "--epochs", 3)
    assert not out.exists()
    assert train(deid, packs, out, "--epochs", 3).status == 0
    assert epochs(out) == [0, 1, 2], "each epoch once"
    whole = packs / "whole"
    assert train(deid, packs, whole, "--epochs", 3).status == 0
    gone_on, at_once = weights(out), weights(whole)
    assert all(np.allclose(a, b, atol=2e-3) for a, b in zip(gone_on, at_once, strict=True))


def test_a_person_on_both_sides_is_refused(deid, packs):
    pack = dict(np.load(packs / "val.npz"))
    pack["names"] = np.array(["ben/1.jpg", "ada/99.jpg", "ben/2.jpg", "ben/3.jpg"])
    np.savez(packs / "val.npz", **pack)
    done = train(deid, packs, packs / "made", "--epochs", 1)
    assert done.status == 2 and "ada" in done.err and not (packs / "made").exists()


def test_other_settings_do_not_go_on(deid, packs):
    """A checkpoint of networks of another size is an error in one line, and stays as it is."""
    out = packs / "made"
    assert train(deid, packs, out, "--epochs", 1).status == 0
    kept = (packs / "made.training" / "last.weights.h5").read_bytes()
    done = train(deid, packs, out, "--epochs", 2, "--decoder-width", 0.12)
    assert done.status == 2 and "--work" in done.err
    assert (packs / "made.training" / "last.weights.h5").read_bytes() == kept


@pytest.mark.parametrize("option", [("--rate", "nan"), ("--epochs", 0), ("--encoder-width", 0), ("--pool", "max")])
def test_usage(deid, packs, option):
    assert train(deid, packs, packs / "made", *option).status == 2
    assert not (packs / "made").exists()
