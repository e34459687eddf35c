"""Rates of pairs, and the interval of every figure: pure functions of distances and labels.

A pair matches where its distance is at or below a threshold. Intervals come from resampling whole people where it is
known who is who, because pictures of one person succeed and fail together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from deidcli.errors import MissingDependency
from deidcli.evaluation.results import NAN, OTHER, SHARE, TRUE_ACCEPTS, Curve, Figure, Measure
from deidcli.faces.recognisers import Recogniser

DRAWS, LEVEL = 2000, 0.95
DRAWN = 200  # resamples that are drawn at once


def matching_rate(distances: np.ndarray, threshold: float) -> float:
    """Share of pairs whose distance is at or below `threshold` (CLEANIR, Table 2); NaN for no pairs."""
    distances = np.asarray(distances, float)
    return float(np.mean(distances <= threshold)) if distances.size else NAN


def bootstrap(
    values: np.ndarray, people: Sequence | None = None, draws: int = DRAWS, level: float = LEVEL, seed: int = 0
) -> tuple[float, float]:
    """The interval in which the mean of `values` (n,) lies with probability `level`, by resampling.

    people: whose value each is; whole people are drawn then, with all their values. NaN twice for no values.
    """
    values = np.asarray(values, float)
    if not values.size:
        return NAN, NAN
    groups = np.arange(len(values)) if people is None else np.unique(np.asarray(people), return_inverse=True)[1]
    sums, counts = np.bincount(groups, values), np.bincount(groups)
    times = _resamples(len(sums), draws, seed)
    means = (times @ sums) / (times @ counts)
    tail = (1 - level) / 2 * 100
    low, high = np.percentile(means, [tail, 100 - tail])
    return float(low), float(high)


def share(
    measure: str | Measure, hits: np.ndarray, people: Sequence | None = None, better: str = "none", seed: int = 0
) -> Figure:
    """The share of `hits` (n,), true or false or in between, with its interval. measure: a name alone is of kind OTHER.

    Where all hits are alike no resample differs, and nothing would be said of how few they are; then the interval is
    the exact one of Clopper and Pearson for as many trials as there are people.
    """
    hits = np.asarray(hits, float)
    low, high = bootstrap(hits, people, seed=seed)
    tail = (1 - LEVEL) / 2
    trials = len(hits) if people is None else len(set(people))
    if hits.size and (hits == 0).all():
        high = 1 - tail ** (1 / trials)
    if hits.size and (hits == 1).all():
        low = tail ** (1 / trials)
    value = float(hits.mean()) if hits.size else NAN
    return as_measure(measure, SHARE, better).figure(value, low, high, len(hits))


def average(
    measure: str | Measure, values: np.ndarray, people: Sequence | None = None, better: str = "none", seed: int = 0
) -> Figure:
    """The mean of those of `values` (n,) that are known, with its interval."""
    values = np.asarray(values, float)
    known = np.isfinite(values)
    whose = None if people is None else np.asarray(people)[known]
    low, high = bootstrap(values[known], whose, seed=seed)
    value = float(values[known].mean()) if known.any() else NAN
    return as_measure(measure, "", better).figure(value, low, high, int(known.sum()))


def as_measure(measure: str | Measure, unit: str, better: str) -> Measure:
    """The measure itself, or one of kind OTHER under this name."""
    return Measure(measure, OTHER, unit, "", better) if isinstance(measure, str) else measure


def rate_curve(name: str, distances: np.ndarray, thresholds: np.ndarray, people: Sequence | None = None) -> Curve:
    """The matching rate at every threshold, with its interval (CLEANIR, Table 2)."""
    figures = [share("", np.asarray(distances) <= t, people) for t in thresholds]
    y, low, high = (tuple(getattr(f, key) for f in figures) for key in ("value", "low", "high"))
    return Curve(name, tuple(map(float, thresholds)), y, low, high, "threshold", "share of pairs matched")


def threshold_at(strangers: np.ndarray, rate: float) -> float:
    """The largest distance between two people at which at most `rate` of `strangers` (n,) match; NaN for none.

    -inf where even the nearest pair is too many.
    """
    ordered = np.sort(np.asarray(strangers, float))
    if not ordered.size:
        return NAN
    allowed = int(np.floor(rate * len(ordered) + 1e-9))
    limit = ordered[allowed] if allowed < len(ordered) else np.inf
    # Just below the distance of the first pair of strangers that would be one too many.
    return float(np.nextafter(limit, -np.inf))


def accepts_at(
    same: np.ndarray, strangers: np.ndarray, rate: float, people: Sequence | None = None, name: str = ""
) -> Figure:
    """True-accept rate of `same` (n,) at the threshold where at most `rate` of `strangers` (m,) are accepted."""
    same = np.asarray(same, float)
    limit = threshold_at(strangers, rate)
    hits = same <= limit if np.isfinite(limit) or limit < 0 else np.ones(len(same), bool)
    return share(TRUE_ACCEPTS.named(name or f"TAR at FAR {rate:g}"), hits if len(strangers) else np.zeros(0), people)


def roc(same: np.ndarray, strangers: np.ndarray, name: str = "ROC") -> Curve:
    """True accepts over false accepts for every threshold, by scikit-learn. Raises MissingDependency."""
    with needed("an ROC"):
        from sklearn.metrics import roc_curve
    truth = np.r_[np.ones(len(same)), np.zeros(len(strangers))]
    false, true, _ = roc_curve(truth, -np.r_[same, strangers], drop_intermediate=True)
    return Curve(name, tuple(false), tuple(true), xlabel="false-accept rate", ylabel="true-accept rate")


def equal_error_rate(same: np.ndarray, strangers: np.ndarray) -> float:
    """The rate at which false accepts and false rejects are equal; 0.5 is blind guessing, NaN where a kind is missing.

    Between two thresholds it is read off the straight line of the ROC.
    """
    if not len(same) or not len(strangers):
        return NAN
    curve = roc(same, strangers)
    false, missed = np.array(curve.x), 1 - np.array(curve.y)
    after = int(np.argmax(false >= missed))
    if after == 0:
        return float(false[0])
    gap = (missed - false)[[after - 1, after]]
    weight = gap[0] / (gap[0] - gap[1])
    return float(false[after - 1] + weight * (false[after] - false[after - 1]))


@lru_cache(maxsize=2)
def _resamples(groups: int, draws: int, seed: int) -> np.ndarray:
    """How often (draws, groups) each group is drawn in each resample. A curve asks for the same ones at every point."""
    generator = np.random.default_rng(seed)
    parts = [generator.multinomial(groups, np.full(groups, 1 / groups), DRAWN) for _ in range(-(-draws // DRAWN))]
    # Small numbers: ten thousand people take 80 MB.
    return np.concatenate([part.astype(np.float32) for part in parts])[:draws]


# --- Identification: whose face is this? Ranks among a gallery of known people, and the draws of such galleries.

BLOCK = 8192  # pairs
SHUFFLES = 200  # of the people of a gallery, to see what comes by chance
TIE = 1e-9  # distances that differ by no more are equal


@dataclass(frozen=True)
class Draw:
    """One closed set: for each person a picture to recognise and a picture to know the person by, in one order."""

    people: tuple[str, ...]
    probes: tuple[str, ...]
    gallery: tuple[str, ...]


def draws(pictures: Mapping[str, Sequence[str]], people: int, repetitions: int, seed: int) -> Iterator[Draw]:
    """Closed sets of at most `people` who have two pictures or more (k-Same-Net, Section 4.4: 50 people, 5 times)."""
    able = sorted(person for person, names in pictures.items() if len(names) >= 2)
    for repetition in range(repetitions):
        generator = np.random.default_rng([seed, repetition])
        chosen = sorted(generator.choice(able, min(people, len(able)), replace=False).tolist()) if able else []
        pairs = [generator.choice(sorted(pictures[person]), 2, replace=False).tolist() for person in chosen]
        yield Draw(tuple(chosen), tuple(p for p, _ in pairs), tuple(g for _, g in pairs))


def all_distances(judge: Recogniser, probes: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    """Distances (n, m) of every probe (n, d) to every gallery descriptor (m, d)."""
    rows = [judge.distance(np.broadcast_to(probe, gallery.shape), gallery) for probe in probes]
    return np.array(rows, float).reshape(len(probes), len(gallery))


def distances_of(judge: Recogniser, first: np.ndarray, second: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Distances (n,) of pairs of descriptors. rows: (n, 2) int into `first` (m, d) and `second` (k, d).

    A folder has far more pairs than pictures, so only BLOCK of them are laid out at once.
    """
    blocks = (rows[start : start + BLOCK] for start in range(0, len(rows), BLOCK))
    found = [judge.distance(first[block[:, 0]], second[block[:, 1]]) for block in blocks]
    return np.concatenate(found).astype(float) if found else np.zeros(0)


