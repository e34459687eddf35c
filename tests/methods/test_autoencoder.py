"""The method autoencoder: which shift is meant, how it escalates, and what it does in the canonical frame."""

from dataclasses import replace

import numpy as np
import pytest

from deidcli.errors import PresetError, UsageError
from deidcli.faces.align import align
from deidcli.faces.blend import BlendOptions, blend
from deidcli.faces.recognisers import recogniser
from deidcli.methods.autoencoder import (
    DRAWN,
    Autoencoder,
    CanonicalAutoencoder,
    coefficients,
    identity_rows,
    known_shift,
)
from deidcli.methods.base import Secret
from deidcli.methods.new_face import read
from deidcli.networks.autoencoder import AutoencoderConfig, Parts
from deidcli.presets import load_preset, save_preset


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """A preset of small networks with drawn weights and three shifts."""
    import keras

    keras.utils.set_random_seed(3)
    parts = Parts.built(AutoencoderConfig(widths=(24, 16)))
    own = [weights * 1.5 for weights in parts.encoder.get_weights()[2:]]
    shifts = {
        "cluster-9": {"kind": "cluster", "clusters": 9, "neighbors": 9, "alpha": 0.8, "attributes": []},
        "cluster-180": {"kind": "cluster", "clusters": 180, "neighbors": 9, "alpha": 0.8, "attributes": []},
        "nth-4": {"kind": "nth", "clusters": 180, "neighbors": 4, "alpha": 0.4, "attributes": []},
        "both": {"kind": "attribute", "clusters": 9, "neighbors": 20, "alpha": 0.8, "attributes": ["race", "age"]},
    }
    parts = replace(parts, uppers={name: own for name in shifts})
    folder = tmp_path_factory.mktemp("models") / "mine"
    names = parts.save(folder, {name: f"{name}.npz" for name in shifts})
    entries = {name: {**entry, "file": f"{name}.npz"} for name, entry in shifts.items()}
    config = {"method": "autoencoder", "crop": {"size": 64, "margin": 0.06}, "network": parts.config.stored()}
    return save_preset(folder, {**config, "shifts": entries, "keeps": ["mouth"]}, names, "Drawn.")


def options(drawn, **given):
    return Autoencoder.Options(preset=str(drawn.folder), **given)


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({}, "cluster-180"),
        ({"clusters": 9}, "cluster-9"),
        ({"clusters": 9, "alpha": 0.8}, "cluster-9"),
        ({"shift": "nth"}, "nth-4"),
        ({"shift": "nth", "neighbors": 4, "alpha": 0.4}, "nth-4"),
        ({"shift": "attribute", "attributes": "race,age"}, "both"),
        ({"shift": "attribute", "attributes": "race+mouth+age"}, "both"),
        ({"shift": "none"}, "none"),
    ],
)
def test_the_shift_that_is_meant(drawn, given, name):
    assert known_shift(drawn, options(drawn, **given)) == name


def test_a_preset_without_clusters_takes_its_first_shift_where_nothing_is_asked():
    preset = load_preset("autoencoder-conv-64")
    usual = Autoencoder.Options(preset="autoencoder-conv-64")
    assert known_shift(preset, usual) == known_shift(preset, replace(usual, push=0.5)) == "neighbor-9-0.8"
    with pytest.raises(UsageError, match="it knows neighbor-9-0.8, cells-10-0.8"):
        known_shift(preset, replace(usual, clusters=50))


def test_shipped_presets_know_the_order_of_attributes_that_is_usual():
    names = {"autoencoder-fc-64": "attribute-expression-mouth-race-20", "autoencoder-256": "attribute-race-20"}
    for preset, shift in names.items():
        assert known_shift(load_preset(preset), Autoencoder.Options(preset=preset, shift="attribute")) == shift


