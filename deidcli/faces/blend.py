"""Blend: which pixels of the frame belong to a face, softly (the mask); and a new face put back into them.

It leaves no visible seam, and has the tone and sharpness of its surroundings.
The lighting of the old face is given to the new one; colours are compared in CIE Lab (L in [0, 100], a and b about
[-128, 127]).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from deidcli.faces.align import (
    BROWS,
    INNER,
    JAW,
    MEAN_SHAPE,
    apply_affine,
    compose,
    invert,
    places,
    resampled,
    similarity,
)
from deidcli.values import Crop, CropSpec, Face, Frame, Layer

FEATHER = 0.05  # width of the soft edge (one standard deviation), as a share of the face's size
FOREHEAD = 0.26  # height of the forehead above the brows, as a share of the face square
# The same for a mask that hides where the hair begins, which a recogniser uses more than anything else outside the
# face.
HIGH = 0.4


@dataclass(frozen=True)
class Mask:
    """alpha: (height, width) float32 in [0, 1] for the part of the frame whose upper left pixel is (left, top)."""

    left: int
    top: int
    alpha: np.ndarray

    @property
    def window(self) -> tuple[slice, slice]:
        """Rows and columns of the frame that the mask covers."""
        return (
            slice(self.top, self.top + self.alpha.shape[0]),
            slice(self.left, self.left + self.alpha.shape[1]),
        )


def mask(face: Face, kind: str, size: tuple[int, int], scale: float = 1.0, feather: float = FEATHER) -> Mask:
    """The soft mask of `face` in a frame of `size` (width, height).

    kind: "inner", "full" or "high" follow the landmarks, "ellipse" the box; a face without landmarks always gets the
    ellipse.
    scale: grows the shape about its centre. The soft edge lies outside a shape that hides (ellipse), so that everything
    within it is covered wholly, and half inside a shape that is fitted to landmarks, so that no rim of it is seen.
    """
    outline = _outline(face, kind)
    center = (outline.min(axis=0) + outline.max(axis=0)) / 2
    outline = center + (outline - center) * scale
    sigma = max(0.7, feather * face_size(face))
    left, top, width, height = _window(outline, 3 * sigma, size)
    alpha = np.zeros((height, width), np.float32)
    if not alpha.size:
        return Mask(left, top, alpha)
    cv2.fillConvexPoly(alpha, _fixed(outline - (left, top)), 1.0, lineType=cv2.LINE_AA, shift=_BITS)
    hides = kind == "ellipse" or face.landmarks is None
    return Mask(left, top, _soften_outward(alpha, sigma) if hides else _soften(alpha, sigma))


def face_size(face: Face) -> float:
    """The side of the face square in pixels: from the landmarks where there are some, else from the box."""
    if face.landmarks is None:
        return max(face.box.width, face.box.height)
    square = similarity(MEAN_SHAPE[INNER], face.landmarks[INNER].astype(np.float64))
    return float(np.hypot(square[0, 0], square[1, 0]))


def inner_outline(landmarks: np.ndarray) -> np.ndarray:
    """FATM's mask: the hull of the brows, the lower lip and four points between on either side (n, 2).

    Between the outer end of a brow (x0, y0) and the corner of the mouth (x5, y5) on that side:
    x_i = x_{i-1} + i/15 (x5 - x0), y_i = y0 + i/5 (y5 - y0), i = 1..4 (Section 3 and Figure 2).
    """
    points = np.asarray(landmarks, np.float64)
    sides = [_between(points[17], points[48]), _between(points[26], points[54])]
    return _hull(np.concatenate([points[BROWS], points[48:60], *sides]))


def _between(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    i = np.arange(1, 5)
    across = np.cumsum(i) / 15
    return np.column_stack([start[0] + across * (end[0] - start[0]), start[1] + i / 5 * (end[1] - start[1])])


def full_outline(landmarks: np.ndarray, height: float = FOREHEAD) -> np.ndarray:
    """The hull of jaw, brows and the forehead above them, which is as high as `forehead` has it (n, 2)."""
    return _hull(np.concatenate([np.asarray(landmarks, np.float64), forehead(landmarks, height)]))


def forehead(landmarks: np.ndarray, height: float = FOREHEAD) -> np.ndarray:
    """The edge of the forehead, guessed: half an ellipse from the left temple over the top to the right one (15, 2).

    height: above the brows, as a share of the face square.
    """
    points = np.asarray(landmarks, np.float64)
    square = similarity(MEAN_SHAPE[INNER], points[INNER])
    upright = apply_affine(invert(square), points)
    low, high = upright[JAW][[0, -1]]
    brow = upright[BROWS][:, 1].min()
    angle = np.linspace(0, np.pi, 15)
    middle, half = (low + high) / 2, (high[0] - low[0]) / 2
    arc = np.column_stack(
        [middle[0] - half * np.cos(angle), middle[1] + (brow - height - middle[1]) * np.sin(angle) ** 0.8]
    )
    return apply_affine(square, arc)


def _outline(face: Face, kind: str) -> np.ndarray:
    if face.landmarks is None or kind == "ellipse":
        return _ellipse(face)
    if kind == "inner":
        return inner_outline(face.landmarks)
    return full_outline(face.landmarks, HIGH if kind == "high" else FOREHEAD)


def _ellipse(face: Face) -> np.ndarray:
    """The ellipse around the box: it holds the corners that an inscribed one would leave open."""
    (x, y), angle = face.box.center, np.linspace(0, 2 * np.pi, 64, endpoint=False)
    radius = np.array([face.box.width, face.box.height]) / np.sqrt(2)
    return np.array([x - 0.5, y - 0.5]) + np.column_stack([np.cos(angle), np.sin(angle)]) * radius


def _hull(points: np.ndarray) -> np.ndarray:
    return cv2.convexHull(points.astype(np.float32))[:, 0].astype(np.float64)


def _window(outline: np.ndarray, border: float, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """left, top, width and height of the part of the frame that the outline and its soft edge touch."""
    low = np.clip(np.floor(outline.min(axis=0) - border), 0, size).astype(int)
    high = np.clip(np.ceil(outline.max(axis=0) + border) + 1, 0, size).astype(int)
    return int(low[0]), int(low[1]), max(0, int(high[0] - low[0])), max(0, int(high[1] - low[1]))


_BITS = 4  # fractional bits of the coordinates that OpenCV's fill takes


def _fixed(points: np.ndarray) -> np.ndarray:
    return np.round(points * (1 << _BITS)).astype(np.int32)


def _blur(alpha: np.ndarray, sigma: float) -> np.ndarray:
    # The border of the window is the border of the frame or lies outside the soft edge: repeating it is right in both.
    return cv2.GaussianBlur(alpha, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)


def _soften(alpha: np.ndarray, sigma: float) -> np.ndarray:
    """A soft edge that is 0.5 on the outline, and exactly 0 and 1 away from it."""
    soft = _blur(alpha, sigma)
    return np.clip((soft - 0.02) / 0.96, 0, 1)


def _soften_outward(alpha: np.ndarray, sigma: float) -> np.ndarray:
    """A soft edge that leaves every pixel of the shape at 1."""
    return np.maximum(alpha, np.clip(_soften(alpha, sigma) * 2, 0, 1))


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


WHOLE = 0.99  # share of new pixels above which a new face is whole
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
    face. changed: (h, w) bool, its pixels that may differ from before. whole: (h, w) bool, those that the new face has
    to itself, where the method says how it lies.
    """

    window: tuple[slice, slice]
    pixels: np.ndarray
    changed: np.ndarray
    whole: np.ndarray


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
        nothing: np.ndarray = np.zeros(old.shape[:2], bool)
        return Patch(soft.window, old, nothing, nothing)
    new, alpha = unwarp(crop, soft)
    if spec.transfer_lighting:
        new = transfer_lighting(new, old, alpha)
    joined = options.poisson and spec.transfer_lighting
    nothing = np.zeros(alpha.shape, bool)
    return Patch(soft.window, _poisson(old, new, alpha) if joined else _mix(old, new, alpha), alpha > 0, nothing)


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
    return Patch(window, _mix(old, crop.pixels, layer.alpha), moved | (layer.alpha > 0), layer.alpha > WHOLE)


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
