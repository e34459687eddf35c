"""Run the chain on a cluster of Ray: the files of a run in parts, each done by an actor as one process would do it.

This process alone lists files, holds the lock and writes the manifest. An actor has one processor, or one GPU, and the
networks; it gets a part, sends the row of each file as soon as it is in its place, and the next part is waiting.
What an actor that died had begun is done again by another one, file by file.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import numpy as np
import ray
from ray.exceptions import RayError, RayTaskError

from deidcli.engine.census import CensusTaker, DetectionCache, Portion
from deidcli.engine.choice import Chooser, People
from deidcli.engine.face_list import FaceList, KnownFaces
from deidcli.engine.frames import FrameOrFailure
from deidcli.engine.jobs import Job
from deidcli.engine.local import anonymize as anonymize_here
from deidcli.engine.local import find
from deidcli.engine.manifest import Row
from deidcli.engine.output import OutputFolder
from deidcli.engine.parts import Part, Parts, existing_outputs, remaining, retried
from deidcli.engine.pipeline import Watch
from deidcli.engine.settings import RECOGNISER, Settings
from deidcli.engine.zones import Instructions
from deidcli.errors import DeidError, UsageError, one_line
from deidcli.faces.people import KnownPeople
from deidcli.faces.recognisers import recogniser
from deidcli.faces.recognisers.shipped import BothRecogniser
from deidcli.methods.base import Census, Method, Secret
from deidcli.networks import backend

QUEUED = 2  # parts that an actor has at a time: the one it works on, and the next
ROWS = 64  # that wait to be fetched from an actor, at most
PATIENCE = 600.0  # seconds without any actor, as while a cluster brings up machines
POLL = 1.0  # seconds between two looks at the actors


@dataclass(frozen=True)
class _Orders:
    """What every actor gets. output: kind, folder and `overwrite`."""

    method: type[Method]
    options: Any
    secret: Secret
    settings: Settings
    given: FaceList | None
    output: tuple[type[OutputFolder], Any, bool]
    instructions: Instructions
    people: tuple[np.ndarray, str] | None
    device: str

    def made(self) -> Method:
        """The method, as this process has it."""
        return self.method(self.options, self.secret)

    def chooser(self) -> Chooser:
        """The object that decides which faces are replaced, as in this process."""
        if self.people is None:
            return Chooser(None, self.instructions)
        rows, flag = self.people
        return Chooser(People(KnownPeople(rows, BothRecogniser()), flag), self.instructions)


class _Worker:
    """The actor: a method with its networks, in a process of its own."""

    def __init__(self, orders: _Orders):
        self.orders = orders
        self.method: Method | None = None

    def ready(self, census: Census | None) -> None:
        """Load what is needed, and take the closed set once it is counted. Raises what the run would raise."""
        if self.method is None:
            backend.choose(self.orders.device)
            self.method, self.chooser = self.orders.made(), self.orders.chooser()
        if census is not None:
            self.method.prepare(census)

    def described(self, part: Part) -> Iterator[Portion]:
        """What the first pass of a closed set finds in a part."""
        settings = self.orders.settings
        items = find(part.jobs, settings.detect, self.orders.given, 1, settings.read, settings.track, self.chooser)
        assert self.method is not None
        taker = CensusTaker(self.method, recogniser(RECOGNISER))
        try:
            taker.look(items)
            yield taker.portion()
        finally:
            taker.close()

    def done(self, part: Part) -> Iterator[Row]:
        """The files of a part, written."""
        opened, root, replaces = self.orders.output
        known = DetectionCache.of_portion(part.seen) if part.seen is not None else None

        def replaced(job: Job) -> bool:
            # What an actor that died has put in its place is replaced; what existed before the run is not.
            return replaces or (part.again and job.name not in part.kept)

        try:
            for each, jobs in groupby(part.jobs, key=replaced):
                # Ray sends values into a generator, which `yield from` would hand on.
                for row in self._written(list(jobs), opened(root, each), known):  # noqa: UP028
                    yield row
        finally:
            if known is not None:
                known.close()

    def _written(self, jobs: list[Job], output: OutputFolder, known: KnownFaces | None) -> Iterator[Row]:
        assert self.method is not None
        try:
            yield from anonymize_here(
                jobs, self.method, self.orders.settings, self.orders.given, output, chooser=self.chooser, known=known
            )
        finally:
            output.close()


def anonymize(
    jobs: Iterable[Job],
    method: Method,
    settings: Settings,
    given: FaceList | None,
    output: OutputFolder,
    watch: Watch,
    whole: Sequence[Job],
    seen: Callable[[Iterator[FrameOrFailure]], Iterator[FrameOrFailure]],
    chooser: Chooser,
) -> Generator[Row, None, None]:
    """As `local.anonymize`; rows come as files are done, and frames are not reported. Raises UsageError, DeidError."""
    if settings.persona == "identity":
        raise UsageError("--persona identity needs all files in one process", "leave out --runner ray")
    if any(job.source is None or job.target is None for job in whole):
        raise UsageError("standard input and output are of this process alone", "leave out --runner ray")
    people = (chooser.people.known.rows, chooser.people.flag) if chooser.people is not None else None
    orders = _Orders(
        type(method), method.options, method.secret, replace(settings, workers=1), given,
        (type(output), output.root, output.overwrite), chooser.instructions, people, backend.chosen(),
    )  # fmt: skip
    crew = _Crew(orders, settings.workers)
    census = None
    try:
        if method.closed:
            census = crew.counted(method, whole)
    except BaseException:
        crew.close()
        raise

    def rows() -> Generator[Row, None, None]:
        try:
            kept = frozenset() if output.overwrite else existing_outputs(whole, output.root)
            cache = census.cache if census is not None else None
            yield from crew.rows(Parts(jobs, len(whole), crew.count, kept, cache))
        finally:
            crew.close()
            if census is not None:
                census.close()

    return rows()


_Answers = Iterator[tuple[Part, Any]]


class _Crew:
    """The actors of a run. count: how many, 0 for one a processor (or GPU) of the cluster."""

    def __init__(self, orders: _Orders, count: int):
        self._began = not ray.is_initialized()
        if self._began:
            _connect(count)
        need = "GPU" if orders.device == "gpu" else "CPU"
        options = {"num_cpus": 1, "num_gpus": int(need == "GPU"), "max_restarts": 0}
        self._kind: Any = ray.remote(_Worker).options(**options)
        self._orders = ray.put(orders)
        self._census: Any = None
        self._turn = 0
        self._flights: dict[Any, tuple[Any, Part]] = {}  # of each stream of answers: the actor, and its part
        self._coming: dict[Any, Any] = {}  # of each actor that is not there yet: what tells that it is
        self._actors: list[Any] = []
        self.count = count or max(1, int(ray.cluster_resources().get(need, 0)))
        self._spare = 3 * self.count  # actors that may die before the run gives up
        for _ in range(self.count):
            self._hire()

    def close(self) -> None:
        """Let the actors go."""
        for actor in (*self._actors, *self._coming.values()):
            ray.kill(actor)
        self._actors, self._coming, self._flights = [], {}, {}
        if self._began and ray.is_initialized():
            ray.shutdown()

    def counted(self, method: Method, jobs: Sequence[Job]) -> CensusTaker:
        """The first pass of a closed set, by all actors; the method is prepared here and in each of them."""
        taker = CensusTaker(method, recogniser(RECOGNISER))
        try:
            portions: dict[int, Portion] = {}
            due = 0
            for part, portion in self._answers("described", Parts(jobs, len(jobs), self.count), retried):
                portions[part.number] = portion
                # In the order of the files, so that people are numbered as in one process.
                while due in portions:
                    taker.add(portions.pop(due))
                    due += 1
            census = taker.census()
            method.prepare(census)
            numbers = np.arange(len(census.keys))
            pixels = census.pixels[numbers] if method.needs_pixels else np.zeros((len(numbers), 0), np.uint8)
            self._census = ray.put(replace(census, pixels=pixels, landmarks=census.landmarks[numbers]))
        except BaseException:
            taker.close()
            raise
        self._coming |= {actor.ready.remote(self._census): actor for actor in self._actors}
        self._actors = []
        return taker

    def rows(self, parts: Parts) -> Iterator[Row]:
        """A row for each file, once."""
        names: set[str] = set()
        for _, row in self._answers("done", parts, remaining):
            if row.input not in names:
                names.add(row.input)
                yield row

    # --- actors

    def _hire(self) -> None:
        actor = self._kind.remote(self._orders)
        self._coming[actor.ready.remote(self._census)] = actor

    def _welcome(self, ref: Any) -> None:
        """An actor is there, or is not going to be."""
        actor = self._coming.pop(ref)
        try:
            ray.get(ref)
        except RayTaskError as error:
            raise _cause(error) from error
        except RayError as error:
            self._lost(error)
            return
        self._actors.append(actor)

    def _lost(self, error: Exception) -> None:
        """An actor died: another one comes in its place, unless too many did."""
        self._spare -= 1
        if self._spare < 0:
            raise DeidError(
                f"the processes of the cluster die: {one_line(error)[:300]}", "see the logs of Ray"
            ) from error
        self._hire()

    # --- answers

    def _answers(self, call: str, parts: Parts, left: Callable[[Part, set[str]], list[Part]]) -> _Answers:
        """What actors answer to parts. left: the parts that are to be done again of one whose actor died."""
        reported: dict[Any, set[str]] = {}
        last = time.monotonic()
        while self._hand_out(call, parts) or self._flights:
            ready = self._awaited()
            if ready is not None or self._actors:
                last = time.monotonic()
            elif time.monotonic() - last > PATIENCE:
                raise DeidError("no machine of the cluster takes the work", "see `ray status`")
            if ready in self._coming:
                self._welcome(ready)
            elif ready is not None:
                actor, part = self._flights[ready]
                try:
                    answer = ray.get(next(ready))
                except StopIteration:
                    del self._flights[ready]
                    reported.pop(ready, None)
                    continue
                except RayTaskError as error:
                    raise _cause(error) from error
                except RayError as error:
                    parts.again(self._fallen(actor, reported, left))
                    self._lost(error)
                    continue
                if isinstance(answer, Row):
                    reported.setdefault(ready, set()).add(answer.input)
                yield part, answer
            yield from parts.given_up()
        yield from parts.given_up()

    def _awaited(self) -> Any:
        """An actor that is there, or a stream with an answer; None where nothing comes for a moment."""
        waiting = [*self._flights, *self._coming]
        self._turn += 1  # each comes first once: one that answers fast does not keep the others waiting
        turn = self._turn % len(waiting)
        ready, _ = ray.wait(waiting[turn:] + waiting[:turn], timeout=POLL, fetch_local=False)
        return ready[0] if ready else None

    def _hand_out(self, call: str, parts: Parts) -> bool:
        """Give parts to actors; whether any are left."""
        busy = [actor for actor, _ in self._flights.values()]
        options = {"num_returns": "streaming", "_generator_backpressure_num_objects": ROWS}
        for depth in range(QUEUED):
            for actor in self._actors:
                if busy.count(actor) == depth:
                    part = parts.next()
                    if part is None:
                        return False
                    self._flights[getattr(actor, call).options(**options).remote(part)] = actor, part
                    busy.append(actor)
        return parts.left()

    def _fallen(
        self, actor: Any, reported: dict[Any, set[str]], left: Callable[[Part, set[str]], list[Part]]
    ) -> list[Part]:
        """What an actor that died leaves: the part that it worked on in pieces, and the one that waited as it is."""
        self._actors = [other for other in self._actors if other != actor]
        with suppress(RayError):
            ray.kill(actor)  # it may only be out of reach
        again: list[Part] = []
        flights = [each for each, (whose, _) in self._flights.items() if whose == actor]
        for number, each in enumerate(flights):
            _, part = self._flights.pop(each)
            again += [replace(part, again=True)] if number else left(part, reported.pop(each, set()))
        return again


def _connect(count: int) -> None:
    """Join the cluster of RAY_ADDRESS, or start one on this machine. Raises DeidError."""
    own: dict[str, Any] = {"num_cpus": count or None, "include_dashboard": False}
    stop = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(log_to_driver=False, logging_level=logging.ERROR, **({} if os.environ.get("RAY_ADDRESS") else own))
    except Exception as error:
        raise DeidError(f"Ray cannot be reached: {one_line(error)}", "check RAY_ADDRESS") from error
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, stop)  # Ray has an own one


def _cause(error: RayTaskError) -> BaseException:
    """What was raised in an actor, as it would have been raised here."""
    cause = error.cause
    return cause if isinstance(cause, DeidError) else DeidError(f"in a process of the cluster: {one_line(cause)}")
