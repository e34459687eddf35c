"""ksame-m: proxies that are means, suit, and keep their distance; surrogates of a closed set that all members share."""

from dataclasses import replace

import numpy as np
import pytest

from deidcli.errors import MethodError, PresetError, UsageError
from deidcli.faces import face_model
from deidcli.faces.align import align, apply_affine
from deidcli.faces.face_model import FaceModel
from deidcli.methods.base import Census, Secret
from deidcli.methods.ksame.m import DRAWN, PROXY, TEXTURE, KSameM, Proxies
from deidcli.presets import load_preset
from deidcli.values import Frame
from tests.conftest import found, rows


@pytest.fixture(scope="module")
def model():
    return FaceModel(load_preset("face-256", "face-model").file("face_model.npz"))


@pytest.fixture(scope="module")
def proxies(model):
    return Proxies(model)


@pytest.fixture(scope="module")
def shots(portraits):
    return [(pixels, found(pixels)[0]) for pixels in portraits]


@pytest.fixture(scope="module")
def crop(shots):
    return align(Frame(shots[0][0]), shots[0][1], KSameM.crop, "a#0")


def length(rows):
    return float(np.median(np.linalg.norm(rows, axis=1)))


def test_the_bank_has_every_face_and_its_mirror_image(model):
    assert model.people * 2 == model.faces
    assert np.array_equal(model.bank_dlib[: model.people], model.bank_dlib[model.people :])


def test_a_proxy_is_the_mean_of_its_faces_at_the_length_of_one(proxies):
    faces, weights = np.array([3, 50, 200, 300]), np.full(4, 0.25)
    made = proxies.mean(faces, weights)
    for got, given, factor in ((made.texture, proxies.texture, TEXTURE), (made.shape, proxies.shape, 1)):
        mean = given[faces].mean(axis=0)
        assert np.linalg.norm(mean) < length(given), "a mean is shorter"
        assert np.isclose(np.linalg.norm(got), factor * length(given), rtol=1e-5)
        assert np.isclose(got @ mean, np.linalg.norm(got) * np.linalg.norm(mean), rtol=1e-5), "the direction is its own"
    assert np.allclose(made.traits, proxies.kept[faces, :2].mean(axis=0))
    weighted = proxies.mean(faces, np.array([0.7, 0.1, 0.1, 0.1]))
    assert not np.allclose(weighted.texture, made.texture)


def test_coefficients_of_a_drawn_face_are_its_own(model, proxies, crop):
    """What is drawn on the mean of what is kept is read again as the same identity."""
    seen = KSameM(secret=Secret.seeded(1)).models.read(crop)
    mean = proxies.mean(np.arange(4), np.full(4, 0.25))
    texture = model.base(seen.reading.kept) + model.picture(mean.texture, mean=False)
    reading = replace(seen.reading, texture=texture)
    assert np.allclose(model.coefficients(reading)[0], mean.texture, atol=0.05 * np.linalg.norm(mean.texture))


def test_faces_that_suit_are_alike_in_gender_and_age(proxies):
    for face in (0, 100, 300):
        able = proxies.suiting(proxies.kept[face], 60)
        everybody = np.abs(proxies.kept[:, :2] - proxies.kept[face, :2]).mean(axis=0)
        assert able[0] == face
        assert (np.abs(proxies.kept[able, :2] - proxies.kept[face, :2]).mean(axis=0) < 0.7 * everybody).all()


def test_a_proxy_is_of_faces_that_are_like_each_other(proxies):
    able = np.arange(0, 300, 2)
    like = proxies.like(40, able, 10)
    assert like[0] == 40 and len(set(like.tolist())) == 10 and set(like.tolist()) <= set(able.tolist())
    near, all_of_them = (np.mean(proxies.described[of] @ proxies.described[40]) for of in (like, able))
    assert near > all_of_them + 0.1


def test_each_level_draws_others_and_goes_farther(crop):
    method = KSameM(secret=Secret.seeded(1))
    seen, old = method.models.read(crop), method.models.described(crop.pixels, crop)
    first = method.candidates(seen.reading, old, "a#0")
    assert len(first.texture) == len(first.shape) == DRAWN and PROXY >= 5
    later = method.escalate(1)
    assert later.options.apart > method.options.apart
    assert not np.allclose(later.candidates(seen.reading, old, "a#0").texture, first.texture)


