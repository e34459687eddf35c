"""`deid train attributes` and `expression` in miniature: what can be told apart is learnt, and a preset comes out."""

import csv

import numpy as np
import pytest

from deidcli.networks.classifiers import METHOD, ClassifierConfig, Head, build_classifier, load, save
from deidcli.presets import load_preset, save_preset
from deidcli.training import classifiers
from deidcli.training.classifiers import EXPRESSION, Recipe
from deidcli.training.data import Pack
from deidcli.training.fit import FitOptions
from tests.training.test_train import own_policy  # noqa: F401 - a fixture

SMALL = ("--channels", "8,8", "--steps", 2, "--batch", 8, "--epochs", 1)


@pytest.fixture
def drawn(tmp_path):
    """Bright pictures of happiness and dark ones of the rest, of ten people; train.npz, val.npz, labels.csv."""
    random, rows = np.random.default_rng(3), []
    for split, people in (("train", range(8)), ("val", range(8, 10))):
        names = [f"p{person}/{i}.jpg" for person in people for i in range(6)]
        words = ["happiness" if i % 2 else "neutral" for i in range(len(names))]
        light = np.where(np.array(words) == "happiness", 170, 60)[:, None, None, None]
        crops = (light + random.integers(0, 20, (len(names), 64, 64, 3))).astype(np.uint8)
        Pack(crops, np.zeros((len(names), 128)), np.array(names)).save(tmp_path / f"{split}.npz")
        years = {"happiness": 10, "neutral": 60}
        rows += [(n, w, years[w], "male", "asian") for n, w in zip(names, words, strict=True)]
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("image", "expression", "age", "gender", "race"), *rows])
    return tmp_path


def train(deid, folder, what, *options):
    given = ("--data", folder / "train.npz", "--labels", folder / "labels.csv", "--out", folder / "made")
    return deid("train", what, *given, *SMALL, *options)


def test_what_can_be_told_apart_is_learnt(drawn):
    paths = [[drawn / name] for name in ("train.npz", "val.npz", "labels.csv")]
    # The average of the weights lags behind in so short a run.
    recipe = Recipe(EXPRESSION, channels=(8, 8), fit=FitOptions(epochs=2, steps=12, batch=16, rate=0.02, ema=0))
    preset = classifiers.train(*paths, recipe, drawn / "made", drawn / "work")
    figures = preset.config["figures"]
    assert figures["faces"] == 12 and figures["expression"]["accuracy"] > 0.9
    assert np.sum(figures["expression"]["confusion"]) == 12
    assert "48 faces" in preset.card and "| happiness |" in preset.card
    bright, dark = (np.full((1, 64, 64, 3), value, np.uint8) for value in (178, 68))
    assert [load(preset).read(p)["expression"][0] for p in (bright, dark)] == ["happiness", "neutral"]


def test_expression(deid, drawn):
    done = train(deid, drawn, "expression", "--val", drawn / "val.npz")
    assert done.status == 0 and done.out == b"", done.err
    preset = load_preset(str(drawn / "made"), "classifier")
    preset.verify()
    assert list(load(preset).heads) == ["expression"] and preset.config["figures"]["faces"] == 12


def test_attributes_hold_out_and_another_style(deid, drawn):
    done = train(deid, drawn, "attributes", "--hold-out", 0.3, "--style", "gradients", "--balance", 0)
    assert done.status == 0, done.err
    config = load_preset(str(drawn / "made")).config
    assert config["training"]["faces"] + config["figures"]["faces"] == 48
    assert 0 <= config["figures"]["age"]["error"] < 100 and 0 <= config["figures"]["gender"]["accuracy"] <= 1
    assert {"race asian", "age 5+", "age 60+"} <= set(config["figures"]["groups"]["gender"])


def test_blocks_of_another(deid, drawn, tmp_path):
    config = ClassifierConfig((Head("other", ("a", "b")),), channels=(8, 8))
    stored = {"method": METHOD, "crop": {"margin": 0.06}, "network": config.stored()}
    save_preset(tmp_path / "first", stored, save(tmp_path / "first", build_classifier(config)), "")
    start = ("--start", tmp_path / "first", "--val", drawn / "val.npz")
    assert train(deid, drawn, "expression", *start).status == 0
    assert train(deid, drawn, "expression", *start, "--channels", "8,16").status == 2


@pytest.mark.parametrize("option", [("--channels", "8,x"), ("--balance", 2), ("--style", "odd"), ("--hold-out", 0)])
def test_usage(deid, drawn, option):
    assert train(deid, drawn, "expression", *option).status == 2
    assert not (drawn / "made").exists()


def test_a_person_on_both_sides_is_refused(deid, drawn):
    done = train(deid, drawn, "expression", "--val", drawn / "train.npz")
    assert done.status == 2 and "p0" in done.err
