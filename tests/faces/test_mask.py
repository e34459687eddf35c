"""The mask covers the face wherever it lies, is soft at its edge, and is nothing far away."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deidcli.engine.face_list import FARTHEST
from deidcli.faces.align import BROWS, JAW
from deidcli.faces.blend import face_size, full_outline, inner_outline, mask
from deidcli.values import Box, Face

from .test_align import turned

KINDS = ["inner", "full", "ellipse"]
SIZE = (200, 200)


def spread(face, kind, size=SIZE, **options):
    """The mask over the whole frame."""
    soft = mask(face, kind, size, **options)
    whole = np.zeros(size[::-1], np.float32)
    whole[soft.window] = soft.alpha
    assert whole[soft.window].shape == soft.alpha.shape, "the mask leaves the frame"
    return whole


def inside(outline, alpha, shrink):
    """The values of a mask within an outline that is shrunk about its middle."""
    middle = outline.mean(axis=0)
    region = np.zeros(alpha.shape, np.uint8)
    cv2.fillConvexPoly(region, np.round(middle + (outline - middle) * shrink).astype(np.int32), 1)
    return alpha[region > 0]


@pytest.mark.parametrize(("kind", "outline"), [("inner", inner_outline), ("full", full_outline)])
@given(degrees=st.floats(-180, 180), size=st.floats(24, 110))
def test_follows_the_landmarks(kind, outline, degrees, size):
    face = turned(degrees, size)
    alpha = spread(face, kind)
    shape = outline(face.landmarks)
    assert alpha.min() >= 0 and alpha.max() <= 1
    assert inside(shape, alpha, 0.6).min() > 0.9
    far = np.ones_like(alpha, np.uint8)
    cv2.fillConvexPoly(far, np.round(shape.mean(axis=0) + (shape - shape.mean(axis=0)) * 1.7).astype(np.int32), 0)
    assert not alpha[far > 0].any()


@given(st.floats(-40, 240), st.floats(-40, 240), st.floats(2, 400), st.floats(2, 400))
def test_ellipse_covers_the_whole_box(x, y, width, height):
    face = Face(Box(x, y, x + width, y + height))
    alpha = spread(face, "ellipse")
    rows = slice(max(0, int(np.ceil(y))), max(0, int(y + height)))
    columns = slice(max(0, int(np.ceil(x))), max(0, int(x + width)))
    assert (alpha[rows, columns] == 1).all()


@pytest.mark.parametrize("kind", KINDS)
def test_without_landmarks_it_is_the_ellipse(kind):
    face = Face(Box(70, 60, 130, 140))
    assert np.array_equal(spread(face, kind), spread(face, "ellipse"))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("x", [0, 100, 200])
@pytest.mark.parametrize("y", [0, 100, 200])
def test_cut_by_the_border(kind, x, y):
    """Half a face at the border has the very mask that it has in a frame with room around it."""
    alpha = spread(turned(10, 80, x, y), kind)
    roomy = spread(turned(10, 80, x + 200, y + 200), kind, (600, 600))[200:400, 200:400]
    assert alpha[np.clip(y, 0, 199), np.clip(x, 0, 199)] == 1
    assert np.abs(alpha - roomy)[5:-5, 5:-5].max() < 0.35
    assert ((alpha > 0.5) == (roomy > 0.5)).mean() > 0.99


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [5, 1000, 60000])
def test_tiny_and_huge(kind, size):
    alpha = spread(turned(0, size), kind)
    assert alpha[98:102, 98:102].max() > 0.7
    if size == 5:
        assert not alpha[:80].any() and not alpha[120:].any()
    else:
        assert (alpha > 0.99).all()


@pytest.mark.parametrize("side", [1e3, 1e4, FARTHEST])
def test_a_box_beyond_all_measure_covers_everything(side):
    assert (spread(Face(Box(-side, -side, side, side)), "ellipse") == 1).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("place", [(-300, 100), (600, 100), (100, -300), (100, 600), (9e5, 9e5)])
def test_outside_the_frame_it_is_nothing(kind, place):
    assert not spread(turned(0, 60, *place), kind).any()


@pytest.mark.parametrize("kind", KINDS)
def test_scale_grows_it(kind):
    areas = [float(spread(turned(20, 70), kind, scale=scale).sum()) for scale in (0.7, 1.0, 1.4)]
    assert areas[0] * 1.6 < areas[1] and areas[1] * 1.6 < areas[2]


@pytest.mark.parametrize("kind", KINDS)
def test_edge_is_as_soft_as_asked(kind):
    soft = [np.count_nonzero(((a := spread(turned(0, 90), kind, feather=f)) > 0.05) & (a < 0.95)) for f in (0.02, 0.1)]
    assert soft[0] * 2 < soft[1]


def test_interpolated_points_of_the_paper():
    """x_i = x_{i-1} + i/15 (x5 - x0), y_i = y0 + i/5 (y5 - y0) from the end of a brow to the corner of the mouth.

    The points bend outwards, so all of them are corners of the hull.
    """
    points = turned(0, 100).landmarks.astype(np.float64)
    hull = inner_outline(points)
    for brow, mouth in ((17, 48), (26, 54)):
        x, (x0, y0), (x5, y5) = points[brow, 0], points[brow], points[mouth]
        for i in range(1, 5):
            x += i / 15 * (x5 - x0)
            wanted = (x, y0 + i / 5 * (y5 - y0))
            assert np.abs(hull - wanted).sum(axis=1).min() < 1e-3, (brow, i)


def test_full_holds_jaw_brows_and_forehead():
    points = turned(0, 100).landmarks
    outline = full_outline(points).astype(np.float32)
    for x, y in np.concatenate([points[JAW], points[BROWS]]):
        assert cv2.pointPolygonTest(outline, (float(x), float(y)), True) > -0.01
    assert outline[:, 1].min() < points[BROWS][:, 1].min() - 20
    assert inner_outline(points)[:, 1].min() == pytest.approx(points[BROWS][:, 1].min(), abs=0.01)


def test_size_of_a_face():
    assert face_size(turned(33, 77)) == pytest.approx(77, rel=1e-4)
    assert face_size(Face(Box(0, 0, 20, 30))) == 30