def test_another_person_stands_there(shots, crop):
    """Far from the old face by dlib's recogniser, at its own threshold and more; the same for the same secret."""
    method = KSameM(secret=Secret.seeded(1))
    made = method.apply([crop])[0]
    judge = method.models.dlib
    old, new = (method.models.descriptor(pixels, crop) for pixels in (crop.pixels, made.pixels))
    assert judge.distance(old[None], new[None])[0] > judge.threshold
    other = KSameM(secret=Secret.seeded(2)).apply([crop])[0]
    assert not np.array_equal(made.pixels, other.pixels)


def test_hair_stays(crop):
    """No pixel above the rim of the face is the new face's: hair, hats and the forehead's height are the person's."""
    made = KSameM(secret=Secret.seeded(1)).apply([crop])[0]
    marks = apply_affine(crop.transform, crop.face.landmarks)
    brows, chin = marks[17:27, 1].mean(), marks[8, 1]
    above = int(brows - 0.75 * (chin - brows))
    assert made.layer is not None and made.layer.alpha[: max(above, 0)].max(initial=0) < 0.5


def test_shape_keeps_more_of_the_person(crop):
    none, whole = (KSameM(KSameM.Options(shape=s), Secret.seeded(1)).apply([crop])[0].layer.bend for s in (0.0, 1.0))
    assert np.abs(whole).max() < 0.01 * np.abs(none).max() + 1e-6


@pytest.mark.parametrize("wrong", [{"k": 1}, {"k": 3, "shape": 0.5}])
def test_settings_that_hide_nobody_are_refused(wrong):
    with pytest.raises(UsageError):
        KSameM.create(KSameM.Options(**wrong))


@pytest.mark.parametrize("k", [0, 2])
def test_a_gallery_that_is_none_is_refused(k):
    with pytest.raises(PresetError):
        KSameM.create(KSameM.Options(gallery="cleanir-256", k=k))


@pytest.fixture(scope="module")
def closed(shots):
    """Two groups of two people: the first two portraits, and both again."""
    method = KSameM.create(KSameM.Options(k=2, pairing="nearest"), Secret.seeded(1))
    spec = replace(method.crop, size=method.stored)
    cut = [align(Frame(pixels), face, spec) for pixels, face in shots[:2]]
    points = np.stack([apply_affine(c.transform, c.face.landmarks) for c in cut]).astype(np.float32)
    described = np.eye(4, 128, dtype=np.float32)[[0, 0, 1, 1]] + 0.01 * np.eye(4, 128, dtype=np.float32)
    which = [0, 1, 0, 1]
    pixels = np.stack([cut[i].pixels for i in which])
    method.prepare(Census([f"{i}#0" for i in range(4)], pixels, points[which], described, np.arange(4)))
    return method


def test_a_surrogate_is_its_groups_and_the_same_for_all(closed, shots):
    pixels, face = shots[2]
    crops = [align(Frame(pixels), face, closed.crop, f"{i}#0") for i in range(4)]
    made = [crop.pixels for crop in closed.apply(crops)]
    group = closed.plan.group
    assert np.array_equal(made[0], made[int(np.flatnonzero(group == group[0])[1])])
    faces = closed._held(*closed._name(0))
    assert np.isclose(np.linalg.norm(faces.texture), length(closed.models.proxies.texture), rtol=1e-4)


def test_who_is_hidden_is_not_in_the_set(closed, shots, monkeypatch):
    """A face that will be covered hides nobody else, so the first pass leaves it out."""
    crop = align(Frame(shots[0][0]), shots[0][1], closed.crop)
    assert closed.accepts(crop)
    monkeypatch.setattr(face_model, "hidden", lambda unlike: np.ones((256, 256), np.float32))
    assert not closed.accepts(crop)
    with pytest.raises(MethodError, match="hidden"):
        closed.apply([replace(crop, key="0#0")])


def test_examples_from_end_to_end(deid, folder, tmp_path):
    done = deid("anonymize", "--method", "ksame-m", "--seed", 3, "--no-verify", folder, tmp_path / "out")
    assert done.status == 0
    faces = [face for row in rows(tmp_path / "out").values() for face in row["faces"]]
    assert len(faces) == 4 and all(f["action"] == "replaced" and f["guarantee"] == "open" for f in faces)


def test_a_closed_set_from_end_to_end(deid, folder, tmp_path):
    done = deid("anonymize", "--method", "ksame-m", "--k", 2, "--seed", 3, folder, tmp_path / "out")
    assert done.status == 0 and "2-anonymity holds" in done.err
