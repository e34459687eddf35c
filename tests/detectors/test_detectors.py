"""Every detector behind the one interface, and the searches that all of them share."""

import importlib.util

import numpy as np
import pytest

from deidcli.errors import MissingDependency, UsageError
from deidcli.faces.detect import DEFAULT, DetectOptions, Detector, detector
from deidcli.faces.detectors import available
from deidcli.faces.detectors.union import UnionDetector
from deidcli.values import Box, Face
from tests import onnx_drawn

NAMES = ("all", "cnn", "hog", "mtcnn")
needs_mtcnn = pytest.mark.skipif(not importlib.util.find_spec("mtcnn"), reason="the package mtcnn is not installed")
EACH = [pytest.param(name, marks=needs_mtcnn if name == "mtcnn" else ()) for name in NAMES]


@pytest.mark.parametrize("name", EACH)
def test_finds_the_faces_of_a_batch(name, portraits, nobody):
    found = detector(DetectOptions(name)).detect([portraits[0], nobody, portraits[1]])
    assert [len(faces) for faces in found] == [1, 0, 1]
    for faces, picture in zip(found, (portraits[0], nobody, portraits[1]), strict=True):
        for face in faces:
            assert face.box.left < picture.shape[1] / 2 < face.box.right and face.landmarks is None


@pytest.mark.parametrize("name", EACH)
@pytest.mark.parametrize("shape", [(1, 1, 3), (2, 300, 3), (11, 13, 3)])
def test_takes_pictures_without_room(name, shape):
    assert detector(DetectOptions(name)).detect([np.zeros(shape, np.uint8)]) == [[]]


@pytest.mark.parametrize("name", EACH)
def test_takes_no_picture(name):
    assert detector(DetectOptions(name)).detect([]) == []


def test_every_detector_is_found_and_explained():
    assert set(available()) == {*NAMES, "yunet"}
    assert DEFAULT in available() and DetectOptions().detector == DEFAULT
    assert all(kind.__doc__ and kind.find.__doc__ for kind in available().values())


def test_yunet_takes_the_file_that_is_given(tmp_path):
    picture = np.zeros((96, 160, 3), np.uint8)
    picture[32:64, 96:128] = 255
    path = onnx_drawn.yunet(tmp_path / "drawn.onnx", 96, 160)
    [[face]] = detector(DetectOptions(f"yunet:{path}")).detect([picture])
    assert face.box.as_list() == [80, 16, 144, 80] and face.score == pytest.approx(1)


@pytest.mark.parametrize("name", ["yunet", "yunet:", "yunet:nowhere.onnx", "hog:file", "nose", ""])
def test_names_that_cannot_be(name):
    with pytest.raises(UsageError) as error:
        detector(DetectOptions(name))
    assert error.value.hint


def test_a_file_that_is_no_network(tmp_path):
    path = tmp_path / "text.onnx"
    path.write_text("no network")
    with pytest.raises(UsageError, match="cannot read"):
        detector(DetectOptions(f"yunet:{path}")).detect([np.zeros((96, 96, 3), np.uint8)])


def test_mtcnn_says_what_is_missing(monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "mtcnn" else real(name, *rest))
    with pytest.raises(MissingDependency, match="mtcnn"):
        detector(DetectOptions("mtcnn"))


def test_all_has_no_one_threshold():
    with pytest.raises(UsageError, match="threshold"):
        detector(DetectOptions("all", threshold=0.5))


class _Fixed(Detector):
    """Finds what it is told to."""

    name, threshold, smallest, largest = "fixed", 0.25, 80, 10**9
    told: tuple = ()

    def find(self, pictures):
        return [list(self.told) for _ in pictures]


def test_all_finds_each_face_once():
    box, other = Box(0, 0, 50, 50), Box(100, 0, 140, 40)
    union, parts = UnionDetector(DetectOptions()), [_Fixed(DetectOptions()), _Fixed(DetectOptions())]
    parts[0].told = (Face(box, 0.5), Face(other, 0.3))
    parts[1].told = (Face(Box(2, 1, 52, 51), 0.9),)
    union.parts = parts
    [[first, second]] = union.find([np.zeros((60, 150, 3), np.uint8)])
    assert (first.box.left, first.score) == (2, pytest.approx(0.65))
    assert (second.box, second.score) == (other, pytest.approx(0.05))
