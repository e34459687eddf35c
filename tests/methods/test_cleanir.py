"""CLEANIR's rotation is exact, its axis is secret and belongs to a track, and its preset is whole or refused."""

import json
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from deidcli.errors import PresetError, UsageError
from deidcli.faces.align import align
from deidcli.methods.base import Secret
from deidcli.methods.cleanir import Cleanir, rotate, sharpened, turn

ANGLES = st.floats(0, 180)


@st.composite
def turns(draw, rows=3):
    """Identities and axes (rows, d) of one dimension d; some axes lie along their identity, or are nothing."""
    size = draw(st.integers(2, 40))
    numbers = arrays.arrays(np.float64, (rows, size), elements=st.floats(-1, 1, width=32))
    identity, axis = draw(numbers), draw(numbers)
    identity[np.linalg.norm(identity, axis=1) < 1e-3] = np.eye(size)[0]
    for row, kind in enumerate(
        draw(st.lists(st.sampled_from(["free", "along", "against", "none"]), min_size=rows))[:rows]
    ):
        factor = {"along": 2.5, "against": -0.5, "none": 0.0}.get(kind)
        axis[row] = axis[row] if factor is None else factor * identity[row]
    return identity, axis


def degrees_between(a, b):
    """Well conditioned at every angle, unlike the arc cosine."""
    a, b = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (a.astype(np.float64), b.astype(np.float64)))
    return np.degrees(2 * np.arctan2(np.linalg.norm(a - b, axis=1), np.linalg.norm(a + b, axis=1)))


@given(turns(), ANGLES)
def test_exact_angle_and_length(given_turn, angle):
    identity, axis = given_turn
    turned = rotate(identity, axis, angle)
    assert turned.shape == identity.shape
    assert np.allclose(np.linalg.norm(turned, axis=1), 1, atol=1e-6)
    assert np.allclose(degrees_between(identity, turned), angle, atol=1e-4)


@given(turns())
def test_ends(given_turn):
    identity, axis = given_turn
    unit = identity / np.linalg.norm(identity, axis=1, keepdims=True)
    assert np.allclose(rotate(identity, axis, 0), unit, atol=1e-6)
    assert np.allclose(rotate(identity, axis, 180), -unit, atol=1e-6)


def test_turns_towards_its_axis():
    turned = rotate(np.array([[1.0, 0, 0]]), np.array([[5.0, 2, 0]]), 90)
    assert np.allclose(turned, [[0, 1, 0]], atol=1e-6)


@pytest.fixture
def made(tiny_preset, portrait, face, frame):
    """The new faces of one crop under several keys."""

    def apply(angle, secret, *keys):
        method = Cleanir(Cleanir.Options(angle, preset=str(tiny_preset.folder)), secret)
        return [new.pixels for new in method.apply([align(frame, face, method.crop, key) for key in keys])]

    return apply


def test_a_track_has_its_own_axis(made):
    a, again, other = made(90, Secret.seeded(3), "a.jpg#0", "a.jpg#0", "b.jpg#0")
    assert np.array_equal(a, again) and not np.array_equal(a, other)


def test_without_a_seed_the_axis_is_secret(made):
    first, second = (made(90, Secret.drawn(), "a.jpg#0")[0] for _ in range(2))
    assert not np.array_equal(first, second)


def test_half_a_turn_needs_no_axis(made):
    first, second = (made(180, Secret.drawn(), "a.jpg#0")[0] for _ in range(2))
    assert np.abs(first.astype(int) - second).max() <= 1


def test_escalates_to_half_a_turn_and_then_lets_go(tiny_preset):
    level, taken = Cleanir(Cleanir.Options(100, preset=str(tiny_preset.folder))), []
    while level is not None:
        taken.append((level.options.angle, level.options.keep))
        level = level.escalate(len(taken))
    kept = Cleanir.Options().keep
    assert taken == [(100, kept), (130, kept), (160, kept), (180, kept), (180, "none")]


