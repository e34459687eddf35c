"""The files of a run in parts, for processes that do them elsewhere; and what is left of one whose process died."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from deidcli.engine.buckets import Url, object_at, objects
from deidcli.engine.census import DetectionCache, Detections
from deidcli.engine.jobs import Job
from deidcli.engine.manifest import FAILED, Row
from deidcli.errors import DeidError

PART = 64  # files of a part, at most
SHARE = 4  # parts that each actor gets of what is left, at least: the last ones end together
TRIES = 3  # actors that may die of one file


@dataclass(frozen=True)
class Part:
    """Files for one actor.

    kept: names of files whose outputs existed when the run began. again: whether an actor that died may have begun it,
    so that other outputs may be there by now. tries: actors that died of it. seen: what a first pass found.
    """

    number: int
    jobs: tuple[Job, ...]
    kept: frozenset[str] = frozenset()
    again: bool = False
    tries: int = 0
    seen: Detections | None = None


class Parts:
    """The parts of the jobs, taken from them as they are asked for; what has to be done again comes first.

    count: about how many jobs there are. kept: as in `Part`. cache: what a first pass has found of them.
    """

    def __init__(
        self,
        jobs: Iterable[Job],
        count: int,
        actors: int,
        kept: frozenset[str] = frozenset(),
        cache: DetectionCache | None = None,
    ):
        self._units = (tuple(group) for _, group in groupby(jobs, key=lambda job: job.unit))
        self._count, self._actors, self._kept, self._cache = count, actors, kept, cache
        self._again: deque[Part] = deque()
        self._lost: list[Part] = []
        self._number, self._over = 0, False

    def left(self) -> bool:
        """Whether there may be another one."""
        return bool(self._again) or not self._over

    def next(self) -> Part | None:
        """The next part; they grow smaller towards the end. The members of an archive stay together."""
        if self._again:
            return self._again.popleft()
        own: list[Job] = []
        size = min(PART, max(1, self._count // (SHARE * self._actors)))
        while len(own) < size and not self._over:
            unit = next(self._units, None)
            self._over = unit is None
            own += unit or ()
        if not own:
            return None
        self._count -= len(own)
        self._number += 1
        names = [job.name for job in own]
        seen = self._cache.portion(names) if self._cache is not None else None
        return Part(self._number - 1, tuple(own), self._kept.intersection(names), seen=seen)

    def again(self, parts: Sequence[Part]) -> None:
        """Take back what was not done."""
        self._lost += [part for part in parts if part.tries >= TRIES]
        self._again.extendleft(reversed([part for part in parts if part.tries < TRIES]))

    def given_up(self) -> Iterator[tuple[Part, Row]]:
        """Rows for files of which several actors died."""
        while self._lost:
            part = self._lost.pop()
            for job in part.jobs:
                said = f"{job.name}: the process that worked on it died {part.tries} times"
                yield part, Row(job.name, None, FAILED, error=said)


def existing_outputs(jobs: Sequence[Job], root: Any) -> frozenset[str]:
    """The names of jobs whose outputs exist before the run begins, and may not be replaced."""
    if any(isinstance(job.place, Url) for job in jobs):
        places = {Url(f"{root}/{name}") for name, _ in objects(root)} if root is not None else set()
        return frozenset(
            job.name for job in jobs
            if job.place is not None and (job.place in places or (root is None and object_at(job.place)))
        )  # fmt: skip
    return frozenset(job.name for job in jobs if job.place is not None and os.path.lexists(job.place))


def remaining(part: Part, reported: set[str]) -> list[Part]:
    """Parts for what an actor that died had not finished, one for each file and each archive."""
    units = [list(group) for _, group in groupby(part.jobs, key=lambda job: job.unit)]
    rest = [unit for unit in units if not reported.issuperset(job.name for job in unit)]
    return [replace(part, jobs=tuple(unit), again=True, tries=part.tries + 1) for unit in rest]


def retried(part: Part, reported: set[str]) -> list[Part]:
    """The whole part again, for work whose result comes in one piece."""
    if part.tries + 1 >= TRIES:
        raise DeidError(f"{part.jobs[0].name} or another file of its part ends every process that reads it")
    return [replace(part, tries=part.tries + 1)]
