"""Tone: the lighting of one face given to another. Colours are compared in CIE Lab (L in [0, 100], a and b about
[-128, 127])."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

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
