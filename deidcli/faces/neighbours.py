"""Neighbours: the nearest of many descriptors, by faiss. Exact for few, a graph (HNSW) for many."""

from __future__ import annotations

from typing import Any

import numpy as np

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
