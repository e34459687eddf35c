"""The proxy set, and `deid train ksame-net` in miniature: from the gallery to a preset that the method loads."""

from dataclasses import replace

import keras
import numpy as np
import pytest

from deidcli.errors import UsageError
from deidcli.faces.shape import MEAN_SHAPE
from deidcli.methods.ksame.net import KSameNet
from deidcli.methods.ksame.proxies import Gallery
from deidcli.presets import load_preset
from deidcli.training.data import Pack
from deidcli.training.ksame_net import EXPRESSIONS, MOUTHS, Frontal, ProxySet, expression_moves, mixed, pure
from tests.training.test_train import own_policy  # noqa: F401 - a fixture

SIDE = 100.0  # of the drawn faces' squares, in pixels
PROXIES = 6  # of the gallery, where a network is trained


def marked(each=50):
    """Faces whose brows rise with the expression's number, in a pack of blank crops."""
    random, words = np.random.default_rng(5), np.repeat(EXPRESSIONS, each)
    points = np.repeat(MEAN_SHAPE[None], len(words), axis=0) + random.normal(0, 0.002, (len(words), 68, 2))
    points[:, 17:27, 1] -= 0.01 * np.repeat(np.arange(len(EXPRESSIONS)), each)[:, None]
    names = np.array([f"p{i}/1.jpg" for i in range(len(words))])
    crops, none = np.zeros((len(words), 8, 8, 3), np.uint8), np.zeros((len(words), 128))
    return Pack(crops, none, names, (points * SIDE).astype(np.float32), {"expression": words})


@pytest.fixture(scope="module")
def known():
    return ProxySet.of(Gallery.load("ksame-gallery"), expression_moves(marked(), EXPRESSIONS), Frontal(64))


def test_moves_are_learnt():
    moves = expression_moves(marked(), EXPRESSIONS, strength=2.0)
    assert moves.shape == (5, 68, 2) and not moves[0].any()
    raised = -moves[:, 17:27, 1].mean(axis=1) + moves[:, 36:48, 1].mean(axis=1)
    assert np.allclose(np.diff(raised), 0.02, atol=0.004), "brows rise by as much again as they were drawn"


def test_moves_need_enough_faces():
    with pytest.raises(UsageError, match="too few"):
        expression_moves(marked(49), EXPRESSIONS)
    bare = marked()
    with pytest.raises(UsageError, match="landmarks"):
        expression_moves(Pack(bare.crops, bare.descriptors, bare.names, None, bare.labels), EXPRESSIONS)


def test_the_set_has_every_proxy_in_every_way(known):
    few = ProxySet(known.shapes[:3], known.moves, known.laid[:3], known.frontal)
    samples = pure(few)
    assert len(samples) == 3 * 5 * MOUTHS and len(np.unique(samples.inputs, axis=0)) == len(samples)
    assert np.array_equal(samples.inputs.sum(axis=1), np.full(len(samples), 3.0))
    assert samples.pictures.shape[1:] == (64, 64, 3)
    assert len({face.tobytes() for face in samples.pictures}) == len(samples), "two faces are the same"


def test_mixes(known):
    samples = mixed(known, 12, 9, np.random.default_rng(1))
    weights = samples.inputs[:, : known.identities]
    assert np.allclose(weights.sum(axis=1), 1) and np.all((weights > 0).sum(axis=1) >= 2)
    half = np.zeros(known.identities)
    half[[4, 30]] = 0.5
    mix, first, second = (known.picture(w, 0, 0).astype(float) for w in (half, *np.eye(known.identities)[[4, 30]]))
    middle = mix[24:48, 24:40]
    apart = [np.abs(middle - face[24:48, 24:40]).mean() for face in (first, second)]
    assert max(apart) < np.abs(first - second)[24:48, 24:40].mean(), "a mix lies between its parts"


@pytest.fixture
def few_proxies(monkeypatch):
    """The gallery has its first proxies alone, so that the set of pictures to train on is small."""
    load = Gallery.load

    def first(name):
        whole = load(name)
        rows = {key: getattr(whole, key)[:PROXIES] for key in ("names", "traits", "descriptors", "landmarks")}
        return replace(whole, **rows)

    monkeypatch.setattr(Gallery, "load", first)


def test_a_preset_comes_out(deid, tmp_path, few_proxies):
    marked().save(tmp_path / "marked.npz")
    small = ("--size", 32, "--channels", "8,8,8", "--last", 4, "--mixes", 8)
    short = ("--steps", 2, "--batch", 4, "--epochs", 1)
    done = deid("train", "ksame-net", "--data", tmp_path / "marked.npz", "--out", tmp_path / "made", *small, *short)
    assert done.status == 0 and done.out == b"", done.err
    preset = load_preset(str(tmp_path / "made"), "ksame-net")
    assert 0 < preset.config["figures"]["picture_error"] < 1 and "ksame-gallery" in preset.card
    assert (tmp_path / "made.training" / "sheet.png").exists()
    method = KSameNet(KSameNet.Options(preset=str(preset.folder)))
    assert method.weights and keras.config.floatx() == "float32"


def test_usage(deid, tmp_path):
    done = deid("train", "ksame-net", "--data", tmp_path / "none.npz", "--out", tmp_path / "made")
    assert done.status == 2 and "none.npz" in done.err
