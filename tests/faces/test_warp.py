"""Meshes over pictures: triangles without an inside, points in one place, and what lies outside."""

import numpy as np

from deidcli.faces.warp import Mesh, delaunay, nondegenerate_triangles


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
