"""Find: open files, read their frames and find the faces in them, several at a time and in order."""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass, replace

from deidcli.engine.flow import ahead
from deidcli.engine.given import GivenFaces
from deidcli.engine.jobs import Job
from deidcli.errors import MediaError, one_line
from deidcli.faces.detect import Detector
from deidcli.faces.landmarks import locate
from deidcli.media.open import open_reader
from deidcli.media.stream import Reader
from deidcli.values import Face, Frame


@dataclass(frozen=True)
class Source:
    """An opened file. sha256: of its bytes. began: when it was opened, by the monotonic clock."""

    job: Job
    reader: Reader | None
    sha256: str | None
    began: float


@dataclass(frozen=True)
class Shot:
    """A frame on its way. last: whether it ends its file. error: why the file cannot go on; then there is no frame."""

    source: Source
    frame: Frame | None
    last: bool
    faces: tuple[Face, ...] = ()
    error: str = ""


class Finder:
    """Turns jobs into shots with faces."""

    def __init__(self, detector: Detector | None, given: GivenFaces | None, pool: Executor, depth: int):
        self.detector, self.given, self.pool, self.depth = detector, given, pool, depth

    def __call__(self, jobs: Iterable[Job]) -> Iterator[Shot]:
        opened = ahead(self.pool, _open, jobs, self.depth)
        shots = (shot for source, frames in opened for shot in _shots(source, frames))
        return ahead(self.pool, self._find, shots, self.depth)

    def _find(self, shot: Shot) -> Shot:
        if shot.error or shot.frame is None:
            return shot
        try:
            return replace(shot, faces=tuple(self._faces(shot.source.job.name, shot.frame)))
        except Exception as error:
            return replace(shot, frame=None, last=True, error=one_line(error))

    def _faces(self, name: str, frame: Frame) -> list[Face]:
        found = self.given.of(name, frame.index) if self.given else self.detector.detect([frame.pixels])[0]
        numbered = [replace(face, track=track) for track, face in enumerate(found)]
        return locate(frame.pixels, numbered)


def _open(job: Job) -> tuple[Source, list[Shot] | Iterator[Shot]]:
    """The file and its frames, the first of which is decoded here, in the thread; the others when they are asked for."""
    began = time.monotonic()
    try:
        data, digest = _read(job)
        reader = open_reader(data, job.name)
        source = Source(job, reader, digest, began)
        frames = _frames(source)
        first = next(frames)
        return source, _chain(first, frames)
    except Exception as error:
        source = Source(job, None, None, began)
        return source, [Shot(source, None, True, error=one_line(error))]


def _shots(source: Source, frames: Iterable[Shot]) -> Iterator[Shot]:
    try:
        yield from frames
    except Exception as error:
        yield Shot(source, None, True, error=one_line(error))


def _frames(source: Source) -> Iterator[Shot]:
    """Every frame as a shot; each is held back until it is known whether it is the last."""
    held: Frame | None = None
    for frame in source.reader.frames():
        if held is not None:
            yield Shot(source, held, False)
        held = frame
    if held is None:
        raise MediaError(f"{source.job.name} holds no picture", "get a whole copy of the file")
    yield Shot(source, held, True)


def _chain(first: Shot, rest: Iterator[Shot]) -> Iterator[Shot]:
    yield first
    yield from rest


def _read(job: Job) -> tuple[bytes, str]:
    try:
        data = sys.stdin.buffer.read() if job.source is None else job.source.read_bytes()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise MediaError(f"{job.name}: cannot be read: {reason}", "check the name and its permissions") from error
    return data, hashlib.sha256(data).hexdigest()