@pytest.mark.parametrize(
    "given",
    [
        {"clusters": 7},
        {"alpha": 0.5},
        {"shift": "nth", "neighbors": 5},
        {"shift": "cells"},
        {"shift": "attribute", "attributes": "age,race"},
    ],
)
def test_a_shift_that_a_preset_lacks_is_refused(drawn, given):
    with pytest.raises(UsageError, match="it knows cluster-9, cluster-180, nth-4, both"):
        Autoencoder.create(options(drawn, **given))


def test_a_level_goes_farther_and_the_last_ends(drawn, frame, face):
    method = Autoencoder.create(options(drawn), Secret.seeded(1))
    crop = align(frame, face, method.crop, "one#0")
    made = [method.apply([crop])[0].pixels.astype(int)]
    while (method := method.escalate(len(made))) is not None:
        made.append(method.apply([crop])[0].pixels.astype(int))
    assert len(made) == 3
    still = Autoencoder.create(options(drawn, shift="none"))
    plain = still.apply([crop])[0].pixels.astype(int)
    apart = [np.abs(pixels - plain).mean() for pixels in made]
    assert apart == sorted(apart) and apart[0] > 0 and still.escalate(1) is None


def test_grey_networks_make_grey_faces(drawn, frame, face):
    method = Autoencoder.create(options(drawn))
    pixels = method.apply([align(frame, face, method.crop, "one#0")])[0].pixels
    assert (pixels == pixels[..., :1]).all()


def test_damaged_weights_end_the_run_before_it_begins(drawn, tmp_path):
    import shutil

    folder = tmp_path / "mine"
    shutil.copytree(drawn.folder, folder)
    (folder / "cluster-9.npz").write_bytes(b"nothing")
    with pytest.raises(PresetError, match="damaged"):
        Autoencoder.create(Autoencoder.Options(preset=str(folder)))


# --- in the canonical frame, with the preset that is shipped


@pytest.fixture(scope="module")
def method():
    made = Autoencoder.create(Autoencoder.Options(), Secret.seeded(1))
    assert isinstance(made, CanonicalAutoencoder)
    return made


@pytest.fixture(scope="module")
def crop(method, frame, face):
    return align(frame, face, method.crop, "one#0")


@pytest.fixture(scope="module")
def seen(method, crop):
    old = method.models.described(crop.pixels, crop)
    return read(method.models.model, crop, old[0]).reading, old


def test_another_person_stands_there_for_both_recognisers(method, crop, frame, face):
    new = blend(frame, method.apply([crop])[0], method.crop, BlendOptions()).frame.pixels
    for judge in map(recogniser, ("dlib", "sface")):
        old, other = (judge.embed(judge.chips(pixels, [face])) for pixels in (frame.pixels, new))
        assert judge.distance(old, other)[0] > judge.threshold


def test_coefficients_come_back():
    from deidcli.faces.face_model import FaceModel

    model = FaceModel(load_preset("face-256").file("face_model.npz"))
    rows = identity_rows(model, model.bank_texture, model.bank_shape, model.bank_kept)
    texture, shape = coefficients(model, rows[5])
    assert np.allclose(texture, model.bank_texture[5], atol=1e-4) and np.allclose(shape, model.bank_shape[5], atol=1e-4)


def test_faces_are_drawn_in_secret_and_without_variation_at_the_code(method, seen):
    def drawn(secret, vary):
        return Autoencoder.create(replace(method.options, vary=vary), secret).candidates(*seen, "one#0").texture

    one, again, other = drawn(Secret.seeded(1), 1.0), drawn(Secret.seeded(1), 1.0), drawn(Secret.seeded(2), 1.0)
    assert np.array_equal(one[0], again[0]) and not np.allclose(one[0], other[0])
    still, same = drawn(Secret.seeded(1), 0.0), drawn(Secret.seeded(2), 0.0)
    assert len(one) == DRAWN and len(still) == 1 and np.array_equal(still[0], same[0])


def test_each_level_draws_others(method, seen):
    level = method.escalate(1)
    assert isinstance(level, CanonicalAutoencoder) and level.options.push > method.options.push
    here, there = (each.candidates(*seen, "one#0").texture[0] for each in (method, level))
    assert not np.allclose(here, there)