def hits_at(distances: np.ndarray, probes: Sequence, gallery: Sequence, rank: int) -> np.ndarray:
    """For each probe the probability (n,) that its person is among the `rank` nearest people of the gallery.

    distances: (n, m). probes, gallery: whose face each row and column is. It is 0 or 1 unless people are equally near,
    who are ordered by chance: one colour for all would otherwise be recognised, or hidden, by the order of a list.
    """
    nearest, names = _by_person(distances, gallery)
    own = np.array([names.get(person, -1) for person in probes], int)
    mine = np.where(own >= 0, nearest[np.arange(len(own)), own], np.inf)[:, None] if len(own) else nearest[:, :1]
    nearer = np.sum(nearest < mine - TIE, axis=1)
    tied = np.maximum(np.sum(np.abs(nearest - mine) <= TIE, axis=1), 1)
    return np.where(own >= 0, np.clip((rank - nearer) / tied, 0, 1), 0.0)


def cmc(distances: np.ndarray, probes: Sequence, gallery: Sequence, deepest: int = 20, name: str = "CMC") -> Curve:
    """The cumulative match characteristic: the share of probes whose person is among the first 1, 2, … `deepest`."""
    ranks = range(1, min(deepest, len(set(gallery))) + 1)
    figures = [share("", hits_at(distances, probes, gallery, rank), probes) for rank in ranks]
    y, low, high = (tuple(getattr(f, key) for f in figures) for key in ("value", "low", "high"))
    return Curve(name, tuple(map(float, ranks)), y, low, high, "rank", "share recognised")


