"""Whether new faces are told from untouched ones: by a classifier that learns on other people, and by distance."""

import json

import cv2
import numpy as np
import pytest

from deidcli.errors import UsageError
from deidcli.evaluation.bench import Bench, Study, Subject
from deidcli.evaluation.utility import Classifier, DownstreamPlan, LooksPlan, description, frechet, looks
from deidcli.faces.detectors import DetectOptions
from deidcli.methods import find
from deidcli.values import Box, Face
from tests.conftest import save
from tests.evaluation.conftest import Same


@pytest.fixture(scope="module")
def split(album, tmp_path_factory):
    table = tmp_path_factory.mktemp("split") / "people.csv"
    people = sorted(path.name for path in album.iterdir())
    rows = [f"{who},{'train' if n < 4 else 'val'}" for n, who in enumerate(people)]
    table.write_text("\n".join(["person,split", *rows]), encoding="utf-8")
    return table


def test_a_classifier_finds_what_differs_and_nothing_else():
    random = np.random.default_rng(0)
    people = np.repeat(np.arange(200), 2)
    replaced = np.arange(400) % 2 == 1
    features = random.standard_normal((400, 30)) + np.repeat(random.standard_normal((200, 30)), 2, axis=0)
    features[:, 4] += np.where(replaced, 6.0, 0.0)
    train = people < 150
    guessed = Classifier(features[train], replaced[train], people[train])(features[~train]) > 0
    assert np.mean(guessed == replaced[~train]) > 0.85
    features[:, 4] -= np.where(replaced, 6.0, 0.0)
    guessed = Classifier(features[train], replaced[train], people[train])(features[~train]) > 0
    assert 0.2 < np.mean(guessed == replaced[~train]) < 0.8


def test_frechet_distance_of_two_normal_distributions():
    """Of mean and deviation alone: (2 - 0)² + (3 - 1)² in one direction, nothing in the others."""
    rows = np.random.default_rng(1).standard_normal((4000, 4))
    rows = (rows - rows.mean(axis=0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(rows, rowvar=False))).T
    other = rows * (3, 1, 1, 1) + (2, 0, 0, 0)
    assert frechet(rows, rows) == pytest.approx(0, abs=1e-6)
    assert frechet(rows, other) == pytest.approx(8, abs=1e-3)


def test_a_description_sees_softness_and_place(portrait, face):
    soft = cv2.GaussianBlur(portrait, (0, 0), 2)
    same, other = description(portrait, face), description(soft, face)
    assert same.shape == other.shape and np.abs(same - other).max() > 0.5
    moved = Face(Box(*(np.array(face.box.as_list()) + 8)))
    assert np.abs(description(np.roll(portrait, (8, 8), (0, 1)), moved) - same).max() < 0.7


def test_what_changes_nothing_is_told_by_chance(album, split):
    bench = Bench(Study(album, "album", detect=DetectOptions("hog")))
    plan = LooksPlan.read(album, split, 4, 3)
    assert not {name.split("/")[0] for name in plan.train} & {name.split("/")[0] for name in plan.test}
    bench.read([*plan.train, *plan.test])
    told = {
        label: looks(bench, Subject(label, method), plan)
        for label, method in (("same", Same()), ("solid", find("solid")()))
    }
    distances = {label: run.figure("Fréchet distance").value for label, run in told.items()}
    assert told["same"].figure("told from photographs").value <= 0.67
    assert told["solid"].figure("told from photographs").value == 1
    assert distances["same"] < 0.3 * distances["solid"]


def test_the_command(album, split, deid):
    options = "--methods", "solid", "--detector", "hog", "--cache", "none", "--progress", "none", "--json"
    done = deid("evaluate", "looks", album, "--split", split, *options)
    said = json.loads(done.out.splitlines()[-1])
    assert done.status == 0 and (said["protocol"], said["label"]) == ("looks", "solid")
    split.with_name("few.csv").write_text("person,split\nperson1,val\n", encoding="utf-8")
    assert deid("evaluate", "looks", album, "--split", split.with_name("few.csv"), *options).status == 2


