"""ksame-m: proxies that suit, mouths that fit, profiles that are refused, and surrogates of a closed set."""

import cv2
import numpy as np
import pytest

from deidcli.errors import MethodError, PresetError, UsageError
from deidcli.faces.align import align
from deidcli.faces.pose import mouth_gap
from deidcli.faces.shape import MEAN_SHAPE
from deidcli.methods.base import Secret
from deidcli.methods.ksame.m import STEPS, KSameM
from deidcli.methods.ksame.proxies import SAFE_DISTANCE, Gallery, ProxyAssignment, mouth_weights
from deidcli.methods.ksame.render import SIDE, Posed, Surrogate, average_surrogate, fit_surrogate
from deidcli.presets import load_preset
from deidcli.values import Box, Crop, Face, Frame
from tests.conftest import found, rows

IDENTITY = np.array([[1.0, 0, 0], [0, 1, 0]])


@pytest.fixture(scope="module")
def gallery():
    return Gallery.load("ksame-gallery")


@pytest.fixture
def crop(portrait):
    return align(Frame(portrait), found(portrait)[0], KSameM.crop, "a#0")


def test_the_gallery_is_whole(gallery):
    """Every proxy has its pictures, its landmarks lie in them, and enough people are in each."""
    config = load_preset("ksame-gallery", "ksame-m").config
    mouths, side = len(config["mouths"]), config["side"]
    assert len(gallery.names) >= 64 and mouths == len(STEPS) + 1
    assert gallery.landmarks.shape == (len(gallery.names), mouths, 68, 2)
    assert gallery.descriptors.shape == (len(gallery.names), mouths, 128)
    assert all(min(config["people"][name]) >= 50 for name in gallery.names)
    for proxy in (0, len(gallery.names) - 1):
        for mouth in range(mouths):
            assert gallery.picture(proxy, mouth).shape == (side, side, 3)
    assert gallery.landmarks.min() > 0 and gallery.landmarks.max() < side
    assert gallery.preset.size < 10_000_000
    gaps = np.array([[mouth_gap(points) for points in row] for row in gallery.landmarks])
    assert (np.diff(gaps, axis=1) > 0).all() and gaps[:, 0].max() < STEPS[0][1]


def test_nobody_in_a_proxy_is_nearer_to_it_than_others(gallery):
    figures = gallery.preset.config["figures"]
    assert max(figures[f"{seen}_worst"] for seen in ("dlib", "sface", "pixels")) <= 0.6 and figures["fewest"] >= 50


def test_proxies_suit_and_keep_their_distance(gallery):
    """Somebody who looks like a proxy's people gets a proxy of their gender, and not the nearest one."""
    adults = [i for i, name in enumerate(gallery.names) if int(name.split("-")[2]) > 20]
    for proxy in adults[::5]:
        own = gallery.descriptors[proxy, 0]
        for seed in range(3):
            chosen = gallery.choose(own, 0.5, np.random.default_rng(seed))
            assert np.linalg.norm(gallery.descriptors[chosen] - own, axis=1).min() >= 0.5
            assert gallery.names[chosen].split("-")[0] == gallery.names[proxy].split("-")[0]
        assert gallery.names[gallery.nearest(own)[0]].split("-")[0] == gallery.names[proxy].split("-")[0]


def test_nothing_far_enough_gives_one_that_will_do(gallery):
    """Proxies themselves are the hardest people to serve: all others are averages like them."""
    for own in gallery.descriptors[::4, 0]:
        chosen = gallery.choose(own, 9.0, np.random.default_rng(0))
        assert np.linalg.norm(gallery.descriptors[chosen] - own, axis=1).min() >= SAFE_DISTANCE


def test_a_track_keeps_its_proxy(gallery):
    given, rng = ProxyAssignment(gallery), np.random.default_rng(1)
    own = gallery.descriptors[3, 0]
    first = given.proxy("a#0", own, 0.5, np.random.default_rng(1))
    noise = rng.standard_normal((20, 128)) * 0.02
    assert {given.proxy("a#0", own + n, 0.5, np.random.default_rng(9)) for n in noise} == {first}


@pytest.mark.parametrize("gap", [-0.1, 0.0, 0.05, 0.1, 0.19, 0.3, 0.9])
def test_mouths_fade_into_each_other(gap):
    shares = mouth_weights(gap, STEPS)
    assert np.isclose(shares.sum(), 1) and (shares >= 0).all() and np.count_nonzero(shares) <= 2
    assert shares[0] == 1 if gap < STEPS[0][0] else shares[0] < 1


