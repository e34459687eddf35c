"""The recogniser against dlib's own: chips to the grey level, descriptors to a thousandth."""

import numpy as np
import pytest

from deidcli.errors import MethodError
from deidcli.networks import dlib_files as files
from deidcli.networks.dlib_recogniser import FITTED, chip_landmarks, describe, extract_chips

from .dlib_drawn import face, model, needs_data, photographs, points, scene

dlib = pytest.importorskip("dlib")
LANDMARKS = "shape_predictor_68_face_landmarks.dat"


@pytest.fixture(scope="module")
def theirs():
    return dlib.face_recognition_model_v1(model(files.RECOGNISER))


def distances(descriptors):
    return np.linalg.norm(descriptors[:, None] - descriptors[None], axis=-1)


def full(landmarks):
    return dlib.full_object_detection(
        dlib.rectangle(0, 0, 9, 9), [dlib.point(int(x), int(y)) for x, y in np.round(landmarks)]
    )


def placed(side, left, top, degrees):
    """Landmarks of the drawn face, whole pixels, turned about its middle."""
    angle, middle = np.radians(degrees), side / 2
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.round((points(side) - middle) @ turn.T + middle + (left, top))


def test_descriptors_of_drawn_chips(theirs):
    chips = np.random.default_rng(0).integers(0, 256, (12, 150, 150, 3)).astype("uint8")
    chips[:4] = [np.full((150, 150, 3), level) for level in (0, 90, 200, 255)]
    chips[4:9] = [face(150, skin=(90 + 30 * i, 70 + 25 * i, 60 + 20 * i)) for i in range(5)]
    chips[9] = np.arange(150)[:, None, None] + np.arange(3) * 30
    expected = np.array([theirs.compute_face_descriptor(chip) for chip in chips])
    received = describe(chips)
    assert received.dtype == np.float32
    assert np.abs(received - expected).max() < 1e-3
    assert np.abs(distances(received) - distances(expected)).max() < 1e-3


def test_a_batch_changes_nothing():
    chips = np.stack([np.roll(face(150), 3 * i, 1) for i in range(35)])
    together = describe(chips)
    assert together.shape == (35, 128) and describe(chips[:0]).shape == (0, 128)
    assert np.abs(describe(chips[34:]) - together[34:]).max() < 1e-5
    assert np.abs(describe(chips[:3].astype("float64")) - together[:3]).max() < 1e-5


@pytest.mark.parametrize(
    ("side", "left", "top", "degrees"),
    [
        (60, 100, 40, 0),
        (200, 30, 20, 0),
        (200, 90, 60, 31),
        (560, 10, -20, -12),
        (300, -80, -50, 8),
        (900, -200, 9, 90),
    ],
)
def test_chips_are_cut_as_dlib_cuts_them(theirs, side, left, top, degrees):
    picture, landmarks = scene(700, 800, [(60, 80, 400), (500, 300, 250)]), placed(side, left, top, degrees)
    expected = dlib.get_face_chip(picture, full(landmarks), 150, 0.25)
    received = extract_chips(picture, [landmarks])[0]
    gap = np.abs(received.astype(int) - expected)
    assert gap.max() <= 3 and (gap > 0).mean() < 0.02
    descriptor = np.array(theirs.compute_face_descriptor(picture, full(landmarks)))
    assert np.linalg.norm(describe(extract_chips(picture, [landmarks]))[0] - descriptor) < 0.005


def test_mean_face_comes_to_its_place():
    chip = extract_chips(face(600), [points(600)])[0].astype(int)
    # The outermost pixels lie half outside the picture and stay black.
    assert np.abs(chip - face(150))[2:-2, 2:-2].mean() < 3
    assert len(FITTED) == 33 and chip_landmarks().shape == (51, 2)


def test_a_face_outside_the_picture_is_black():
    picture = np.full((100, 120, 3), 200, "uint8")
    for shift in (-5000, 5000):
        assert not extract_chips(picture, [points(200) + shift]).any()
    assert extract_chips(picture, []).shape == (0, 150, 150, 3)


def test_landmarks_without_size_are_refused():
    with pytest.raises(MethodError, match="one point"):
        extract_chips(np.zeros((50, 50, 3), "uint8"), [np.full((68, 2), 7)])


@needs_data
def test_descriptors_of_photographs(theirs):
    find, predict = dlib.get_frontal_face_detector(), dlib.shape_predictor(model(LANDMARKS))
    expected, received = [], []
    for picture in photographs("lfw/images/*/*.jpg", 40):
        for box in find(picture)[:1]:
            shape = predict(picture, box)
            expected.append(theirs.compute_face_descriptor(picture, shape))
            landmarks = [[(p.x, p.y) for p in shape.parts()]]
            received.append(describe(extract_chips(picture, landmarks))[0])
    assert len(received) >= 30
    assert np.abs(np.array(received) - np.array(expected)).max() < 1e-3
    assert np.abs(distances(np.array(received)) - distances(np.array(expected))).max() < 1e-3
