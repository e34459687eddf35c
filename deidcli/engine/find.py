"""Find: open files, read their frames and find the faces in them, several at a time and in order."""

from __future__ import annotations

import errno
import hashlib
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import nullcontext
from dataclasses import replace
from itertools import chain, compress, islice
from pathlib import Path

import numpy as np

from deidcli.engine.face_list import KnownFaces
from deidcli.engine.files import digest, stamp_of
from deidcli.engine.follow import followed, planned
from deidcli.engine.frames import FileFailure, FileFrame, FrameOrFailure, Source, ahead, batched, one_ahead, pixel_count
from deidcli.engine.jobs import Job
from deidcli.engine.stored import Copy, Stored, fetched
from deidcli.errors import MediaError, one_line
from deidcli.faces.detectors import Detector
from deidcli.faces.landmarks import locate
from deidcli.faces.looks import detect_in_looks
from deidcli.faces.search import nms
from deidcli.faces.tracking import TrackOptions
from deidcli.media.open import is_stream, open_reader
from deidcli.media.stream import ReadOptions, read_picture
from deidcli.values import UNTRACKED, Face, Frame

# Frames that a detector which works in batches gets in one call: enough to keep it busy, few to hold in memory.
GROUP, GROUP_PIXELS = 16, 4_000_000
# Pixels of the pictures that are decoded ahead, and of those that are finished at a time: a few large photographs.
UNDER_WAY = 48_000_000
# Pixels of the frames whose faces are located: a dozen of full HD.
LOCATED = 24_000_000
# Frames that are under way in the search, if they are small: most of a video's are not searched, and threads that find
# faces go on while networks are loaded.
LONGEST = 32
SAME = 0.4  # intersection over union above which a face of a whole frame is one that was found in a part of it


