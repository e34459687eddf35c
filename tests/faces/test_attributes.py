"""Attributes: read off frames and off crops alike, and the tone of drawn skin."""

import dataclasses

import numpy as np
import pytest

from deidcli.errors import PresetError
from deidcli.faces.align import align
from deidcli.faces.attributes import AttributeReader, tone, within
from deidcli.values import CropSpec, Frame
from tests.conftest import found


@pytest.fixture(scope="module")
def reader():
    return AttributeReader()


def test_a_face_of_a_frame(reader, portraits):
    for pixels in portraits:
        (read,) = reader.of(Frame(pixels), found(pixels))
        assert read.gender in ("male", "female") and 0 <= read.age <= 95
        assert read.race and read.expression and -90 <= read.tone <= 90
        assert [name for name, _ in read.sure] == ["gender", "race", "expression"]
        assert all(0.2 <= share <= 1 for _, share in read.sure)


def test_no_faces(reader, frame):
    assert reader.of(frame, []) == [] and reader.of_crops([]) == []


def test_crops_of_a_method_are_read_like_the_frame(reader, frame, face):
    whole = reader.of(frame, [face])[0]
    for spec in (CropSpec(128, 0.3), CropSpec(None, 0.2), CropSpec(200, 0.2, align="box")):
        read = reader.of_crops([align(frame, face, spec)])[0]
        assert (read.gender, read.expression) == (whole.gender, whole.expression)
        assert abs(read.age - whole.age) < 5 and abs(read.tone - whole.tone) < 4


def test_within(frame, face):
    crop = align(frame, face, CropSpec(100, 0.1))
    moved = within(crop)
    assert moved.landmarks[27:].min() > 15 and moved.landmarks.max() < 100
    assert within(dataclasses.replace(crop, face=dataclasses.replace(face, landmarks=None))).landmarks is None


def test_only_what_was_asked(frame, face):
    read = AttributeReader("expression").of(frame, [face])[0]
    assert read.expression and read.gender is None and read.age is None
    with pytest.raises(PresetError):
        AttributeReader("cleanir-256").of(frame, [face])


def test_tone_rises_with_light_skin():
    skins = [(60, 40, 30), (120, 80, 60), (180, 135, 110), (230, 195, 175)]
    tones = [tone(np.full((64, 64, 3), skin, np.uint8)) for skin in skins]
    assert tones == sorted(tones) and tones[0] < -30 and tones[-1] > 41


def test_tone_looks_at_the_cheeks():
    face = np.full((64, 64, 3), (180, 135, 110), np.uint8)
    painted = face.copy()
    painted[40:], painted[:24], painted[:, 28:36] = 0, 255, 10  # beard, hair and nose
    assert tone(painted) == tone(face)
