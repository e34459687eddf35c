"""Detect, locate, describe: what is found in a picture, and what is not believed."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deidcli.errors import UsageError
from deidcli.faces.detectors import DetectOptions, detector
from deidcli.faces.landmarks import believable, locate
from deidcli.faces.looks import shows
from deidcli.faces.recognisers import recogniser
from deidcli.values import Box, Face
from tests.conftest import MIRROR, SIDE, found

from .test_align import turned


def test_finds_every_face_of_a_crowd(crowd):
    faces = found(crowd)
    assert [int(face.box.center[0] // SIDE) for face in sorted(faces, key=lambda f: f.box.left)] == [0, 1, 2]
    assert all(face.landmarks is not None for face in faces)
    assert [face.score for face in faces] == sorted((face.score for face in faces), reverse=True)


def test_finds_nothing_where_nobody_is(nobody):
    assert found(nobody) == []


@pytest.mark.parametrize("shape", [(1, 1, 3), (2, 900, 3), (3, 3, 3)])
def test_pictures_without_room(shape):
    assert found(np.zeros(shape, np.uint8)) == []


def test_options_leave_faces_out(portrait):
    face = found(portrait)[0]
    for options in (DetectOptions(threshold=face.score + 0.01), DetectOptions(min_face=round(face.box.width) + 1)):
        assert detector(options).detect([portrait]) == [[]]


def test_batch_keeps_its_order(portrait, nobody):
    assert [len(faces) for faces in detector(DetectOptions()).detect([portrait, nobody, portrait])] == [1, 0, 1]


def test_threads_share_a_detector(portraits):
    search = detector(DetectOptions())
    alone = [search.detect([p]) for p in portraits]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(lambda p: search.detect([p]), portraits * 4))
    assert together == alone * 4


def test_unknown_names():
    with pytest.raises(UsageError, match="hog"):
        detector(DetectOptions("nose"))
    with pytest.raises(UsageError, match="dlib"):
        recogniser("nose")


@given(st.floats(-45, 45), st.floats(20, 200))
def test_a_face_is_believed_a_mirrored_one_is_not(degrees, size):
    face = turned(degrees, size)
    assert believable(face.landmarks, face)
    mirrored = face.landmarks * (-1, 1) + (200, 0)
    around = Face(Box(200 - face.box.right, face.box.top, 200 - face.box.left, face.box.bottom))
    assert not believable(mirrored, around)
    assert believable(mirrored[MIRROR], around), "points in their mirrored order are a face again"


@pytest.mark.parametrize("seed", range(5))
def test_scattered_points_are_not_believed(seed):
    points = np.random.default_rng(seed).uniform(50, 150, (68, 2)).astype(np.float32)
    assert not believable(points, Face(Box(50, 50, 150, 150)))


def test_points_elsewhere_are_not_believed():
    face = turned(0, 80)
    assert not believable(face.landmarks + 300, face)


def test_collapsed_points_are_not_believed():
    face = Face(Box(10, 10, 12, 12))
    assert not believable(np.full((68, 2), 11, np.float32), face)
    line = np.column_stack([np.linspace(10, 12, 68), np.full(68, 11)]).astype(np.float32)
    assert not believable(line, face)


@pytest.mark.parametrize(
    "box", [Box(100, 100, 101, 101), Box(-50, -50, -20, -20), Box(9000, 5, 9100, 105), Box(0, 0, 5, 5)]
)
def test_boxes_without_a_face_have_no_landmarks(portrait, box):
    """Typed in by hand, or cut by the border: covered by the box then, and never an error."""
    assert [f.box for f in locate(portrait, [Face(box)])] == [box]


def test_landmarks_that_were_brought_are_kept(portrait, face):
    moved = replace(face, landmarks=face.landmarks + 1)
    assert locate(portrait, [moved])[0] is moved


def test_recogniser_knows_a_person_again(portraits):
    judge = recogniser("dlib")
    darker = [np.clip(p * 0.8 + 4, 0, 255).astype(np.uint8) for p in portraits]
    rows = []
    for pictures in (portraits, darker):
        chips = [judge.chips(p, found(p)) for p in pictures]
        rows.append(judge.embed(np.concatenate(chips)))
    assert rows[0].shape == (3, judge.length) and rows[0].dtype == np.float32
    assert (judge.distance(rows[0], rows[1]) < judge.threshold / 2).all()
    assert judge.distance(rows[0], np.roll(rows[0], 1, axis=0)).min() > judge.distance(rows[0], rows[1]).max()


def test_recogniser_of_no_faces(portrait):
    judge = recogniser("dlib")
    chips = judge.chips(portrait, [])
    assert len(chips) == 0 and judge.embed(chips).shape == (0, judge.length)


def test_a_face_in_a_rotated_picture_is_found_with_its_turn(portrait):
    turn = cv2.getRotationMatrix2D((SIDE / 2, SIDE / 2), 15, 1)
    faces = found(cv2.warpAffine(portrait, turn, (SIDE, SIDE), borderMode=cv2.BORDER_REFLECT_101))
    assert len(faces) == 1
    left, right = faces[0].landmarks[36:42].mean(axis=0), faces[0].landmarks[42:48].mean(axis=0)
    across = right - left
    assert np.degrees(np.arctan2(-across[1], across[0])) == pytest.approx(15, abs=6)


def test_a_gradient_shows_nothing_and_a_face_does(portrait, face):
    height, width = portrait.shape[:2]
    plain = np.full_like(portrait, 255)
    fading = np.repeat(np.linspace(0, 255, width)[None, :, None], height, axis=0).repeat(3, axis=2).astype(np.uint8)
    assert not shows(plain, face) and not shows(fading, face)
    assert shows(portrait, face) and shows(255 - portrait // 4, face)
