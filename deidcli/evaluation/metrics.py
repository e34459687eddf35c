"""Metrics: pure functions of distances and labels."""

from __future__ import annotations

import numpy as np


def matching_rate(distances: np.ndarray, threshold: float) -> float:
    """Share of pairs whose distance is at or below `threshold` (CLEANIR, Table 2); NaN for no pairs."""
    distances = np.asarray(distances, float)
    return float(np.mean(distances <= threshold)) if distances.size else float("nan")


def bootstrap(values: np.ndarray, draws: int = 2000, level: float = 0.95, seed: int = 0) -> tuple[float, float]:
    """The interval in which the mean of `values` (n,) lies with probability `level`, by resampling."""
    values = np.asarray(values, float)
    generator = np.random.default_rng(seed)
    means = [generator.choice(values, len(values)).mean() for _ in range(draws)]
    tail = (1 - level) / 2 * 100
    low, high = np.percentile(means, [tail, 100 - tail])
    return float(low), float(high)
