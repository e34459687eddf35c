"""Motion: how a face moves from one frame to a neighbouring one, and its smooth path through many.

From frame to frame: points on a grid over the face are followed by the pyramidal Lucas-Kanade method to the other
frame and back again; those that do not come back to where they began are dropped, and the rest say how the face has
moved and grown (Kalal et al. 2010, "Forward-backward error").

Through many: a smooth value is the local parabola through its neighbours on both sides, weighted by how near they are
in time (LOESS, the Savitzky-Golay filter for uneven time stamps): steady motion and acceleration pass unchanged. There
is no lag, and a box is never smaller than what was found.
"""

from __future__ import annotations

import cv2
import numpy as np

from deidcli.faces.align import apply_affine
from deidcli.values import Box

GRID = 7  # points a side
ROOM = 2.0  # sides of a face's box that the window about it measures; a face may leave its place by half of its side
SIDE = 64  # pixels of the box in the window: larger ones are shrunk, because the grid needs no more
STRAY = 1.0  # pixels of that window by which a point may miss its place on the way back
FEWEST = 8  # points that have to agree
_AREA, _LEVELS = (15, 15), 3  # pixels about a point that are compared, and how often the pictures are halved


def grey(pixels: np.ndarray) -> np.ndarray:
    """(height, width) uint8 of a picture (height, width, 3) RGB."""
    return cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2GRAY)


def motion(before: np.ndarray, after: np.ndarray, box: Box) -> np.ndarray | None:
    """The (2, 3) turn, scale and shift that takes the face in `box` from one grey frame to the other.

    None where it cannot be estimated: too dark, too blurred, hidden, or moved too far.
    """
    rows, columns, scale = _window(before.shape, box)
    views = [_scaled(picture[rows, columns], scale) for picture in (before, after)]
    if min(views[0].shape) < 8:
        return None
    # Within the box's inner part: its corners show the background, which moves differently.
    places = (_grid(box.scaled(0.7)) - (columns.start, rows.start) + 0.5) * scale - 0.5
    found, kept = _followed(views[0], views[1], places.astype(np.float32))
    if kept.sum() < FEWEST:
        return None
    old, new = ((points[kept] + 0.5) / scale - 0.5 + (columns.start, rows.start) for points in (places, found))
    affine, inliers = cv2.estimateAffinePartial2D(old, new, method=cv2.RANSAC, ransacReprojThreshold=2 / scale)
    return affine if affine is not None and inliers.sum() >= FEWEST and _sound(affine) else None


def moved_box(affine: np.ndarray, box: Box) -> Box:
    """The box where `affine` takes it, upright and of its own proportions."""
    x, y = apply_affine(affine, np.array([box.center]))[0]
    grown = float(np.hypot(affine[0, 0], affine[1, 0]))
    w, h = box.width * grown / 2, box.height * grown / 2
    return Box(float(x - w), float(y - h), float(x + w), float(y + h))


def shifted(box: Box, shift: tuple[float, float]) -> Box:
    """The box moved by (x, y) pixels."""
    x, y = shift
    return Box(box.left + x, box.top + y, box.right + x, box.bottom + y)


def tracked_share(before: np.ndarray, after: np.ndarray) -> float:
    """The share of points all over one grey picture that are found again in another."""
    height, width = before.shape
    _, kept = _followed(before, after, _grid(Box(0, 0, width, height).scaled(0.9)).astype(np.float32))
    return float(kept.mean())


def patch(picture: np.ndarray, box: Box) -> np.ndarray | None:
    """What a face looks like, to compare: 256 numbers of mean 0 and length 1; None outside the picture or without
    contrast.
    """
    rows, columns = _part(picture.shape, box)
    region = picture[rows, columns]
    if min(region.shape) < 2:
        return None
    small = cv2.resize(region, (16, 16), interpolation=cv2.INTER_AREA).astype(np.float32).ravel()
    small -= small.mean()
    length = float(np.linalg.norm(small))
    return small / length if length > 16 else None


def correlation(a: np.ndarray | None, b: np.ndarray | None) -> float:
    """The correlation of two patches in [-1, 1]; 0 where one is missing."""
    return 0.0 if a is None or b is None else float(a @ b)


