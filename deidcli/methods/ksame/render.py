"""Rendering: surrogates made of several faces, moved to the pose of a target, and put over its face.

`average_surrogate` makes a surrogate of n faces; `pose_transfer` gives its landmarks the pose of a target;
`fit_surrogate` and `fit_open_mouth` warp it there and give it the target's tone and light.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from deidcli.errors import MethodError
from deidcli.faces.align import apply_affine, invert, similarity
from deidcli.faces.attributes import SMILE, SURPRISE
from deidcli.faces.pose import mouth_gap, upright, with_eyes_and_brows, with_lips, with_smile, with_surprise
from deidcli.faces.shape import BROWS, INNER, JAW, MEAN_SHAPE, MOUTH_OUTLINE
from deidcli.faces.tone import covering, skin, smooth_forehead, to_lab, transfer_lighting
from deidcli.faces.warp import warp_face
from deidcli.methods.ksame.proxies import with_constant
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
    """An averaged face: pixels (height, width, 3) uint8 RGB, landmarks (68, 2) in its pixels."""

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


def fit_surrogate(posed: Sequence[Posed], crop: Crop, inside: Sequence[Posed] = (), hollow: bool = False) -> np.ndarray:
    """Surrogates, mixed, in the place of the face of `crop`, of its shape (side, side, 3).

    inside: what is seen between the lips instead; all of one shape. hollow: whether it grows dark behind the lips, as
    it does where a mouth is open and does not smile. Raises MethodError for a profile.
    """
    target = crop_landmarks(crop)
    check_frontal(target)
    size = crop.pixels.shape[:2]
    try:
        new = _mixed(posed, size)
        if inside:
            between = _between_lips(inside[0].shape, size)
            new = new * (1 - between) + _mixed(inside, size) * between
    except (np.linalg.LinAlgError, ValueError, cv2.error) as error:
        raise MethodError(f"the face cannot be bent: {error}") from error
    new = transfer_lighting(
        np.clip(new + 0.5, 0, 255).astype(np.uint8), crop.pixels, skin(target, size).astype(np.float32)
    )
    if inside and hollow:
        # After the lighting is transferred, which is computed on skin: the inside of the mouth is dark in any light.
        new = np.clip(new * _light(inside[0].shape, size) + 0.5, 0, 255).astype(np.uint8)
    return new


def fit_open_mouth(posed: Sequence[Posed], crop: Crop) -> np.ndarray:
    """The face with the closed mouth, the first of `posed`, and what all of them show between its lips.

    Proxies that show teeth smile with the whole face, so those are used for smiling targets only.
    """
    inside = [replace(one, shape=posed[0].shape) for one in posed if one.share > 0]
    return fit_surrogate([replace(posed[0], share=1.0)], crop, inside, hollow=True)


def _mixed(posed: Sequence[Posed], size: tuple[int, int]) -> np.ndarray:
    """(height, width, 3) float32."""
    total = np.zeros((*size, 3), np.float32)
    for one in posed:
        bent = warp_face(one.surrogate.pixels, one.surrogate.landmarks, one.shape, size)
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


def check_frontal(landmarks: np.ndarray) -> None:
    """Raises MethodError for a head that is turned away too far."""
    jaw, bridge = landmarks[JAW], landmarks[27]
    across = jaw[16] - jaw[0]
    width = float(np.linalg.norm(across))
    if width < 1 or abs(float((bridge - jaw[0]) @ across) / width**2 - 0.5) > PROFILE:
        raise MethodError("the head is turned away too far")


def can_pose(crop: Crop) -> bool:
    """Whether a frontal face can be put over that of `crop`: it has landmarks and is no profile."""
    try:
        check_frontal(crop_landmarks(crop))
    except MethodError:
        return False
    return True


# --- Pose transfer

STIFF = slice(27, 48)  # nose and eyes: what moves least with an expression
MOUTH = slice(48, 68)
OPEN = (0.12, 0.28)  # gaps of the lips over which the shape of the whole mouth becomes the target's
OUTLINE = 0.3  # how much of the outline of the jaw is the target's: with all of it a recogniser names more people
WEIGHT = 6  # points that the middle of the brows, and that of the mouth, count as


def pose_transfer(points: np.ndarray, target: np.ndarray, moved: bool = False, expression: str = "") -> np.ndarray:
    """`points` (68, 2) as the head of `target` (68, 2) is turned, with their own expression; the jaw lies between
    both, and is the target's where its mouth is wide open.

    A plane face that is turned is an affine one: the least squares one over nose, eyes and the middles of brows and
    mouth, without which a head that nods would lose its chin. moved: with lips and lids as far apart, brows and corners
    of the mouth as high as the target's, and its mouth where that is wide open. More of its shape would tell who it is.
    expression: what the face shall show, where that takes more: the points of a smile keep the corners of their mouth,
    and those of a surprised face are moved further than the target's.
    """
    anchors = with_constant(_anchors(points))
    shape = with_constant(points) @ np.linalg.lstsq(anchors, _anchors(target), rcond=None)[0]
    # A wide open mouth and a dropped jaw are expression rather than identity, so the target's may be used.
    low, high = OPEN
    wide = float(np.clip((mouth_gap(target) - low) / (high - low), 0, 1)) if moved else 0.0
    outline = OUTLINE + (1 - OUTLINE) * wide
    shape[JAW] = outline * target[JAW] + (1 - outline) * shape[JAW]
    if not moved:
        return shape
    laid, theirs = similarity(target[INNER], MEAN_SHAPE[INNER]), upright(target)
    shape = with_lips(with_eyes_and_brows(apply_affine(laid, shape), theirs), upright(points), theirs)
    shape = with_surprise(shape) if expression == SURPRISE else shape
    shape = shape if expression == SMILE else with_smile(shape, theirs)
    shape[MOUTH] = (1 - wide) * shape[MOUTH] + wide * theirs[MOUTH]
    return apply_affine(invert(laid), shape)


def _anchors(points: np.ndarray) -> np.ndarray:
    middles = [points[BROWS].mean(axis=0), points[MOUTH_OUTLINE].mean(axis=0)]
    return np.concatenate([points[STIFF], np.repeat(middles, WEIGHT, axis=0)])


# --- Averages of shape and shape-free texture (Cootes et al. 2001, Gross et al. 2006)
#
# An active appearance model writes a face as mean + modes x coefficients, for its shape and for its texture after it
# was warped to the mean shape. The mean of the coefficients over k faces, written back, is the mean of their shapes and
# of their warped textures, projected on the modes that are kept. Here all modes are kept, so none has to be computed; a
# model with fewer modes gives the same face, blurred.

SIDE, MARGIN = 256, 0.25  # of a surrogate: pixels, and room around the face square as a share of it
FOREHEAD_BLUR = 0.05  # width over which a forehead is smoothed, as a share of the side
SHARPEN, AVERAGED_DETAIL = (
    0.5,
    0.006,
)  # share of the detail given back after averaging, and its width as a share of the side


def average_surrogate(
    pictures: Sequence[np.ndarray] | np.ndarray, landmarks: Sequence[np.ndarray] | np.ndarray, weights: np.ndarray
) -> Surrogate:
    """The surrogate of n faces: their mean shape and mean texture, by weights (n,) that sum to 1.

    pictures: (h, w, 3) uint8 RGB each. landmarks: (68, 2) in pixels of each.
    """
    shape = sum(weight * upright(points) for weight, points in zip(weights, landmarks, strict=True))
    points = apply_affine(_to_pixels(), shape)
    size = (SIDE, SIDE)
    bent = [to_lab(warp_face(picture, own, points, size)) for picture, own in zip(pictures, landmarks, strict=True)]
    bare = skin(points, size)
    tones = np.array([texture[bare].mean(axis=0) for texture in bent])
    tone = weights @ tones
    # All textures get the same mean colour first, or faces in sun and in shade would average to patches.
    mean = sum(weight * (texture - own) for weight, texture, own in zip(weights, bent, tones, strict=True)) + tone
    seen = [covering(picture, own) for picture, own in zip(pictures, landmarks, strict=True)]
    hairless = sum(w * warp_face(s, own, points, size) for w, s, own in zip(weights, seen, landmarks, strict=True))
    return Surrogate(_sharpened(_without_hair(mean, hairless, points).astype(np.float32)), points)


def _without_hair(lab: np.ndarray, bare: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The mean face with a smooth forehead, taken from where that is `bare` (side, side) in [0, 1].

    Hair over the foreheads of some would lie over that of all.
    """
    weight = np.clip(bare - 0.5, 1e-3, None)
    return smooth_forehead(lab, points, FOREHEAD_BLUR * SIDE, 0.012 * SIDE, weight)


def _to_pixels() -> np.ndarray:
    """(2, 3), from the unit of the face square to pixels of a surrogate."""
    scale = SIDE / (1 + 2 * MARGIN)
    return np.array([[scale, 0, MARGIN * scale - 0.5], [0, scale, MARGIN * scale - 0.5]])


def _sharpened(lab: np.ndarray) -> np.ndarray:
    light = lab[..., 0]
    light = light + SHARPEN * (light - cv2.GaussianBlur(light, (0, 0), AVERAGED_DETAIL * SIDE))
    lab = np.dstack([np.clip(light, 0, 100), lab[..., 1:]])
    return np.clip(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB) * 255 + 0.5, 0, 255).astype(np.uint8)
