"""EPD-Net as a method: its noise and its starts come from the secret, and its preset is whole or refused."""

import json
import shutil

import numpy as np
import pytest

from deidcli.errors import PresetError
from deidcli.faces.align import align
from deidcli.faces.blend import BlendOptions, blend
from deidcli.faces.face_model import FaceModel
from deidcli.faces.recognisers import recogniser
from deidcli.methods import find
from deidcli.methods.base import Secret
from deidcli.methods.epdnet import CanonicalEpdnet, Epdnet, drawn_faces
from deidcli.methods.new_face import draw, texture_of
from deidcli.networks.epd_net import EpdConfig
from tests.conftest import drawn_generator


@pytest.fixture(scope="module")
def crops_preset(tmp_path_factory):
    return drawn_generator(tmp_path_factory.mktemp("models") / "crops", EpdConfig(64, (8, 8, 12)))


@pytest.fixture(scope="module")
def frame_preset(tmp_path_factory):
    return drawn_generator(
        tmp_path_factory.mktemp("models") / "frame", EpdConfig(64, (8, 8, 12), True), model="face-256"
    )


def made_by(preset, frame, face, secret, *keys, **options):
    method = Epdnet.create(Epdnet.Options(preset=str(preset.folder), **options), secret)
    return method, method.apply([align(frame, face, method.crop, key) for key in keys])


@pytest.mark.parametrize("which", ["crops_preset", "frame_preset"])
def test_a_key_has_its_own_noise(request, which, frame, face):
    preset = request.getfixturevalue(which)
    _, (a, again, other) = made_by(preset, frame, face, Secret.seeded(3), "a#0", "a#0", "b#0")
    assert np.array_equal(a.pixels, again.pixels) and not np.array_equal(a.pixels, other.pixels)
    _, (secret,) = made_by(preset, frame, face, Secret.seeded(4), "a#0")
    assert not np.array_equal(secret.pixels, a.pixels)


def test_the_preset_decides_where_it_works(crops_preset, frame_preset):
    kinds = [type(Epdnet.create(Epdnet.Options(preset=str(p.folder)))) for p in (crops_preset, frame_preset)]
    assert kinds == [Epdnet, CanonicalEpdnet] and kinds[1].name == "epdnet" and find("epdnet") is Epdnet


def test_another_person_stands_there_for_both_recognisers(frame_preset, frame, face):
    method, (made,) = made_by(frame_preset, frame, face, Secret.seeded(1), "a#0")
    new = blend(frame, made, method.crop, BlendOptions()).frame.pixels
    for judge in map(recogniser, ("dlib", "sface")):
        old, other = (judge.embed(judge.chips(pixels, [face])) for pixels in (frame.pixels, new))
        assert judge.distance(old, other)[0] > judge.threshold


def test_the_network_changes_what_the_model_draws(frame_preset, frame, face):
    """The texture is the identity's with the network's change; without it the face is the model's."""
    method, (made,) = made_by(frame_preset, frame, face, Secret.seeded(1), "a#0")
    crop = align(frame, face, method.crop, "a#0")
    from deidcli.methods.new_face import read

    seen = read(method.models.model, crop, method.models.described(crop.pixels, crop)[0])
    identity = method._identities["a#0"].identity
    start = texture_of(method.models.model, seen.reading, identity)
    plain = draw(method.models.model, seen, identity, method.shape)
    assert np.array_equal(draw(method.models.model, seen, identity, method.shape, start).pixels, plain.pixels)
    assert np.abs(plain.pixels.astype(int) - made.pixels).max() > 10


def test_without_a_shape_points_stay(frame_preset, frame, face):
    """As in the paper, where a network changes pixels alone."""
    _, (made,) = made_by(frame_preset, frame, face, Secret.seeded(1), "a#0", shape=0.0)
    assert np.abs(made.layer.bend).max() < 1e-6 and made.layer.alpha.max() > 0.99


def test_starts_are_of_like_gender_and_drawn(frame_preset):
    model: FaceModel = Epdnet.create(Epdnet.Options(preset=str(frame_preset.folder))).models.model
    reading = type("Reading", (), {"kept": np.array([1.5, 0, 0, 0, 0], np.float32)})()
    old = [model.bank_dlib[0] + model.dlib_mean, model.bank_sface[0]]
    firsts = [next(drawn_faces(model, reading, old, np.random.default_rng(seed))) for seed in range(40)]
    assert len({tuple(faces) for faces in firsts}) > 20
    assert np.mean(model.bank_kept[firsts, 0]) > 0.5 > abs(np.mean(model.bank_kept[:, 0]))
    assert np.mean(model.bank_sface[firsts] @ model.bank_sface[0]) < np.mean(model.bank_sface @ model.bank_sface[0])


def test_it_escalates_to_other_starts(frame_preset, crops_preset):
    level, levels = Epdnet.create(Epdnet.Options(preset=str(frame_preset.folder))), []
    while level is not None:
        levels.append(level.level)
        level = level.escalate(len(levels))
    assert levels == [0, 1, 2]
    assert Epdnet.create(Epdnet.Options(preset=str(crops_preset.folder))).escalate(1) is None


@pytest.mark.parametrize("change", [{"method": "fatm"}, {"crop": None}, {"crop": {"size": 64}}])
def test_a_preset_that_does_not_fit_is_refused(crops_preset, tmp_path, change):
    folder = tmp_path / "mine"
    shutil.copytree(crops_preset.folder, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(PresetError):
        Epdnet.create(Epdnet.Options(preset=str(folder)))


def test_damaged_weights_are_refused_before_the_first_face(crops_preset, tmp_path):
    folder = tmp_path / "mine"
    shutil.copytree(crops_preset.folder, folder)
    data = bytearray((folder / "generator.weights.h5").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "generator.weights.h5").write_bytes(data)
    with pytest.raises(PresetError, match="damaged"):
        Epdnet.create(Epdnet.Options(preset=str(folder)))


def test_the_shipped_preset_works_in_the_frame(frame, face):
    method = Epdnet.create(secret=Secret.seeded(1))
    assert isinstance(method, CanonicalEpdnet) and method.models.network.config.noise == 0
    (made,) = method.apply([align(frame, face, method.crop, "a#0")])
    assert np.abs(made.pixels.astype(int) - align(frame, face, method.crop, "a#0").pixels).max() > 20
