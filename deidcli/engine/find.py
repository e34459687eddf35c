"""Find: open files, read their frames and find the faces in them, several at a time and in order."""

from __future__ import annotations

import hashlib
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from pathlib import Path

from deidcli.engine.digest import digest
from deidcli.engine.flow import ahead, batched, one_ahead
from deidcli.engine.follow import followed, planned
from deidcli.engine.given import GivenFaces
from deidcli.engine.jobs import Job
from deidcli.errors import MediaError, one_line
from deidcli.faces.detect import Detector
from deidcli.faces.landmarks import locate
from deidcli.faces.tracking.options import TrackOptions
from deidcli.media.open import is_stream, open_reader
from deidcli.media.stream import Reader, ReadOptions
from deidcli.values import UNTRACKED, Face, Frame

# Frames that a detector which works in batches gets in one call: enough to keep it busy, few to hold in memory.
GROUP, GROUP_PIXELS = 16, 4_000_000
# Pixels of the frames that are under way in one stage: two dozen of full HD, a few of a large photograph.
UNDER_WAY = 48_000_000
# Frames that are under way in the search, if they are small: most of a video's are not searched, and threads that find
# faces go on while networks are loaded.
LONGEST = 32


@dataclass(frozen=True)
class Source:
    """An opened file. sha256: of its bytes. began: when it was opened, by the monotonic clock."""

    job: Job
    reader: Reader | None
    sha256: str | None
    began: float


@dataclass(frozen=True)
class Shot:
    """A frame on its way. last: whether it ends its file. error: why the file cannot go on; then there is no frame.

    begins: whether a shot of a video begins with it. searched: whether faces are looked for in this very frame.
    """

    source: Source
    frame: Frame | None
    last: bool
    faces: tuple[Face, ...] = ()
    error: str = ""
    begins: bool = False
    searched: bool = True


class Finder:
    """Turns jobs into shots with faces that have their numbers."""

    def __init__(
        self,
        detector: Detector | None,
        given: GivenFaces | None,
        pool: Executor,
        depth: int,
        read: ReadOptions = ReadOptions(),  # noqa: B008 - frozen
        track: TrackOptions = TrackOptions(),  # noqa: B008 - frozen
    ):
        self.detector, self.given, self.pool, self.depth, self.read = detector, given, pool, depth, read
        # A list knows the faces of every frame.
        self.track = replace(track, detect_every=1) if given else track
        self._one_at_a_time = threading.Lock()

    def __call__(self, jobs: Iterable[Job]) -> Iterator[Shot]:
        opened = ahead(self.pool, self._open, jobs, self.depth)
        shots = (shot for source, frames in opened for shot in planned(_shots(source, frames), self.track))
        return followed(self._searched(shots), self.track, self.given)

    def _searched(self, shots: Iterator[Shot]) -> Iterator[Shot]:
        if self.given is None and self.detector is not None and self.detector.batches:
            groups = batched(shots, pixels, GROUP_PIXELS, longest=GROUP)
            # Two groups: the frames of one are read while the other is searched.
            searched = (shot for group in ahead(self.pool, self._search, groups, 2) for shot in group)
            return ahead(self.pool, self._locate, searched, LONGEST, pixels, UNDER_WAY)
        return ahead(self.pool, self._find, shots, LONGEST, pixels, UNDER_WAY)

    def _open(self, job: Job) -> tuple[Source, list[Shot] | Iterator[Shot]]:
        """The file and its frames.

        The first frame of a picture is decoded here, in the thread. Those of a video are made one ahead when its turn
        comes: the decoders of all the videos that are open would hold more than the frames.
        """
        began = time.monotonic()
        try:
            data, said = _read(job)
            reader = open_reader(data, job.name, self.read)
            source = Source(job, reader, said, began)
            frames = _frames(source)
            if reader.streams:
                return source, one_ahead(self.pool, frames)
            return source, _chain(next(frames), frames)
        except Exception as error:
            source = Source(job, None, None, began)
            return source, [Shot(source, None, True, error=one_line(error))]

    def _find(self, shot: Shot) -> Shot:
        """A frame's faces, from the list or by a search of this frame alone."""
        return _guarded(shot, lambda frame: self._located(frame, self._faces(shot.source.job.name, frame)))

    def _faces(self, name: str, frame: Frame) -> Sequence[Face]:
        if self.given:
            return self.given.of(name, frame.index)
        return _loose(self.detector.detect([frame.pixels], self._is_followed(frame))[0])

    def _search(self, shots: list[Shot]) -> list[Shot]:
        """The faces of several frames in one call; if it fails, of each frame alone, so that one fails for itself."""
        sound = [shot for shot in shots if shot.frame is not None and shot.searched]
        parts = [[shot for shot in sound if self._is_followed(shot.frame) is followed] for followed in (False, True)]
        try:
            with self._one_at_a_time:
                found = [self._detected(part) for part in parts if part]
        except Exception as error:
            if len(shots) == 1:
                return [_failed(shots[0], error)]
            return [done for shot in shots for done in (self._search([shot]) if shot.frame is not None else [shot])]
        faces = {id(shot): tuple(_loose(each)) for part in found for shot, each in part}
        return [replace(shot, faces=faces.get(id(shot), ())) for shot in shots]

    def _detected(self, part: list[Shot]) -> Iterator[tuple[Shot, list[Face]]]:
        """Frames that are all followed, or all not, with their faces."""
        found = self.detector.detect([shot.frame.pixels for shot in part], self._is_followed(part[0].frame))
        return zip(part, found, strict=True)

    def _is_followed(self, frame: Frame) -> bool:
        return self.track.track and frame.time is not None

    def _locate(self, shot: Shot) -> Shot:
        return _guarded(shot, lambda frame: self._located(frame, shot.faces))

    def _located(self, frame: Frame, faces: Sequence[Face]) -> Sequence[Face]:
        """With landmarks. A face that was given with a number is as it was given, without any too."""
        return [locate(frame.pixels, [face])[0] if face.track == UNTRACKED else face for face in faces]


def _loose(faces: Sequence[Face]) -> list[Face]:
    return [replace(face, track=UNTRACKED) for face in faces]


def _guarded(shot: Shot, faces: Callable[[Frame], Sequence[Face]]) -> Shot:
    """The shot with the faces of its frame; a frame that fails fails alone."""
    if shot.error or shot.frame is None or not shot.searched:
        return shot
    try:
        return replace(shot, faces=tuple(faces(shot.frame)))
    except Exception as error:
        return _failed(shot, error)


def _failed(shot: Shot, error: Exception) -> Shot:
    return replace(shot, frame=None, faces=(), last=True, error=one_line(error))


def pixels(shot: Shot) -> int:
    """How many pixels a shot holds."""
    return 0 if shot.frame is None else shot.frame.width * shot.frame.height


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


def _read(job: Job) -> tuple[bytes | Path, str]:
    """What is opened, and its sha256: a video is opened where it lies, a picture as the bytes that were read once."""
    try:
        if job.source is not None and is_stream(job.source):
            return job.source, digest(job.source)
        data = sys.stdin.buffer.read() if job.source is None else job.source.read_bytes()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise MediaError(f"{job.name}: cannot be read: {reason}", "check the name and its permissions") from error
    return data, hashlib.sha256(data).hexdigest()
