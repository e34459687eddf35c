"""Faces are cut out upright and laid back where they were, to less than a pixel."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deidcli.faces.align import (
    INNER,
    LARGEST,
    MEAN_SHAPE,
    align,
    apply_affine,
    compose,
    invert,
    similarity,
    upright,
    warp,
)
from deidcli.faces.blend import Mask, unwarp
from deidcli.values import Box, Crop, CropSpec, Face, Frame
from tests.conftest import MIRROR

SIDE = 200


def turned(degrees=0.0, size=100.0, x=SIDE / 2, y=SIDE / 2):
    """A face of the mean shape with its centre in (x, y), as a Face with landmarks."""
    angle = np.radians(degrees)
    turn = size * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points = (MEAN_SHAPE - 0.5) @ turn.T + (x, y)
    low, high = points.min(axis=0), points.max(axis=0)
    return Face(Box(*low, *high), landmarks=points.astype(np.float32))


def ramp():
    """A frame whose red says x and whose green says y."""
    y, x = np.mgrid[:SIDE, :SIDE]
    return Frame(np.dstack([x + 20, y + 20, np.full_like(x, 9)]).astype(np.uint8))


POSES = st.builds(turned, st.floats(-180, 180), st.floats(30, 120), st.floats(80, SIDE - 80), st.floats(80, SIDE - 80))
SPECS = st.builds(
    CropSpec, st.one_of(st.none(), st.integers(16, 256)), st.floats(0, 0.5), st.sampled_from(["landmarks", "box"])
)


@given(POSES, SPECS)
def test_there_and_back(face, spec):
    """A pixel of the crop comes from where the way back takes it, and the whole is not shifted."""
    frame = ramp()
    crop = align(frame, face, spec)
    assert crop.pixels.shape == (crop.pixels.shape[0],) * 2 + (3,)
    assert spec.size in (None, crop.pixels.shape[0])
    back, _ = unwarp(crop, Mask(0, 0, np.ones((SIDE, SIDE), np.float32)))
    y, x = np.mgrid[:SIDE, :SIDE]
    place = apply_affine(crop.transform, np.column_stack([x.ravel(), y.ravel()])).reshape(SIDE, SIDE, 2)
    border = 2 * max(1.0, np.hypot(*crop.transform[:, 0]))
    inside = ((place > border) & (place < crop.pixels.shape[0] - 1 - border)).all(axis=2)
    inside[:2] = inside[-2:] = inside[:, :2] = inside[:, -2:] = False
    if not inside.any():
        return
    error = (back.astype(float) - frame.pixels)[inside][:, :2]
    # A step of a crop that shrinks the face is a step of 1 / scale in the frame; half of it is lost in rounding.
    assert np.abs(error).max() <= 1.5
    assert np.abs(error.mean(axis=0)).max() <= 0.5


@given(POSES, st.integers(16, 256), st.floats(0, 0.5))
def test_landmarks_come_to_the_mean_shape(face, size, margin):
    crop = align(ramp(), face, CropSpec(size, margin))
    points = apply_affine(crop.transform, face.landmarks)
    wanted = (MEAN_SHAPE + margin) * size / (1 + 2 * margin) - 0.5
    assert np.abs(points - wanted).max() < 1e-2 * size / 16


@given(st.integers(2, 30), st.integers(0, 10**6))
def test_similarity_is_least_squares(count, seed):
    """Against numpy's solution of a x - b y + s = u, b x + a y + t = v."""
    source, target = np.random.default_rng(seed).uniform(-5, 5, (2, count, 2))
    (x, y), zero, one = source.T, np.zeros(count), np.ones(count)
    rows = np.concatenate([np.column_stack([x, -y, one, zero]), np.column_stack([y, x, zero, one])])
    a, b, s, t = np.linalg.lstsq(rows, np.concatenate(target.T), rcond=None)[0]
    assert np.allclose(similarity(source, target), [[a, -b, s], [b, a, t]], atol=1e-6)


def test_similarity_never_mirrors():
    mirrored = MEAN_SHAPE * (-1, 1)
    assert np.linalg.det(similarity(MEAN_SHAPE[INNER], mirrored[INNER])[:, :2]) > 0


def test_mirror_order_mirrors_the_mean_shape():
    assert np.allclose(MEAN_SHAPE[MIRROR] * (-1, 1) + (1, 0), MEAN_SHAPE, atol=1e-3)
    assert sorted(MIRROR) == list(range(68))


@given(st.lists(st.floats(-3, 3), min_size=6, max_size=6))
def test_inverse_undoes(numbers):
    affine = np.array(numbers).reshape(2, 3)
    if abs(np.linalg.det(affine[:, :2])) < 1e-3:
        return
    assert np.allclose(compose(invert(affine), affine), np.eye(2, 3), atol=1e-6)


def test_own_resolution():
    """A crop without a size has the face's own pixels; a size that nobody could hold is bounded."""
    frame = ramp()
    box = Box(60, 70, 120, 130)
    crop = align(frame, Face(box), CropSpec(None, 0.25, align="box"))
    assert crop.pixels.shape == (90, 90, 3)
    assert np.array_equal(crop.pixels, frame.pixels[55:145, 45:135])
    huge = align(frame, Face(Box(-1e6, -1e6, 1e6, 1e6)), CropSpec(None, 0.25, align="box"))
    assert huge.pixels.shape == (LARGEST, LARGEST, 3)


@pytest.mark.parametrize("box", [Box(-500, -500, -400, -400), Box(900, 20, 980, 100), Box(-20, -20, 30, 30)])
def test_outside_the_frame_repeats_the_border(box):
    pixels = np.full((SIDE, SIDE, 3), 7, np.uint8)
    crop = align(Frame(pixels), Face(box), CropSpec(64, 0.3))
    assert (crop.pixels == 7).all()


def test_box_without_landmarks():
    crop = align(ramp(), Face(Box(50, 60, 110, 120)), CropSpec(60, 0.0, align="landmarks"))
    assert np.array_equal(crop.pixels, ramp().pixels[60:120, 50:110])


def test_shrinking_averages():
    """A checkerboard comes out grey, not as a moire of black and white."""
    board = (np.indices((SIDE, SIDE)).sum(axis=0) % 2 * 255).astype(np.uint8)
    small = warp(np.dstack([board] * 3), np.array([[0.125, 0, 0], [0, 0.125, 0]]), SIDE // 8)
    assert np.abs(small[2:-2, 2:-2].astype(int) - 127).max() <= 2


def test_crop_knows_its_face():
    face = turned()
    crop = align(ramp(), face, CropSpec(32, 0.1), "a/b.jpg#3")
    assert isinstance(crop, Crop) and crop.face is face and crop.key == "a/b.jpg#3"


def test_upright_landmarks_lie_on_the_mean_face_in_any_size_and_turn():
    turned = MEAN_SHAPE @ np.array([[0, 40], [-40, 0]]) + 7
    assert np.allclose(upright(turned), MEAN_SHAPE)
