"""The chain: Reader.frames > detect > track > align > Method.apply > blend > verify > Writer.write, all generators."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, BinaryIO

from deidcli.engine.archives.packing import Packer
from deidcli.engine.choice import Chooser
from deidcli.engine.face_list import face_entry
from deidcli.engine.find import UNDER_WAY, Finder, check_unchanged
from deidcli.engine.frames import (
    FileFailure,
    FileFrame,
    FrameOrFailure,
    Source,
    ahead,
    batched,
    named_error,
    pixel_count,
)
from deidcli.engine.jobs import Job, sheet_path
from deidcli.engine.labels import Labelled, labelled, put_labels
from deidcli.engine.manifest import DONE, FAILED, SALVAGED, SKIPPED, Row
from deidcli.engine.output import OutputFolder, Target
from deidcli.engine.replace import Outcome, Replaced, Replacer, Request
from deidcli.engine.settings import Settings, fingerprint, made_by, marked
from deidcli.engine.tracks import PreviewSheet, Tracks, choice_entry
from deidcli.engine.written import Seen, WrittenCheck
from deidcli.errors import MediaError, one_line
from deidcli.media.stream import Writer
from deidcli.methods.base import Method
from deidcli.values import Frame


@dataclass(eq=False)
class _File:
    """A file that is being written: what was written of it so far. A video has tracks, and no faces but in them."""

    source: Source
    target: Target
    check: WrittenCheck | None
    writer: Writer | None = None
    place: BinaryIO | Path | None = None
    frames: int = 0
    faces: list[dict] = field(default_factory=list)
    tracks: Tracks = field(default_factory=Tracks)
    zones: int = 0
    sheet: PreviewSheet | None = None
    labels: list[Labelled] = field(default_factory=list)
    error: str = ""
    only: tuple[Frame, Replaced] | None = None  # the one frame of a picture, until it is coded
    ended: bool = False  # whether its last frame was taken, or it failed

    def close(self) -> None:
        """Close the source, and a writer that was stopped."""
        if self.writer is not None:
            self.writer.close()
        self.source.close()


_Made = tuple[FrameOrFailure, Replaced | None]  # a frame or failure, and the result for it
# Pixels of the frames that are replaced in one go, if few faces are in them; each takes some fifteen bytes there.
BATCH_PIXELS = 8_000_000
STILL_SEEN = "use --method solid for it, or convert the picture to RGB first"

# Called with every frame of a video that was written: its file, how many there are so far, and about how many in all.
Watch = Callable[[str, int, int | None], None]


def unwatched(name: str, done: int, total: int | None) -> None:
    """A `Watch` that does nothing."""


class Pipeline:
    """Runs jobs through the chain. output: the folder that the files are written into."""

    def __init__(
        self,
        method: Method,
        settings: Settings,
        finder: Finder,
        replacer: Replacer,
        output: OutputFolder,
        watch: Watch = unwatched,
        chooser: Chooser = Chooser(),  # noqa: B008 - nothing is chosen by it, and it remembers nothing
    ):
        self.method, self.settings, self.output, self.watch, self.chooser = method, settings, output, watch, chooser
        self.finder, self.replacer = finder, replacer
        self.fingerprint = fingerprint(method, settings)
        self.made = made_by(method, settings)
        self.packer = Packer(output)
        self._under_way: set[_File] = set()
        self._judging = threading.Lock()

    def __call__(self, jobs: Iterable[Job], pool: Executor, depth: int) -> Iterator[Row]:
        """A row for each job, in order, as soon as its file is in its place."""
        size = self.settings.batch_size

        def weight(item: FrameOrFailure) -> float:
            # A batch is full by its faces or by its pixels, whichever comes first.
            faces = len(item.faces) if isinstance(item, FileFrame) else 0
            return max(faces / size, pixel_count(item) / BATCH_PIXELS)

        batches = batched(self.chooser.chosen(self.finder(jobs)), weight, 1, longest=4 * depth)
        done = self._replaced(batches)
        # A picture whose pixels changed is decoded again: those under way there are counted, too.
        rows = ahead(pool, self._finished, self._gather(done), depth, _decoded_again, UNDER_WAY)
        return self.packer.settled(rows)

    def drop(self) -> None:
        """Drop what an interrupted run has begun to write, once no thread works on it any more."""
        for file in self._under_way:
            file.close()
            file.target.discard()
        self.packer.drop()

    def _replaced(self, batches: Iterator[list[FrameOrFailure]]) -> Iterator[_Made]:
        """What `_replace` makes of batches, in a thread of its own: the next batch is searched and followed meanwhile.

        One thread, because tracks and personas are carried from one batch to the next.
        """
        pool = ThreadPoolExecutor(1, thread_name_prefix="deid-replace")
        pool.submit(self.replacer.ready)
        try:
            for made in ahead(pool, lambda batch: deque(self._replace(batch)), batches, 2):
                while made:
                    yield made.popleft()
        finally:
            # A run that is stopped waits for the batch under way, and for no other.
            pool.shutdown(cancel_futures=True)

    def _replace(self, items: Sequence[FrameOrFailure]) -> Iterator[_Made]:
        """The items with their new frames; a batch that fails as a whole is halved until each frame is alone."""
        frames = [item for item in items if isinstance(item, FileFrame)]
        try:
            requests = [
                Request(item.frame, item.faces, item.source.job.name, item.choices, item.covers) for item in frames
            ]
            made = dict(zip(map(id, frames), self.replacer(requests), strict=True))
        except Exception as error:
            if len(items) == 1:
                yield FileFailure(items[0].source, one_line(error)), None
                return
            half = len(items) // 2
            yield from self._replace(items[:half])
            yield from self._replace(items[half:])
            return
        for item in items:
            yield item, made.get(id(item))

    def _gather(self, done: Iterable[_Made]) -> Iterator[_File]:
        """Write frame after frame; yield a file when its last frame was taken, or at its first error."""
        file: _File | None = None
        for item, replaced in done:
            if file is None or file.source is not item.source:
                if file is not None and not file.ended:
                    yield _cut_short(file)
                file = self._begun(item.source)
                self._under_way.add(file)
            elif file.error:
                continue  # the rest of a file that has failed already
            self._write(file, item, replaced)
            file.zones += bool(isinstance(item, FileFrame) and item.covers)
            file.ended = bool(file.error) or (isinstance(item, FileFrame) and item.last)
            # The frame is not held while the file is finished.
            del item, replaced
            if file.ended:
                yield file
        if file is not None and not file.ended:
            yield _cut_short(file)

    def _write(self, file: _File, item: FrameOrFailure, replaced: Replaced | None) -> None:
        if isinstance(item, FileFailure):
            file.error = item.error
            return
        if replaced is None:
            file.error = f"{item.source.job.name}: frame {item.frame.index} was not treated"
            return
        if item.last and not file.frames and not item.source.opened.streams:
            file.only = item.frame, replaced  # a picture of one frame is coded where it is finished, in a thread
        else:
            self._put(file, item.frame, replaced)
        file.frames += 1
        self._note(file, replaced)
        if item.source.opened.streams:
            self.watch(item.source.job.name, file.frames, item.source.opened.info.frames)

    def _put(self, file: _File, frame: Frame, replaced: Replaced) -> None:
        """Hand a frame to the writer of its file; what goes wrong there is the file's error."""
        try:
            if file.writer is None:
                file.writer = self._writer(file)
            file.writer.write(replaced.frame, replaced.changed)
            if file.check is not None and not file.source.opened.streams:
                file.check.add(frame, replaced)
        except Exception as error:
            file.error = one_line(error)

    def _note(self, file: _File, replaced: Replaced) -> None:
        """What happened to the faces of a picture, or to the tracks of a video."""
        frame, outcomes = replaced.frame, replaced.outcomes
        if self.settings.label_format:
            file.labels.append(labelled(frame, (outcome.face for outcome in outcomes)))
        if not self.settings.track.track or frame.time is None:
            file.faces += [_outcome_entry(outcome, frame.index) for outcome in outcomes]
            return
        file.tracks.add(frame, outcomes)
        if self.settings.preview_sheet and file.source.job.target is not None:
            file.sheet = file.sheet or PreviewSheet(file.source.job.name)
            file.sheet.add(frame, outcomes)

    def _writer(self, file: _File) -> Writer:
        reader, options = file.source.opened, self.settings.write
        file.place = file.target.open_folder() if reader.makes_folder(options) else file.target.open()
        return reader.writer(file.place, options, file.target.suffix)

    def _begun(self, source: Source) -> _File:
        target = self.packer.target(source.job.target, source.job.source)
        try:
            return _File(source, target, self._written_check())
        except Exception as error:
            return _File(source, target, None, error=one_line(error))

    def _finished(self, file: _File) -> Row:
        """As `_finish`; a file at which that breaks fails alone, and nothing of it is left but what is in its place."""
        try:
            return self._finish(file)
        except Exception as error:
            with suppress(Exception):
                file.close()
            with suppress(Exception):
                file.target.discard()
            self._under_way.discard(file)
            return Row(file.source.job.name, None, FAILED, file.source.sha256, error=_named(file, one_line(error)))

    def _written_check(self) -> WrittenCheck:
        judge = self.replacer.recogniser if self.settings.verify else None
        return WrittenCheck(judge, self.replacer.compared, self._judging)

    def _finish(self, file: _File) -> Row:
        """Put a file in its place, or drop it, and say so."""
        status, digest = DONE, None
        if file.only is not None and not file.error:
            self._put(file, *file.only)
        file.only = None
        if not file.error and not (file.faces or file.tracks or file.zones) and self.settings.on_no_face != "copy":
            status = SKIPPED
            if self.settings.on_no_face == "fail":
                file.error = f"{file.source.job.name}: no face was found (--on-no-face fail)"
        try:
            if status == DONE and not file.error:
                self._check_written(file)
                self._writer_of(file).finish()
                check_unchanged(file.source)
                digest = self._commit(file)
        except Exception as error:
            file.error = one_line(error)
        file.close()
        if digest is None:
            file.target.discard()
            if file.error and self.output.overwrite and file.target.exists:
                # It may be of another method, and must not pass for what this run made.
                file.error += "; the output of an earlier run is still there"
        self._under_way.discard(file)
        if digest and file.source.opened.damage:
            status = SALVAGED
        return self._row(file, FAILED if file.error else status, digest)

    @staticmethod
    def _writer_of(file: _File) -> Writer:
        if file.writer is None:
            raise MediaError(f"{file.source.job.name}: nothing of it was written", "report this")
        return file.writer

    def _check_written(self, file: _File) -> None:
        """Look at what is to be written; cover what can still be seen in it. Raises MediaError where it stays."""
        if not file.check:
            return
        covered = Seen()
        for wide in (False, False, True):  # the last time every face that is seen takes its surroundings with it
            seen = self._look(file, covered)
            if not seen:
                return
            if file.tracks or file.place is None:
                break
            covered = file.check.widened(covered, seen, wide)
            file.writer = file.source.opened.writer(file.place, self.settings.write, file.target.suffix)
            for frame, changed in file.check.covered(file.source.opened.frames(), covered):
                file.writer.write(frame, changed)
            entries = {index: file.check.outcomes(index, covered) for index in covered.frames}
            rest = [entry for entry in file.faces if entry["frame"] not in entries]
            file.faces = rest + [_outcome_entry(o, index) for index, outcomes in entries.items() for o in outcomes]
        if file.tracks or file.place is None or self._look(file, covered):
            raise MediaError(f"{file.source.job.name}: a face can still be seen in what was to be written", STILL_SEEN)

    def _look(self, file: _File, covered: Seen) -> Seen:
        written = self._writer_of(file).preview()
        return file.check.look(written, covered) if file.check is not None and written is not None else Seen()

    def _commit(self, file: _File) -> str:
        """All files or none: sheet and labels are whole on the disk before the file gets its name."""
        job, beside = file.source.job, []
        try:
            if file.sheet is not None:
                assert job.target is not None
                beside.append(self.output.target(sheet_path(job.target), job.source))
                beside[-1].open().write(file.sheet.png())
            if self.settings.label_format:
                assert job.target is not None
                beside.append(put_labels(self.settings.label_format, job.name, file.labels, job.target, self.output))
            digest = file.target.commit()
        except Exception:
            for target in beside:
                target.discard()
            raise
        for target in beside:
            target.commit()
        return digest

    def _search(self) -> dict[str, Any]:
        """What decided which faces were found, or that they were given."""
        if self.settings.faces:
            return {"given": self.settings.faces}
        return {**asdict(self.settings.detect), "detect_every": self.settings.track.detect_every}

    def _row(self, file: _File, status: str, digest: str | None) -> Row:
        info, job = file.source.reader and file.source.reader.info, file.source.job
        return Row(
            input=job.name,
            output=str(job.target) if job.target and (digest or file.target.exists) else None,
            status=status,
            sha256=file.source.sha256,
            output_sha256=digest,
            format=info.format if info else None,
            size=info.size if info else None,
            frames=file.frames,
            faces=tuple(file.faces),
            tracks=file.tracks.entries(),
            zones=file.zones,
            sound=file.writer.beside if file.writer and digest else (),
            detector=None if self.settings.faces else self.settings.detect.detector,
            search=self._search(),
            method=self.method.name,
            options=asdict(self.method.options),
            settings=marked(self.fingerprint, self.chooser.instructions.mark(job.name)),
            seconds=round(time.monotonic() - file.source.began, 3),
            error=named_error(job.name, file.error) if file.error else None,
            notes=_notes(file) if digest else (),
            stamp=file.source.stamp,
            made={**self.made, "at": datetime.now(timezone.utc).isoformat(timespec="seconds")},
        )


def _decoded_again(file: _File) -> int:
    """How many pixels are decoded while a file is finished."""
    if not file.check or file.error or file.source.reader is None:
        return 0
    width, height = file.source.opened.info.size
    return width * height


def _cut_short(file: _File) -> _File:
    """A file whose last frame never came: what was written of it is not whole."""
    file.error, file.ended = f"{file.source.job.name}: only {file.frames} of its frames were searched and written", True
    return file


def _notes(file: _File) -> tuple[str, ...]:
    reader, writer = file.source.opened, file.writer
    notes = (reader.damage, *reader.notes, *(writer.notes if writer else ()))
    return tuple(note for note in notes if note)


def _outcome_entry(outcome: Outcome, frame: int) -> dict:
    said = {"action": outcome.action, "method": outcome.method, "tries": outcome.tries}
    measured = {"distance": outcome.distance, "reason": outcome.reason or None}
    more = {**measured, **outcome.marks, **choice_entry(outcome.choice)}
    return {"frame": frame, **face_entry(outcome.face, landmarks=False), **said, **more}


def _named(file: _File, error: str) -> str:
    """An error with the name of its file, where it does not give it itself."""
    name = file.source.job.name
    return error if name in error else f"{name}: {error}"
