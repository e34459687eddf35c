"""Align: turn a face upright in a square crop of any size and margin, and keep the way back.

Faces are aligned with the mean face: 68 points in the iBUG order, the Procrustes mean of the landmarks of 8,042
photographs, made symmetric. Its unit is the side of the face square, which reaches from the hairline (a third of the
way from chin to brows above the brows) to the chin; (0, 0) is its upper left corner.
"""

from __future__ import annotations

import cv2
import numpy as np

from deidcli.values import Crop, CropSpec, Face, Frame

JAW = slice(0, 17)
BROWS = slice(17, 27)
NOSE = slice(27, 36)
LEFT_EYE = slice(36, 42)  # as seen in the picture
RIGHT_EYE = slice(42, 48)
MOUTH_OUTLINE = slice(48, 60)
INNER = slice(17, 68)  # everything but the jaw: the jaw's points slide along its edge and would shake an alignment

MEAN_SHAPE = np.array(
    [
        (0.1066, 0.3656),
        (0.1099, 0.4696),
        (0.1195, 0.5734),
        (0.1377, 0.6756),
        (0.1745, 0.7718),
        (0.2336, 0.8568),
        (0.3102, 0.9273),
        (0.3986, 0.9832),
        (0.5000, 0.9998),
        (0.6014, 0.9832),
        (0.6898, 0.9273),
        (0.7664, 0.8568),
        (0.8255, 0.7718),
        (0.8623, 0.6756),
        (0.8805, 0.5734),
        (0.8901, 0.4696),
        (0.8934, 0.3656),
        (0.1926, 0.2908),
        (0.2380, 0.2461),
        (0.3039, 0.2309),
        (0.3734, 0.2390),
        (0.4382, 0.2643),
        (0.5618, 0.2643),
        (0.6266, 0.2390),
        (0.6961, 0.2309),
        (0.7620, 0.2461),
        (0.8074, 0.2908),
        (0.5000, 0.3398),
        (0.5000, 0.4040),
        (0.5000, 0.4682),
        (0.5000, 0.5348),
        (0.4225, 0.5824),
        (0.4594, 0.5969),
        (0.5000, 0.6090),
        (0.5406, 0.5969),
        (0.5775, 0.5824),
        (0.2713, 0.3548),
        (0.3112, 0.3321),
        (0.3584, 0.3320),
        (0.4000, 0.3597),
        (0.3558, 0.3685),
        (0.3096, 0.3687),
        (0.6000, 0.3597),
        (0.6416, 0.3320),
        (0.6888, 0.3321),
        (0.7287, 0.3548),
        (0.6904, 0.3687),
        (0.6442, 0.3685),
        (0.3503, 0.7195),
        (0.4038, 0.6906),
        (0.4589, 0.6784),
        (0.5000, 0.6874),
        (0.5411, 0.6784),
        (0.5962, 0.6906),
        (0.6497, 0.7195),
        (0.5983, 0.7718),
        (0.5442, 0.7942),
        (0.5000, 0.7985),
        (0.4558, 0.7942),
        (0.4017, 0.7718),
        (0.3735, 0.7208),
        (0.4586, 0.7094),
        (0.5000, 0.7133),
        (0.5414, 0.7094),
        (0.6265, 0.7208),
        (0.5422, 0.7461),
        (0.5000, 0.7510),
        (0.4578, 0.7461),
    ]
)
MEAN_SHAPE.flags.writeable = False


LARGEST = 4096  # side in pixels of a crop at the photograph's own resolution; a larger face is worked on at this size


def align(frame: Frame, face: Face, spec: CropSpec, key: str = "") -> Crop:
    """Cut `face` out of `frame` as `spec` says. Raises ValueError for a window that lies outside the frame.

    A face without landmarks, or a spec that asks for the box, is cut as an upright square about its box. What lies
    outside the frame repeats the border. Returns a crop of (side, side, 3) uint8 where side is `spec.size`, or the
    face's own size in pixels (up to LARGEST) where that is None.
    """
    if spec.align == "window" and spec.size is None and face.landmarks is not None:
        return _window(frame, face, spec.margin, key)
    transform, side = crop_transform(face, spec)
    return Crop(warp(frame.pixels, transform, side), transform, face, key)


def _window(frame: Frame, face: Face, margin: float, key: str) -> Crop:
    """The pixels of the frame about the face square, whatever its tilt, with `margin` of its side around it."""
    square = similarity(MEAN_SHAPE[INNER], np.asarray(face.landmarks, np.float64)[INNER])
    corners = apply_affine(square, np.array([[0, 0], [1, 0], [1, 1], [0, 1]]))
    points = np.concatenate([corners, np.asarray(face.landmarks, np.float64)])
    room = margin * float(np.hypot(square[0, 0], square[1, 0]))
    left, top = np.maximum(np.floor(points.min(axis=0) - room), 0).astype(int)
    right, bottom = np.minimum(np.ceil(points.max(axis=0) + room) + 1, (frame.width, frame.height)).astype(int)
    if right <= left or bottom <= top:
        raise ValueError("the face lies outside the picture")
    pixels = np.ascontiguousarray(frame.pixels[top:bottom, left:right])
    return Crop(pixels, np.array([[1.0, 0, -left], [0, 1.0, -top]]), face, key, moving=frame.time is not None)


