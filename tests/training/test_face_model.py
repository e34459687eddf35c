"""The face model is learnt from the faces of the given licences, without those of the split `val`."""

import csv

import cv2
import numpy as np
import pytest

from deidcli.errors import UsageError
from deidcli.faces.face_model import FaceModel
from deidcli.training.face_bank import blemishes, presentable
from deidcli.training.face_model import FILE, Recipe, mirror, train
from tests.conftest import save

FIELDS = ("file", "licence", "split", "sex", "age", "person")


def quiet(text):
    """Says nothing."""


@pytest.fixture(scope="module")
def folder(portraits, tmp_path_factory):
    """36 pictures of three drawn faces in other colours and proportions; four are unseen, two of another licence."""
    path, random, rows = tmp_path_factory.mktemp("faces"), np.random.default_rng(5), []
    for number in range(36):
        pixels = portraits[number % 3]
        side = len(pixels)
        grown = np.array([[1 + random.uniform(-0.06, 0.06), 0, 0], [0, 1 + random.uniform(-0.06, 0.06), 0]])
        grown[:, 2] = (1 - np.diag(grown[:, :2])) * side / 2
        changed = cv2.warpAffine(pixels, grown, (side, side), borderMode=cv2.BORDER_REPLICATE)
        changed = np.clip(changed * random.uniform(0.8, 1.1, 3) + random.normal(0, 3, changed.shape), 0, 255)
        save(changed.astype(np.uint8), path / "images" / f"{number}.png")
        sex, age = ("female", "male")[number % 2], 20 + number
        # One person in four pictures and more teaches expression; the others make the bank.
        person = "one" if number >= 30 else ""
        split, licence = "val" if number < 4 else "train", "none stated" if number in (4, 5) else "CC0"
        rows.append((f"{number}.png", licence, split, sex, age, person))
    write(path, rows)
    return path


def write(folder, rows):
    with (folder / "faces.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([FIELDS, *rows])


def places(folder):
    """Where a preset goes, and what is looked at beside it."""
    return folder / "face-tiny", folder / "work"


@pytest.fixture(scope="module")
def preset(folder, tmp_path_factory):
    return train(folder, Recipe(components=40, portraits=3, drawn=3), *places(tmp_path_factory.mktemp("models")), quiet)


def test_it_is_a_model_of_the_faces_it_may_learn_from(preset):
    model = FaceModel(preset.file(FILE))
    figures = preset.config["figures"]
    assert preset.config["licences"] == ["CC0", "MIT"]
    assert preset.config["faces"] <= 30 and figures["faces"] <= 4
    assert model.faces == figures["bank"] and 0 < model.faces <= 2 * 24
    assert figures["error"] < 0.7 * figures["spread"]
    assert np.allclose(model.components @ model.components.T, np.eye(len(model.components)), atol=0.05)
    for effect in model.effects:
        assert effect.shape == (len(model.components) + len(model.shape_components), 128)
        assert np.isfinite(effect).all() and effect.any()


def test_the_bank_is_shown_with_its_names_and_leaves_out_what_it_is_told_to(folder, preset, tmp_path):
    shown = preset.folder.parent / "work"
    names = (shown / "bank.txt").read_text().split()
    assert len(names) == FaceModel(preset.file(FILE)).people and (shown / "bank.png").stat().st_size > 1000
    fewer = train(
        folder, Recipe(components=40, portraits=3, drawn=3, without=frozenset(names[:2])), *places(tmp_path), quiet
    )
    left = (tmp_path / "work" / "bank.txt").read_text().split()
    assert left == names[2:] and FaceModel(fewer.file(FILE)).faces == 2 * len(left)
    assert (fewer.folder / "without.txt").read_text().split() == sorted(names[:2])


def test_the_bank_takes_no_glasses_fringes_and_hard_shadows():
    face, texture = np.full((256, 256, 3), (200, 160, 140), np.uint8), np.indices((256, 256))
    plain = blemishes(face)
    fringe, shadow, patch, glasses = (face.copy() for _ in range(4))
    fringe[:60] //= 3
    shadow[:, :110] //= 2
    patch[texture[1] > 128] = (120, 190, 140)
    for eye in (84, 171):
        cv2.circle(glasses, (eye, 92), 30, (20, 20, 20), 4)
    worse = np.stack([blemishes(picture) for picture in (glasses, shadow, fringe, patch)]) - plain
    assert worse[0, 0] > 0.05 and worse[1, 1] > 0.2 and worse[2, 2] > 0.3 and worse[2, 3] > 0.1 and worse[3, 6] > 5
    bank = np.stack([face] * 20 + [glasses, shadow, fringe, patch])
    taken = presentable(bank, np.full(len(bank), 0.5))
    assert taken[:20].all() and not taken[20:].any()


def test_the_mean_face_is_even(preset):
    mean = FaceModel(preset.file(FILE)).picture(np.zeros(1))
    assert np.abs(mean - mean[:, ::-1]).mean() < 0.01 and 0.2 < mean[128, 128].mean() < 0.9


def test_the_same_faces_make_the_same_model(folder, preset, tmp_path):
    again = train(folder, Recipe(components=40, portraits=3, drawn=3), *places(tmp_path), quiet)
    with np.load(preset.folder / FILE) as a, np.load(again.folder / FILE) as b:
        assert all(np.allclose(a[name], b[name], atol=1e-3) for name in a.files)


def test_mirrored_twice_is_the_same():
    other = mirror()
    assert np.array_equal(other[other], np.arange(468)) and other[33] == 263


def test_what_is_missing_is_said(folder, tmp_path):
    with pytest.raises(UsageError, match="faces.csv"):
        train(tmp_path, Recipe(components=40, portraits=3, drawn=3), *places(tmp_path / "out"), quiet)
    (tmp_path / "images").symlink_to(folder / "images")
    write(tmp_path, [(f"{n}.png", "MIT", "train", "", "", "") for n in range(6, 12)])
    with pytest.raises(UsageError, match="too few"):
        train(tmp_path, Recipe(components=40, portraits=3, drawn=3), *places(tmp_path / "out"), quiet)
