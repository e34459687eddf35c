"""The mesh, the canonical frame, and the way back into the picture."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import Delaunay

from deidcli.faces import canonical as meshes
from deidcli.faces import landmarks
from deidcli.faces.canonical import canonical, mean_mesh, pose, posed_mean_mesh, signed_areas, unwrap, with_ring
from deidcli.faces.detectors import DetectOptions, detector
from deidcli.faces.landmarks import locate
from deidcli.faces.render import render
from deidcli.values import Box, Face

TURNS = st.floats(-35, 35)


def turned(yaw=0.0, pitch=0.0, roll=0.0, size=200.0, at=(300.0, 280.0)):
    """The mean mesh (468, 3), turned by degrees, `size` pixels wide, about a place."""
    y, p, r = np.radians([yaw, pitch, roll])
    about_y = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(p), -np.sin(p)], [0, np.sin(p), np.cos(p)]])
    about_z = np.array([[np.cos(r), -np.sin(r), 0], [np.sin(r), np.cos(r), 0], [0, 0, 1]])
    return mean_mesh() @ (about_z @ about_x @ about_y).T * size / 2 + [*at, 0]


def drawn(height=600, width=620, period=60.0):
    """A smooth coloured pattern (h, w, 3) uint8, whose waves are `period` pixels long."""
    y, x = np.mgrid[0:height, 0:width] * 2 * np.pi / period
    waves = np.stack([np.sin(x) + np.cos(y), np.sin(x + y), np.cos(x - 2 * y)], axis=2)
    return np.uint8(128 + 55 * waves)


def test_every_triangle_of_the_frame_turns_one_way_and_holds_its_pixels():
    frame = canonical()
    assert (signed_areas(frame.points[frame.triangles]) > 0).all()
    assert frame.points.min() > 0 and frame.points.max() < 255
    assert set(np.unique(frame.label)) <= {-1, *range(len(frame.triangles))}


@settings(deadline=None, max_examples=15)
@given(st.floats(15, 1500), TURNS, st.floats(-20, 20), st.floats(-180, 180))
def test_a_texture_comes_back_where_it_was_seen(size, yaw, pitch, roll):
    """Less than one in a hundred off, at every size and pose."""
    scale = max(1.0, size / 200)
    side = int(2.6 * size + 20)
    picture = drawn(side, side, period=40 * scale if size >= 60 else size)
    mesh = turned(yaw, pitch, roll, size, (side / 2, side / 2))
    texture, seen = unwrap(picture, mesh)
    pack = np.dstack([texture.astype(np.float32), seen])
    back, shown = render(pack, mesh, (side, side))
    sure = (back[..., 3] > 0.98) & (shown > 0.99)
    assert sure.sum() > 0.2 * size**2
    assert np.abs(back[..., :3] - picture)[sure].mean() / 255 < 0.01


def test_mirrored_in_mirrored_out():
    picture, mesh = drawn(), turned(yaw=20, roll=8)
    other = np.ascontiguousarray(picture[:, ::-1])
    from deidcli.training.face_model import mirror

    mirrored = mesh[mirror()] * (-1, 1, 1) + (picture.shape[1] - 1, 0, 0)
    a, b = unwrap(picture, mesh)[0].astype(float), unwrap(other, mirrored)[0][:, ::-1].astype(float)
    assert np.abs(a - b)[canonical().inside].mean() / 255 < 0.02


def test_not_seen_is_what_is_turned_away_or_outside_the_picture():
    away = unwrap(drawn(), turned(yaw=60))[1]
    left, right = away[:, :128].sum(), away[:, 128:].sum()
    assert max(left, right) > 2 * min(left, right)
    cut = unwrap(drawn(), turned(at=(0.0, 280.0)))[1]
    assert cut[128, 40:110].max() < 0.1 and cut[128, 150:210].min() > 0.9


@pytest.mark.parametrize("yaw", [50, -50])
def test_what_a_turned_face_hides_of_itself_was_not_seen(yaw):
    """The cheek beside the nose faces the camera, but what is seen there is the nose."""
    left, right = (np.s_[128:148, columns] for columns in (slice(96, 108), slice(148, 160)))
    hidden, shown = (left, right) if yaw > 0 else (right, left)
    seen = unwrap(drawn(), turned(yaw=yaw))[1]
    assert seen[shown].mean() > 0.95 and seen[hidden].mean() < 0.3


def test_the_nearer_part_of_a_face_lies_over_the_farther_one():
    texture = np.zeros((256, 256, 1), np.float32)
    texture[:, 128:] = 1
    profile = turned(yaw=80)
    drawn_on, shown = render(texture, profile, (620, 600))
    assert shown.max() == 1 and drawn_on[..., 0][shown > 0.9].mean() in (
        pytest.approx(0, abs=0.2),
        pytest.approx(1, abs=0.2),
    )


@given(TURNS, st.floats(-25, 25), st.floats(-180, 180), st.floats(5, 900))
def test_the_mean_mesh_is_posed_by_its_own_points(yaw, pitch, roll, size):
    mesh = turned(yaw, pitch, roll, size)
    points = meshes.IBUG
    found = posed_mean_mesh(mean_mesh()[points], mesh[points, :2])
    assert np.abs(found[:, :2] - mesh[:, :2]).max() < 1e-3 * size


@given(TURNS, TURNS, st.floats(-180, 180), st.floats(5, 900))
def test_pose_finds_rotation_scale_and_shift(yaw, pitch, roll, size):
    mesh = turned(yaw, pitch, roll, size)
    rotation, shift = pose(mesh)
    assert np.abs(mean_mesh() @ rotation + shift - mesh).max() < 1e-6 * size


def test_the_ring_lies_outside_the_rim():
    ringed = with_ring(mean_mesh())
    middle = ringed[meshes.RIM].mean(axis=0)
    rim, ring = (np.linalg.norm(part - middle, axis=1) for part in (ringed[meshes.RIM], ringed[meshes.POINTS :]))
    assert np.allclose(ring, 1.12 * rim)


@pytest.fixture(scope="module")
def found(portrait):
    return detector(DetectOptions()).detect([portrait])[0][0]


def test_the_network_finds_a_face_and_knows_where_none_is(portrait, found, nobody):
    mesh, presence = meshes.locate_mesh(portrait, found)
    assert presence > 0.9 and mesh.shape == (468, 3)
    by_trees = locate(portrait, [found], "dlib")[0].landmarks
    apart = np.linalg.norm(meshes.ibug(mesh) - by_trees, axis=1)[17:]
    assert apart.mean() < 0.05 * found.box.height
    assert meshes.locate_mesh(nobody, Face(found.box))[1] < meshes.PRESENT


@pytest.mark.parametrize("degrees", [90, 180, 37])
def test_the_mesh_turns_with_the_picture(portrait, found, degrees):
    straight, _ = meshes.locate_mesh(portrait, found)
    middle = np.array(portrait.shape[1::-1]) / 2
    turn = cv2.getRotationMatrix2D(tuple(middle), degrees, 1.0)
    tilted = cv2.warpAffine(portrait, turn, portrait.shape[1::-1], borderMode=cv2.BORDER_REPLICATE)
    there = straight[:, :2] @ turn[:, :2].T + turn[:, 2]
    tilt = -np.radians(degrees)
    box = type(found.box)(*there.min(axis=0), *there.max(axis=0))
    mesh, presence = meshes.look(tilted, box, float(tilt))
    assert presence > 0.9
    assert np.linalg.norm(mesh[:, :2] - there, axis=1).mean() < 0.04 * found.box.height


def test_small_faces_get_the_mean_mesh_from_the_detectors_points(portrait, found):
    scale = 16 / found.box.height
    small = cv2.resize(portrait, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    box = type(found.box)(*(np.array(found.box.as_list()) * scale))
    known = locate(portrait, [found])[0].landmarks
    face = Face(box, 0.9, points5=found.points5 * scale)
    posed = locate(small, [face])[0].landmarks
    assert np.linalg.norm(posed / scale - known, axis=1).mean() < 0.12 * found.box.height
    assert locate(small, [Face(box, 0.1, points5=face.points5)])[0].landmarks is None
    assert locate(small, [Face(box, 0.9)])[0].landmarks is None


def test_no_second_face_on_the_forehead_of_a_larger_one(monkeypatch):
    """The detector sees one there where the picture cuts the larger face; faces that bring their points keep them."""
    points = np.zeros((68, 2), np.float32)
    monkeypatch.setattr(landmarks, "_by_mesh", lambda pixels, face: replace(face, landmarks=points))
    large, second = Face(Box(0, 70, 180, 440), 0.9), Face(Box(-30, 30, 80, 168), 0.6)
    beside, surer = Face(Box(170, 0, 260, 120), 0.6), Face(Box(-30, 30, 80, 168), 0.95)
    given = replace(second, landmarks=points)
    found = locate(np.zeros((500, 500, 3), np.uint8), [large, second, beside, surer, given], "mesh")
    assert [face.landmarks is not None for face in found] == [True, False, True, True, True]


def test_faces_in_the_dark_get_the_mean_mesh_from_points_that_fit_their_box(portrait, found):
    """A detector that is less than sure is believed there, and there alone."""
    known = locate(portrait, [found])[0].landmarks
    face = Face(found.box, 0.35, points5=found.points5)
    night, flat = (np.zeros_like(portrait) + level for level in (np.uint8(9), np.uint8(99)))
    posed = locate(night, [face])[0].landmarks
    assert np.linalg.norm(posed - known, axis=1).mean() < 0.12 * found.box.height
    assert locate(flat, [face])[0].landmarks is None
    aside = face.points5 + np.float32([0.4 * found.box.width, 0])
    assert locate(night, [replace(face, points5=aside)])[0].landmarks is None
    assert locate(night, [replace(face, score=0.25)])[0].landmarks is None


def test_the_stored_triangles_are_those_of_delaunay():
    """Of the frame's points, in whatever order and sense they turn."""
    frame = canonical()
    expected = Delaunay(frame.points).simplices
    as_set = lambda rows: {tuple(sorted(row)) for row in rows.tolist()}  # noqa: E731
    assert as_set(frame.triangles) <= as_set(expected) and len(frame.triangles) > 0.99 * len(expected)
