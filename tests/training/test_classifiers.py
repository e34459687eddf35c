"""Classifiers: their labels, and a training run of a few steps."""

import csv

import numpy as np
import pytest

from deidcli.errors import UsageError
from deidcli.networks.classifiers import METHOD, ClassifierConfig, Head, build_classifier, load, save
from deidcli.presets import load_preset, save_preset
from deidcli.training import classifiers
from deidcli.training.classifiers import EXPRESSION, Recipe, held_out, with_labels, with_targets
from deidcli.training.data import Pack
from deidcli.training.fit import FitOptions
from deidcli.training.sampling import StrongAugment

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


@pytest.mark.usefixtures("eagerly")
def test_expression(deid, drawn):
    done = train(deid, drawn, "expression", "--val", drawn / "val.npz")
    assert done.status == 0 and done.out == b"", done.err
    preset = load_preset(str(drawn / "made"), "classifier")
    preset.verify()
    assert list(load(preset).heads) == ["expression"] and preset.config["figures"]["faces"] == 12


@pytest.mark.usefixtures("eagerly")
def test_attributes_hold_out_and_another_style(deid, drawn):
    done = train(deid, drawn, "attributes", "--hold-out", 0.3, "--style", "gradients", "--balance", 0)
    assert done.status == 0, done.err
    config = load_preset(str(drawn / "made")).config
    assert config["training"]["faces"] + config["figures"]["faces"] == 48
    assert 0 <= config["figures"]["age"]["error"] < 100 and 0 <= config["figures"]["gender"]["accuracy"] <= 1
    assert {"race asian", "age 5+", "age 60+"} <= set(config["figures"]["groups"]["gender"])


@pytest.mark.usefixtures("eagerly")
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


MOOD, AGE = Head("mood", ("good", "bad")), Head("age", ("0", "10", "20"))


def pack(*names):
    return Pack(np.zeros((len(names), 8, 8, 3), np.uint8), np.zeros((len(names), 128)), np.array(names))


@pytest.fixture
def labels(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("image,mood,age\na/1.jpg,bad,14\na/2.jpg,odd,5\nb/1.jpg,good,\nb/2.jpg,good,99\n")
    return path


def test_targets(labels):
    given = with_labels(pack("b/2.jpg", "x.jpg", "a/1.jpg", "a/2.jpg", "b/1.jpg"), [labels])
    kept, targets = with_targets(given, (MOOD, AGE))
    assert list(kept.names) == ["b/2.jpg", "a/1.jpg"]
    assert np.array_equal(targets["mood"], [[1, 0], [0, 1]])
    assert np.allclose(targets["age"], [[0, 0, 1], [0, 0.6, 0.4]])
    assert np.allclose(targets["age"] @ AGE.places, [20, 14]), "the mean place is the number"


def test_labels_that_are_missing(labels):
    with pytest.raises(UsageError, match="mood"):
        with_targets(pack("a/1.jpg"), (MOOD,))
    with pytest.raises(UsageError, match="--labels"):
        with_labels(pack("x.jpg"), [labels])
    with pytest.raises(UsageError, match="mood"):
        with_targets(with_labels(pack("a/2.jpg"), [labels]), (MOOD,))


def test_held_out_by_name_alone():
    names = np.array([f"{i}.jpg" for i in range(2000)])
    kept = held_out(names, 0.1)
    assert 140 < kept.sum() < 260
    assert np.array_equal(held_out(names[::-1], 0.1)[::-1], kept)


def test_pictures_are_changed_a_little():
    picture = np.random.default_rng(1).integers(60, 200, (8, 8, 3), dtype=np.uint8).repeat(4, 0).repeat(4, 1)
    crops = np.stack([picture] * 6)
    made = StrongAugment()(crops, np.random.default_rng(3))
    assert made.shape == crops.shape and made.dtype == np.uint8
    assert len({face.tobytes() for face in made}) == 6, "two draws are alike"
    assert np.array_equal(made, StrongAugment()(crops, np.random.default_rng(3)))
    still = StrongAugment(False, 0, 0, 0, 0, 0, 0, 0)(crops, np.random.default_rng(3))
    assert np.array_equal(still, crops)