def average_precision(distances: np.ndarray, right: np.ndarray) -> np.ndarray:
    """For each probe the average precision (n,) of a gallery's pictures, the nearest first; NaN where none is right.

    distances: (n, m), inf for a picture that is not searched. right: (n, m) bool, whether it shows the probe's person.
    """
    order = np.argsort(distances, axis=1, kind="stable")
    hits = np.take_along_axis(right & np.isfinite(distances), order, axis=1)
    precision = np.cumsum(hits, axis=1) / np.arange(1, hits.shape[1] + 1)
    return np.where(hits.any(axis=1), (precision * hits).sum(axis=1) / np.maximum(hits.sum(axis=1), 1), np.nan)


def by_chance(measure: Measure, measured: Callable[[np.random.Generator], float], count: int, seed: int) -> Figure:
    """The mean of what `measured` says of shuffled people, and the interval in which 95 % of the shuffles lie."""
    generator = np.random.default_rng([seed, 7])
    values = np.array([measured(generator) for _ in range(SHUFFLES)])
    tail = (1 - LEVEL) / 2 * 100
    low, high = np.percentile(values, [tail, 100 - tail])
    return measure.figure(float(values.mean()), float(low), float(high), count)


def _by_person(distances: np.ndarray, gallery: Sequence) -> tuple[np.ndarray, dict]:
    """The distance (n, people) to each person's nearest picture, and the column of each person."""
    names = {person: column for column, person in enumerate(dict.fromkeys(gallery))}
    columns = np.array([names[person] for person in gallery], int)
    nearest = np.full((len(distances), len(names)), np.inf)
    for picture, column in enumerate(columns):
        nearest[:, column] = np.minimum(nearest[:, column], distances[:, picture])
    return nearest, names


# --- The libraries of the extra `eval`, which a plain installation does not bring.


@contextmanager
def needed(what: str) -> Iterator[None]:
    """Turn a failed import in the body into MissingDependency that says what needs it."""
    try:
        yield
    except ImportError as error:
        raise MissingDependency(f"{what} needs {error.name}", "run `pip install deidcli[eval]`") from error
