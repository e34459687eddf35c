"""Fitted: a surrogate face put over a target, in the target's pose, expression, tone and light."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from deidcli.errors import MethodError
from deidcli.faces.align import apply_affine
from deidcli.faces.blend import match_color
from deidcli.faces.shape import JAW
from deidcli.faces.tone import covering, skin
from deidcli.faces.warp import bend
from deidcli.values import Crop

# How far the bridge of the nose may lie off the middle between the ends of the jaw, as a share of their distance: a
# head that is turned further shows a side of itself that no frontal face has.
PROFILE = 0.36


@dataclass(frozen=True)
class Surrogate:
    """A face of nobody: pixels (height, width, 3) uint8 RGB, landmarks (68, 2) in its pixels."""

    pixels: np.ndarray
    landmarks: np.ndarray


def crop_landmarks(crop: Crop) -> np.ndarray:
    """The 68 points of a crop's face in the crop's pixels, (68, 2) float64. Raises MethodError where it has none."""
    if crop.face.landmarks is None:
        raise MethodError("the face has no landmarks")
    return apply_affine(crop.transform, crop.face.landmarks)


def fitted(worn: Sequence[tuple[float, Surrogate, np.ndarray]], crop: Crop) -> np.ndarray:
    """Surrogates in the place of the face of `crop`, mixed, of its shape (side, side, 3).

    worn: of each surrogate its share and the shape (68, 2) that it takes on, in pixels of the crop. Raises MethodError
    for a profile.
    """
    target = crop_landmarks(crop)
    check_pose(target)
    size = crop.pixels.shape[:2]
    try:
        bent = [(share, bend(s.pixels, s.landmarks, shape, size)) for share, s, shape in worn]
    except (np.linalg.LinAlgError, ValueError, cv2.error) as error:
        raise MethodError(f"the face cannot be bent: {error}") from error
    new = bent[0][1] if len(bent) == 1 else _mixed(bent)
    new = match_color(new, crop.pixels, skin(target, size).astype(np.float32))
    cover = covering(crop.pixels, target)[..., None]
    return np.clip(crop.pixels * (1 - cover) + new * cover + 0.5, 0, 255).astype(np.uint8)


def _mixed(bent: Sequence[tuple[float, np.ndarray]]) -> np.ndarray:
    total = sum(share * pixels.astype(np.float32) for share, pixels in bent)
    return np.clip(total + 0.5, 0, 255).astype(np.uint8)


def check_pose(landmarks: np.ndarray) -> None:
    """Raises MethodError for a head that is turned away too far."""
    jaw, bridge = landmarks[JAW], landmarks[27]
    across = jaw[16] - jaw[0]
    width = float(np.linalg.norm(across))
    if width < 1 or abs(float((bridge - jaw[0]) @ across) / width**2 - 0.5) > PROFILE:
        raise MethodError("the head is turned away too far")
