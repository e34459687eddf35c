"""Blend: put a new face back into its frame so that no seam, tone or softness gives it away."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from deidcli.faces.align import compose, invert, places, resampled
from deidcli.faces.mask import FEATHER, Mask, mask
from deidcli.faces.tone import transfer_lighting
from deidcli.values import Crop, CropSpec, Frame, Layer

LEAST = 0.02  # pixels by which a frame is bent at the least where it counts as changed


@dataclass(frozen=True)
class BlendOptions:
    """scale: grows the mask. feather: soft edge as a share of the face's size.

    poisson: join gradients at the edge; only for faces that take the tone of the old one, since a colour that covers a
    face must stay that colour.
    """

    scale: float = 1.0
    feather: float = FEATHER
    poisson: bool = False


@dataclass(frozen=True)
class Blended:
    """frame: the frame with the new face. changed: (height, width) bool, the pixels that may differ from before."""

    frame: Frame
    changed: np.ndarray


@dataclass(frozen=True)
class Patch:
    """What a new face changes of its frame. window: rows and columns. pixels: (h, w, 3) uint8, the window with the new
    face. changed: (h, w) bool, its pixels that may differ from before.
    """

    window: tuple[slice, slice]
    pixels: np.ndarray
    changed: np.ndarray


def blend(frame: Frame, crop: Crop, spec: CropSpec, options: BlendOptions, shape_scale: float = 1.0) -> Blended:
    """`frame` with the pixels of `crop` in the place of its face. The frame that is given stays as it is."""
    done = patch(frame, crop, spec, options, shape_scale)
    pixels, changed = frame.pixels.copy(), np.zeros((frame.height, frame.width), bool)
    pixels[done.window], changed[done.window] = done.pixels, done.changed
    return Blended(frame.with_pixels(pixels), changed)


def patch(frame: Frame, crop: Crop, spec: CropSpec, options: BlendOptions, shape_scale: float = 1.0) -> Patch:
    """The part of `frame` that the pixels of `crop` change, with them; the time grows with the face alone."""
    if crop.layer is not None:
        return _layered(frame, crop, crop.layer)
    soft = mask(crop.face, spec.mask, (frame.width, frame.height), options.scale * shape_scale, options.feather)
    old = frame.pixels[soft.window]
    if not soft.alpha.any():
        return Patch(soft.window, old, np.zeros(old.shape[:2], bool))
    new, alpha = unwarp(crop, soft)
    if spec.transfer_lighting:
        new = transfer_lighting(new, old, alpha)
    joined = options.poisson and spec.transfer_lighting
    return Patch(soft.window, _poisson(old, new, alpha) if joined else _mix(old, new, alpha), alpha > 0)


def _layered(frame: Frame, crop: Crop, layer: Layer) -> Patch:
    """The part of `frame` that the layer of a window bends and covers."""
    left, top = (round(-shift) for shift in crop.transform[:, 2])
    height, width = layer.alpha.shape
    window = np.s_[top : top + height, left : left + width]
    old = frame.pixels[window]
    moved = np.abs(layer.bend).max(axis=2) > LEAST
    if moved.any():
        bent = resampled(old, places(width, height) - layer.bend, cv2.INTER_CUBIC)
        old = np.where(moved[..., None], bent, old)
    return Patch(window, _mix(old, crop.pixels, layer.alpha), moved | (layer.alpha > 0))


def unwarp(crop: Crop, soft: Mask) -> tuple[np.ndarray, np.ndarray]:
    """The crop laid over the mask's window, (h, w, 3) uint8, and the mask, (h, w), faded out where the crop ends."""
    height, width = soft.alpha.shape
    to_frame = compose(np.array([[1, 0, -soft.left], [0, 1, -soft.top]], np.float64), invert(crop.transform))
    new = cv2.warpAffine(crop.pixels, to_frame, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return new, soft.alpha


def _mix(old: np.ndarray, new: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    share = alpha[..., None]
    return np.clip(old * (1 - share) + new * share + 0.5, 0, 255).astype(np.uint8)


def _poisson(old: np.ndarray, new: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Poisson cloning of the mask's core, then the soft mask over it, so that the edge stays as soft as without."""
    inside = np.pad((alpha > 0.5).astype(np.uint8) * 255, _ROOM)
    if not inside.any():
        return _mix(old, new, alpha)
    # OpenCV takes three pixels off the mask and keeps the old face in them; a small face would stay as it was.
    core = cv2.dilate(inside, np.ones((3, 3), np.uint8), iterations=3)
    x, y, width, height = cv2.boundingRect(core)
    wide = ((_ROOM, _ROOM), (_ROOM, _ROOM), (0, 0))
    center = (x + width // 2, y + height // 2)
    cloned = cv2.seamlessClone(np.pad(new, wide, "edge"), np.pad(old, wide, "edge"), core, center, cv2.NORMAL_CLONE)
    return _mix(old, cloned[_ROOM:-_ROOM, _ROOM:-_ROOM], alpha)


_ROOM = 6  # pixels around a window for the border of the equation
