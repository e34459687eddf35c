"""Run the chain in this process, with threads for what is read, searched and written."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

from deidcli.engine.census import take_census
from deidcli.engine.find import Finder, Shot
from deidcli.engine.given import GivenFaces
from deidcli.engine.jobs import Job
from deidcli.engine.manifest import Row
from deidcli.engine.pipeline import Pipeline, Search
from deidcli.engine.replace import Replacer
from deidcli.engine.settings import Settings
from deidcli.faces.detect import DetectOptions, detector
from deidcli.faces.embed import recogniser
from deidcli.methods.base import Method


def anonymize(
    jobs: Sequence[Job], method: Method, settings: Settings, given: GivenFaces | None = None, overwrite: bool = False,
    whole: Sequence[Job] | None = None, watch: Callable[[Iterator[Shot]], Iterator[Shot]] = iter,
) -> Iterator[Row]:  # fmt: skip
    """Replace every face of every job and write the files. A row for each file, in order, while the run goes on.

    whole: for closed-set methods all jobs of the set, of which `jobs` are a part; None if they are the same. watch:
    sees the shots of the first pass go by. Raises UsageError at once, before anything is written, for settings that
    cannot be carried out.
    """
    judge = recogniser(settings.recogniser) if settings.verify or settings.persona == "identity" else None
    replacer = Replacer(method, settings, judge)
    search = None if given else detector(settings.detect)
    taker = None
    if method.closed:
        with _pool(settings.workers) as (pool, depth):
            shots = Finder(search, given, pool, depth)(jobs if whole is None else whole)
            taker = take_census(method, watch(shots))

    def rows() -> Iterator[Row]:
        with ExitStack() as last, _pool(settings.workers) as (pool, depth):
            finder: Search = Finder(search, taker.seen if taker else given, pool, depth)
            if taker:
                last.callback(taker.close)
                finder = taker.seen.unchanged(finder)
            chain = Pipeline(method, settings, finder, replacer, overwrite)
            last.callback(chain.drop)
            yield from chain(jobs, pool, depth)

    return rows()


def find(
    jobs: Sequence[Job], options: DetectOptions, given: GivenFaces | None = None, workers: int = 0
) -> Iterator[Shot]:
    """Every frame of every job with its faces, or with the error that ended its file. Raises UsageError at once."""
    search = None if given else detector(options)

    def shots() -> Iterator[Shot]:
        with _pool(workers) as (pool, depth):
            yield from Finder(search, given, pool, depth)(jobs)

    return shots()


@contextmanager
def _pool(workers: int) -> Iterator[tuple[ThreadPoolExecutor, int]]:
    """Threads, and how many items may be under way at each stage: enough to keep them busy, few to stay small."""
    count = workers or _cores()
    pool = ThreadPoolExecutor(count, thread_name_prefix="deid")
    try:
        yield pool, 2 * count
    finally:
        # What has begun is finished, so that no half of a file is left; what has not is dropped.
        pool.shutdown(wait=True, cancel_futures=True)


def _cores() -> int:
    """Those that this process may use: a container is often given fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
