"""The comparison of detectors: what counts as found, and the command."""

import json

import numpy as np
import pytest
from PIL import Image

from deidcli.engine.face_list import FaceList, ListedFile
from deidcli.engine.jobs import list_jobs
from deidcli.evaluation.detection import Search, is_central, matched, rates, search
from deidcli.values import Box, Face


def _faces(*lefts, side=40):
    return [Face(Box(left, 0, left + side, side), 1 - left / 1000) for left in lefts]


def _search(name, frames):
    return Search(
        name, {("a", i): f for i, f in enumerate(frames)}, {("a", i): (100, 100) for i in range(len(frames))}, 1
    )


def test_each_face_is_matched_once():
    assert matched(_faces(0, 100), _faces(2, 104), 0.5) == 2
    assert matched(_faces(0, 4), _faces(2), 0.5) == 1
    assert matched(_faces(0), _faces(30), 0.5) == 0
    assert matched([], _faces(0), 0.5) == 0


def test_the_best_pair_goes_first():
    assert matched(_faces(0, 10), _faces(10, 16), 0.4) == 2


@pytest.mark.parametrize(
    ("box", "central"),
    [(Box(30, 30, 70, 70), True), (Box(0, 0, 49, 49), False), (Box(45, 45, 55, 55), False), (Box(-9, 9, 99, 99), True)],
)
def test_what_is_central(box, central):
    assert is_central(box, (100, 100)) is central


def test_rates_against_known_faces():
    known = FaceList({"a": ListedFile({0: _faces(0, 100), 1: _faces(50)})})
    one = _search("one", [_faces(0, 100, 200), []])
    other = _search("other", [_faces(3), _faces(50)])
    first, second = rates([one, other], known)
    assert (first.recall, first.precision) == (0.6667, 0.6667)
    assert (second.recall, second.precision) == (0.6667, 1.0)
    assert first.agreement == {"other": 0.3333} and second.agreement == {"one": 0.5}
    assert (first.faces, first.empty, first.frames, first.milliseconds) == (3, 1, 2, 500.0)


def test_files_that_are_not_known_do_not_count():
    first = rates([_search("one", [_faces(0)])], FaceList({"b": ListedFile({0: _faces(0)})}))[0]
    assert np.isnan(first.recall) and np.isnan(first.precision)


class _Middle:
    """Finds the middle of every picture, and counts its calls."""

    calls = 0

    def detect(self, pictures, followed=False):
        self.calls += 1
        return [[Face(Box(p.shape[1] / 4, p.shape[0] / 4, p.shape[1] * 0.75, p.shape[0] * 0.75))] for p in pictures]


def test_search_reads_what_can_be_read(tmp_path):
    for number in range(20):
        Image.new("RGB", (40, 30 + number)).save(tmp_path / f"{number:02}.png")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    last = list(search(list_jobs([str(tmp_path)], None), "middle", _Middle()))[-1]
    assert len(last.found) == 20 and last.failed == 1 and last.seconds > 0
    assert last.sizes["07.png", 0] == (40, 37)
    assert rates([last])[0].central == 1


@pytest.fixture
def folder(tmp_path, portraits, nobody):
    for number, pixels in enumerate([*portraits[:2], nobody]):
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    return tmp_path


def test_command_prints_a_table(deid, folder):
    done = deid("evaluate", "detection", folder, "--detectors", "hog,hog@0", "--central", "--quiet")
    head, first, second = done.out.decode().splitlines()
    assert done.status == 0 and head.split()[:5] == ["detector", "frames", "faces", "empty", "central"]
    assert first.split()[:5] == ["hog", "3", "2", "1", "0.6667"]
    assert second.split()[0] == "hog@0"


def test_command_takes_known_faces_and_draws(deid, folder, tmp_path):
    truth = tmp_path / "truth.jsonl"
    truth.write_bytes(deid("detect", folder, "--detector", "hog", "--quiet").out)
    plot = tmp_path / "plot.png"
    asked = ["--truth", truth, "--json", "--quiet"]
    if pytest.importorskip("matplotlib"):
        asked += ["--plot", plot]
    done = deid("evaluate", "detection", folder / "0.png", folder / "1.png", "--detectors", "hog", *asked)
    row = json.loads(done.out)
    assert done.status == 0 and (row["recall"], row["precision"]) == (1, 1) and plot.stat().st_size > 1000


@pytest.mark.parametrize("names", ["nose", "hog@x", "yunet"])
def test_command_refuses(deid, folder, names):
    done = deid("evaluate", "detection", folder, "--detectors", names)
    assert done.status == 2 and not done.out
