"""Composites: faces that show no real person, each the shape-free average of at least 50 people.

Every picture is bent by a piecewise affine warp so that its 68 landmarks lie on the mean shape of the group, brought to
the group's tone, and averaged. Eyes, nose and mouth fall on top of each other, so the average stays sharp where a face
is read, and what belongs to one person alone is gone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from deidcli.errors import UsageError
from deidcli.faces.align import apply_affine, invert, similarity
from deidcli.faces.shape import INNER, MEAN_SHAPE
from deidcli.faces.tone import to_lab
from deidcli.faces.warp import Mesh

MIN_PEOPLE = 50
MARGIN = 0.25  # room around the face square on each side, as a share of the face square
SHARPEN = 1.4  # share of the detail that is given back after averaging
DETAIL = 0.006  # width of that detail (one standard deviation), as a share of the side


@dataclass(frozen=True)
class Composite:
    """pixels: (side, side, 3) uint8 RGB. landmarks: (68, 2) float32 in its pixels. people: how many were averaged."""

    pixels: np.ndarray
    landmarks: np.ndarray
    people: int


def composite(pictures: Sequence[np.ndarray], landmarks: Sequence[np.ndarray], side: int) -> Composite:
    """The average face of a group, upright, with the face square in the middle of the picture.

    pictures: (height, width, 3) uint8 RGB of any sizes, one for each person; that they are different people is for the
    caller to see to. landmarks: (68, 2) in pixels of each. side: of the result, in pixels, 16 or more.
    Raises UsageError for fewer than 50 people, or pictures and landmarks that do not belong together.
    """
    _check(pictures, landmarks, side)
    points = [np.asarray(p, np.float64) for p in landmarks]
    shape = _to_pixels(mean_shape(points), side)
    mesh = Mesh.over(np.concatenate([shape, _surroundings(side)]), (side, side))
    warped = [mesh.warp(picture, _anchors(p, side)) for picture, p in zip(pictures, points, strict=True)]
    mean = _mean([pixels for pixels, _ in warped], [seen for _, seen in warped], _inner(shape, side))
    return Composite(_sharpened(mean), shape.astype(np.float32), len(pictures))


def mean_shape(landmarks: Sequence[np.ndarray]) -> np.ndarray:
    """The mean of shapes (68, 2) that were turned, scaled and shifted onto the mean face; unit: the face square."""
    upright = [apply_affine(similarity(p[INNER], MEAN_SHAPE[INNER]), p) for p in landmarks]
    return np.mean(upright, axis=0)


def _check(pictures: Sequence[np.ndarray], landmarks: Sequence[np.ndarray], side: int) -> None:
    if len(pictures) < MIN_PEOPLE:
        raise UsageError(f"a composite of {len(pictures)} people shows some of them", f"give {MIN_PEOPLE} or more")
    if len(pictures) != len(landmarks):
        raise UsageError(f"{len(pictures)} pictures with {len(landmarks)} sets of landmarks", "give one set for each")
    if side < 16:
        raise UsageError(f"a composite of {side} pixels shows no face", "ask for 16 pixels or more")
    for picture, points in zip(pictures, landmarks, strict=True):
        if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8 or np.shape(points) != (68, 2):
            raise UsageError(
                f"a picture of {picture.dtype} {picture.shape} with landmarks {np.shape(points)}",
                "give (height, width, 3) uint8 RGB and (68, 2)",
            )


def _to_pixels(shape: np.ndarray, side: int) -> np.ndarray:
    """From the unit of the face square to pixels; pixel (0, 0) covers [-0.5, 0.5]."""
    return (shape + MARGIN) * side / (1 + 2 * MARGIN) - 0.5


def _surroundings(side: int) -> np.ndarray:
    """Points that move with the head as a whole: a ring around hair and jaw, and the border."""
    angle = np.linspace(0, 2 * np.pi, 20, endpoint=False)
    ring = np.array([0.5, 0.46]) + 0.62 * np.column_stack([0.86 * np.cos(angle), np.sin(angle)])
    edge = np.array([(x, y) for x in (0, 0.5, 1) for y in (0, 0.5, 1) if (x, y) != (0.5, 0.5)])
    # One pixel past the border, so that every pixel lies inside a triangle.
    return np.concatenate([_to_pixels(ring, side), edge * (side + 1) - 1])


def _anchors(points: np.ndarray, side: int) -> np.ndarray:
    """The points of a picture that belong to those of the mesh: landmarks, and surroundings as the head lies."""
    upright = similarity(points[INNER], _to_pixels(MEAN_SHAPE, side)[INNER])
    return np.concatenate([points, apply_affine(invert(upright), _surroundings(side))])


def _inner(shape: np.ndarray, side: int) -> np.ndarray:
    """(side, side) bool: brows to chin, where there is skin and no hair."""
    hull = cv2.convexHull(np.concatenate([shape[2:15], shape[17:27]]).astype(np.float32))
    return cv2.fillConvexPoly(np.zeros((side, side), np.uint8), np.round(hull).astype(np.int32), 1) > 0


def _mean(pictures: list[np.ndarray], seen: list[np.ndarray], skin: np.ndarray) -> np.ndarray:
    """The Lab mean (side, side, 3) float32 of warped pictures, by where each was seen.

    Where the pictures that reach a pixel would be fewer than MIN_PEOPLE, all count alike with their repeated borders:
    otherwise the one picture that reaches furthest would be shown as it is.
    """
    reach = np.sum(seen, axis=0)[..., None]
    all_alike, by_sight = np.zeros(pictures[0].shape, np.float32), np.zeros(pictures[0].shape, np.float32)
    for lab, weight in zip(_same_tone(pictures, skin), seen, strict=True):
        all_alike += lab
        by_sight += lab * weight[..., None]
    enough = np.clip((reach - MIN_PEOPLE) / (0.1 * len(pictures)), 0, 1)
    mean = enough * by_sight / np.maximum(reach, 1) + (1 - enough) * all_alike / len(pictures)
    return mean.astype(np.float32)


def _same_tone(pictures: list[np.ndarray], skin: np.ndarray) -> Iterator[np.ndarray]:
    """The pictures in CIE Lab with the mean and the contrast of the group's median picture under `skin`.

    Without it faces in shade and in the sun average to mud; in Lab, the average of two skins is a skin.
    """
    skins = [to_lab(p[skin][None])[0] for p in pictures]
    means = np.array([s.mean(axis=0) for s in skins])
    deviations = np.array([s.std(axis=0) for s in skins])
    wanted = np.median(means, axis=0)
    ratio = np.clip(np.median(deviations, axis=0) / np.maximum(deviations, 1e-3), 0.67, 1.5)
    for picture, mean, contrast in zip(pictures, means, ratio, strict=True):
        yield ((to_lab(picture) - mean) * contrast + wanted).astype(np.float32)


def _sharpened(lab: np.ndarray) -> np.ndarray:
    """RGB uint8 of a Lab average, with the fine contrast of its lightness raised: averaging softens every edge."""
    light = lab[..., 0]
    for width in (1, 3):
        soft = cv2.GaussianBlur(light, (0, 0), DETAIL * lab.shape[0] * width)
        light = light + SHARPEN / width * (light - soft)
    lab = np.dstack([np.clip(light, 0, 100), lab[..., 1:]]).astype(np.float32)
    return np.clip(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB) * 255 + 0.5, 0, 255).astype(np.uint8)
