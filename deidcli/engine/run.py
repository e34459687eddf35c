"""A run from files to files: what is to be done is checked first, then done row by row, then summed up."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from itertools import chain
from pathlib import Path
from typing import Any

from deidcli.engine import jobs as listing
from deidcli.engine import unattended
from deidcli.engine.bucket_output import BucketFolder, BucketManifest
from deidcli.engine.buckets import Url, is_url, objects, place_of
from deidcli.engine.choice import KEEP, ONLY, Chooser, People, load_people
from deidcli.engine.face_list import FaceList
from deidcli.engine.files import digest, tree_digest
from deidcli.engine.frames import FrameOrFailure
from deidcli.engine.jobs import STREAM, Job, Listing
from deidcli.engine.labels import read_faces
from deidcli.engine.manifest import COPIED, DONE, FAILED, SALVAGED, Earlier, Manifest, Row, Tally
from deidcli.engine.output import OutputFolder
from deidcli.engine.pipeline import Watch, unwatched
from deidcli.engine.records import Record
from deidcli.engine.runners import runner
from deidcli.engine.settings import RunOptions, Settings, fingerprint, marked
from deidcli.engine.stored import Stored
from deidcli.engine.survey import MANIFEST
from deidcli.engine.tally import CarriedFiles, RunFacts, summed_up
from deidcli.engine.zones import Instructions, load_instructions
from deidcli.errors import DeidError, MediaError, UsageError, one_line
from deidcli.faces.detectors import detector
from deidcli.methods.base import Method

WAIT = 1.0  # seconds between two tries to claim a folder
FirstPass = Callable[[Iterator[FrameOrFailure]], Iterator[FrameOrFailure]]


class Run:
    """A run that was checked and not begun. Raises UsageError for what cannot be carried out; nothing is touched.

    files: what the inputs hold. output: the folder, file or "-" that they go to. jobs: those that are to be done, less
    what an earlier run has done. done_before: how many that are. older: how many are left out by `since`. problems:
    what went wrong beside the files themselves, a line each; complete when the rows are.
    """

    def __init__(
        self,
        files: Listing,
        output: str,
        method: Method,
        settings: Settings,
        options: RunOptions = RunOptions(),  # noqa: B008 - frozen
    ):
        self.files, self.method = files, method
        self.single = output == STREAM or {job.place for job in files.jobs} == {place_of(output)}
        self.options = options = self._asked(options)
        self.problems: list[str] = []
        self.removed = 0
        self._broken = ""
        own = list(listing.shard(files.jobs, *options.shard)) if options.shard else list(files.jobs)
        self.copies = list(listing.shard(files.copies, *options.shard)) if options.shard else list(files.copies)
        self.settings = self._settled(settings)
        if settings.preview_sheet:
            listing.check_sheets(own)
        if settings.label_format:
            listing.check_labels(own, self.copies, settings.label_format)
        self.place = self._manifest_place(output, own)
        self.given = self._given()
        self.instructions = self._instructions()
        self._folder = folder = None if self.single else place_of(output)
        self._check_unattended(folder)
        recent = [job for job in own if options.since is None or not unattended.is_older(job, options.since)]
        self.older = len(own) - len(recent)
        self.jobs: list[Job] = []
        self._plan(recent)
        self.carried = CarriedFiles(self.jobs)
        self._check_archives()
        self.deadline = unattended.Deadline(options.max_minutes)
        opened = BucketFolder if is_url(output) else OutputFolder
        self.output = opened(folder, options.overwrite or options.resume)

    def rows(
        self, watch: Watch = unwatched, first_pass: FirstPass = iter, notify: Callable[[str], object] = str
    ) -> Iterator[Row]:
        """Do it: a row for each file, as soon as the file is in its place and its line is in the manifest.

        watch: is called with every frame of a video. first_pass: the frames of the first pass of a closed-set method go
        through it. notify: gets a line about the lock of a run that was killed. Raises UsageError before anything is
        written, DeidError where another run writes into the same folder.
        """
        shared = self.options.shard is not None
        with ExitStack() as held:
            held.callback(self.output.close)
            # A folder that is there is claimed before anything takes long; a new one, when nothing can be refused.
            if self.output.exists:
                self._lock(shared, notify)
            due = self.deadline(self.jobs)
            every = self.files.jobs
            work = runner(self.options.runner)(
                due, self.method, self.settings, self.given, self.output, watch, every, first_pass, self.chooser()
            )
            self._lock(shared, notify)
            if self.output.stale:
                notify(self.output.stale)
            keep = self.options.resume or not self.options.overwrite
            manifest = self._manifest(keep)
            if manifest:
                held.callback(manifest.close)
            after, missing = self._after(held), {job.name: job for job in (*self.jobs, *self.copies)}
            # Closed before the folder is given back: what was begun is dropped then.
            held.callback(work.close)
            for row in chain(self._guarded(work), self._copied(), self._unreached(missing)):
                missing.pop(row.input, None)
                added = _added(manifest, row)
                self.carried.add(added)
                after(manifest, added)
                yield added

    def _manifest(self, keep: bool) -> Manifest | None:
        if isinstance(self.place, Url):
            return BucketManifest(self.place, keep)
        return Manifest(self.place, keep) if self.place else None

    def chooser(self) -> Chooser:
        """The object that decides which faces are replaced, left or covered. Raises UsageError, MissingDependency."""
        folder, flag = self._people()
        if folder is None:
            return Chooser(None, self.instructions)
        return Chooser(People(load_people(folder, flag, detector(self.settings.detect)), flag), self.instructions)

    def _guarded(self, work: Iterator[Row]) -> Iterator[Row]:
        """The rows, until something breaks that belongs to no file."""
        try:
            yield from work
        except Exception as error:
            self._broken = one_line(error)

    def _unreached(self, missing: Mapping[str, Job]) -> Iterator[Row]:
        """A row for each file that has none although its time was not over: it is not done, and that is said."""
        left = {job.name for job in self.deadline.left}
        for name in list(missing):
            if name not in left:
                yield Row(
                    name, None, FAILED, error=f"{name}: was not reached: {self._broken or 'it ended without a result'}"
                )

    def status(self, tally: Tally) -> int:
        """The exit status: 0 all done, 1 some files failed, 3 nothing could be done."""
        if not tally.failed + tally.files[SALVAGED]:
            return 1 if self.deadline.left or self.problems else 0
        # Where something was done earlier, "nothing could be done" would not be true.
        return 3 if tally.failed == len(self.jobs) + len(self.copies) and not self.done_before else 1

    def summary(self, tally: Tally) -> str:
        """Everything that was in the inputs, counted, in one line."""
        facts = RunFacts(
            files=len(self.jobs),
            carried=self.carried.count,
            before=self.done_before if self.options.incremental else 0,
            older=self.older,
            removed=self.removed,
            left=len(self.deadline.left),
            given=bool(self.given),
            left_out=self.files.left_out,
            place=self.place,
        )
        return summed_up(facts, tally, self.settings)

    def _settled(self, settings: Settings) -> Settings:
        """With the checksums of what the settings only name. Raises UsageError for those that do not go together."""
        options = self.options
        if settings.persona == "identity" and (options.resume or options.shard):
            # Descriptors of people are written nowhere, so another process cannot know who was seen before.
            raise UsageError("--persona identity needs all files in one run", "leave out --resume and --shard")
        folder, flag = self._people()
        if folder is not None:
            settings = replace(settings, choice=f"{flag} {_digest(folder, flag)}")
        if options.faces is not None:
            said = _digest(options.faces, "--faces")
            settings = replace(settings, faces=":".join((said, *options.faces_class)))
        return self._closed(settings) if self.method.closed else settings

    def _closed(self, settings: Settings) -> Settings:
        """With a checksum over all inputs of a closed set, since every surrogate depends on all of them."""
        if any(job.source is None for job in self.files.jobs):
            raise UsageError("standard input cannot be read twice, and a closed set has to be", "name files or folders")
        if settings.persona != "track":
            raise UsageError("--persona does not belong to closed-set methods", "they always keep people apart")
        for option in ("resume", "shard"):
            if getattr(self.options, option) and settings.seed is None:
                hint = "give the same --seed to every part and every resumption"
                said = f"--{option} of a closed-set method needs --seed: people would change their names"
                raise UsageError(said, hint)
        whole = hashlib.sha256()
        for job in self.files.jobs:
            whole.update(f"{_source_digest(job)} {job.name}\0".encode("utf-8", "surrogateescape"))
        return replace(settings, inputs=whole.hexdigest())

    def _asked(self, options: RunOptions) -> RunOptions:
        """The options with what follows from them."""
        if options.keep_people and options.only_people:
            raise UsageError(f"{KEEP} and {ONLY} say two things of one person", "give one of them")
        if (options.keep_people or options.only_people) and any(job.source is None for job in self.files.jobs):
            raise UsageError("standard input cannot be read twice, as it has to be for people", "name files or folders")
        decided = options.decisions is not None
        resume = options.resume or options.incremental or (decided and not self.single)
        return replace(options, resume=resume, overwrite=options.overwrite or decided)

    def _people(self) -> tuple[Path | None, str]:
        keep, only = self.options.keep_people, self.options.only_people
        return (only, ONLY) if only else (keep, KEEP)

    def _instructions(self) -> Instructions:
        """The zones and decisions. Raises UsageError where one of them names no file of the run."""
        names, zones = [job.name for job in self.files.jobs], Instructions()
        if self.options.zones is not None:
            zones = load_instructions(self.options.zones, "--zones")
            if zones.decisions:
                raise UsageError(f"--zones {self.options.zones}: it holds decisions", "give it as --decisions")
        whole = (
            load_instructions(self.options.decisions, "--decisions")
            if self.options.decisions is not None
            else Instructions()
        )
        for each in (zones, whole):
            each.check_files(names)
        return whole.with_zones(zones.zones)

    def _given(self) -> FaceList | None:
        if self.options.faces is None:
            return None
        names = {job.name for job in self.files.jobs}
        given = read_faces(self.options.faces, names, self.options.faces_class)
        given.check_files(names)
        return given

    def _manifest_place(self, output: str, jobs: Sequence[Job]) -> Path | None:
        """Beside the output, so that a later run finds it; none for a single file or a stream unless asked for."""
        if self.options.manifest:
            listing.check_apart(self.options.manifest, jobs)
            return self.options.manifest
        if self.single:
            if self.options.resume:
                raise UsageError("--resume needs to know what was done", "give --manifest FILE")
            return None
        part = "-{}-of-{}".format(*self.options.shard) if self.options.shard else ""
        return place_of(output) / MANIFEST.replace(".jsonl", f"{part}.jsonl")

    def _waiting(self, jobs: Sequence[Job]) -> tuple[list[Job], dict[str, Record]]:
        """The jobs that are to be done, and the rows of those that are done already."""
        if not self.options.resume or self.place is None:
            return list(jobs), {}
        earlier, said = Earlier.load(self.place), fingerprint(self.method, self.settings)
        quick, mark = self.options.incremental, self.instructions.mark
        listing.made_members.cache_clear()
        root, there = self._folder, None
        if isinstance(root, Url):  # one listing instead of a request for each file
            there = {f"{root}/{name}": stored for name, stored in objects(root)}
        left = {
            job.unit for job in jobs
            if not earlier.has(job.name, job.source, job.written(there), marked(said, mark(job.name)), quick)
        }  # fmt: skip
        waiting = [job for job in jobs if job.unit in left]
        names = {job.name for job in jobs} - {job.name for job in waiting}
        return waiting, {name: row for name, row in earlier.rows.items() if name in names}

    def _plan(self, jobs: Sequence[Job]) -> None:
        self._recent = jobs
        self.jobs[:], self._done = self._waiting(jobs)
        self.total, self.done_before = len(jobs), len(jobs) - len(self.jobs)

    def _check_archives(self) -> None:
        if self.options.resume or self.options.overwrite:
            return
        for job in self.jobs:
            if job.place is not job.target and job.place is not None and os.path.lexists(job.place):
                raise UsageError(f"{job.place} exists", "use --overwrite, or --resume to go on with an earlier run")

    def _check_unattended(self, output: Path | None) -> None:
        options, settings = self.options, self.settings
        stored = any(isinstance(job.source, Stored) or isinstance(job.target, Url) for job in self.files.jobs)
        if isinstance(options.quarantine, Url) or (
            stored and (options.quarantine is not None or options.remove_source)
        ):
            said = "--quarantine and --remove-source do not go with archives, nor with buckets"
            raise UsageError(said, "leave them out")
        if options.quarantine is not None:
            unattended.check_quarantine(options.quarantine, output, self.files.jobs)
        if options.remove_source:
            listed = self.place is not None and (self.place.is_file() or not os.path.lexists(self.place))
            unattended.check_removal(settings, listed, settings.read.salvage, options.unknown)
        if options.max_minutes is not None and self.method.closed:
            raise UsageError("--max-minutes would leave people out of a closed set", "leave it out")

    def _lock(self, shared: bool, notify: Callable[[str], object]) -> None:
        """Claim the output, if need be and allowed after another run. Raises DeidError where it is taken."""
        said = False
        while True:
            try:
                self.output.lock(shared)
                if said and not self.method.closed:  # what the other run has done or removed is not done again
                    self._plan([job for job in self._recent if _is_there(job)])
                return
            except UsageError:
                raise
            except DeidError as error:
                if not self.options.wait or self.deadline.over:
                    raise
                if not said:
                    notify(f"{error.message}; waiting for it")
                said = True
                time.sleep(WAIT)

    def _after(self, held: ExitStack) -> Callable[[Manifest | None, Row], None]:
        """What becomes of an input when its row is written."""
        jobs = {job.name: job for job in self.files.jobs}
        aside: OutputFolder | None = None
        if self.options.quarantine is not None:
            aside = OutputFolder(self.options.quarantine, overwrite=True)
            held.callback(aside.close)
        if self.options.remove_source:
            # A run that was killed has listed them and not yet removed them.
            for name, row in self._done.items():
                self._remove(jobs[name], row)

        def after(manifest: Manifest | None, row: Row) -> None:
            job = jobs.get(row.input)
            if job is None:
                return
            if row.status == FAILED and aside is not None:
                self._say(unattended.quarantine(job, aside, self.options.remove_source))
            elif row.status == DONE and self.options.remove_source and manifest is not None:
                manifest.sync()
                self._remove(job, asdict(row))

        return after

    def _remove(self, job: Job, row: Mapping[str, Any]) -> None:
        self._say(unattended.remove_source(job, row))
        self.removed += not _is_there(job)

    def _say(self, problem: str) -> None:
        if problem:
            self.problems.append(problem)

    def _copied(self) -> Iterator[Row]:
        """Files that are neither pictures nor videos, copied byte by byte."""
        for job in self.deadline(self.copies):
            began, target, error, written = time.monotonic(), self.output.target(job.target, job.source), None, None
            try:
                assert job.source is not None
                with job.source.open("rb") as source:
                    shutil.copyfileobj(source, target.open())
                written = target.commit()
            except (OSError, MediaError) as caught:
                error = f"{job.name}: {one_line(caught)}"
            finally:
                target.discard()
            place = str(job.target) if written else None
            seconds = round(time.monotonic() - began, 3)
            yield Row(job.name, place, COPIED if written else FAILED, written, written, seconds=seconds, error=error)


def _is_there(job: Job) -> bool:
    return not isinstance(job.source, Path) or os.path.lexists(job.source)


def _added(manifest: Manifest | None, row: Row) -> Row:
    """The row as it counts: a file that nobody can look up is not done, and the batch goes on."""
    try:
        if manifest:
            manifest.add(row)
    except Exception as error:
        said = str(error) if isinstance(error, MediaError) else f"{row.input}: has no line: {one_line(error)}"
        return replace(row, status=FAILED, error=row.error or said)
    return row


def _digest(path: Path, flag: str) -> str:
    """Of a list or a folder that was given, so that --resume knows when it was edited."""
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise UsageError(f"{flag} {path}: it is no file", "write it to a file first: it is read more than once")
        return tree_digest(path)
    except OSError as error:
        raise UsageError(f"{flag} {path}: {error.strerror}", "check the name and its permissions") from error


def _source_digest(job: Job) -> str:
    try:
        return digest(job.source) if job.source else ""
    except OSError:
        return "unreadable"  # the run itself will say what is wrong with it
