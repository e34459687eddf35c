"""What is passed through the engine, the frames of a file with their faces or its failure; and work ahead in threads.

Work ahead is in order and within bounds: what keeps memory flat however long the folder is. What was handed on is not
held here any longer: a generator that waits keeps whatever its variables name, and each of these would keep a frame, or
a batch of them, more.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from deidcli.engine.jobs import Job
from deidcli.engine.stored import Copy
from deidcli.errors import printable
from deidcli.media.stream import Reader
from deidcli.values import Box, Face, Frame


@dataclass(frozen=True, eq=False)
class Source:
    """A file under way. sha256: of its bytes. began: when it was opened, by the monotonic clock. stamp: see `stamp_of`.

    reader and sha256 are None for a file that could not be opened. copy: of a stored file that is read from the disk.
    """

    job: Job
    reader: Reader | None
    sha256: str | None
    began: float
    stamp: tuple[int, int] | None = None
    copy: Copy | None = None

    def close(self) -> None:
        """Let go of the file."""
        if self.reader is not None:
            self.reader.close()
        if self.copy is not None:
            self.copy.close()

    @property
    def opened(self) -> Reader:
        """The reader of a file that has one. Raises RuntimeError for a file that could not be opened."""
        if self.reader is None:
            raise RuntimeError(f"{self.job.name} is not open")
        return self.reader


@dataclass(frozen=True)
class Choice:
    """What is to become of a face. action: "replace", "leave" or "cover". why: empty where nobody asked for it.

    doubt: whether somebody should look at it. match: whether it was taken for one of the people that the run knows.
    """

    action: str = "replace"
    why: str = ""
    doubt: bool = False
    match: bool = False


@dataclass(frozen=True, eq=False)
class FileFrame:
    """A frame of a file. last: whether it ends its file. faces: those that were found in it, or given.

    begins: whether a shot of a video (the frames between two cuts) begins with it. searched: whether faces are looked
    for in this very frame. parts: where, in whole pixels; empty for all of it. choices: what is to become of faces, by
    their numbers; the others are replaced. covers: masks (height, width) bool of what is filled with one colour.
    """

    source: Source
    frame: Frame
    last: bool
    faces: tuple[Face, ...] = ()
    begins: bool = False
    searched: bool = True
    parts: tuple[Box, ...] = ()
    choices: Mapping[int, Choice] = field(default_factory=dict)
    covers: tuple[np.ndarray, ...] = ()


@dataclass(frozen=True, eq=False)
class FileFailure:
    """Why a file cannot go on, in one line that names it. Nothing of the file is written."""

    source: Source
    error: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "error", named_error(self.source.job.name, self.error))


def named_error(name: str, error: str) -> str:
    """An error in one line that names its file: libraries tell what is wrong, and not where."""
    return error if name in error or printable(name) in error else f"{printable(name)}: {error}"


FrameOrFailure = FileFrame | FileFailure


def pixel_count(item: FrameOrFailure) -> int:
    """How many pixels an item holds, in all its looks; 0 for a failure."""
    if not isinstance(item, FileFrame):
        return 0
    return item.frame.width * item.frame.height * (1 + len(item.frame.looks))


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