class Finder:
    """Turns jobs into frames with numbered faces, or the failure that ended a file."""

    def __init__(
        self,
        detector: Detector | None,
        given: KnownFaces | None,
        pool: Executor,
        depth: int,
        read: ReadOptions = ReadOptions(),  # noqa: B008 - frozen
        track: TrackOptions = TrackOptions(),  # noqa: B008 - frozen
        landmarks: str = "",
    ):
        """landmarks: how faces are located, "" for the default."""
        self.detector, self.given, self.pool, self.depth, self.read = detector, given, pool, depth, read
        # A list knows the faces of every frame.
        self.track = replace(track, detect_every=1) if given else track
        self.landmarks = landmarks
        self._one_at_a_time = threading.Lock()

    def again(self, known: KnownFaces) -> Finder:
        """One that takes what this one has found."""
        return Finder(None, known, self.pool, self.depth, self.read, self.track, self.landmarks)

    def __call__(self, jobs: Iterable[Job]) -> Iterator[FrameOrFailure]:
        sources = ahead(self.pool, self._open, jobs, self.depth)
        # As many pictures as there are threads would hold gigabytes: what is decoded ahead is counted in pixels.
        opened = ahead(self.pool, self._begin, sources, self.depth, _promised, UNDER_WAY)
        return self._tracked(
            item for source, frames in opened for item in planned(_until_error(source, frames), self.track)
        )

    def found(self, items: Iterator[FrameOrFailure]) -> Iterator[FrameOrFailure]:
        """The frames of one file that is open already, with their faces."""
        return self._tracked(planned(items, self.track))

    def _tracked(self, items: Iterator[FrameOrFailure]) -> Iterator[FrameOrFailure]:
        return followed(self._searched(items), self.track, self.given)

    def search(self, items: Iterable[FrameOrFailure]) -> Iterator[FrameOrFailure]:
        """The frames of one file that are already decoded, each with its numbered faces."""
        return followed(self._searched(planned(items, self.track)), self.track, self.given)

    def _searched(self, items: Iterator[FrameOrFailure]) -> Iterator[FrameOrFailure]:
        if self.given is None and self.detector is not None and self.detector.batches:
            groups = batched(items, pixel_count, GROUP_PIXELS, longest=GROUP)
            # Two groups: the frames of one are read while the other is searched.
            searched = (item for group in ahead(self.pool, self._search, groups, 2) for item in group)
            return ahead(self.pool, self._locate, searched, LONGEST, pixel_count, LOCATED)
        return ahead(self.pool, self._find, items, LONGEST, _held, UNDER_WAY)

    def _open(self, job: Job) -> Source | FileFailure:
        """The parsed file; none of its pixels is decoded yet."""
        began = time.monotonic()
        try:
            stamp = stamp_of(job.source) if job.source else None
            if isinstance(job.source, Stored):
                held, checksum = fetched(job.source)
                copy = held if isinstance(held, Copy) else None
                data: bytes | Path = held.path if isinstance(held, Copy) else held
                return Source(job, open_reader(data, job.name, self.read), checksum, began, stamp, copy)
            data, checksum = _read(job)
            return Source(job, open_reader(data, job.name, self.read), checksum, began, stamp)
        except Exception as error:
            return FileFailure(Source(job, None, None, began), one_line(error))

    def _begin(self, opened: Source | FileFailure) -> tuple[Source, Iterable[FrameOrFailure]]:
        """The file and its frames.

        The first frame of a picture is decoded here, in the thread. Those of a video are made one ahead when its turn
        comes: the decoders of all the videos that are open would hold more than the frames.
        """
        if isinstance(opened, FileFailure):
            return opened.source, [opened]
        try:
            frames = _frames(opened)
            if opened.opened.streams:
                return opened, one_ahead(self.pool, frames)
            return opened, chain([next(frames)], frames)
        except Exception as error:
            return opened, [FileFailure(opened, one_line(error))]

    def _find(self, item: FrameOrFailure) -> FrameOrFailure:
        """A frame's faces, from the list or by a search of this frame alone."""
        return _guarded(item, lambda it: self._located(it.frame, self._faces(it)))

    def _faces(self, item: FileFrame) -> Sequence[Face]:
        name, frame = item.source.job.name, item.frame
        if self.given is not None:
            self.given.check_frame(name, frame, item.source.sha256)
            if item.last:
                self.given.check_end(name, frame.index + 1)
            return self.given.of(name, frame.index, (frame.width, frame.height))
        if self.detector is None:
            raise RuntimeError("a search needs a detector or a list of faces")
        found = detect_in_looks(self.detector, _pictures(item), self._is_followed(frame))
        return _untracked(_in_frame(item, found))

    def _search(self, items: list[FrameOrFailure]) -> list[FrameOrFailure]:
        """The faces of several frames in one call; if it fails, of each frame alone, so that one fails for itself."""
        sound = [item for item in items if isinstance(item, FileFrame) and item.searched]
        parts = [[item for item in sound if self._is_followed(item.frame) is followed] for followed in (False, True)]
        try:
            with self._one_at_a_time:
                found = [self._detected(part) for part in parts if part]
        except Exception as error:
            if len(items) == 1:
                return [FileFailure(items[0].source, one_line(error))]
            alone = set(map(id, sound))
            return [done for item in items for done in (self._search([item]) if id(item) in alone else [item])]
        done = {id(item): replace(item, faces=tuple(_untracked(each))) for part in found for item, each in part}
        return [done.get(id(item), item) for item in items]

    def _detected(self, part: list[FileFrame]) -> list[tuple[FileFrame, list[Face]]]:
        """Frames that are all followed, or all not, with their faces."""
        assert self.detector is not None
        pictures = [_pictures(item) for item in part]
        everything = [each for some in pictures for each in some]
        found = iter(detect_in_looks(self.detector, everything, self._is_followed(part[0].frame)))
        return [
            (item, _in_frame(item, list(islice(found, len(some))))) for item, some in zip(part, pictures, strict=True)
        ]

    def _is_followed(self, frame: Frame) -> bool:
        return self.track.track and frame.time is not None

    def _locate(self, item: FrameOrFailure) -> FrameOrFailure:
        return _guarded(item, lambda it: self._located(it.frame, it.faces))

    def _located(self, frame: Frame, faces: Sequence[Face]) -> Sequence[Face]:
        """With landmarks. A face that was given with a number is as it was given, without any too (`locates`)."""
        given = self.given is not None and self.given.locates
        due = [face.track == UNTRACKED or (given and face.landmarks is None) for face in faces]
        # All at once: whether one of them is a face depends on the others.
        found = iter(locate(frame.pixels, list(compress(faces, due)), self.landmarks))
        return [next(found) if anew else face for face, anew in zip(faces, due, strict=True)]


