"""People: who is one person, by descriptors.

- `Neighbours`: the nearest of many descriptors, by faiss; exact for few, a graph (HNSW) for many.
- `people`: which descriptors belong to one person. Average linkage over that index, so that no chain of likenesses
  joins two who are unlike. Of two mistakes it prefers one. Two strangers who are taken for one person count once: the
  group that they share has one person more than it says. One person who is taken for two counts twice: their halves
  are each other's nearest and fall into one group, which then has one person less than it says. So the threshold is the
  recogniser's own, which joins more strangers than it splits people: the figures are in docs/ksame.md.
- `KnownPeople`, `judged`: whether a face is one of a few known people, as both shipped recognisers see it. It is the
  `SAME` where both say so by a strict threshold, and `OTHER` where both say by a loose one that it is nobody of them.
  Between it is `UNSURE`, and `SPLIT` where one of them says that it is nobody and the other does not. The thresholds
  were chosen on 448 faces of LFW's training people; docs/people.md has their error rates on other people, and the
  command that measures them.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import Any

import numpy as np

from deidcli.faces.align import upright
from deidcli.faces.recognisers import Recogniser
from deidcli.faces.recognisers.shipped import BothRecogniser
from deidcli.values import Face

# Up to here a search of all with all takes less time than building a graph does.
EXACT = 10_000
# Of the graph: links of a node, and candidates that are held while it is built and searched.
LINKS, BUILD, SEARCH = 32, 80, 128


class Neighbours:
    """An index of points (n, d) float32. The same points in the same order give the same answers."""

    def __init__(self, points: np.ndarray, exact: bool = False):
        """exact: compare with every point, however many there are."""
        import faiss

        points = np.ascontiguousarray(points, np.float32)
        self._count, self._exact = len(points), exact or len(points) <= EXACT
        self._index: Any = faiss.IndexFlatL2(points.shape[1])
        if self._exact:
            self._index.add(points)
            return
        self._index = faiss.IndexHNSWFlat(points.shape[1], LINKS)
        self._index.hnsw.efConstruction = BUILD
        self._index.hnsw.efSearch = SEARCH
        # Several threads would link the graph in another order in every run.
        before = faiss.omp_get_max_threads()
        faiss.omp_set_num_threads(1)
        try:
            self._index.add(points)
        finally:
            faiss.omp_set_num_threads(before)

    def nearest(self, queries: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Distances (q, c) float32 and numbers (q, c) int of the up to `count` nearest points, nearest first.

        Euclidean. The graph may miss some; a place without an answer holds the distance inf and the number -1.
        """
        count = min(count, self._count)
        if not self._exact:
            self._index.hnsw.efSearch = max(SEARCH, 2 * count)
        squares, numbers = self._index.search(np.ascontiguousarray(queries, np.float32), count)
        squares[numbers < 0] = np.inf
        return np.sqrt(np.maximum(squares, 0)), numbers


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


SAME, UNSURE, SPLIT, OTHER = "same", "unsure", "split", "other"
WORDS = (SAME, UNSURE, SPLIT, OTHER)
# As multiples of the thresholds of dlib (0.6) and SFace (0.637).
STRICT = np.array([0.85, 0.85])
LOOSE = np.array([1.05, 1.15])
SMALLEST = 40  # pixels of the shorter side of a face of which anything can be said
# How far the tip of the nose may lie from the middle between the eyes, as a share of their distance: 35 degrees.
TURNED = 0.3
NOSE, EYES = 30, (36, 45)  # the tip of the nose and the outer corners of the eyes among the 68 landmarks


def judged(distances: np.ndarray, strict: np.ndarray = STRICT, loose: np.ndarray = LOOSE) -> np.ndarray:
    """SAME, UNSURE, SPLIT or OTHER for distances (n, 2) by dlib and SFace, each as a multiple of its threshold.

    Words (n,). With the thresholds of one recogniser, distances (n, 1) are judged by it alone.
    """
    distances = np.asarray(distances).reshape(-1, len(strict))
    same, far = (distances <= strict).all(axis=1), distances > loose
    return np.select([same, far.all(axis=1), far.any(axis=1)], [SAME, OTHER, SPLIT], UNSURE)


def is_comparable(face: Face) -> bool:
    """Whether a face can be compared: it has landmarks, is large enough, and looks ahead."""
    if face.landmarks is None or min(face.box.width, face.box.height) < SMALLEST:
        return False
    points = upright(face.landmarks)
    left, right = points[EYES[0], 0], points[EYES[1], 0]
    return bool(right > left and abs((points[NOSE, 0] - left) / (right - left) - 0.5) <= TURNED)


class KnownPeople:
    """The people whose pictures are at hand. rows: their descriptors (n, length), of both recognisers."""

    def __init__(self, rows: np.ndarray, recogniser: BothRecogniser):
        self.rows, self.recogniser = rows, recogniser

    def distances(self, descriptors: np.ndarray) -> np.ndarray:
        """How far faces are from the nearest picture of the people, by each recogniser: (m, length) to (m, 2)."""
        return nearest(self.recogniser, np.asarray(descriptors), self.rows)


def nearest(recogniser: BothRecogniser, faces: np.ndarray, known: np.ndarray) -> np.ndarray:
    """The least distance of each of `faces` (m, length) to any of `known` (n, length), by dlib and by SFace: (m, 2)."""
    apart = [recogniser.distances(np.repeat(face[None], len(known), axis=0), known).min(axis=0) for face in faces]
    return np.array(apart).reshape(-1, 2)


def describe(recogniser: Recogniser, pixels: np.ndarray, faces: Sequence[Face]) -> np.ndarray:
    """Descriptors (n, length) of the faces of one picture (height, width, 3) uint8; all have landmarks."""
    return recogniser.embed(recogniser.chips(pixels, faces))
