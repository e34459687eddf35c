"""Classifiers: sizes and sums, the scale's mean, presets there and back, the same answers in any company."""

import h5py
import keras
import numpy as np
import pytest

from deidcli.errors import PresetError, UsageError
from deidcli.networks import classifiers
from deidcli.networks.classifiers import ClassifierConfig, Head, build_classifier, load, save
from deidcli.presets import save_preset

WORD = Head("word", ("yes", "no", "never"))
YEARS = Head("years", ("0", "10", "40"))


CHANNELS = {"residual": (8, 8, 16), "gradients": (8, 8, 16), "vgg": (8, 8, 8, 8, 8), "xception": (8, 8, 16)}


@pytest.fixture(scope="module", params=CHANNELS)
def preset(request, tmp_path_factory):
    """Drawn weights for two questions, as a preset."""
    keras.utils.set_random_seed(4)
    config = ClassifierConfig((WORD, YEARS), 32, CHANNELS[request.param], style=request.param)
    folder = tmp_path_factory.mktemp("models") / "drawn"
    stored = {"method": classifiers.METHOD, "crop": {"margin": 0.06}, "network": config.stored()}
    return save_preset(folder, stored, save(folder, build_classifier(config)), "Drawn.")


def faces(count):
    return np.random.default_rng(2).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


@pytest.mark.parametrize("count", [0, 1, 11])
def test_probabilities(preset, count):
    made = load(preset).predict(faces(count))
    assert {name: rows.shape for name, rows in made.items()} == {"word": (count, 3), "years": (count, 3)}
    for rows in made.values():
        assert np.all(rows >= 0) and np.allclose(rows.sum(axis=1), 1, atol=1e-5)


def test_company_changes_nothing(preset):
    classifier, given = load(preset), faces(11)
    whole = classifier.predict(given)["word"]
    assert np.array_equal(whole[7:9], classifier.predict(given[7:9])["word"])
    assert np.ptp(whole, axis=0).max() > 1e-4, "every face gets the same answer"


def test_reading(preset):
    found = load(preset).read(faces(3))
    assert set(found["word"]) <= set(WORD.classes)
    assert np.all((found["years"] >= 0) & (found["years"] <= 40))


def test_a_scale_is_read_by_its_mean():
    assert np.allclose(YEARS.read(np.array([[0.5, 0.5, 0], [0, 0.25, 0.75]])), [5, 32.5])
    assert WORD.places is None and list(WORD.read(np.array([[0.2, 0.5, 0.3]]))) == ["no"]


def test_wrong_shape(preset):
    with pytest.raises(UsageError, match="32"):
        load(preset).predict(np.zeros((2, 64, 64, 3), np.uint8))


def test_presets_that_are_none(preset, tmp_path):
    with pytest.raises(PresetError):
        load("cleanir-256")
    broken = save_preset(tmp_path, {"method": classifiers.METHOD, "network": {"size": 32}}, [], "")
    with pytest.raises(PresetError, match="network"):
        load(broken)
    odd = save_preset(tmp_path, {**preset.config, "network": {**preset.config["network"], "style": "odd"}}, [], "")
    with pytest.raises(PresetError, match="odd"):
        load(odd)


def test_weights_are_halves(preset):
    with h5py.File(preset.file(classifiers.WEIGHTS)) as file:
        kinds = set()
        file.visititems(lambda name, item: kinds.add(item.dtype) if isinstance(item, h5py.Dataset) else None)
    assert kinds == {np.dtype(np.float16)}