def test_a_closed_mouth_shows_no_teeth(gallery):
    """Whatever lies between the lips of a surrogate is not seen where the target's lips touch."""
    face = Surrogate(gallery.picture(0, 0), gallery.landmarks[0, 0].astype(float))
    shape = MEAN_SHAPE * 120 + 40
    shape[[61, 62, 63]] = shape[[67, 66, 65]] = (shape[[61, 62, 63]] + shape[[67, 66, 65]]) / 2
    target = Crop(np.full((200, 200, 3), 128, np.uint8), IDENTITY, Face(Box(40, 40, 160, 160), landmarks=shape))
    marked = face.pixels.copy()
    cv2.fillPoly(marked, [np.round(face.landmarks[60:68]).astype(np.int32)], (0, 255, 0))
    plain, other = (
        fit_surrogate([Posed(1.0, Surrogate(p, face.landmarks), shape)], target) for p in (face.pixels, marked)
    )
    assert np.abs(plain.astype(int) - other).mean() < 0.5


def test_an_open_mouth_that_does_not_smile_is_dark_within(gallery):
    """Behind the lips, and nowhere else."""
    face = Surrogate(gallery.picture(0, 0), gallery.landmarks[0, 0].astype(float))
    shape = MEAN_SHAPE * 120 + 40
    shape[65:68, 1] += 20
    shape[55:60, 1] += 20
    target = Crop(np.full((200, 200, 3), 128, np.uint8), IDENTITY, Face(Box(40, 40, 160, 160), landmarks=shape))
    posed = [Posed(1.0, face, shape)]
    lit, dark = (fit_surrogate(posed, target, posed, hollow).mean(axis=2) for hollow in (False, True))
    x, y = np.round(shape[60:68].mean(axis=0)).astype(int)
    assert dark[y, x] < 0.4 * lit[y, x] and np.abs(dark - lit)[: int(shape[51, 1])].max() < 1


def test_profiles_are_refused(crop):
    points = crop.face.landmarks.copy()
    points[27:36] = points[16] - (3, 0)
    turned = Crop(crop.pixels, crop.transform, Face(crop.face.box, landmarks=points), "b#0")
    with pytest.raises(MethodError, match="turned away"):
        KSameM(secret=Secret.seeded(1)).apply([turned])
    assert not KSameM.create(KSameM.Options(k=2)).accepts(turned) and KSameM.create(KSameM.Options(k=2)).accepts(crop)


def test_another_secret_gives_another_face(crop):
    first, second = (KSameM(secret=Secret.seeded(seed)).apply([crop])[0].pixels for seed in (1, 2))
    assert not np.array_equal(first, second)


def test_shape_keeps_more_of_the_person(crop):
    none, half = (KSameM(KSameM.Options(shape=s), Secret.seeded(1)).apply([crop])[0].pixels for s in (0.0, 1.0))
    assert not np.array_equal(none, half)


@pytest.mark.parametrize("wrong", [{"k": 1}, {"k": 3, "shape": 0.5}])
def test_settings_that_hide_nobody_are_refused(wrong):
    with pytest.raises(UsageError):
        KSameM.create(KSameM.Options(**wrong))


def test_a_gallery_that_is_none_is_refused():
    with pytest.raises(PresetError):
        KSameM(KSameM.Options(gallery="cleanir-256"))


def test_an_average_of_copies_is_the_face_itself(crop):
    points = crop.transform[:, :2] @ crop.face.landmarks.T + crop.transform[:, 2:]
    one = average_surrogate([crop.pixels], [points.T], np.ones(1))
    three = average_surrogate([crop.pixels] * 3, [points.T] * 3, np.full(3, 1 / 3))
    assert one.pixels.shape == (SIDE, SIDE, 3)
    assert np.abs(one.pixels.astype(int) - three.pixels).max() <= 1
    assert np.allclose(one.landmarks, three.landmarks)


def test_examples_from_end_to_end(deid, folder, tmp_path):
    done = deid("anonymize", "--method", "ksame-m", "--seed", 3, "--no-verify", folder, tmp_path / "out")
    assert done.status == 0
    faces = [face for row in rows(tmp_path / "out").values() for face in row["faces"]]
    assert len(faces) == 4 and all(f["action"] == "replaced" and f["guarantee"] == "open" for f in faces)


def test_a_closed_set_from_end_to_end(deid, folder, tmp_path):
    done = deid("anonymize", "--method", "ksame-m", "--k", 2, "--seed", 3, folder, tmp_path / "out")
    assert done.status == 0 and "2-anonymity holds" in done.err