@given(turns(), ANGLES, st.integers(0, 3), st.integers(0, 99))
def test_what_is_kept_stays(given_turn, angle, count, seed):
    """Whatever the angle, along every kept direction; the rest is turned by exactly the angle."""
    identity, axis = given_turn
    size = identity.shape[1]
    kept = np.random.default_rng(seed).standard_normal((min(count, size - 2), size))
    turned = turn(identity, axis, np.full(len(identity), angle), kept)
    unit = identity / np.linalg.norm(identity, axis=1, keepdims=True)
    assert np.allclose(turned @ kept.T, unit @ kept.T, atol=1e-4)
    assert np.allclose(np.linalg.norm(turned, axis=1), 1, atol=1e-4)
    basis = np.linalg.qr(kept.T)[0]
    before, after = (v - v @ basis @ basis.T for v in (unit, turned))
    free = np.linalg.norm(before, axis=1) > 1e-2
    assert np.allclose(degrees_between(before[free], after[free]), angle, atol=0.1)


@given(turns(), ANGLES)
def test_nothing_kept_is_the_paper(given_turn, angle):
    identity, axis = given_turn
    turned = turn(identity, axis, np.full(len(identity), angle), np.zeros((0, identity.shape[1])))
    assert np.allclose(turned, rotate(identity, axis, angle), atol=1e-6)


def test_each_angle_for_itself():
    identity, axis = np.eye(3)[[0, 0]], np.eye(3)[[1, 1]]
    assert np.allclose(rotate(identity, axis, np.array([0, 90.0])), np.eye(3)[[0, 1]], atol=1e-6)


def test_the_angle_is_drawn_for_a_track(tiny_preset):
    method = Cleanir(Cleanir.Options(150, vary=60, preset=str(tiny_preset.folder)), Secret.seeded(3))
    angles = [method._draw(f"{i}.jpg#0")[1] for i in range(50)]
    assert 90 <= min(angles) < 100 and 140 < max(angles) <= 150
    assert angles[7] == method._draw("7.jpg#0")[1]


@pytest.mark.parametrize("keep", ["beard", "gender,,age", "none,age"])
def test_unknown_traits_are_refused(tiny_preset, keep):
    with pytest.raises(UsageError, match="--keep"):
        Cleanir(Cleanir.Options(keep=keep, preset=str(tiny_preset.folder)))


def test_traits_that_a_preset_does_not_know_are_refused(copied):
    config = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps(config | {"traits": ["age"]}))
    with pytest.raises(PresetError, match="--keep age"):
        Cleanir(Cleanir.Options(preset=str(copied)))
    Cleanir(Cleanir.Options(keep="age", preset=str(copied)))


@pytest.fixture
def copied(tiny_preset, tmp_path):
    folder = tmp_path / "mine"
    shutil.copytree(tiny_preset.folder, folder)
    return folder


def test_damaged_weights_are_refused_before_the_first_face(copied):
    file = copied / "decoder.weights.h5"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(PresetError, match="damaged"):
        Cleanir(Cleanir.Options(preset=str(copied)))


def test_missing_weights_are_refused(copied):
    (copied / "identity.npz").unlink()
    with pytest.raises(PresetError, match=r"identity\.npz"):
        Cleanir(Cleanir.Options(preset=str(copied)))


@pytest.mark.parametrize("change", [{"method": "fatm"}, {"crop": None}, {"crop": {"size": 64}}])
def test_a_preset_that_does_not_fit_is_refused(copied, change):
    config = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(PresetError):
        Cleanir(Cleanir.Options(preset=str(copied)))


def test_unknown_preset_names_those_there_are(tiny_preset, monkeypatch):
    monkeypatch.setenv("DEID_MODELS", str(tiny_preset.folder.parent))
    with pytest.raises(PresetError, match=tiny_preset.name):
        Cleanir(Cleanir.Options(preset="nothing-of-the-kind"))


def grained(deviation):
    grain = np.random.default_rng(4).normal(0, deviation, (64, 64, 3))
    return np.clip(128 + grain, 0, 255).astype(np.uint8)


def test_no_sharper_than_its_picture():
    """In a soft picture nothing is sharpened, in a crisp one as far as was asked, and between up to the old face's."""
    new = grained(10)
    assert np.array_equal(sharpened(new, 0.4, grained(3)), new)
    assert np.array_equal(sharpened(new, 0.4, grained(40)), sharpened(new, 0.4, grained(30)))
    assert np.array_equal(sharpened(new, 0.0, grained(40)), new)
    found = [sharpened(new, 0.4, grained(old)).std() / new.std() for old in (11, 12, 40)]
    assert found[0] == pytest.approx(1.1, abs=0.05) and found[1] == pytest.approx(1.2, abs=0.05)
    assert found[2] == pytest.approx(1.4, abs=0.05)
