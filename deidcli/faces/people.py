"""People: which descriptors belong to one person. Average linkage over an index of neighbours, so that no chain of
likenesses joins two who are unlike.

Of two mistakes the tool prefers one. Two strangers who are taken for one person count once: the group that they share
has one person more than it says. One person who is taken for two counts twice: their halves are each other's nearest
and fall into one group, which then has one person less than it says. So the threshold is the recogniser's own, which
joins more strangers than it splits people: the figures are in docs/ksame.md.
"""

from __future__ import annotations

import heapq

import numpy as np

from deidcli.faces.neighbours import Neighbours

NEAREST = 24  # candidates for a merger that each cluster looks at in a round
BLOCK = 100_000  # pairs that are measured at once


def people(descriptors: np.ndarray, threshold: float) -> np.ndarray:
    """The person of each descriptor, (n,) int from 0 in order of first appearance.

    descriptors: (n, d). Pairs of clusters are merged, nearest first, while the root mean square distance between the
    members of the one and of the other is within `threshold`. The order of the descriptors changes nothing but the
    numbers. The index looks at the NEAREST clusters of each, again in each round, until nothing is left to merge.
    """
    if not len(descriptors):
        return np.zeros(0, int)
    order = np.lexsort(np.asarray(descriptors).T)
    clusters = _Clusters(np.asarray(descriptors, np.float64)[order])
    while clusters.merge_round(threshold):
        pass
    labels = np.empty(len(order), int)
    labels[order] = clusters.labels()
    return _in_order(labels)


class _Clusters:
    """Clusters by the sum of their members, of the members' squared lengths, and by their number.

    of: leads from each to the one that it was merged into.
    """

    def __init__(self, rows: np.ndarray):
        self.sums, self.sizes = rows.copy(), np.ones(len(rows))
        self.squares = np.sum(rows * rows, axis=1)
        self.of = np.arange(len(rows))

    def root(self, number: int) -> int:
        while self.of[number] != number:
            self.of[number] = self.of[self.of[number]]
            number = self.of[number]
        return int(number)

    def labels(self) -> np.ndarray:
        return np.array([self.root(i) for i in range(len(self.of))])

    def merge_round(self, threshold: float) -> bool:
        """Merge near pairs, nearest first, each judged by the means as they are by then. Whether any were."""
        pairs = self._pairs(threshold)
        merged = False
        while pairs:
            distance, a, b = heapq.heappop(pairs)
            now_a, now_b = self.root(a), self.root(b)
            if now_a == now_b:
                continue
            now = float(self._apart(np.array([now_a]), np.array([now_b]))[0])
            if now > threshold:
                continue
            if now > distance and pairs and now > pairs[0][0]:
                # The means have moved apart since; others come first.
                heapq.heappush(pairs, (now, now_a, now_b))
                continue
            self._merge(now_a, now_b)
            merged = True
        return merged

    def _pairs(self, threshold: float) -> list[tuple[float, int, int]]:
        roots = np.flatnonzero(self.of == np.arange(len(self.of)))
        means = self.sums[roots] / self.sizes[roots, None]
        distances, numbers = Neighbours(means).nearest(means, NEAREST + 1)
        first, place = np.nonzero((distances <= threshold * 1.001) & (numbers >= 0))
        a, b = roots[first], roots[numbers[first, place]]
        pairs = np.unique(np.stack([np.minimum(a, b), np.maximum(a, b)], axis=1)[a != b], axis=0)
        heap: list[tuple[float, int, int]] = []
        for start in range(0, len(pairs), BLOCK):
            a, b = pairs[start : start + BLOCK].T
            apart = self._apart(a, b)
            near = apart <= threshold
            heap += zip(apart[near].tolist(), a[near].tolist(), b[near].tolist(), strict=True)
        heapq.heapify(heap)
        return heap

    def _apart(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Root mean square distance between the members of clusters a (m,) and those of b (m,)."""
        n, m = self.sizes[a], self.sizes[b]
        across = np.einsum("ij,ij->i", self.sums[a], self.sums[b])
        return np.sqrt(np.maximum(self.squares[a] / n + self.squares[b] / m - 2 * across / (n * m), 0))

    def _merge(self, a: int, b: int) -> None:
        low, high = min(a, b), max(a, b)
        self.sums[low] += self.sums[high]
        self.sizes[low] += self.sizes[high]
        self.squares[low] += self.squares[high]
        self.of[high] = low


def _in_order(labels: np.ndarray) -> np.ndarray:
    """The same labels as numbers from 0, in the order in which each appears first."""
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    rank = np.empty(len(first), int)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[inverse.reshape(-1)]
