"""Blend: put a new face back into its frame without a visible seam, and with the tone and sharpness of its
surroundings.

The lighting of the old face is given to the new one; colours are compared in CIE Lab (L in [0, 100], a and b about
[-128, 127]).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from deidcli.faces.align import compose, invert, places, resampled
from deidcli.faces.mask import FEATHER, Mask, mask
from deidcli.values import Crop, CropSpec, Frame, Layer

FAR = np.float32(0.03)  # weight of the mean over the whole mask in the low-pass filter, which decides far from it
TONE = 48  # longer side in pixels at which tones are compared; low frequencies need no more
FLAT = 0.8  # least factor of its contrast that a new face keeps under equal lighting, however flat the old one is


def to_lab(pixels: np.ndarray) -> np.ndarray:
    """RGB of any shape (h, w, 3), uint8 or float in [0, 255], as CIE Lab float32."""
    share = np.divide(pixels, np.float32(255), dtype=np.float32)
    return cv2.cvtColor(share, cv2.COLOR_RGB2LAB, dst=share)


def transfer_lighting(new: np.ndarray, old: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """`new` in the tone and lighting of `old`: the low-frequency difference of the two in CIE Lab is added to it.

    new, old: (h, w, 3) uint8 RGB. alpha: (h, w) in [0, 1], where they are compared. Returns (h, w, 3) uint8. The
    low-pass filter is as wide as that of `--method blur`, so shadows, lighting and skin tone are transferred, and no
    feature is. The contrast of `new` around its low frequencies is scaled by `_light` to what the lighting of `old`
    gives.
    """
    height, width = alpha.shape
    size = max(1, round(TONE * width / max(width, height))), max(1, round(TONE * height / max(width, height)))
    weight = cv2.resize(alpha, size, interpolation=cv2.INTER_AREA)
    if weight.sum() < 1:
        return new
    source, target = (to_lab(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)) for pixels in (new, old))
    low_pass = _low_pass(weight)
    before, after = low_pass(source), low_pass(target)
    light = _light(
        before[..., 0], after[..., 0], *(_contrast(*lab, weight) for lab in ((source, before), (target, after)))
    )
    light.scale(source)
    gap = after - low_pass(source)
    matched = to_lab(new)
    light.enlarged((width, height)).scale(matched)
    matched += cv2.resize(gap, (width, height), interpolation=cv2.INTER_LINEAR)
    # Lab to RGB ends in [0, 1], so that nothing negative is turned over; this rounds and saturates in one pass.
    return cv2.convertScaleAbs(cv2.cvtColor(matched, cv2.COLOR_LAB2RGB, dst=matched), alpha=255)


@dataclass(frozen=True)
class _Light:
    """Factors by which the contrast of a face is scaled. base: its smoothed lightness, (h, w).

    dark, bright: (h, w) in [0, 1], for what is darker and what is brighter than that. color: in [0, 1], for a and b.
    """

    base: np.ndarray
    dark: np.ndarray
    bright: np.ndarray
    color: float

    def scale(self, lab: np.ndarray) -> None:
        """Scale the contrast of `lab`, (h, w, 3), in place. Its mean changes too; `transfer_lighting` sets it
        afterwards.
        """
        detail = cv2.extractChannel(lab, 0)
        detail -= self.base
        detail *= np.where(detail < 0, self.dark, self.bright)
        detail += self.base
        if self.color < 1:
            cv2.multiply(lab, np.array([1, self.color, self.color, 1]), dst=lab)
        cv2.insertChannel(detail, lab, 0)

    def enlarged(self, size: tuple[int, int]) -> _Light:
        base, dark, bright = (
            cv2.resize(field, size, interpolation=cv2.INTER_LINEAR) for field in (self.base, self.dark, self.bright)
        )
        return _Light(base, dark, bright, self.color)


def _light(before: np.ndarray, after: np.ndarray, new: np.ndarray, old: np.ndarray) -> _Light:
    """By how much the contrast of a face falls when its lightness changes from `before` to `after`, (h, w), smoothed.

    new, old: `_contrast` of both faces. At a fixed ratio of reflectances a difference in L* is proportional to
    dL*/d(log Y) = (L* + 16) / 3, and to L* where L* < 8 (the linear part of CIE L*), so weaker light lowers the
    contrast of brows and lids (`dark`). Highlights (`bright`) fall with it where the lighting is weak and stay where
    the skin is dark; which of the two it is, the contrast of the old face tells, as one number, and another one for its
    colours. More light leaves less room below white; cameras compensate for half of that.
    """
    light, color = np.minimum(old / np.maximum(new, 1e-3), 1)
    weaker = np.minimum(_steepness(after) / _steepness(before), 1)
    flat = np.maximum(np.float32(light), np.minimum(weaker, FLAT))
    room = np.sqrt(np.maximum(100 - after, 1) / np.maximum(100 - before, 1))
    return _Light(before, np.minimum(weaker, flat), np.minimum(room, flat), float(color))


def _contrast(lab: np.ndarray, base: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Deviations of lightness and of colour, (2,), from `base` within the mask."""
    light, *color = np.einsum("hwc,hw->c", (lab - base) ** 2, weight) / weight.sum()
    return np.sqrt([light, sum(color)])


def _steepness(light: np.ndarray) -> np.ndarray:
    """3 dL*/d(log Y) for lightness L* (h, w): L* + 16, and 3 L* in the linear part below L* = 8; at least 8."""
    return np.clip(3 * light, 8, light + 16)


def _low_pass(weight: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """A Gaussian low-pass filter of (h, w, 3) that averages within the mask (h, w); far from it, the mask's mean."""
    sigma, share = TONE / 6, weight[..., None]
    total = cv2.GaussianBlur(weight, (0, 0), sigma)[..., None] + FAR

    def low_pass(values: np.ndarray) -> np.ndarray:
        mean = np.einsum("hwc,hw->c", values, weight) / weight.sum()
        return (cv2.GaussianBlur(values * share, (0, 0), sigma) + FAR * mean) / total

    return low_pass


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
