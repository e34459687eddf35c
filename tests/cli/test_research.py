"""The main job on photographs of people, where the research data lie on this machine: DEID_DATA names their folder."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from deidcli.faces.embed import recogniser
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
