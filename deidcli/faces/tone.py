"""Tone: the colours of a face. Where it shows bare skin and where hair covers it, and the lighting of one face given to
another. Colours are compared in CIE Lab (L in [0, 100], a and b about [-128, 127])."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from deidcli.faces.align import similarity
from deidcli.faces.mask import forehead
from deidcli.faces.shape import BROWS, INNER, JAW, MEAN_SHAPE

SMALL = 96  # longer side in pixels at which hair is told from skin
ABOVE = 0.035  # how far above the brows the forehead begins, as a share of the face square
STRANGE = 3.0  # deviations from the colour of the cheeks at which a pixel of the forehead is skin with weight 0.5
SHINE = 0.25  # how much less colours count for each deviation that a place is brighter
SPREAD = np.array([7.0, 3.5, 4.5])  # least deviations of L, a and b


def to_lab(pixels: np.ndarray) -> np.ndarray:
    """RGB of any shape (h, w, 3), uint8 or float in [0, 255], as CIE Lab float32."""
    share = np.divide(pixels, np.float32(255), dtype=np.float32)
    return cv2.cvtColor(share, cv2.COLOR_RGB2LAB, dst=share)


def skin(landmarks: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(height, width) bool of a picture of `size` (height, width): cheeks, nose and jaw, without eyes, brows and mouth.

    Never empty: where the face lies outside the picture, all of it.
    """
    points = np.asarray(landmarks, np.float64)
    area = np.zeros(size, np.uint8)
    low = points[[36, 41, 40, 39, 27, 42, 47, 46, 45]]
    _fill(area, np.concatenate([low, points[JAW][3:14][::-1]]), 1)
    for hole in (points[48:60], points[36:42], points[42:48], points[BROWS][:5], points[BROWS][5:]):
        middle = hole.mean(axis=0)
        _fill(area, middle + (hole - middle) * 1.25, 0)
    return area > 0 if area.any() else np.ones(size, bool)


def covering(pixels: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """How far a new face may cover each pixel, (height, width) float32 in [0, 1]: not where hair lies on the forehead.

    pixels: (height, width, 3) uint8 RGB. Below the top of the brows it is 1 everywhere; above, it falls where the
    colour is not that of the cheeks.
    """
    height, width = pixels.shape[:2]
    scale = min(1.0, SMALL / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    points = (np.asarray(landmarks, np.float64) + 0.5) * (size[0] / width, size[1] / height) - 0.5
    lab = to_lab(small)
    cheeks = lab[skin(points, small.shape[:2])]
    middle, spread = np.median(cheeks, axis=0), np.maximum(cheeks.std(axis=0), SPREAD)
    off = (lab - middle) / spread
    # A forehead that shines is skin as well, and loses its colour; hair is darker or of another colour.
    shine = np.clip(off[..., :1], 0, None)
    off = np.where(off[..., :1] > 0, off * (0.3, 1, 1), off) / (1 + SHINE * shine)
    strange = np.sqrt((off**2).sum(axis=2))
    share = 1 / (1 + np.exp((strange - STRANGE) * 2))
    face = float(np.hypot(*similarity(MEAN_SHAPE[INNER], points[INNER])[:, 0]))
    share = np.where(brow_down(points, small.shape[:2]), 1.0, share).astype(np.float32)
    share = cv2.GaussianBlur(share, (0, 0), max(0.5, 0.012 * face))
    return np.clip(cv2.resize(share, (width, height), interpolation=cv2.INTER_CUBIC), 0, 1)


def brow_down(points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(height, width) bool: everything but the forehead and what lies above it. points: (68, 2)."""
    face = float(np.hypot(*similarity(MEAN_SHAPE[INNER], points[INNER])[:, 0]))
    arc = forehead(points)[1:-1]
    up = arc[len(arc) // 2] - points[27]
    up = up / max(float(np.linalg.norm(up)), 1e-9)
    brows = points[BROWS] + up * ABOVE * face
    first, last = points[0] + up * 0.1 * face, points[16] + up * 0.1 * face
    left, right = (end + (end - points[27]) for end in (first, last))
    far = up * face * 2
    above = np.zeros(size, np.uint8)
    _fill(above, np.concatenate([[left], [first], brows, [last], [right], [right + far, left + far]]), 1)
    return above == 0


def smooth_forehead(
    values: np.ndarray, landmarks: np.ndarray, width: float, edge: float, weight: np.ndarray | None = None
) -> np.ndarray:
    """`values` (h, w, c) with what lies above the brows replaced by its weighted mean over a wide neighbourhood.

    landmarks: (68, 2). width, edge: standard deviations in pixels of that neighbourhood and of the soft border at the
    brows. weight: (h, w) in (0, 1], how far a place counts; None where only the forehead counts and nothing below the
    brows is changed. Returns (h, w, c) float.
    """
    above = (1 - brow_down(np.asarray(landmarks, np.float64), values.shape[:2]).astype(np.float32))[..., None]
    counted = above if weight is None else weight[..., None]
    total = np.maximum(cv2.GaussianBlur(counted, (0, 0), width)[..., None], 1e-3)
    smooth = cv2.GaussianBlur(values * counted, (0, 0), width) / total
    share = cv2.GaussianBlur(above, (0, 0), edge)[..., None]
    share = share * above if weight is None else share
    return values * (1 - share) + smooth * share


def _fill(area: np.ndarray, outline: np.ndarray, value: int) -> None:
    cv2.fillPoly(area, [np.round(outline).astype(np.int32)], value)


# --- Lighting

FAR = np.float32(0.03)  # weight of the mean over the whole mask in the low-pass filter, which decides far from it
TONE = 48  # longer side in pixels at which tones are compared; low frequencies need no more
FLAT = 0.8  # least factor of its contrast that a new face keeps under equal lighting, however flat the old one is


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
