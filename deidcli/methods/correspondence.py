"""Correspondence: which cluster of proxies stands for which group, f of k-Same-Net's Algorithm 1 (lines 2 and 3).

Which cluster a group gets is free in the paper. In a photograph hair, jaw and light stay, and where the gender stays as
well, a cluster that was chosen blindly lets a recogniser name more people than chance would. So clusters are tried on.
What a new face is described by is, to nine tenths, a sum: what is left of the person, and what the cluster brings. So
each person tries one cluster on, a few people try on all, and every other pair is the sum. A group gets the cluster
with which the recogniser would sooner name somebody else for each of its people. All of them have the same in the end,
so k-anonymity is what it was.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from deidcli.faces.neighbours import Neighbours
from deidcli.methods.base import Secret
from deidcli.methods.mixes import Proxies
from deidcli.methods.proxies import GROWN, alike, felt

LIKE = 1.5  # so many times as many proxies as a cluster has are most like its first one; the others come from them
POOL, SPARE, MOST = 16, 2, 200  # clusters of a kind: at least, for each of its groups, and at most
SAMPLES = 3  # people who try all clusters of a kind on

Described = Callable[[np.ndarray, Sequence[np.ndarray]], np.ndarray]


@dataclass(frozen=True)
class Correspondence:
    """proxies: of the preset. kept: of "gender" and "age" what a cluster has in common with its group. size: proxies of
    a cluster. secret: of the run.

    described: (people (n,), the cluster of each) to the descriptors (n, 128) of their new faces.
    """

    proxies: Proxies
    kept: frozenset[str]
    size: int
    secret: Secret
    described: Described

    def assigned(self, groups: Sequence[np.ndarray], targets: Sequence[np.ndarray], centres: np.ndarray) -> list:
        """The proxies (size,) of each group. groups: people (m,) whose gender and age its proxies have.

        targets: people (m,) who are to get them. centres: (p, 128), descriptors of all people.
        """
        found: list[np.ndarray] = [np.zeros(0, int)] * len(groups)
        kinds: dict[bytes, list[int]] = {}
        fits = [self.fitting(centres[members]) for members in groups]
        for number, fit in enumerate(fits):
            kinds.setdefault(fit.tobytes(), []).append(number)
        known = Neighbours(centres)
        for numbers in kinds.values():
            count = int(np.clip(SPARE * len(numbers), POOL, MOST))
            own = self._drawn(fits[numbers[0]], count, f"clusters {numbers[0]}")
            other = self._drawn(self._grown(fits[numbers[0]]), count, f"others {numbers[0]}") if self.kept else []
            chosen = self._chosen(own, other, [targets[number] for number in numbers], centres, known)
            for number, cluster in zip(numbers, chosen, strict=True):
                found[number] = cluster
        return found

    def fitting(self, members: np.ndarray) -> np.ndarray:
        """The proxies (f,) of the gender and age of members (m, 128), where those are kept; all where too few are.

        A child's face goes to a child, whatever is kept. Nothing else has to be like: a face of their race, say, would
        only have to be told from those few that have it.
        """
        known, said = self.proxies, self.proxies.probe(members).mean(axis=0)
        gender, age, _ = alike(known.traits, said)
        fits = (gender | ("gender" not in self.kept)) & (age | ("age" not in self.kept))
        fits &= (known.traits[:, 1] >= felt(GROWN)) == (said[1] >= felt(GROWN))
        return np.flatnonzero(fits if fits.sum() >= self.size else np.ones(len(fits), bool))

    def _grown(self, fits: np.ndarray) -> np.ndarray:
        """All proxies that are children or adults as those that fit are."""
        adult = self.proxies.traits[:, 1] >= felt(GROWN)
        return np.flatnonzero(adult == adult[fits[0]])

    def _drawn(self, fits: np.ndarray, count: int, name: str) -> list[np.ndarray]:
        """Clusters (size,) of proxies that fit: one that is drawn, and others like it.

        The mean of proxies that have nothing in common would be everybody's.
        """
        draws, described = self.secret.generator(name), self.proxies.descriptors
        size, clusters = min(self.size, len(fits)), []
        for _ in range(count):
            first = draws.choice(fits)
            order = fits[np.argsort(np.linalg.norm(described[fits] - described[first], axis=1), kind="stable")]
            like = order[1 : max(size, int(LIKE * size) + 1)]
            clusters.append(np.append(first, draws.choice(like, size - 1, replace=False)))
        return clusters

    def _chosen(
        self,
        own: list[np.ndarray],
        other: list[np.ndarray],
        targets: list[np.ndarray],
        centres: np.ndarray,
        known: Neighbours,
    ) -> list[np.ndarray]:
        """The cluster of each group of targets: of its own kind, unless one of its people would be named with each.

        Several may have the same one, and share a face with more than k.
        """
        clusters, people = own + other, np.concatenate(targets)
        samples = people[np.linspace(0, len(people) - 1, min(SAMPLES, len(people))).astype(int)]
        tried = self.described(np.tile(samples, len(clusters)), [c for c in clusters for _ in samples])
        brought = tried.reshape(len(clusters), len(samples), -1).mean(axis=1)
        left = dict(zip(people.tolist(), self.described(people, [own[0]] * len(people)) - brought[0], strict=True))
        chosen = []
        for group in targets:
            exposed = np.max([_exposed(left[who] + brought, who, centres, known) for who in group.tolist()], axis=0)
            within = exposed[: len(own)] if exposed[: len(own)].min() < 0 else exposed
            chosen.append(clusters[int(np.argmin(within))])
        return chosen


def _exposed(rows: np.ndarray, who: int, centres: np.ndarray, known: Neighbours) -> np.ndarray:
    """By how much a person is nearer to descriptors (n, 128) than anybody else is: (n,), below 0 for no nearer."""
    apart, numbers = known.nearest(rows, 2)
    others = np.where(numbers[:, 0] == who, apart[:, -1], apart[:, 0])
    return others - np.linalg.norm(rows - centres[who], axis=1)
