"""`deid train cleanir` in miniature: drawn faces in, a preset out that the method loads."""

import contextlib
import csv
import io
from dataclasses import replace

import numpy as np
import pytest

from deidcli.__main__ import run
from deidcli.methods.base import Secret
from deidcli.methods.cleanir import Cleanir
from deidcli.networks.cleanir import load
from deidcli.presets import load_preset
from deidcli.training.data import Pack, load_pack
from deidcli.values import Box, Crop, Face

SIZE = (
    "--encoder-width",
    0.13,
    "--decoder-width",
    0.06,
    "--steps",
    2,
    "--batch",
    4,
    "--precision",
    "float32",
    "--likeness",
    0,
)


def drawn_packs(folder, portraits):
    """Faces of nobody, dimmed and shifted, with drawn descriptors: train.npz and val.npz."""
    random = np.random.default_rng(0)
    for name, count, person, left in (("train", 12, "ada", 48), ("val", 4, "ben", 44)):
        crops = np.stack([portraits[i % 3][50 + i : 178 + i : 2, left : left + 128 : 2] for i in range(count)])
        descriptors = random.standard_normal((count, 128)).astype(np.float32) * 0.1
        Pack(crops, descriptors, np.array([f"{person}/{i}.jpg" for i in range(count)])).save(folder / f"{name}.npz")
    return folder


@pytest.fixture
def packs(tmp_path, portraits):
    return drawn_packs(tmp_path, portraits)


@pytest.fixture(scope="module")
def first(tmp_path_factory, portraits, without_xla):
    """The folder of a preset that was trained for two epochs, and what the command said on standard output."""
    packs = drawn_packs(tmp_path_factory.mktemp("first"), portraits)
    with contextlib.redirect_stdout(io.StringIO()) as said:
        status = train(lambda *words: run([str(word) for word in words]), packs, packs / "made", "--epochs", 2)
    assert status == 0
    return packs / "made", said.getvalue()


def train(deid, packs, out, *options):
    data = ("--data", packs / "train.npz", "--val", packs / "val.npz", "--out", out)
    return deid("train", "cleanir", *data, *SIZE, *options)


def epochs(out):
    with (out.with_name(out.name + ".training") / "log.csv").open(newline="") as file:
        return [int(row["epoch"]) for row in csv.DictReader(file)]


def test_a_preset_comes_out(first):
    out, said = first
    assert epochs(out) == [0, 1] and said == ""
    preset = load_preset(str(out), "cleanir")
    preset.verify()
    assert preset.config["crop"]["size"] == 64 and "12 aligned faces" in preset.card
    assert all(np.isfinite(list(preset.config["figures"].values())))
    method = Cleanir(Cleanir.Options(150, keep="none", preset=str(out)), Secret.seeded(1))
    crop = Crop(np.full((64, 64, 3), 90, np.uint8), np.eye(2, 3), Face(Box(0, 0, 64, 64)), "a#0")
    assert method.apply([crop])[0].pixels.shape == (64, 64, 3)


@pytest.mark.usefixtures("eagerly")
def test_the_stage_that_erases(deid, packs, first):
    """The encoder stays as it was, but for the map that takes the person out of its attributes."""
    first, second = first[0], packs / "second"
    done = train(deid, packs, second, "--epochs", 1, "--erase", "--start", first)
    assert done.status == 0, done.err
    before, after = (load(load_preset(str(folder), "cleanir")) for folder in (first, second))
    known = {layer.name: layer.get_weights() for layer in after.encoder.model.layers if layer.weights}
    for layer in before.encoder.model.layers:
        assert all(np.allclose(a, b) for a, b in zip(layer.get_weights(), known.get(layer.name, []), strict=True))
    assert not np.allclose(known["erase"][0], np.eye(512), atol=1e-3)
    moved = zip(before.decoder.model.get_weights(), after.decoder.model.get_weights(), strict=True)
    assert any(not np.allclose(a, b, atol=1e-3) for a, b in moved)
    refused = train(deid, packs, packs / "third", "--epochs", 1, "--erase")
    assert refused.status == 2 and "--start" in refused.err


def test_a_person_on_both_sides_is_refused(deid, packs):
    pack = load_pack(packs / "val.npz")
    names = np.array(["ben/1.jpg", "ada/99.jpg", "ben/2.jpg", "ben/3.jpg"])
    Pack(pack.crops, pack.descriptors, names).save(packs / "val.npz")
    done = train(deid, packs, packs / "made", "--epochs", 1)
    assert done.status == 2 and "ada" in done.err and not (packs / "made").exists()


@pytest.mark.parametrize("option", [("--rate", "nan"), ("--epochs", 0), ("--encoder-width", 0), ("--pool", "max")])
def test_usage(deid, packs, option):
    assert train(deid, packs, packs / "made", *option).status == 2
    assert not (packs / "made").exists()


@pytest.mark.usefixtures("eagerly")
def test_a_larger_decoder_on_a_trained_encoder(deid, packs, first):
    """A preset of 128 pixels from one of 64: the encoder is the same, and every term beyond the paper is at work."""
    first, second = first[0], packs / "second"
    for name in ("train", "val"):
        pack = load_pack(packs / f"{name}.npz")
        replace(pack, crops=pack.crops.repeat(2, axis=1).repeat(2, axis=2)).save(packs / f"{name}.npz")
    terms = ("--structure", "--adversarial", "--features", "--consistency", "--repulsion", "--expression")
    weights = [word for term in terms for word in (term, 10)]
    stage = ("--epochs", 1, "--start", first, "--decoder-only", "--seen", 64)
    done = train(deid, packs, second, *stage, *weights)
    assert done.status == 0, done.err
    before, after = (load(load_preset(str(folder), "cleanir")) for folder in (first, second))
    assert after.config.size == 128 and len(after.config.decoder) == len(before.config.decoder) + 1
    for a, b in zip(before.encoder.model.get_weights(), after.encoder.model.get_weights(), strict=True):
        assert np.allclose(a, b, atol=1e-3)
    pictures = load_pack(packs / "val.npz").crops
    assert after.decode(*after.encode(pictures)).shape == pictures.shape
    refused = train(deid, packs, packs / "third", "--epochs", 1, "--decoder-only")
    assert refused.status == 2 and "--start" in refused.err
