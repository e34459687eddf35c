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


def threshold_at(strangers: np.ndarray, accepted: float) -> float:
    """The largest threshold that takes no more than a share `accepted` of stranger pairs for one person.

    strangers: (n,) their distances. With n pairs no share below 1/n can be told apart from none.
    """
    ordered = np.sort(np.asarray(strangers, float))
    allowed = int(np.floor(accepted * len(ordered)))
    return float(np.nextafter(ordered[allowed], -np.inf)) if allowed < len(ordered) else float(ordered[-1])
