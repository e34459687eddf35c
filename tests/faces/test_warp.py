"""Bending: what stays where it is, what moves with the points, and that nothing is left open or hangs."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deidcli.faces.align import apply_affine
from deidcli.faces.shape import MEAN_SHAPE
from deidcli.faces.warp import (
    Mesh,
    delaunay,
    face_points,
    face_triangles,
    nondegenerate_triangles,
    signed_areas,
    warp_face,
)

SIDE = 96
FACE = MEAN_SHAPE * 60 + 18


def smooth(seed=0, size=(SIDE, SIDE)):
    """Soft colours, so that half a pixel changes little."""
    drawn = np.random.default_rng(seed).integers(0, 256, (*size, 3)).astype(np.uint8)
    return cv2.normalize(cv2.GaussianBlur(drawn, (0, 0), 6), None, 0, 255, cv2.NORM_MINMAX)


def test_triangles_without_an_inside_are_left_out():
    points = np.array([(0, 0), (10, 0), (20, 0), (0, 10)], float)
    triangles = np.array([(0, 1, 2), (0, 1, 3), (1, 1, 3)])
    assert nondegenerate_triangles(points, triangles).tolist() == [[0, 1, 3]]


def test_points_in_one_place_make_a_mesh_over_the_whole_picture():
    corners = np.array([(-1, -1), (32, -1), (32, 32), (-1, 32)], float)
    points = np.concatenate([corners, [(10, 10), (10, 10), (20, 15)]])
    assert len(delaunay(points)) == 6
    mesh = Mesh.over(points, (32, 32))
    assert mesh.label.min() >= 0
    picture = np.random.default_rng(0).integers(0, 255, (32, 32, 3)).astype(np.uint8)
    pixels, seen = mesh.warp(picture, points)
    assert np.abs(pixels.astype(int) - picture).max() <= 1
    assert seen[16, 16] == 1 and seen[0, 0] < 1


def test_outside_all_triangles_is_far_outside_the_picture():
    mesh = Mesh.over(np.array([(0, 0), (10, 0), (0, 10)], float), (20, 20))
    assert (mesh.places(np.array([(0, 0), (10, 0), (0, 10)], float))[15, 15] < -1000).all()


def test_a_face_has_one_mesh_that_covers_it_and_turns_no_triangle():
    points = face_points(MEAN_SHAPE * 100)
    assert len(points) > 68 + 13 and face_triangles().max() < len(points)
    areas = signed_areas(points, face_triangles())
    assert (areas > 0).all() or (areas < 0).all()
    hull = cv2.convexHull(points.astype(np.float32))
    assert np.isclose(np.abs(areas).sum(), cv2.contourArea(hull), rtol=1e-4)


@pytest.mark.parametrize("size", [(SIDE, SIDE), (400, 400), (130, 70)])
def test_a_face_that_stays_stays(size):
    picture, face = smooth(1, size), FACE * min(size) / SIDE
    made = warp_face(picture, face, face, size)
    assert made.shape == (*size, 3)
    assert np.abs(made.astype(int) - picture)[2:-2, 2:-2].max() <= 2


@given(st.floats(-8, 8), st.floats(-8, 8), st.floats(0.8, 1.25), st.floats(-0.6, 0.6))
def test_a_face_that_moves_as_a_whole_moves_as_a_picture(x, y, scale, turn):
    c, s = scale * np.cos(turn), scale * np.sin(turn)
    middle = np.array([48.0, 48.0])
    linear = np.array([[c, -s], [s, c]])
    moved = np.column_stack([linear, middle + (x, y) - linear @ middle])
    picture = smooth(2)
    made = warp_face(picture, FACE, apply_affine(moved, FACE), (SIDE, SIDE))
    plain = cv2.warpAffine(picture, moved, (SIDE, SIDE), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    inside = slice(30, 66)
    assert np.abs(made.astype(int) - plain)[inside, inside].mean() < 1.5


@given(st.integers(0, 1000), st.floats(0, 0.08))
def test_no_holes_whatever_the_points(seed, shake):
    """A picture of one colour stays of one colour, over the whole result, with triangles flipped or collapsed."""
    wanted = FACE + np.random.default_rng(seed).normal(0, shake * 60 + 1e-9, FACE.shape)
    wanted[60:68] = wanted[60]
    made = warp_face(np.full((50, 50, 3), 77, np.uint8), MEAN_SHAPE * 30 + 10, wanted, (SIDE, SIDE))
    assert (made == 77).all()
    mesh = Mesh.over(face_points(wanted), (SIDE, SIDE), face_triangles())
    assert mesh.label.min() >= 0


def test_landmarks_land_where_they_are_wanted():
    wanted = FACE + np.array([(3.0, 2.0)]) * (np.arange(68) >= 48)[:, None]
    picture = np.zeros((SIDE, SIDE, 3), np.uint8)
    x, y = FACE[51]
    cv2.circle(picture, (round(x), round(y)), 2, (255, 255, 255), -1)
    made = warp_face(picture, FACE, wanted, (SIDE, SIDE)).astype(float).sum(axis=2)
    rows, columns = np.indices(made.shape)
    seen = np.array([(columns * made).sum(), (rows * made).sum()]) / made.sum()
    assert np.abs(seen - (np.round(FACE[51]) + (3, 2))).max() < 0.8


def test_a_result_larger_than_the_map_is_the_same_face():
    small = warp_face(smooth(3), FACE, FACE + 1.5, (SIDE, SIDE))
    large = warp_face(smooth(3), FACE, (FACE + 1.5 + 0.5) * 6 - 0.5, (SIDE * 6, SIDE * 6))
    shrunk = cv2.resize(large, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    assert np.abs(shrunk.astype(int) - small)[10:-10, 10:-10].mean() < 1.5
