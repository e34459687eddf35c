"""Galleries out of drawn people: who is asked, who is averaged, what is refused, and that a preset comes out whole."""

import json

import cv2
import numpy as np
import pytest

from deidcli.errors import UsageError
from deidcli.faces.pose import mouth_gap
from deidcli.faces.shape import MEAN_SHAPE
from deidcli.faces.tone import brow_down, covering, skin
from deidcli.methods.ksame.proxies import Probe
from deidcli.training.composites import Composite
from deidcli.training.gallery import (
    DRAWS,
    MOUTHS,
    SIDE,
    Kind,
    alike,
    chosen,
    drawn,
    mirrored,
    with_smooth_forehead,
    with_wide_open_mouth,
)
from deidcli.training.gallery_preset import nearer
from deidcli.training.people import People, glasses_edge, labels

RNG = np.random.default_rng(5)
COUNT = 400


@pytest.fixture(scope="module")
def known():
    """People with labels at random, each unlike the others, and every tenth one seen twice."""
    descriptors = RNG.standard_normal((COUNT, 128)) * 0.2
    descriptors[::10] = descriptors[1::10] + 0.001
    return People(
        names=np.array([f"{i}.webp" for i in range(COUNT)]),
        age=RNG.integers(1, 90, COUNT),
        gender=RNG.integers(0, 2, COUNT),
        race=np.zeros(COUNT, int),
        landmarks=np.repeat(MEAN_SHAPE[None] * 100, COUNT, axis=0),
        descriptors=descriptors,
        tone=RNG.uniform(30, 70, (COUNT, 3)),
        gap=RNG.uniform(0, 0.05, COUNT),
        expression=np.array(["neutral", "happiness"])[(RNG.random(COUNT) < 0.2).astype(int)],
        good=RNG.random(COUNT) < 0.9,
    )


@pytest.mark.parametrize("name", ["x/30_1_2_2017.jpg.webp", "30_1_2_2017.webp"])
def test_labels_are_in_the_name(name):
    assert labels(name) == (30, 1, 2)


@pytest.mark.parametrize("name", ["30_1_2017.webp", "a_b_c_d.webp", ""])
def test_names_without_labels_say_nothing(name):
    assert labels(name) is None


def test_those_most_alike_come_first_and_nobody_else(known):
    rows = alike(known, Kind(1, 0, 30), MOUTHS["closed"])
    assert known.good[rows].all() and (known.gender[rows] == 1).all()
    assert np.count_nonzero(known.good & (known.gender == 1) & (known.gap < 0.05)) == len(rows)
    calm = rows[known.expression[rows] == "neutral"]
    years = np.abs(known.age[calm] - 30)
    assert years[:20].max() < years[-20:].min()
    assert np.mean(known.expression[rows[:30]] == "neutral") > np.mean(known.expression[rows] == "neutral")
    assert not len(alike(known, Kind(1, 2, 30), MOUTHS["closed"]))


def test_shades_split_people_of_one_age(known):
    dark, light = (alike(known, Kind(0, 0, 30, shade), MOUTHS["closed"]) for shade in (-1, 1))
    assert not set(dark) & set(light)
    assert known.tone[dark, 0].max() <= known.tone[light, 0].min()


def test_nobody_is_averaged_twice(known):
    rows = chosen(known, Kind(0, 0, 30), MOUTHS["closed"], np.random.default_rng(1))
    apart = np.linalg.norm(known.descriptors[rows][:, None] - known.descriptors[rows], axis=2)
    assert len(rows) == 60 and apart[np.triu_indices(60, 1)].min() > 0.36
    again = chosen(known, Kind(0, 0, 30), MOUTHS["closed"], np.random.default_rng(1))
    assert np.array_equal(rows, again)


def face(colour=(190, 150, 120)):
    """A composite of one colour with dark lips and a light inside."""
    points = (MEAN_SHAPE + 0.25) * SIDE / 1.5
    pixels = np.full((SIDE, SIDE, 3), colour, np.uint8)
    cv2.fillPoly(pixels, [np.round(points[48:60]).astype(np.int32)], (120, 40, 40))
    return Composite(pixels, points.astype(np.float32), 60)


def test_a_picture_with_a_sign_of_its_people_is_drawn_again(known, tmp_path, monkeypatch):
    from deidcli.training import gallery

    monkeypatch.setattr(gallery, "_average", lambda known, rows, pictures: face())
    seen: list[tuple] = []

    def falling(picture, kind, mouth, rows):
        seen.append(tuple(rows))
        return 0.9 - 0.1 * len(seen)

    made = drawn(known, tmp_path, Kind(0, 0, 30), MOUTHS["closed"], [1], falling)
    assert made.auc == pytest.approx(0.6) and len(seen) == len(set(seen)) == 3 and tuple(made.rows) == seen[-1]
    seen.clear()
    always = iter([0.9, 0.7, 0.8] + [0.95] * DRAWS)
    made = drawn(known, tmp_path, Kind(0, 0, 30), MOUTHS["closed"], [1], lambda *said: next(always))
    assert made.auc == 0.7, "the weakest where none is below"


