"""Light: a new face in the tone, the light and the contrast of the old one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

FAR = np.float32(0.03)  # share of the mask in a surrounding that the mean of all of it counts as
TONE = 48  # longer side in pixels at which tones are compared; what is smoothed that wide needs no more
FLAT = 0.8  # least share of its contrast that a new face keeps in as much light, however flat the old one is


def match_color(new: np.ndarray, old: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """`new` in the tone and light of `old`: their difference in CIE Lab, smoothed wide, is added to it.

    Both are (h, w, 3) uint8 RGB, alpha (h, w) says where they are compared. The smoothing takes in a quarter of the
    mask, as wide as `--method blur` blurs: shadow, light and skin come over, and no feature does. What stands out from
    that in `new` is made as faint as the light of `old` makes it (`_light`).
    """
    height, width = alpha.shape
    size = max(1, round(TONE * width / max(width, height))), max(1, round(TONE * height / max(width, height)))
    weight = cv2.resize(alpha, size, interpolation=cv2.INTER_AREA)
    if weight.sum() < 1:
        return new
    source, target = (_lab(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)) for pixels in (new, old))
    wide = _wide(weight)
    before, after = wide(source), wide(target)
    light = _light(
        before[..., 0], after[..., 0], *(_contrast(*lab, weight) for lab in ((source, before), (target, after)))
    )
    light.fall(source)
    gap = after - wide(source)
    matched = _lab(new)
    light.enlarged((width, height)).fall(matched)
    matched += cv2.resize(gap, (width, height), interpolation=cv2.INTER_LINEAR)
    # Lab to RGB ends in [0, 1], so that nothing negative is turned over; this rounds and saturates in one pass.
    return cv2.convertScaleAbs(cv2.cvtColor(matched, cv2.COLOR_LAB2RGB, dst=matched), alpha=255)


@dataclass(frozen=True)
class _Light:
    """What is left of the contrast of a face. base: its smoothed lightness, (h, w).

    dark, bright: (h, w) in [0, 1], of what is darker and brighter than that; color: in [0, 1], of its colours.
    """

    base: np.ndarray
    dark: np.ndarray
    bright: np.ndarray
    color: float

    def fall(self, lab: np.ndarray) -> None:
        """Leave the face `lab`, (h, w, 3), that much contrast, in place. Its mean tone moves: `match_color` sets it."""
        detail = cv2.extractChannel(lab, 0)
        detail -= self.base
        detail *= np.where(detail < 0, self.dark, self.bright)
        detail += self.base
        if self.color < 1:
            cv2.multiply(lab, np.array([1, self.color, self.color, 1]), dst=lab)
        cv2.insertChannel(detail, lab, 0)

    def enlarged(self, size: tuple[int, int]) -> _Light:
        fields = (
            cv2.resize(field, size, interpolation=cv2.INTER_LINEAR) for field in (self.base, self.dark, self.bright)
        )
        return _Light(*fields, self.color)


def _light(before: np.ndarray, after: np.ndarray, new: np.ndarray, old: np.ndarray) -> _Light:
    """What is left of the contrast of a face that comes from the lightness `before` to `after`, (h, w), smoothed.

    new, old: `_contrast` of both faces. A weaker light takes brows and lids towards black, where there is less room: at
    one reflectance a difference of L goes with L + 16, and with 3 L in the linear foot. What shines falls with it where
    it is the light that is weak, and stays where it is the skin that is dark: the contrast of the old face tells, as
    one number, and another that of its colours. More light leaves less room below white; cameras make up for half.
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
    """3 times the rise of CIE L with the logarithm of light; not below that of the deepest shadow a picture shows."""
    return np.clip(3 * light, 8, light + 16)


def _wide(weight: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Takes the mean of (h, w, 3) over a wide surrounding within the mask (h, w), and far from it that of all of it."""
    sigma, share = TONE / 6, weight[..., None]
    total = cv2.GaussianBlur(weight, (0, 0), sigma)[..., None] + FAR

    def wide(values: np.ndarray) -> np.ndarray:
        mean = np.einsum("hwc,hw->c", values, weight) / weight.sum()
        return (cv2.GaussianBlur(values * share, (0, 0), sigma) + FAR * mean) / total

    return wide


def _lab(pixels: np.ndarray) -> np.ndarray:
    share = np.multiply(pixels, np.float32(1 / 255))
    return cv2.cvtColor(share, cv2.COLOR_RGB2LAB, dst=share)
