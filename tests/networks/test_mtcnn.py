"""MTCNN: the package's own answers, many pictures at a time, and weights that are what they should be."""

import importlib.util

import numpy as np
import pytest

from deidcli.errors import MissingDependency, PresetError
from deidcli.values import Box

from .dlib_drawn import face, needs_data, photographs, scene

pytestmark = pytest.mark.skipif(not importlib.util.find_spec("mtcnn"), reason="the package mtcnn is not installed")


def _boxes(rows):
    return [Box(*map(float, row[:4])) for row in rows]


@pytest.fixture(scope="module")
def nets():
    from deidcli.networks import mtcnn_nets

    return mtcnn_nets


def test_finds_faces_of_all_sizes(portrait):
    import cv2

    from deidcli.networks.mtcnn import detect

    places = [(20, 30, 70), (120, 20, 140), (280, 10, 240)]
    picture = np.full((260, 540, 3), 90, np.uint8)
    for left, top, side in places:
        picture[top : top + side, left : left + side] = cv2.resize(portrait, (side, side), interpolation=cv2.INTER_AREA)
    [found] = detect([picture])
    middles = [(left + side / 2, top + side * 0.55) for left, top, side in places]
    assert all(any(b.left < x < b.right and b.top < y < b.bottom for b in _boxes(found)) for x, y in middles)
    assert list(found[:, 4]) == sorted(found[:, 4], reverse=True)


def test_a_picture_is_the_same_in_any_company():
    from deidcli.networks.mtcnn import detect

    pictures = [face(150), np.zeros((90, 200, 3), np.uint8), scene(160, 240, [(60, 20, 120)]), face(150)]
    alone = [detect([picture])[0] for picture in pictures]
    for one, together in zip(alone, detect(pictures), strict=True):
        assert one.shape == together.shape and np.allclose(one, together, atol=0.05)


@pytest.mark.parametrize("shape", [(1, 1, 3), (11, 400, 3), (20, 20, 3)])
def test_pictures_without_room(shape):
    from deidcli.networks.mtcnn import detect

    assert [len(rows) for rows in detect([np.zeros(shape, np.uint8)])] == [0]


def test_noise_ends():
    from deidcli.networks.mtcnn import detect

    noise = np.random.default_rng(0).integers(0, 256, (200, 300, 3), np.uint8)
    assert len(detect([noise], threshold=0.99)[0]) <= 3


def test_new_sizes_are_not_prepared_anew():
    from deidcli.networks import mtcnn

    mtcnn.detect([face(150), face(170)])
    proposer = mtcnn._load()[0]
    traces = proposer.predict_function.experimental_get_tracing_count()
    mtcnn.detect([face(side) for side in (90, 131, 202, 260)])
    assert proposer.predict_function.experimental_get_tracing_count() <= traces + 2


def test_only_the_known_weights_are_opened(nets, tmp_path, monkeypatch):
    path = tmp_path / "pnet.lz4"
    path.write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    monkeypatch.setattr(nets, "_file", lambda name: path)
    with pytest.raises(PresetError, match="not the weight file"):
        nets.load_weights("pnet")


def test_the_package_may_be_missing(nets, monkeypatch):
    monkeypatch.setattr(nets.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependency) as error:
        nets.load_weights("onet")
    assert "facenet" in error.value.hint


@needs_data
def test_the_packages_own_faces():
    import mtcnn

    from deidcli.networks.mtcnn import detect

    pictures = photographs("lfw/images/*/*_0001.jpg", 6)
    own = mtcnn.MTCNN()
    for picture, rows in zip(pictures, detect(pictures), strict=True):
        sure = [entry for entry in own.detect_faces(picture, box_format="xyxy") if entry["confidence"] > 0.95]
        for entry in sure:
            assert max(Box(*map(float, entry["box"])).iou(box) for box in _boxes(rows)) > 0.75
