"""Work ahead in threads, in order and within bounds: what keeps memory flat however long the folder is."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")


def ahead(pool: Executor, work: Callable[[A], B], items: Iterable[A], depth: int) -> Iterator[B]:
    """`work` of every item, in order; at most `depth` items are taken before the first result is asked for."""
    waiting: deque = deque()
    for item in items:
        waiting.append(pool.submit(work, item))
        if len(waiting) >= depth:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def batched(items: Iterable[A], weight: Callable[[A], int], limit: int, longest: int) -> Iterator[list[A]]:
    """Lists of items whose weights add up to `limit` or just past it, never more than `longest` items."""
    batch: list[A] = []
    total = 0
    for item in items:
        batch.append(item)
        total += weight(item)
        if total >= limit or len(batch) >= longest:
            yield batch
            batch, total = [], 0
    if batch:
        yield batch
