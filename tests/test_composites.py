"""Composites of drawn faces: who is refused, what an average keeps, and what it must not show."""

import cv2
import numpy as np
import pytest

from deidcli.errors import UsageError
from deidcli.faces.align import apply_affine
from deidcli.faces.shape import MEAN_SHAPE
from deidcli.training.composites import MIN_PEOPLE, composite, mean_shape

SIDE = 96


def place(x=40.0, y=40.0, size=80.0, turn=0.0):
    """The (2, 3) map from the face square to a picture."""
    c, s = size * np.cos(turn), size * np.sin(turn)
    return np.array([[c, -s, x], [s, c, y]])


def drawn(points, size=(160, 160), skin=(205, 160, 130), background=(70, 90, 110)):
    """A face of ellipses whose eyes, mouth and jaw lie where the landmarks (68, 2) are."""
    picture = np.full((*size, 3), background, np.uint8)
    for part, colour in ((slice(0, 27), skin), (slice(36, 42), (40, 30, 30)), (slice(42, 48), (40, 30, 30)),
                         (slice(48, 60), (170, 60, 70))):  # fmt: skip
        hull = cv2.convexHull(points[part].astype(np.float32))
        cv2.fillConvexPoly(picture, np.round(hull * 16).astype(np.int32), colour, cv2.LINE_AA, 4)
    return cv2.GaussianBlur(picture, (0, 0), 1.2)


def crowd(count=MIN_PEOPLE, seed=0, shake=0.0):
    """Pictures and landmarks of `count` faces at random places, turns and sizes; shake: how far their shapes differ."""
    rng = np.random.default_rng(seed)
    pictures, landmarks = [], []
    for _ in range(count):
        transform = place(*rng.uniform(34, 46, 2), rng.uniform(74, 86), rng.uniform(-0.2, 0.2))
        points = apply_affine(transform, MEAN_SHAPE + rng.normal(0, shake, (68, 2)))
        pictures.append(drawn(points))
        landmarks.append(points.astype(np.float32))
    return pictures, landmarks


def test_fewer_than_fifty_people_are_refused():
    pictures, landmarks = crowd(MIN_PEOPLE - 1)
    with pytest.raises(UsageError, match="49 people"):
        composite(pictures, landmarks, SIDE)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda pictures, landmarks: landmarks.pop(),
        lambda pictures, landmarks: landmarks.__setitem__(3, np.zeros((5, 2))),
        lambda pictures, landmarks: pictures.__setitem__(3, np.zeros((8, 8), np.uint8)),
        lambda pictures, landmarks: pictures.__setitem__(3, pictures[3].astype(np.float32)),
    ],
)
def test_pictures_and_landmarks_that_do_not_belong_together_are_refused(spoil):
    pictures, landmarks = crowd()
    spoil(pictures, landmarks)
    with pytest.raises(UsageError):
        composite(pictures, landmarks, SIDE)


def test_copies_of_one_face_average_to_that_face():
    pictures, landmarks = crowd()
    made = composite(pictures, landmarks, SIDE)
    assert made.pixels.shape == (SIDE, SIDE, 3) and made.pixels.dtype == np.uint8
    assert made.people == MIN_PEOPLE
    expected = drawn(made.landmarks, (SIDE, SIDE))
    hull = cv2.convexHull(made.landmarks.astype(np.int32))
    inside = cv2.fillConvexPoly(np.zeros((SIDE, SIDE), np.uint8), hull, 1) > 0
    assert np.abs(made.pixels.astype(float) - expected)[inside].mean() < 8


def test_landmarks_of_the_result_are_the_mean_shape_of_the_group():
    pictures, landmarks = crowd(shake=0.01)
    made = composite(pictures, landmarks, SIDE)
    unit = (made.landmarks + 0.5) / SIDE * 1.5 - 0.25
    assert np.abs(unit - mean_shape([p.astype(float) for p in landmarks])).max() < 1e-3
    assert np.abs(unit - MEAN_SHAPE).max() < 0.02


def test_the_same_group_gives_the_same_face():
    first, second = (composite(*crowd(shake=0.01), SIDE) for _ in range(2))
    assert np.array_equal(first.pixels, second.pixels)
    assert np.array_equal(first.landmarks, second.landmarks)


def test_tones_are_brought_together_before_averaging():
    pictures, landmarks = crowd()
    shaded = [
        np.clip(p * factor, 0, 255).astype(np.uint8)
        for p, factor in zip(pictures, np.linspace(0.7, 1.1, 50), strict=True)
    ]
    made = composite(shaded, landmarks, SIDE)
    cheek = made.pixels[58:62, 30:34].reshape(-1, 3).astype(float)
    assert np.abs(cheek.mean(axis=0) - np.array([205, 160, 130]) * 0.9).max() < 12


def test_no_single_picture_shows_where_only_it_reaches():
    pictures, landmarks = crowd()
    tight = [p[30:130, 34:126] for p in pictures]
    close = [points - (34, 30) for points in landmarks]
    # One picture shows far more around its face than all others do, and that surrounding is a loud one.
    loud = np.random.default_rng(1).integers(0, 2, (160, 160, 1)).repeat(3, 2).astype(np.uint8) * 255
    loud[30:130, 34:126] = tight[0]
    without = composite(tight, close, SIDE).pixels.astype(float)
    made = composite([loud, *tight[1:]], [landmarks[0], *close[1:]], SIDE).pixels.astype(float)
    assert np.abs(made - without).max() < 40


def test_closed_mouths_collapse_triangles_and_still_average():
    pictures, landmarks = crowd()
    for points in landmarks:
        points[[61, 62, 63]] = points[[67, 66, 65]]
    assert composite(pictures, landmarks, SIDE).pixels.std() > 10
