"""How often --keep-people and --only-people are wrong, on a folder of people of whom there are several pictures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from deidcli.evaluation.metrics import all_distances
from deidcli.faces.people import LOOSE, OTHER, SAME, SPLIT, STRICT, UNSURE, WORDS, judged
from deidcli.faces.recognisers.both import BothRecogniser

DRAWS = 20  # folders of people that are drawn
BY = {"both": (0, 1), "dlib": (0,), "sface": (1,)}


@dataclass(frozen=True)
class Rate:
    """How many of how many. most: what the true share is at most, at 95 %, as if all trials were independent."""

    count: int
    of: int

    @property
    def share(self) -> float:
        return self.count / self.of if self.of else float("nan")

    @property
    def most(self) -> float:
        from scipy.stats import beta

        return float(beta.ppf(0.95, self.count + 1, self.of - self.count)) if self.of > self.count else 1.0


@dataclass(frozen=True)
class PeopleRates:
    """One row. by: which recognisers decide. people, pictures: how many are at hand, and of each how many.

    left_strangers: strangers whom --keep-people leaves. left, doubted: of those who consented, how many it leaves, and
    how many it replaces as doubtful. missed: of the subjects of --only-people, how many it leaves, which is the error
    that matters. replaced, unsure: strangers whom it replaces, and how many of all strangers as doubtful.
    """

    by: str
    people: int
    pictures: int
    left_strangers: Rate
    left: Rate
    doubted: Rate
    missed: Rate
    replaced: Rate
    unsure: Rate


def people_rates(
    rows: Mapping[str, np.ndarray], people: Mapping[str, Sequence[str]], sizes: Sequence[int], pictures: int, seed: int
) -> Iterator[PeopleRates]:
    """For each size of folder, and by both recognisers and each alone.

    rows: the descriptors of pictures by `both`. people: the pictures of each. A folder holds `pictures` of each of its
    people, who have at least one more; every other picture is a probe. Folders of one person are all tried, of larger
    ones DRAWS are drawn.
    """
    own = {who: [name for name in names if name in rows] for who, names in people.items()}
    able = sorted(who for who, names in own.items() if len(names) > pictures)
    known = [(who, name) for who in able for name in own[who][:pictures]]
    asked = [(who, name) for who, names in own.items() for name in (names[pictures:] if who in able else names)]
    apart = _apart(np.stack([rows[name] for _, name in asked]), np.stack([rows[name] for _, name in known]))
    nearest = np.stack([apart[:, n : n + pictures].min(axis=1) for n in range(0, len(known), pictures)], axis=1)
    place = {who: number for number, who in enumerate(able)}
    of = np.array([place.get(who, -1) for who, _ in asked])
    random = np.random.default_rng([seed, 11])
    for size in sizes:
        if size > len(able):
            continue
        every = np.arange(len(able))
        folders = every[:, None] if size == 1 else np.stack([random.permutation(every)[:size] for _ in range(DRAWS)])
        for by, columns in BY.items():
            yield _rates(by, size, pictures, nearest[..., list(columns)], of, folders, columns)


def _apart(probes: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    """(probes, gallery, 2): distances by both, each as a multiple of its threshold."""
    both = BothRecogniser()
    end = both.parts[0].length
    halves = ((probes[:, :end], gallery[:, :end]), (probes[:, end:], gallery[:, end:]))
    parts = zip(both.parts, halves, strict=True)
    return np.stack([all_distances(part, a, b) / part.threshold for part, (a, b) in parts], axis=-1)


def _rates(
    by: str, size: int, pictures: int, nearest: np.ndarray, of: np.ndarray, folders: np.ndarray, columns: Sequence[int]
) -> PeopleRates:
    count = {(own, word): 0 for own in (True, False) for word in WORDS}
    strict, loose = STRICT[list(columns)], LOOSE[list(columns)]
    for folder in folders:
        words = judged(nearest[:, folder].min(axis=1), strict, loose)
        inside = np.isin(of, folder)
        for own in (True, False):
            for word in WORDS:
                count[own, word] += int(((words == word) & (inside == own)).sum())
    asked, strangers = (sum(count[who, word] for word in WORDS) for who in (True, False))
    return PeopleRates(
        by, size, pictures,
        left_strangers=Rate(count[False, SAME], strangers),
        left=Rate(count[True, SAME], asked),
        doubted=Rate(count[True, UNSURE], asked),
        missed=Rate(count[True, OTHER], asked),
        replaced=Rate(strangers - count[False, OTHER], strangers),
        unsure=Rate(count[False, UNSURE] + count[False, SPLIT], strangers),
    )  # fmt: skip