def _pictures(item: FileFrame) -> list[Frame]:
    """What is searched of a frame: all of it, or its parts."""
    return [item.frame.cropped(part) for part in item.parts] or [item.frame]


def _in_frame(item: FileFrame, found: Sequence[Sequence[Face]]) -> list[Face]:
    """The faces that were found in the pictures of a frame, in its own coordinates, each once (see `nms`)."""
    if not item.parts:
        return list(found[0])
    faces = []
    for part, some in zip(item.parts, found, strict=True):
        for face in some:
            moved = None if face.landmarks is None else face.landmarks + np.array([part.left, part.top], np.float32)
            faces.append(replace(face, box=face.box.shifted(part.left, part.top), landmarks=moved))
    return nms(sorted(faces, key=lambda face: -face.score), SAME)


def _promised(opened: Source | FileFailure) -> int:
    """How many pixels the first frame of a file will hold; 0 for one whose frames come when their turn does."""
    if isinstance(opened, FileFailure) or opened.opened.streams:
        return 0
    width, height = opened.opened.info.size
    return width * height


def _held(item: FrameOrFailure) -> int:
    """How many pixels are held for an item: a video's frame is there twice, as it is stored and as it is searched."""
    followed = isinstance(item, FileFrame) and item.frame.time is not None
    return pixel_count(item) * (2 if followed else 1)


def _untracked(faces: Sequence[Face]) -> list[Face]:
    return [replace(face, track=UNTRACKED) for face in faces]


def _guarded(item: FrameOrFailure, faces: Callable[[FileFrame], Sequence[Face]]) -> FrameOrFailure:
    """The item with the faces of its frame; a frame that fails ends its file alone."""
    if not isinstance(item, FileFrame) or not item.searched:
        return item
    try:
        return replace(item, faces=tuple(faces(item)))
    except Exception as error:
        return FileFailure(item.source, one_line(error))


def _until_error(source: Source, frames: Iterable[FrameOrFailure]) -> Iterator[FrameOrFailure]:
    """The frames of a file; an error while they are decoded becomes the file's failure."""
    try:
        yield from frames
    except Exception as error:
        yield FileFailure(source, one_line(error))


def _frames(source: Source) -> Iterator[FrameOrFailure]:
    """Every frame of a file; each is held back until it is known whether it is the last."""
    held: Frame | None = None
    for frame in source.opened.frames():
        if held is not None:
            yield FileFrame(source, held, False)
        held = frame
    if held is None:
        raise MediaError(f"{source.job.name} holds no picture", "get a whole copy of the file")
    yield FileFrame(source, held, True)


def _read(job: Job) -> tuple[bytes | Path, str]:
    """What is opened, and its sha256: a video is opened where it lies, a picture as the bytes that were read once."""
    assert not isinstance(job.source, Stored)
    try:
        if job.source is not None and is_stream(job.source):
            return job.source, digest(job.source)
        if job.source is None and sys.stdin is None:
            raise OSError(errno.EBADF, "standard input is closed")
        with nullcontext(sys.stdin.buffer) if job.source is None else job.source.open("rb") as file:
            data = read_picture(file, job.name)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise MediaError(f"{job.name}: cannot be read: {reason}", "check the name and its permissions") from error
    return data, hashlib.sha256(data).hexdigest()


def check_unchanged(source: Source) -> None:
    """Raises MediaError where a file is no longer the one that was opened: what was written may not have been searched.

    It is read again for that, whole. Standard input is read once and cannot change, nor can the copy of a stored file.
    """
    name, path = source.job.name, source.job.source
    if not isinstance(path, Path):
        return
    try:
        same = digest(path) == source.sha256
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise MediaError(f"{name}: cannot be read again: {reason}", "run again when it lies still") from error
    if not same:
        raise MediaError(f"{name}: it changed while it was read", "run again when nothing writes to it any more")
