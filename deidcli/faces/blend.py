"""Blend: put a new face back into its frame so that no seam, tone or softness gives it away."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from deidcli.faces.align import compose, invert
from deidcli.faces.mask import FEATHER, Mask, mask
from deidcli.values import Crop, CropSpec, Frame


@dataclass(frozen=True)
class BlendOptions:
    """scale: grows the mask. feather: soft edge as a share of the face's size. poisson: join gradients at the edge."""

    scale: float = 1.0
    feather: float = FEATHER
    poisson: bool = False


@dataclass(frozen=True)
class Blended:
    """frame: the frame with the new face. changed: (height, width) bool, the pixels that may differ from before."""

    frame: Frame
    changed: np.ndarray


def blend(frame: Frame, crop: Crop, spec: CropSpec, options: BlendOptions, shape_scale: float = 1.0) -> Blended:
    """`frame` with the pixels of `crop` in the place of its face. The frame that is given stays as it is."""
    soft = mask(crop.face, spec.mask, (frame.width, frame.height), options.scale * shape_scale, options.feather)
    changed = np.zeros((frame.height, frame.width), bool)
    if not soft.alpha.any():
        return Blended(frame, changed)
    rows, columns = soft.window
    old = frame.pixels[rows, columns]
    new, alpha = unwarp(crop, soft)
    if spec.match_color:
        new = match_color(new, old, alpha)
    pixels = frame.pixels.copy()
    pixels[rows, columns] = _poisson(old, new, alpha) if options.poisson else _mix(old, new, alpha)
    changed[rows, columns] = alpha > 0
    return Blended(frame.with_pixels(pixels), changed)


def unwarp(crop: Crop, soft: Mask) -> tuple[np.ndarray, np.ndarray]:
    """The crop laid over the mask's window, (h, w, 3) uint8, and the mask, (h, w), faded out where the crop ends."""
    height, width = soft.alpha.shape
    to_frame = compose(np.array([[1, 0, -soft.left], [0, 1, -soft.top]], np.float64), invert(crop.transform))
    new = cv2.warpAffine(
        crop.pixels, to_frame, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    return new, soft.alpha


def match_color(new: np.ndarray, old: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """`new` with the mean of `old` in CIE Lab under `alpha`, and its contrast where that is not far off.

    Both are (h, w, 3) uint8 RGB. The deviation of each channel is scaled by 0.75 to 1.33 at most: more would turn a
    shadow or a hat of the old face into a contrast of the new one.
    """
    weight = (alpha > 0.5).astype(np.float32)
    if weight.sum() < 16:
        return new
    source, target = _lab(new), _lab(old)
    mean, deviation = _moments(source, weight)
    wanted_mean, wanted = _moments(target, weight)
    ratio = np.clip(wanted / np.maximum(deviation, 1e-3), 0.75, 1.33)
    matched = (source - mean) * ratio + wanted_mean
    return np.clip(cv2.cvtColor(matched.astype(np.float32), cv2.COLOR_LAB2RGB) * 255 + 0.5, 0, 255).astype(np.uint8)


def _lab(pixels: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(pixels.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)


def _moments(lab: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    total = weight.sum()
    mean = (lab * weight[..., None]).sum(axis=(0, 1)) / total
    return mean, np.sqrt((((lab - mean) ** 2) * weight[..., None]).sum(axis=(0, 1)) / total)


def _mix(old: np.ndarray, new: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    share = alpha[..., None]
    return np.clip(old * (1 - share) + new * share + 0.5, 0, 255).astype(np.uint8)


def _poisson(old: np.ndarray, new: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Poisson cloning of the mask's core, then the soft mask over it, so that the edge stays as soft as without."""
    core = np.pad((alpha > 0.5).astype(np.uint8) * 255, 2)
    x, y, width, height = cv2.boundingRect(core)
    if min(width, height) < 3:
        return _mix(old, new, alpha)
    wide = ((2, 2), (2, 2), (0, 0))
    center = (x + width // 2, y + height // 2)
    cloned = cv2.seamlessClone(np.pad(new, wide, "edge"), np.pad(old, wide, "edge"), core, center, cv2.NORMAL_CLONE)
    return _mix(old, cloned[2:-2, 2:-2], alpha)