def crop_transform(face: Face, spec: CropSpec) -> tuple[np.ndarray, int]:
    """The (2, 3) similarity from frame to crop coordinates, and the side of the crop in pixels."""
    if face.landmarks is not None and spec.align != "box":
        square = similarity(MEAN_SHAPE[INNER], np.asarray(face.landmarks, np.float64)[INNER])
    else:
        square = _box_square(face)
    face_side = float(np.hypot(square[0, 0], square[1, 0]))
    span = 1 + 2 * spec.margin
    side = spec.size or min(LARGEST, max(8, round(face_side * span)))
    # From the unit square of the face to pixels; pixel (0, 0) covers [-0.5, 0.5].
    scale = side / span
    to_crop = np.array([[scale, 0, spec.margin * scale - 0.5], [0, scale, spec.margin * scale - 0.5]])
    return compose(to_crop, invert(square)), side


def similarity(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The (2, 3) turn, scale and shift that takes points `source` (n, 2) to `target` (n, 2) with least squared error.

    Umeyama's closed form; a reflection is never returned.
    """
    source_mean, target_mean = source.mean(axis=0), target.mean(axis=0)
    a, b = source - source_mean, target - target_mean
    norm = max(float(np.sum(a * a)), 1e-12)
    real = float(np.sum(a * b)) / norm
    imaginary = float(np.sum(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0])) / norm
    linear = np.array([[real, -imaginary], [imaginary, real]])
    return np.column_stack([linear, target_mean - linear @ source_mean])


def compose(outer: np.ndarray, inner: np.ndarray) -> np.ndarray:
    """The affine map that applies `inner` first and `outer` then; all are (2, 3)."""
    return np.column_stack([outer[:, :2] @ inner[:, :2], outer[:, :2] @ inner[:, 2] + outer[:, 2]])


def invert(affine: np.ndarray) -> np.ndarray:
    """The (2, 3) inverse. Raises numpy.linalg.LinAlgError where there is none."""
    linear = np.linalg.inv(affine[:, :2])
    return np.column_stack([linear, -linear @ affine[:, 2]])


def apply_affine(affine: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Move points (n, 2) by a (2, 3) map."""
    return np.asarray(points, np.float64) @ affine[:, :2].T + affine[:, 2]


def warp(pixels: np.ndarray, transform: np.ndarray, side: int) -> np.ndarray:
    """The (side, side, channels) crop of `pixels` under `transform`, free of aliasing when it shrinks."""
    corners = np.array([[0, 0], [side - 1, 0], [side - 1, side - 1], [0, side - 1]], np.float64)
    region, origin = _surroundings(pixels, apply_affine(invert(transform), corners))
    transform = compose(transform, np.array([[1, 0, origin[0]], [0, 1, origin[1]]], np.float64))
    scale = float(np.hypot(transform[0, 0], transform[1, 0]))
    if scale < 0.75:
        region, transform = _shrink(region, transform, scale)
    return cv2.warpAffine(region, transform, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def resampled(pixels: np.ndarray, at: np.ndarray, interpolation: int = cv2.INTER_LINEAR) -> np.ndarray:
    """`pixels` (h, w) or (h, w, c) at the places `at` (rows, columns, 2) float32, x and y: (rows, columns) or with c.

    Outside of them their border is repeated.
    """
    # OpenCV's types do not know that the second map may be missing.
    return cv2.remap(pixels, at, None, interpolation, borderMode=cv2.BORDER_REPLICATE)  # type: ignore[call-overload]


def places(width: int, height: int) -> np.ndarray:
    """Where the pixels of a picture lie, (height, width, 2) float32, x and y."""
    x, y = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)
    return np.stack(np.meshgrid(x, y), axis=2)


def _surroundings(pixels: np.ndarray, corners: np.ndarray) -> tuple[np.ndarray, tuple[int, int]]:
    """The part of the frame that the corners (n, 2) span, so that a warp costs as much as the face is large."""
    height, width = pixels.shape[:2]
    low = np.clip(np.floor(corners.min(axis=0)) - 2, 0, (width - 1, height - 1)).astype(int)
    high = np.clip(np.ceil(corners.max(axis=0)) + 3, low + 1, (width, height)).astype(int)
    return pixels[low[1] : high[1], low[0] : high[0]], (int(low[0]), int(low[1]))


def _shrink(region: np.ndarray, transform: np.ndarray, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Bring a region to about the crop's resolution by area averages; the warp then only interpolates."""
    height, width = region.shape[:2]
    size = max(1, round(width * scale)), max(1, round(height * scale))
    region = cv2.resize(np.ascontiguousarray(region), size, interpolation=cv2.INTER_AREA)
    x, y = width / size[0], height / size[1]
    return region, compose(transform, np.array([[x, 0, (x - 1) / 2], [0, y, (y - 1) / 2]]))


def _box_square(face: Face) -> np.ndarray:
    """The unit square to the square about the face's box."""
    (x, y), side = face.box.center, max(face.box.width, face.box.height, 1.0)
    return np.array([[side, 0, x - side / 2 - 0.5], [0, side, y - side / 2 - 0.5]])


def upright(landmarks: np.ndarray) -> np.ndarray:
    """Landmarks (68, 2) laid on the mean face, in the unit of the face square."""
    points = np.asarray(landmarks, np.float64)
    return apply_affine(similarity(points[INNER], MEAN_SHAPE[INNER]), points)
