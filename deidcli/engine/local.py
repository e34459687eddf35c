"""Run the chain in this process, with threads for what is read, searched and written."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager, suppress
from typing import Any
from weakref import WeakSet

import cv2
from threadpoolctl import threadpool_limits

from deidcli.engine.archives import Archive, Member
from deidcli.engine.census import take_census
from deidcli.engine.choice import Chooser, IdentityPass
from deidcli.engine.face_list import FaceList, KnownFaces
from deidcli.engine.find import Finder
from deidcli.engine.frames import FrameOrFailure
from deidcli.engine.jobs import Job
from deidcli.engine.manifest import Row
from deidcli.engine.output import OutputFolder
from deidcli.engine.pipeline import Pipeline, Watch, unwatched
from deidcli.engine.replace import Replacer
from deidcli.engine.settings import Settings
from deidcli.faces.detectors import DetectOptions, detector
from deidcli.faces.recognisers import recogniser
from deidcli.faces.tracking import TrackOptions
from deidcli.media.stream import ReadOptions
from deidcli.methods.base import Method
from deidcli.methods.closed import ClosedSet

LARGE = 4 << 20  # bytes of an array whose memory goes back to the system as soon as it is let go
_M_MMAP_THRESHOLD = -3  # of mallopt(3)
GRACE = 5.0  # seconds that a run which is stopped waits for what is under way


def anonymize(
    jobs: Iterable[Job],
    method: Method,
    settings: Settings,
    given: FaceList | None = None,
    output: OutputFolder | None = None,
    watch: Watch = unwatched,
    whole: Sequence[Job] | None = None,
    seen: Callable[[Iterator[FrameOrFailure]], Iterator[FrameOrFailure]] = iter,
    chooser: Chooser = Chooser(),  # noqa: B008 - nothing is chosen by it, and it remembers nothing
    known: KnownFaces | None = None,
) -> Generator[Row, None, None]:
    """Replace every face of every job and write the files. A row for each file, in order, while the run goes on.

    output: the folder that is written into; None for one without a lock, in which nothing is replaced. watch: is
    called with every frame of a video. whole: for closed-set methods all jobs of the set, of which `jobs` are a part;
    None if they are the same. seen: the frames of their first pass go through it. chooser: says which faces are
    replaced. known: what a first pass elsewhere has found, by which the method is prepared already.
    Raises UsageError at once, before anything is written, for settings that cannot be carried out.
    """
    judge = recogniser(settings.recogniser) if settings.describes else None
    replacer = Replacer(method, settings, judge)
    search = None if given else detector(settings.detect)
    census = None
    if method.closed and known is None:
        assert isinstance(method, ClosedSet)
        with _pool(settings.workers) as (pool, depth):
            finder = Finder(search, given, pool, depth, settings.read, settings.track, settings.detect.landmarks)
            with _looked_at(chooser, finder, jobs if whole is None else whole) as (again, every):
                census = take_census(method, seen(_let_go(chooser.chosen(again(every)))))

    def rows() -> Generator[Row, None, None]:
        with ExitStack() as last, _pool(settings.workers) as (pool, depth):
            faces: KnownFaces | None = known or given
            if census is not None:
                last.callback(census.close)
                faces = census.cache
            finder = Finder(search, faces, pool, depth, settings.read, settings.track, settings.detect.landmarks)
            first = chooser if census is None and known is None else Chooser()  # a census has seen everything
            finder, todo = last.enter_context(_looked_at(first, finder, jobs))
            chain = Pipeline(method, settings, finder, replacer, output or OutputFolder(None), watch, chooser)
            last.callback(chain.drop)
            yield from chain(todo, pool, depth)

    return rows()


def find(
    jobs: Sequence[Job],
    options: DetectOptions,
    given: FaceList | None = None,
    workers: int = 0,
    read: ReadOptions = ReadOptions(),  # noqa: B008 - frozen
    track: TrackOptions = TrackOptions(),  # noqa: B008 - frozen
    chooser: Chooser = Chooser(),  # noqa: B008 - nothing is chosen by it, and it remembers nothing
) -> Iterator[FrameOrFailure]:
    """Every frame of every job with its faces, or with the error that ended its file. Raises UsageError at once."""
    search = None if given else detector(options)

    def frames() -> Iterator[FrameOrFailure]:
        with _pool(workers) as (pool, depth):
            finder = Finder(search, given, pool, depth, read, track, options.landmarks)
            with _looked_at(chooser, finder, jobs) as (again, todo):
                yield from _let_go(chooser.chosen(again(todo)))

    return frames()


def _let_go(items: Iterable[FrameOrFailure]) -> Iterator[FrameOrFailure]:
    """The same items; an archive is closed when the last frame of its members was taken."""
    last: Archive | None = None
    for item in items:
        source = item.source.job.source
        archive = source.packed.archive if isinstance(source, Member) else None
        if last is not None and archive is not last:
            last.close()
        last = archive
        yield item
    if last is not None:
        last.close()


@contextmanager
def _looked_at(chooser: Chooser, finder: Finder, jobs: Iterable[Job]) -> Iterator[tuple[Finder, Iterable[Job]]]:
    """A finder and the jobs for it, each of which the chooser has seen before, where it has to."""
    if chooser.people is None:
        yield finder, jobs
        return
    first = IdentityPass(finder, chooser)
    try:
        yield finder.again(first.cache), first(jobs)
    finally:
        first.close()


@contextmanager
def _pool(workers: int) -> Iterator[tuple[ThreadPoolExecutor, int]]:
    """Threads, and how many items may be under way at each stage: enough to keep them busy, few to stay small."""
    count = workers or _cores()
    _give_large_back()
    pool = _Pool(count, thread_name_prefix="deid")
    # The threads of OpenCV and BLAS would only wait for the same cores: a tenth of a run's time of the processor, and
    # ten times what a small product of matrices takes, because threads of OpenBLAS wait for each other in a loop.
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    blas = threadpool_limits(1, "blas")
    try:
        yield pool, 2 * count
    except BaseException:
        # What has begun is finished, if it does not take too long, so that no half of a file is left.
        pool.shutdown(wait=False, cancel_futures=True)
        wait(list(pool.submitted), timeout=GRACE)
        raise
    finally:
        pool.shutdown(wait=sys.exc_info()[0] is None, cancel_futures=True)
        cv2.setNumThreads(threads)
        blas.restore_original_limits()


class _Pool(ThreadPoolExecutor):
    """Threads that know what they were given to do. submitted: as long as anybody waits for it."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.submitted: WeakSet[Future] = WeakSet()

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future:
        """As for every executor."""
        future = super().submit(fn, *args, **kwargs)
        self.submitted.add(future)
        return future


def _give_large_back() -> None:
    """Have large arrays mapped one by one: in the heap of the C library they leave holes that only grow.

    A run over a video of 3840x2160 pixels takes half a gigabyte less so, in the same time. Elsewhere than with glibc
    nothing happens.
    """
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, LARGE)


def _cores() -> int:
    """Those that this process may use: a container is often given fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
