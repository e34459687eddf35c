"""Work ahead in threads, in order and within bounds: what keeps memory flat however long the folder is.

What was handed on is not held here any longer: a generator that waits keeps whatever its variables name, and each of
these would keep a frame, or a batch of them, more.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from typing import Any, TypeVar

A = TypeVar("A")
B = TypeVar("B")


def ahead(
    pool: Executor,
    work: Callable[[A], B],
    items: Iterable[A],
    depth: int,
    weight: Callable[[A], int] = lambda item: 0,
    limit: int = 1,
) -> Iterator[B]:
    """`work` of every item, in order; at most `depth` items are taken before the first result is asked for.

    Fewer where their weights come to `limit`, so that a machine of many cores does not hold many large frames.
    """
    waiting: deque = deque()
    load = 0
    for item in items:
        waiting.append((pool.submit(work, item), weight(item)))
        del item
        load += waiting[-1][1]
        while waiting and (len(waiting) >= depth or load >= limit):
            load -= waiting[0][1]
            yield waiting.popleft()[0].result()
    while waiting:
        yield waiting.popleft()[0].result()


def one_ahead(pool: Executor, items: Iterator[A]) -> Iterator[A]:
    """The same items; the next one is made in a thread while the last one is used."""
    end: Any = object()
    coming = pool.submit(next, items, end)
    try:
        while (handed := [coming.result()])[0] is not end:
            coming = pool.submit(next, items, end)
            yield handed.pop()
    finally:
        # What makes the items may be closed after this, and not while it works.
        if not coming.cancel():
            coming.exception()


def batched(items: Iterable[A], weight: Callable[[A], float], limit: float, longest: int) -> Iterator[list[A]]:
    """Lists of items whose weights add up to `limit` or just past it, never more than `longest` items."""
    batch: list[A] = []
    total = 0.0
    for item in items:
        batch.append(item)
        total += weight(item)
        del item
        if total >= limit or len(batch) >= longest:
            handed, batch, total = [batch], [], 0.0
            yield handed.pop()
    if batch:
        yield batch
