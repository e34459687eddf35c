"""Fitted: a surrogate face put over a target, in the target's pose, expression, tone and light."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from deidcli.errors import MethodError
from deidcli.faces.align import apply_affine, similarity
from deidcli.faces.light import match_color
from deidcli.faces.shape import INNER, JAW
from deidcli.faces.tone import skin
from deidcli.faces.warp import bend
from deidcli.values import Crop

# How far the bridge of the nose may lie off the middle between the ends of the jaw, as a share of their distance: a
# head that is turned further shows a side of itself that no frontal face has.
PROFILE = 0.36
# Detail of an enlarged surrogate: its width in the surrogate's own pixels, and the most that is added to it.
DETAIL, CRISP = 1.2, 1.2
LIP = 0.02  # soft edge of what lies between the lips, as a share of the width of the mouth
# The hollow of a mouth: how far behind the lips it is dark, as a share of its width, and how much light is gone.
DEEP, DARK = 0.1, 0.85
WARM = np.array([0.8, 1.0, 1.0], np.float32)  # how fast red, green and blue go


@dataclass(frozen=True)
class Surrogate:
    """A face of nobody: pixels (height, width, 3) uint8 RGB, landmarks (68, 2) in its pixels."""

    pixels: np.ndarray
    landmarks: np.ndarray


@dataclass(frozen=True)
class Posed:
    """A surrogate on its way into a crop: share in the mixture, shape (68, 2) it takes on, in the crop's pixels."""

    share: float
    surrogate: Surrogate
    shape: np.ndarray


def crop_landmarks(crop: Crop) -> np.ndarray:
    """The 68 points of a crop's face in the crop's pixels, (68, 2) float64. Raises MethodError where it has none."""
    if crop.face.landmarks is None:
        raise MethodError("the face has no landmarks")
    return apply_affine(crop.transform, crop.face.landmarks)


def fitted(posed: Sequence[Posed], crop: Crop, inside: Sequence[Posed] = (), hollow: bool = False) -> np.ndarray:
    """Surrogates, mixed, in the place of the face of `crop`, of its shape (side, side, 3).

    inside: what is seen between the lips instead; all of one shape. hollow: whether it grows dark behind the lips, as
    it does where a mouth is open and does not smile. Raises MethodError for a profile.
    """
    target = crop_landmarks(crop)
    check_pose(target)
    size = crop.pixels.shape[:2]
    try:
        new = _mixed(posed, size)
        if inside:
            between = _between_lips(inside[0].shape, size)
            new = new * (1 - between) + _mixed(inside, size) * between
    except (np.linalg.LinAlgError, ValueError, cv2.error) as error:
        raise MethodError(f"the face cannot be bent: {error}") from error
    new = match_color(np.clip(new + 0.5, 0, 255).astype(np.uint8), crop.pixels, skin(target, size).astype(np.float32))
    if inside and hollow:
        # After the tone, which is the skin's: behind the lips there is no light that it could have.
        new = np.clip(new * _light(inside[0].shape, size) + 0.5, 0, 255).astype(np.uint8)
    return new


def opened(posed: Sequence[Posed], crop: Crop) -> np.ndarray:
    """The face with the closed mouth, the first of `posed`, and what all of them show between its lips.

    Proxies whose teeth are seen smile with the whole face, which only a smile should.
    """
    inside = [replace(one, shape=posed[0].shape) for one in posed if one.share > 0]
    return fitted([replace(posed[0], share=1.0)], crop, inside, hollow=True)


def _mixed(posed: Sequence[Posed], size: tuple[int, int]) -> np.ndarray:
    """(height, width, 3) float32."""
    total = np.zeros((*size, 3), np.float32)
    for one in posed:
        bent = bend(one.surrogate.pixels, one.surrogate.landmarks, one.shape, size)
        total += one.share * _crisp(bent.astype(np.float32), one)
    return total


def _crisp(bent: np.ndarray, one: Posed) -> np.ndarray:
    """A surrogate that was enlarged, with its own detail raised; nothing of the target takes part."""
    grown = float(np.hypot(*similarity(one.surrogate.landmarks[INNER], one.shape[INNER])[:, 0]))
    if grown <= 1:
        return bent
    soft = cv2.GaussianBlur(bent, (0, 0), DETAIL * grown)
    return np.clip(bent + min(CRISP, grown - 1) * (bent - soft), 0, 255)


def _between_lips(shape: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(height, width, 1) float32: 1 between the lips, 0 outside, with a soft edge."""
    hole = np.zeros(size, np.float32)
    cv2.fillPoly(hole, [np.round(shape[60:68] * 16).astype(np.int32)], 1.0, cv2.LINE_AA, 4)
    wide = float(np.linalg.norm(shape[64] - shape[60]))
    return cv2.GaussianBlur(hole, (0, 0), max(0.5, LIP * wide))[..., None]


def _light(shape: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(height, width, 3) float32: how much red, green and blue light there is; 1 but behind the lips, where it goes."""
    hole = np.zeros(size, np.uint8)
    cv2.fillPoly(hole, [np.round(shape[60:68]).astype(np.int32)], 1)
    deep = DEEP * max(1.0, float(np.linalg.norm(shape[64] - shape[60])))
    behind = np.clip(cv2.distanceTransform(hole, cv2.DIST_L2, 3) / deep, 0, 1)
    light = cv2.GaussianBlur(1 - DARK * behind.astype(np.float32), (0, 0), max(0.5, deep / 6))
    return light[..., None] ** WARM


def check_pose(landmarks: np.ndarray) -> None:
    """Raises MethodError for a head that is turned away too far."""
    jaw, bridge = landmarks[JAW], landmarks[27]
    across = jaw[16] - jaw[0]
    width = float(np.linalg.norm(across))
    if width < 1 or abs(float((bridge - jaw[0]) @ across) / width**2 - 0.5) > PROFILE:
        raise MethodError("the head is turned away too far")


def can_pose(crop: Crop) -> bool:
    """Whether a frontal face can be put over that of `crop`: it has landmarks and is no profile."""
    try:
        check_pose(crop_landmarks(crop))
    except MethodError:
        return False
    return True
