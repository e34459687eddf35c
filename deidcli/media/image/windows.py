"""Numbers wider than eight bits, to eight bits and back, through a window chosen by the numbers that are there.

Ten-bit data in sixteen bits, floats with highlights beyond 1.0 or signed numbers are black or empty to a viewer that
takes the type's whole range. The other ranges are searched too.
"""

from __future__ import annotations

import numpy as np

Limits = tuple[float, float]
_DEPTHS = (255, 1023, 4095, 16383, 65535, (1 << 24) - 1, (1 << 32) - 1)
"""White of whole numbers with 8, 10, 12, 14, 16, 24 and 32 bits."""
_FLOAT_WHITES = (1.0, 255.0, 65535.0)
_BEYOND = 1.05
"""How far the brightest numbers of a float picture may lie beyond white."""
_LEAST = 0.25
"""Share of a range that a picture has to span to be shown in it."""
_SAMPLE = 1 << 20


def window(values: np.ndarray) -> Limits:
    """What is shown black and what white of (height, width) or (height, width, channels) numbers of any type."""
    if values.dtype == np.uint8:
        return 0.0, 255.0
    low, high = _spread(values)
    whites = _FLOAT_WHITES if values.dtype.kind == "f" else _whites(values.dtype)
    tolerance = _BEYOND if values.dtype.kind == "f" else 1.0
    white = next((float(white) for white in whites if high <= white * tolerance), None)
    if white is not None and low >= -0.05 * white and high - low >= _LEAST * white:
        return 0.0, white
    if high > low:
        return low, high
    return (0.0, white) if white is not None and low >= 0 else (low - 1, low + 1)


def further_windows(values: np.ndarray) -> list[tuple[np.ndarray, Limits]]:
    """Other ranges in which a viewer may show the numbers: the type's own, signed as unsigned, all that are there."""
    own = window(values)
    kind = values.dtype.kind
    ranges: list[Limits] = []
    if kind == "f":
        ranges += [(0.0, white) for white in _FLOAT_WHITES[:2]]
    elif values.dtype != np.uint8:
        ranges.append((0.0, float(np.iinfo(values.dtype).max)))
    if values.dtype != np.uint8:
        ranges += [_spread(values, (0.0, 100.0)), *_crowded(values, own)]
    found = [(values, limits) for limits in dict.fromkeys(ranges) if limits != own and limits[1] > limits[0]]
    if kind == "i":
        unsigned = values.view(values.dtype.str.replace("i", "u"))
        found.append((unsigned, window(unsigned)))
    return found


def narrow_window(values: np.ndarray, share: float) -> Limits | None:
    """The range that most whole numbers lie in, where it is less than that share of what their type holds."""
    whole = float(np.iinfo(values.dtype).max)
    ranges = (window(values), *_crowded(values, (0.0, whole)))
    return next((limits for limits in ranges if limits[1] - limits[0] < share * whole), None)


def to_eight_bits(values: np.ndarray, limits: Limits) -> np.ndarray:
    """The numbers as uint8: 0 at the lower limit and below, 255 at the upper one and above; NaN is 0."""
    if values.dtype == np.uint8 and limits == (0.0, 255.0):
        return values
    low, high = limits
    scaled = values.astype(np.float64 if values.dtype.itemsize > 2 else np.float32)
    np.subtract(scaled, low, out=scaled)
    np.multiply(scaled, 255 / (high - low), out=scaled)
    if values.dtype.kind == "f":
        scaled = np.nan_to_num(scaled, copy=False, nan=0.0, posinf=255.0, neginf=0.0)
    return np.clip(np.rint(scaled, out=scaled), 0, 255, out=scaled).astype(np.uint8)


def from_eight_bits(eight: np.ndarray, limits: Limits, dtype: np.dtype) -> np.ndarray:
    """The way back: uint8 as numbers of `dtype` within the limits."""
    if dtype == np.uint8 and limits == (0.0, 255.0):
        return eight
    low, high = limits
    wide = low + eight.astype(np.float64) * ((high - low) / 255)
    if dtype.kind == "f":
        return wide.astype(dtype)
    info = np.iinfo(dtype)
    return np.clip(np.rint(wide), info.min, info.max).astype(dtype)


def _whites(dtype: np.dtype) -> list[int]:
    """Of the depths that a type can hold; an unsigned type's own range is not called a depth of fewer bits."""
    return [white for white in _DEPTHS if white <= np.iinfo(dtype).max] or [int(np.iinfo(dtype).max)]


def _crowded(values: np.ndarray, own: Limits) -> list[Limits]:
    """The range that most numbers lie in, where that is a small part of the whole.

    A bright spot darkens the rest, and so do bars in white and black. Taken is the narrowest range of half of the
    numbers, the most frequent one (a ground or a bar) left out, and as much again on both sides.
    """
    seen, counts = np.unique(_sampled(values), return_counts=True)
    if len(seen) < 3:
        return []
    counts[counts.argmax()] = 0
    below = np.cumsum(counts)
    ends = np.searchsorted(below, below - counts + below[-1] / 2)
    starts = np.flatnonzero(ends < len(seen))
    first = starts[np.argmin(seen[ends[starts]].astype(np.float64) - seen[starts])]
    low, high = float(seen[first]), float(seen[ends[first]])
    low, high = max(2 * low - high, float(seen[0])), min(2 * high - low, float(seen[-1]))
    return [(low, high)] if 0 < high - low < _LEAST * (own[1] - own[0]) else []


def _spread(values: np.ndarray, shares: tuple[float, float] = (0.1, 99.9)) -> Limits:
    """The numbers below which these shares (in percent) of all lie; by default all but a thousandth at each end."""
    sample = _sampled(values)
    if not sample.size:
        return 0.0, 0.0
    low, high = np.percentile(sample, shares)
    return float(low), float(high)


def _sampled(values: np.ndarray) -> np.ndarray:
    """Some of the numbers, all over the picture, and of floats only those that are finite."""
    pixels = values[..., 0].size if values.ndim == 3 else values.size
    step = max(1, int((pixels / _SAMPLE) ** 0.5))
    sample = values[::step, ::step]
    return sample[np.isfinite(sample)] if values.dtype.kind == "f" else sample
