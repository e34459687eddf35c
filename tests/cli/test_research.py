"""The main job on photographs of people, where the research data lie on this machine: DEID_DATA names their folder."""

import csv
import json
import os
import shutil
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from deidcli.faces.recognisers import recogniser
from deidcli.faces.recognisers.shipped import WEIGHTS
from tests.conftest import found, read, rows

SCENES = ("two_people.jpg", "biden.jpg", "32bit.png")


@pytest.fixture
def photographs(tmp_path):
    data = os.environ.get("DEID_DATA")
    if not data or not (Path(data) / "scenes").is_dir():
        pytest.skip("DEID_DATA does not name the folder of the research data")
    (tmp_path / "in").mkdir()
    for name in SCENES:
        shutil.copy(Path(data) / "scenes" / name, tmp_path / "in")
    return tmp_path / "in"


def test_nobody_is_recognised(deid, photographs, tmp_path):
    """Every face that was found is past the recogniser's threshold, by the manifest and by a second look."""
    assert deid("anonymize", photographs, tmp_path / "out").status == 0
    table, judge = rows(tmp_path / "out"), recogniser("dlib")
    for name in SCENES:
        before, after = read(photographs / name), read(tmp_path / "out" / name)
        faces = [face for face in found(before) if face.landmarks is not None]
        assert table[name]["faces"] and faces and before.shape == after.shape
        for entry in table[name]["faces"]:
            assert entry["action"] == "covered" or entry["distance"] is None or entry["distance"] > judge.threshold
        old, new = (judge.embed(judge.chips(pixels, faces)) for pixels in (before, after))
        assert (judge.distance(old, new) > judge.threshold).all()
        assert (before == after).all(axis=2).mean() > 0.5, "the picture around is as it was"
        assert not np.array_equal(before, after)


def test_k_people_share_a_face(deid, tmp_path):
    """20 people of LFW's val, two pictures each: told apart well enough that k = 4 holds by their real names."""
    data = Path(os.environ.get("DEID_DATA", "")) / "lfw"
    if not (data / "people.csv").is_file():
        pytest.skip("DEID_DATA does not name the folder of the research data")
    with (data / "people.csv").open(encoding="utf-8", newline="") as file:
        able = [r["person"] for r in csv.DictReader(file) if r["split"] == "val" and int(r["images"]) > 1][:20]
    (tmp_path / "in").mkdir()
    for path in (path for person in able for path in sorted((data / "images" / person).iterdir())[:2]):
        shutil.copy(path, tmp_path / "in")
    done = deid("anonymize", "--method", "ksame-pixel", "--k", 4, tmp_path / "in", tmp_path / "out")
    assert done.status == 0 and "4-anonymity holds" in done.err, done.err
    central, behind = {}, defaultdict(set)
    for name, row in rows(tmp_path / "out").items():
        for face in row["faces"]:
            left, top, right, bottom = face["box"]
            if face["action"] != "replaced":
                continue
            if left < 125 < right and top < 125 < bottom:
                person = name.rpartition("_")[0]
                central.setdefault(person, set()).add(face["person"])
                behind[face["surrogate"]].add(person)
            else:  # somebody in the background, whose name nobody knows
                behind[face["surrogate"]].add(face["person"])
    assert sum(len(found_as) == 1 for found_as in central.values()) >= 18
    assert min(map(len, behind.values())) >= 3


@pytest.mark.skipif(WEIGHTS.find() is None, reason="the weights of sface are missing")
def test_known_people_are_told_apart(deid, tmp_path):
    """Of eight people no stranger is left by --keep-people, and no subject by --only-people."""
    data = os.environ.get("DEID_DATA")
    if not data or not (Path(data) / "lfw" / "people.csv").is_file():
        pytest.skip("DEID_DATA does not name the folder of the research data")
    with (Path(data) / "lfw" / "people.csv").open(newline="") as file:
        val = [row["person"] for row in csv.DictReader(file) if row["split"] == "val" and int(row["images"]) > 1]
    for who in val[:: len(val) // 8][:8]:
        (tmp_path / who).mkdir()
        for path in sorted((Path(data) / "lfw" / "images" / who).iterdir())[:2]:
            shutil.copy(path, tmp_path / who)
    done = deid("evaluate", "people", tmp_path, "--sizes", "1,4", "--cache", "none", "--json")
    told = [row for row in map(json.loads, done.out.splitlines()) if row["by"] == "both"]
    assert [row["people"] for row in told] == [1, 4]
    for row in told:
        assert row["left_strangers"]["count"] == row["missed"]["count"] == 0
        assert row["left"]["count"] >= row["left"]["of"] / 2 > 0