def test_a_mirrored_face_is_mirrored_with_its_points():
    one = face()
    pixels, points = mirrored(one.pixels, one.landmarks)
    assert np.allclose(points, one.landmarks, atol=1.5), "the mean face is symmetric"
    back, same = mirrored(pixels, points)
    assert np.array_equal(back, one.pixels) and np.allclose(same, one.landmarks)


def test_a_wide_mouth_shows_the_inside_of_another():
    other = face()
    other.landmarks[65:68, 1] += 30
    other.landmarks[55:60, 1] += 30
    cv2.fillPoly(other.pixels, [np.round(other.landmarks[60:68]).astype(np.int32)], (0, 0, 255))
    made = with_wide_open_mouth(face(), other)
    assert abs(mouth_gap(made.landmarks) - mouth_gap(other.landmarks)) < 0.08
    x, y = np.round(made.landmarks[60:68].mean(axis=0)).astype(int)
    assert made.pixels[y, x, 2] > 180 and made.pixels[y, x, 0] < 60
    assert np.array_equal(made.pixels[:60], face().pixels[:60])


def test_a_seam_over_the_brows_is_smoothed_and_nothing_below():
    one = face()
    one.pixels[40:42] = 255
    made = with_smooth_forehead(one)
    below = brow_down(one.landmarks.astype(float), (SIDE, SIDE))
    assert np.array_equal(made.pixels[below], one.pixels[below])
    assert np.ptp(made.pixels[30:60, SIDE // 2].astype(int), axis=0).max() < 40


def test_hair_over_the_forehead_is_told_from_skin():
    one = face()
    points = one.landmarks.astype(float)
    top = int(points[17:27, 1].min() - 0.12 * SIDE)
    one.pixels[:top] = (30, 25, 20)
    cover = covering(one.pixels, points)
    middle = SIDE // 2
    assert cover[top - 25, middle] < 0.1 and cover[top + 20, middle] > 0.9
    assert cover[int(points[30, 1]), middle] > 0.99


def test_skin_is_skin():
    one = face()
    area = skin(one.landmarks, (SIDE, SIDE))
    assert area.any() and (one.pixels[area] == (190, 150, 120)).all()
    assert skin(one.landmarks - 5000, (20, 20)).all()


def test_glasses_cross_the_bridge_of_the_nose():
    crop = RNG.normal(150, 20, (128, 128, 1)).repeat(3, 2).clip(0, 255).astype(np.uint8)
    crop = cv2.GaussianBlur(crop, (0, 0), 3)
    worn = crop.copy()
    worn[46:49, 40:90] = 10
    assert glasses_edge(worn) > 2 * glasses_edge(crop)


def test_the_probe_reads_what_it_learnt():
    gender, age, race = RNG.integers(0, 2, 900), RNG.integers(5, 80, 900), RNG.integers(0, 5, 900)
    rows = RNG.standard_normal((900, 128)) * 0.01
    rows[:, 0], rows[:, 1], rows[:, 2:7] = gender, np.log(age + 8.0), np.eye(5)[race]
    said = Probe.of(rows, gender, age, race)(rows)
    assert ((said[:, 0] > 0.5) == (gender == 1)).mean() > 0.99
    assert (said[:, 2:].argmax(axis=1) == race).mean() > 0.99
    assert np.corrcoef(said[:, 1], np.log(age + 8))[0, 1] > 0.95


def test_nearer_is_the_area_under_the_curve():
    assert nearer(np.array([1.0, 2]), np.array([3.0, 4])) == 1
    assert nearer(np.array([3.0]), np.array([1.0, 4])) == 0.5
    assert nearer(np.array([3.0]), np.array([])) == 0.5


def test_sources_that_do_not_belong_together_are_refused(tmp_path):
    from deidcli.training.data import Pack
    from deidcli.training.people import people

    (tmp_path / "faces.jsonl").write_text(json.dumps({"input": "other.png", "faces": []}))
    pack = Pack(np.zeros((1, 8, 8, 3), np.uint8), np.zeros((1, 128)), np.array(["1_1_1_1.png"]))
    with pytest.raises(UsageError, match="in common"):
        people(pack, tmp_path / "faces.jsonl", tmp_path)
