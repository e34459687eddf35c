"""Landmarks: 68 points for each face, and whether they are plausible. Two kinds: from the mesh, and dlib's.

`mesh`, the default where its weights are installed: 68 of the points of faces/canonical.py, whose presence score tells
right points from wrong ones, profiles included. A face that is small, or in the dark, or of which the network is unsure
though the detector is sure, gets those of the mean mesh, posed by the detector's five points.

`dlib`: regression trees, which were trained on the boxes of dlib's HOG detector, which every other detector's differ
from, and place 68 points whatever they are shown. So they look several times: at the detector's box, then again at the
box that the HOG detector would have drawn about the points of the look before. With that, points from any detector's
box agree (median distance to those from HOG's boxes on 150 photographs of LFW, as a share of the face square: from
boxes of `cnn` 0.0065 after one look and 0.0061 after two, of `mtcnn` 0.0094 and 0.0061; HOG's own boxes, drawn anew,
come to 0.0061). And points that are right settle, while those on a profile, in the dark, or where no face is wander
from look to look.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import numpy as np

from deidcli.faces import canonical
from deidcli.faces.align import (
    INNER,
    JAW,
    LEFT_EYE,
    MEAN_SHAPE,
    MOUTH_OUTLINE,
    RIGHT_EYE,
    apply_affine,
    invert,
    similarity,
)
from deidcli.faces.canonical import mean_mesh, posed_mean_mesh
from deidcli.values import Box, CropSpec, Face, Frame

# Where the HOG detector draws its box: the centre and the side in the face square. Medians of 149 faces of LFW.
CENTRE, SIDE = np.array([[0.52, 0.536]]), 0.854
# Root mean square distances of the inner points, as a share of the face square, past which points are rejected: to
# the mean shape, and from the first look to the last; and the one between two looks below which points have settled.
# Of the faces in the middle of 466 photographs of LFW 3 % are rejected (by eye two thirds of them misplaced, the
# others behind heavy glasses), of those let through some 1 % are misplaced. Of the faces in a dim audience, most of
# them profiles, 84 % are rejected, and 1 in 8 of the others is misplaced; of a singer behind his microphone 26 %.
WORST_RESIDUAL, WORST_SHIFT, SETTLED = 0.075, 0.12, 0.01
LOOKS = 5
KINDS = ("mesh", "dlib")
# Score of a detector from which its five points pose a face that the mesh cannot: one of which nobody sees more,
# because it is small or dark, and any other.
SURE_LITTLE, SURE = 0.3, 0.6
# A face is dark where less than that share of it is brighter than that, of 255. There the network is lost: of 39 faces
# in every twelfth frame of stage_and_audience.mp4 it is sure of none, of one with their contrast stretched, while by
# eye the detector's points lie right on 36. In more light, what it is unsure of is hidden behind hands, arms and heads,
# or is no face.
DARK, BRIGHT = 40, 0.1
# Intersection over union of a dark face's box and of the mesh posed in it: 0.5 of 38 of these, 0.27 of a wall.
FITS = 0.4
SMALLER = 0.7  # share of another face's width below which a face whose middle lies in it is none
STIFFNESS = 0.3  # of the mean mesh on five points


def default() -> str:
    """The kind of landmarks that is taken where none is named."""
    return KINDS[0] if canonical.WEIGHTS.find() else KINDS[1]


def locate(pixels: np.ndarray, faces: Sequence[Face], kind: str = "") -> list[Face]:
    """The same faces with their 68 points, (68, 2) float32 in pixels; None where the points cannot be right.

    pixels: (height, width, 3) uint8 RGB. kind: one of KINDS, "" for the default. Faces that bring landmarks keep them.
    """
    pixels = np.ascontiguousarray(pixels)
    one = _by_mesh if (kind or default()) == "mesh" else _by_dlib
    found = [face if face.landmarks is not None else one(pixels, face) for face in faces]
    lost = [given.landmarks is None and _within_another(face, found) for given, face in zip(faces, found, strict=True)]
    return [replace(face, landmarks=None) if none else face for face, none in zip(found, lost, strict=True)]


def _within_another(face: Face, faces: Sequence[Face]) -> bool:
    """Whether the middle of a face lies in a larger one of which the detector is surer: on the forehead of a face that
    the border cuts, it sees a second one.
    """
    x, y = face.box.center
    return face.landmarks is not None and any(
        other.landmarks is not None
        and other.score > face.score
        and face.box.width < SMALLER * other.box.width
        and other.box.left < x < other.box.right
        and other.box.top < y < other.box.bottom
        for other in faces
    )


def _by_mesh(pixels: np.ndarray, face: Face) -> Face:
    if face.box.height >= canonical.SMALL:
        found, presence = canonical.locate_mesh(pixels, face)
        points = canonical.ibug(found)
        if presence >= canonical.PRESENT and plausible(points, face):
            return replace(face, landmarks=points)
    dark = face.box.height >= canonical.SMALL and _is_dark(pixels, face.box)
    little = dark or face.box.height < canonical.SMALL
    if face.points5 is None or face.score < (SURE_LITTLE if little else SURE):
        return face
    posed = canonical.ibug(posed_mean_mesh(_five_points(), face.points5, STIFFNESS))
    fits = not dark or Box(*posed.min(axis=0), *posed.max(axis=0)).iou(face.box) >= FITS
    return replace(face, landmarks=posed) if fits and plausible(posed, face) else face


def _is_dark(pixels: np.ndarray, box: Box) -> bool:
    """Whether hardly any light falls on what is in a box."""
    left, top = max(0, round(box.left)), max(0, round(box.top))
    part = pixels[top : max(0, round(box.bottom)), left : max(0, round(box.right))]
    return bool(part.size and np.mean(part.mean(axis=2) > DARK) < BRIGHT)


@cache
def _five_points() -> np.ndarray:
    """Centres of the eyes, tip of the nose and corners of the mouth of the mean mesh (5, 3)."""
    mean = mean_mesh()
    eyes = [mean[lids].mean(axis=0) for lids in (canonical.LEFT_LIDS, canonical.RIGHT_LIDS)]
    return np.stack([*eyes, *mean[list(canonical.NOSE_AND_CORNERS)]])


def _by_dlib(pixels: np.ndarray, face: Face) -> Face:
    points = first = _look(pixels, face.box)
    for look in range(2, LOOKS + 1):
        # What has wandered that far does not come back.
        if not believable(points, face) or moved(first, points) > WORST_SHIFT:
            break
        before, points = points, _look(pixels, _box_about(points))
        # The second look only corrects the detector's box.
        if look > 2 and moved(before, points) <= SETTLED:
            trusted = moved(first, points) <= WORST_SHIFT and _within(points, pixels.shape)
            return replace(face, landmarks=points if trusted and believable(points, face) else None)
    return face


def _look(pixels: np.ndarray, box: Box) -> np.ndarray:
    import dlib

    left, top, right, bottom = (round(v) for v in (box.left, box.top, box.right, box.bottom))
    shape = _predictor()(pixels, dlib.rectangle(left, top, right - 1, bottom - 1))
    return np.array([(p.x, p.y) for p in shape.parts()], np.float32)


def _box_about(points: np.ndarray) -> Box:
    """The box that the HOG detector would draw about a face with these points."""
    square = similarity(MEAN_SHAPE[INNER], points[INNER].astype(np.float64))
    x, y = apply_affine(square, CENTRE)[0]
    half = SIDE * float(np.hypot(square[0, 0], square[1, 0])) / 2
    return Box(x - half, y - half, x + half, y + half)


def moved(before: np.ndarray, after: np.ndarray) -> float:
    """Root mean square distance between the inner points of two looks (68, 2), as a share of the face square."""
    square = similarity(MEAN_SHAPE[INNER], after[INNER].astype(np.float64))
    side = max(float(np.hypot(square[0, 0], square[1, 0])), 1e-9)
    return float(np.sqrt(np.mean(np.sum((after - before)[INNER] ** 2, axis=1)))) / side


def _within(points: np.ndarray, shape: tuple[int, ...]) -> bool:
    """Whether brows, eyes, nose and mouth lie in the picture: what is cut off is a guess, however good it looks."""
    inner, limit = points[INNER], np.array(shape[1::-1]) - 1
    return bool(np.all(inner >= 0) and np.all(inner <= limit))


def serves(spec: CropSpec, face: Face, frame: Frame) -> bool:
    """Whether a face of `frame` can be cut out as `spec` says.

    A window needs landmarks; an upright crop those of a whole face that looks ahead.
    """
    if spec.align == "box":
        return True
    if face.landmarks is None:
        return False
    points = np.asarray(face.landmarks, np.float64)
    return spec.align == "window" or (believable(points, face) and _within(points, frame.pixels.shape))


def plausible(points: np.ndarray, face: Face) -> bool:
    """Whether 68 points can be those of a face: inside the surroundings of its box, and not all on one place."""
    around = face.box.scaled(2.0)
    low, high = points.min(axis=0), points.max(axis=0)
    inside = low[0] >= around.left and low[1] >= around.top and high[0] <= around.right and high[1] <= around.bottom
    # In a box of a few pixels all points may fall on one; no transform leads there and back.
    return bool(inside and np.ptp(points[INNER], axis=0).min() >= 1)


def believable(points: np.ndarray, face: Face) -> bool:
    """Whether 68 points are those of a face that looks ahead: plausible, in the right order, near the mean shape."""
    return plausible(points, face) and _ordered(points) and residual(points) <= WORST_RESIDUAL


def residual(points: np.ndarray) -> float:
    """Root mean square distance of the inner points from the mean shape, as a share of the face square."""
    upright = apply_affine(invert(similarity(MEAN_SHAPE[INNER], points[INNER].astype(np.float64))), points)
    return float(np.sqrt(np.mean(np.sum((upright - MEAN_SHAPE)[INNER] ** 2, axis=1))))


def _ordered(points: np.ndarray) -> bool:
    """Eyes left and right of each other, the mouth below them, the jaw around it, in the face's own upright frame."""
    upright = apply_affine(invert(similarity(MEAN_SHAPE[INNER], points[INNER].astype(np.float64))), points)
    left, right = upright[LEFT_EYE].mean(axis=0), upright[RIGHT_EYE].mean(axis=0)
    mouth = upright[MOUTH_OUTLINE].mean(axis=0)
    wide = right[0] - left[0] > 0.08 and upright[JAW][-1, 0] > upright[JAW][0, 0]
    return bool(wide and mouth[1] > max(left[1], right[1]))


@cache
def _predictor():
    import dlib

    from deidcli.presets import dlib_weights

    return dlib.shape_predictor(str(dlib_weights("shape_predictor_68_face_landmarks.dat")))