# --- Downstream: what is learnt from new faces, on untouched ones


@pytest.fixture(scope="module")
def drawn(tmp_path_factory, portraits):
    """PERSON/1.png of 24 people who do not exist: half of them have a light on the nose and are called "happiness"."""
    folder = tmp_path_factory.mktemp("drawn")
    labels, split = ["image,expression"], ["person,split"]
    for number in range(24):
        lit = number % 2
        pixels = portraits[number % 3].astype(np.float32)
        middle = [slice(round(0.42 * side), round(0.62 * side)) for side in pixels.shape[:2]]
        pixels[middle[0], middle[1]] *= 1.4 if lit else 0.7
        pixels = np.roll(pixels, number % 5 - 2, axis=1)
        save(np.clip(pixels, 0, 255).astype(np.uint8), folder / "faces" / f"p{number:02}" / "1.png")
        labels.append(f"p{number:02}/1.png,{'happiness' if lit else 'neutral'}")
        split.append(f"p{number:02},{'train' if number < 12 else 'val'}")
    labels.append("p00/1.png,neutral")
    (folder / "labels.csv").write_text("\n".join(labels), encoding="utf-8")
    (folder / "people.csv").write_text("\n".join(split), encoding="utf-8")
    return folder


@pytest.mark.slow
@pytest.mark.usefixtures("without_xla")
@pytest.mark.timeout(900)
def test_what_is_learnt_from_untouched_faces_is_learnt_and_from_none_is_not(deid, drawn, tmp_path, monkeypatch):
    """A light is told by a network that saw it, and by chance by one whose faces were all of one colour."""
    for name, value in (("STEPS", 12), ("CHANNELS", (8, 16, 16, 32)), ("BATCH_SIZE", 12)):
        monkeypatch.setattr(f"deidcli.evaluation.utility.{name}", value)
    options = "--methods", "original,solid:color=grey", "--detector", "hog", "--cache", "none", "--quiet", "--json"
    sizes = "--train", 12, "--test", 12, "--epochs", 3, "--networks", 1, "--seed", 1, "--out", tmp_path
    tables = "--split", drawn / "people.csv", "--labels", drawn / "labels.csv"
    done = deid("evaluate", "downstream", drawn / "faces", *tables, *options, *sizes)
    assert done.status == 0, done.err
    runs = [{f["name"]: f for f in json.loads(line)["figures"]} for line in done.out.splitlines()]
    for run in runs:
        assert run["expression learnt"]["count"] == 12 and run["face told from beside it"]["count"] == 24
        assert run["expression learnt"]["value"] == pytest.approx(run["expression learnt, words alike"]["value"])
    values = [run["expression learnt"]["value"] for run in runs]
    assert values[0] > 0.9 and values[1] < 0.8
    assert runs[0]["face told from beside it"]["value"] > 0.9


def test_rare_words_are_left_out_and_people_stay_apart(drawn, tmp_path):
    plan = DownstreamPlan.read(drawn / "faces", drawn / "people.csv", drawn / "labels.csv", 6, 100)
    assert plan.classes == ("happiness", "neutral") and len(plan.train) == 6 and len(plan.test) == 12
    assert [sum(plan.words[name] == word for name in plan.train) for word in plan.classes] == [3, 3]
    assert not {name.split("/")[0] for name in plan.train} & {name.split("/")[0] for name in plan.test}
    (tmp_path / "few.csv").write_text("image,expression\np00/1.png,anger\n", encoding="utf-8")
    with pytest.raises(UsageError, match="fewer than two words"):
        DownstreamPlan.read(drawn / "faces", drawn / "people.csv", tmp_path / "few.csv", 6, 6)
    (tmp_path / "other.csv").write_text("image,age\np00/1.png,30\n", encoding="utf-8")
    with pytest.raises(UsageError, match="no column 'expression'"):
        DownstreamPlan.read(drawn / "faces", drawn / "people.csv", tmp_path / "other.csv", 6, 6)