def _followed(before: np.ndarray, after: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where points (n, 2) went, and which of them came back."""
    there, good = _flow(before, after, points)
    back, good_too = _flow(after, before, there)
    stray = np.linalg.norm(back - points, axis=1)
    return there, good & good_too & (stray < STRAY)


def _flow(before: np.ndarray, after: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    start, end = points[:, None].copy(), np.zeros((len(points), 1, 2), np.float32)
    there, good, _ = cv2.calcOpticalFlowPyrLK(before, after, start, end, winSize=_AREA, maxLevel=_LEVELS)
    return np.asarray(there)[:, 0], np.asarray(good)[:, 0] > 0


def _grid(box: Box) -> np.ndarray:
    x, y = np.linspace(box.left, box.right, GRID), np.linspace(box.top, box.bottom, GRID)
    return np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2) - 0.5


def _window(shape: tuple[int, ...], box: Box) -> tuple[slice, slice, float]:
    rows, columns = _part(shape, box.scaled(ROOM))
    return rows, columns, min(1.0, SIDE / max(box.width, box.height, 1.0))


def _part(shape: tuple[int, ...], box: Box) -> tuple[slice, slice]:
    top, bottom = (min(max(round(v), 0), shape[0]) for v in (box.top, box.bottom))
    left, right = (min(max(round(v), 0), shape[1]) for v in (box.left, box.right))
    return slice(top, max(top, bottom)), slice(left, max(left, right))


def _scaled(picture: np.ndarray, scale: float) -> np.ndarray:
    if scale >= 1 or not picture.size:
        return np.ascontiguousarray(picture)
    return cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def _sound(affine: np.ndarray) -> bool:
    """From one frame to the next no face doubles its size or turns over."""
    return bool(0.7 < np.hypot(affine[0, 0], affine[1, 0]) < 1.4 and abs(affine[1, 0]) < 0.5)


REACH = 2.5  # standard deviations to either side that count


def smoothed(times: np.ndarray, values: np.ndarray, weights: np.ndarray, now: float, sigma: float) -> np.ndarray:
    """The smooth value (d,) at `now` of `values` (n, d) at `times` (n,) in seconds, each with its weight above 0.

    sigma: standard deviation of the weights over time in seconds. Few neighbours give a line, or their mean.
    """
    return _parabola(times, values, weights, now, sigma)[0]


def hull(times: np.ndarray, sides: np.ndarray, weights: np.ndarray, now: float, sigma: float) -> np.ndarray:
    """Smooth sides (4,), left, top, right, bottom, at `now` of boxes (n, 4) that contain the box of `now`.

    Where a box reaches past the parabola, the result grows by as much, and by less the farther off in time that box
    is: it swells and shrinks again, and does not jump.
    """
    outward = np.array([-1, -1, 1, 1])
    curve = _parabola(times, sides, weights, now, sigma)
    at = (np.asarray(times) - now)[:, None]
    past = (sides - _along(curve, at)) * outward
    near = np.clip(1 - np.abs(at) / (REACH * sigma), 0, 1)
    # A box that was carried, and not found, may be off itself; it makes no other one larger.
    near = np.where((np.asarray(weights) >= 1)[:, None] | (at == 0), near, 0)
    return curve[0] + outward * np.max(np.maximum(past, 0) * near, axis=0)


def _parabola(times: np.ndarray, values: np.ndarray, weights: np.ndarray, now: float, sigma: float) -> np.ndarray:
    """The coefficients (3, d) of the local parabola in time since `now`."""
    since = np.asarray(times, np.float64) - now
    values = np.asarray(values, np.float64)
    share = np.sqrt(np.asarray(weights, np.float64) * np.exp(-0.5 * (since / sigma) ** 2))
    degree = min(2, max(0, (len(since) - 1) // 2))
    powers = (since[:, None] / sigma) ** np.arange(degree + 1)
    found = np.linalg.lstsq(powers * share[:, None], values * share[:, None], rcond=1e-6)[0]
    curve = np.zeros((3, values.shape[1]))
    curve[: degree + 1] = found / sigma ** np.arange(degree + 1)[:, None]
    return curve


def _along(curve: np.ndarray, since: np.ndarray) -> np.ndarray:
    return curve[0] + since * curve[1] + since**2 * curve[2]
