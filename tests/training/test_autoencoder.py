"""Deep Autoencoders: targets are Equations 7 to 11, and a trained preset moves faces towards them."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deidcli.errors import UsageError
from deidcli.networks.autoencoder import PLAIN, load, load_parts
from deidcli.presets import load_preset
from deidcli.training import autoencoder
from deidcli.training.autoencoder_targets import (
    NOBODY,
    Samples,
    Shift,
    alike,
    attracted,
    repelled,
    spread,
    targets,
    weights,
)
from deidcli.training.data import Pack
from deidcli.training.fit import FitOptions

QUICK = FitOptions(epochs=1, steps=3, batch=16, rate=3e-3, ema=0)


def samples(count=60, size=5, seed=0, labels=None):
    codes = np.random.default_rng(seed).standard_normal((count, size)).astype(np.float32)
    return Samples(codes, np.arange(count), labels or {})


def test_a_row_spreads_its_weight_over_its_members():
    matrix = weights(np.array([[1, 2], [0, NOBODY], [NOBODY, NOBODY]]), 3)
    assert np.allclose(matrix.toarray(), [[0, 0.5, 0.5], [1, 0, 0], [0, 0, 0]])


@given(st.floats(0, 1), st.floats(0, 2), st.integers(0, 99))
def test_equations_7_and_9(alpha, beta, seed):
    random = np.random.default_rng(seed)
    codes = random.standard_normal((12, 3)).astype(np.float32)
    near, far = random.integers(0, 12, (2, 12, 4))
    p, q = weights(near, 12), weights(far, 12)
    moved = attracted(codes, p, alpha)
    assert np.allclose(moved, (1 - alpha) * codes + alpha * p.toarray() @ codes, atol=1e-5)
    assert np.allclose(repelled(moved, q, beta), (1 + beta) * moved - beta * q.toarray() @ moved, atol=1e-5)


def test_who_has_no_label_stays():
    labels = np.where(np.arange(60) < 20, "", np.where(np.arange(60) % 2, "a", "b"))
    given = samples(labels={"race": labels})
    moved = targets(given, Shift("attribute", neighbors=3, alpha=0.7, beta=0.3, attributes=("race",)))
    assert np.array_equal(moved[:20], given.codes[:20])
    assert (np.abs(moved[20:] - given.codes[20:]).max(axis=1) > 0).all()


def test_those_who_are_alike_have_the_label_and_are_other_people():
    labels = np.where(np.arange(60) % 3, "a", "b")
    given = Samples(samples().codes, np.arange(60) // 2, {"race": labels})
    same, other = alike(given, "race", 4)
    rows = np.arange(60)[:, None]
    known = same != NOBODY
    assert known.any(axis=1).all()
    assert (labels[same] == labels[rows])[known].all() and (labels[other] != labels[rows]).all()
    assert (given.people[same] != given.people[rows])[known].all()


def test_clusters_go_to_their_centres():
    middles = np.array([[0, 0], [50, 0], [0, 50]], np.float32)
    whose = np.repeat(np.arange(3), 20)
    codes = middles[whose] + np.random.default_rng(1).standard_normal((60, 2)).astype(np.float32)
    moved = targets(Samples(codes, np.arange(60), {}), Shift("cluster", clusters=3, alpha=1.0))
    centres = np.stack([codes[whose == n].mean(axis=0) for n in range(3)])
    assert np.allclose(moved, centres[whose], atol=1e-4)
    pushed = targets(Samples(codes, np.arange(60), {}), Shift("cluster", clusters=3, alpha=1.0, beta=0.5))
    others = (centres.sum(axis=0) - centres) / 2
    assert np.allclose(pushed, (1.5 * centres - 0.5 * others)[whose], atol=1e-3)


def test_the_neighbour_is_the_nth_or_the_one_nearest_to_the_mean():
    given = samples()
    apart = np.linalg.norm(given.codes[:, None] - given.codes[None], axis=2)
    order = np.argsort(apart, axis=1)[:, 1:6]
    nth = targets(given, Shift("nth", neighbors=5, alpha=1.0))
    assert np.allclose(nth, given.codes[order[:, -1]], atol=1e-5)
    middle = np.linalg.norm(given.codes - given.codes.mean(axis=0), axis=1)
    chosen = order[np.arange(60), middle[order].argmin(axis=1)]
    near = targets(given, Shift("neighbor", neighbors=5, alpha=0.5))
    assert np.allclose(near, 0.5 * given.codes + 0.5 * given.codes[chosen], atol=1e-5)


def test_each_cell_has_its_own_neighbour():
    given = samples(size=8)
    moved = targets(given, Shift("cells", neighbors=1, alpha=1.0), (2, 2, 2))
    for cell in range(4):
        part = np.s_[:, 2 * cell : 2 * cell + 2]
        apart = np.linalg.norm(given.codes[part][:, None] - given.codes[part][None], axis=2)
        np.fill_diagonal(apart, np.inf)
        assert np.allclose(moved[part], given.codes[part][apart.argmin(axis=1)], atol=1e-5)
    with pytest.raises(UsageError, match="convolutional"):
        targets(given, Shift("cells"), (8,))


@pytest.mark.parametrize("shift", [Shift("cluster", clusters=5), Shift("nth", neighbors=4), Shift("cells")])
def test_beyond_goes_on_along_the_same_way(shift):
    given = samples(size=8)
    near, far = (targets(given, replace(shift, beyond=share), (2, 2, 2)) for share in (0.0, 0.5))
    assert np.allclose(far - given.codes, 1.5 * (near - given.codes), atol=1e-5)


def test_what_cannot_be_is_refused():
    with pytest.raises(UsageError, match="there are 60 faces"):
        targets(samples(), Shift("cluster", clusters=31))
    with pytest.raises(UsageError, match="no such label"):
        targets(samples(labels={"race": np.full(60, "a")}), Shift("attribute", attributes=("hat",)))


def test_draws_lie_as_faces_do():
    random = np.random.default_rng(2)
    given = random.standard_normal((4000, 3)).astype(np.float32)
    codes = given + random.standard_normal((4000, 3)) @ np.diag([3.0, 1.0, 0.1])
    drawn = random.standard_normal((4000, 3)) @ spread(codes, given)
    assert np.allclose(drawn.std(axis=0), [3.0, 1.0, 0.1], rtol=0.1)


@pytest.fixture(scope="module")
def packs(tmp_path_factory):
    """Two packs of drawn pictures of 64 pixels: soft blobs, whose place and colour differ."""
    folder = tmp_path_factory.mktemp("packs")
    y, x = np.mgrid[:64, :64]
    for name, count, seed in (("train", 48, 1), ("val", 12, 2)):
        random = np.random.default_rng(seed)
        middle, colour = random.uniform(20, 44, (count, 2)), random.uniform(60, 255, (count, 3))
        blob = np.exp(-((x - middle[:, :1, None]) ** 2 + (y - middle[:, 1:, None]) ** 2) / 300)
        crops = (blob[..., None] * colour[:, None, None]).astype(np.uint8)
        names = np.array([f"{name}{n}/a.jpg" for n in range(count)])
        Pack(crops, random.standard_normal((count, 128)).astype(np.float32), names).save(folder / f"{name}.npz")
    return folder / "train.npz", folder / "val.npz"


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize(("kind", "widths", "channels"), [("dense", (32, 16), 1), ("convolutional", (8, 8), 3)])
def test_a_preset_gets_shifts(packs, tmp_path, monkeypatch, kind, widths, channels):
    monkeypatch.setattr(autoencoder, "LEAST", 1)  # epochs of deblurrer and smoother
    recipe = autoencoder.Recipe(kind, channels, widths, fit=QUICK)
    made = autoencoder.train([packs[0]], packs[1], recipe, tmp_path / "mine", tmp_path / "work")
    for shift in (Shift("cluster", clusters=2), Shift("neighbor", neighbors=3)):
        made = autoencoder.add_shift(str(made.folder), [packs[0]], shift, QUICK, made.folder, tmp_path / "work")
    preset = load_preset(str(tmp_path / "mine"))
    preset.verify()
    assert list(preset.config["shifts"]) == ["cluster-2", "neighbor-3-0.8"] and "research" in preset.card
    parts, networks = load_parts(preset), load(preset)
    crops = np.load(packs[1])["crops"]
    plain, moved = (networks.picture(crops, name) for name in (PLAIN, "cluster-2"))
    assert plain.shape == crops.shape and not np.array_equal(plain, moved)
    far = networks.picture(crops, "cluster-2", push=3.0)
    assert not np.array_equal(far, moved)
    # What all shifts share is stored once, and is the same in every encoder.
    assert np.array_equal(parts.shifted("cluster-2").get_weights()[0], parts.encoder.get_weights()[0])
    assert not np.array_equal(parts.shifted("cluster-2").get_weights()[-1], parts.encoder.get_weights()[-1])


@pytest.mark.usefixtures("eagerly")
def test_deblurrer_and_smoother_can_be_those_of_another_preset(packs, tmp_path):
    recipe = autoencoder.Recipe("dense", 1, (16,), behind="autoencoder-fc-64", fit=QUICK)
    made = autoencoder.train([packs[0]], packs[1], recipe, tmp_path / "mine", tmp_path / "work")
    mine, theirs = load_parts(made), load_parts(load_preset("autoencoder-fc-64"))
    for own, other in ((mine.deblurrer, theirs.deblurrer), (mine.smoother, theirs.smoother)):
        assert all(map(np.allclose, own.get_weights(), other.get_weights()))
    for name in ("autoencoder-conv-64", "autoencoder-256"):
        with pytest.raises(UsageError, match="other pictures"):
            autoencoder.train([packs[0]], packs[1], replace(recipe, behind=name), tmp_path / "no", tmp_path / "no")


def test_a_bank_is_learnt_from(tmp_path):
    recipe = autoencoder.Recipe("vector", 1, (24, 16), 0, "face-256", fit=QUICK)
    made = autoencoder.train_on_bank(recipe, tmp_path / "mine", tmp_path / "work")
    shift = Shift("attribute", neighbors=5, attributes=("gender", "race"))
    made = autoencoder.add_shift(str(made.folder), [], shift, QUICK, tmp_path / "more", tmp_path / "work")
    networks = load(made)
    assert made.config["licences"] == ["CC0", "MIT"] and "photographs" not in made.card
    assert networks.spreads["attribute-gender-race-5"].shape == (16, 16)
    assert networks.chains["attribute-gender-race-5"](np.zeros((2, 265), np.float32))[0].shape == (2, 16)
