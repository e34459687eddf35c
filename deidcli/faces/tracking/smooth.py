"""Smooth: a track's boxes and points without the detector's jitter, without lag, and never smaller than what was found.

A value is the local parabola through its neighbours on both sides, weighted by how near they are in time (LOESS, the
Savitzky-Golay filter for uneven time stamps): steady motion and acceleration pass through it unchanged.
"""

from __future__ import annotations

import numpy as np

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
