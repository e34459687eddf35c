"""The first pass of a closed-set run: every face of every input is described, kept on disk, given a person.

The second pass takes from the detection cache what was found, so that it neither searches again nor finds other faces.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace

import numpy as np

from deidcli.engine.frames import Choice, FileFrame, FrameOrFailure
from deidcli.engine.settings import RECOGNISER, track_key
from deidcli.errors import MediaError
from deidcli.faces.align import align, apply_affine
from deidcli.faces.landmarks import serves
from deidcli.faces.people import people
from deidcli.faces.recognisers import Recogniser, recogniser
from deidcli.methods.base import Census, Method
from deidcli.values import Box, Crop, CropSpec, Face, Frame

BATCH = 32  # faces that are described at once


@dataclass(frozen=True)
class _DescribedFace:
    """A face as it goes on to disk."""

    crop: Crop
    chip: np.ndarray


@dataclass(frozen=True)
class Portion:
    """What the first pass has found in some files, to be sent to another process.

    keys: of tracks. of: of each row its track. pixels: (n, side, side, 3) uint8, None where the method needs none.
    landmarks: (n, 68, 2) float32. descriptors: (n, length) float32.
    """

    keys: tuple[str, ...]
    of: tuple[int, ...]
    pixels: np.ndarray | None
    landmarks: np.ndarray
    descriptors: np.ndarray
    detections: Detections


class CensusTaker:
    """Takes the census of frames for a method. Its files are gone when it is closed, or the process ends."""

    def __init__(self, method: Method, recogniser: Recogniser):
        self.method, self.recogniser = method, recogniser
        self.spec: CropSpec = replace(method.crop, size=method.stored)
        self._files = ExitStack()
        side = method.stored
        self.pixels, self.landmarks, self.descriptors = (
            self._rows(shape, dtype)
            for shape, dtype in (((side, side, 3), np.uint8), ((68, 2), np.float32), ((recogniser.length,), np.float32))
        )
        self.cache = DetectionCache()
        self._files.callback(self.cache.close)
        self._tracks: dict[str, int] = {}
        self._sightings: dict[str, int] = {}  # of each track: how often it was seen
        self._of: list[int] = []  # of each row on disk: its track

    def close(self) -> None:
        """Delete the files; the census cannot be read any more."""
        self._files.close()

    def take(self, items: Iterable[FrameOrFailure]) -> Census:
        """The census of all frames. A failure adds nothing: its file will fail in the run itself."""
        self.look(items)
        return self.census()

    def look(self, items: Iterable[FrameOrFailure]) -> None:
        """Describe the faces of frames."""
        waiting: list[_DescribedFace] = []
        for item in self.cache.noted(items):
            if isinstance(item, FileFrame):
                waiting += self._faces(item)
            while len(waiting) >= BATCH:
                self._keep(waiting[:BATCH])
                waiting = waiting[BATCH:]
        self._keep(waiting)

    def portion(self) -> Portion:
        """What was described so far."""
        numbers = np.arange(len(self._of))
        pixels = self.pixels[numbers] if self.method.needs_pixels else None
        rows = (pixels, self.landmarks[numbers], self.descriptors[numbers])
        return Portion(tuple(self._tracks), tuple(self._of), *rows, self.cache.portion())

    def add(self, portion: Portion) -> None:
        """Take what another process has described of other files."""
        first = len(self._tracks)
        self._tracks |= {key: first + number for number, key in enumerate(portion.keys)}
        self._of += [first + track for track in portion.of]
        self.cache.add(portion.detections)
        for number in range(len(portion.of)):
            self.descriptors.add(portion.descriptors[number])
            self.landmarks.add(portion.landmarks[number])
            if portion.pixels is not None:
                self.pixels.add(portion.pixels[number])

    def _rows(self, shape: tuple[int, ...], dtype: type) -> DiskRows:
        rows = DiskRows(shape, dtype)
        self._files.callback(rows.close)
        return rows

    def _faces(self, item: FileFrame) -> Iterator[_DescribedFace]:
        """The faces of a frame that can be described and that the method takes, each track now and then."""
        for face in item.faces:
            # Faces that are left or covered in any case take part in no surrogate.
            if item.choices.get(face.track, Choice()).action != "replace" or not serves(self.spec, face, item.frame):
                continue
            key = track_key(item.source.job.name, face)
            if self._wanted(key) and self.method.accepts(align(item.frame, face, self.method.crop, key)):
                self._tracks.setdefault(key, len(self._tracks))
                yield _DescribedFace(
                    align(item.frame, face, self.spec, key), self.recogniser.chips(item.frame.pixels, [face])[0]
                )

    def _wanted(self, key: str) -> bool:
        """Whether this sighting of a track is looked at: the 1st, 2nd, 4th, 8th and so on; long ones stay cheap."""
        self._sightings[key] = self._sightings.get(key, 0) + 1
        return self._sightings[key].bit_count() == 1

    def _keep(self, seen: list[_DescribedFace]) -> None:
        if not seen:
            return
        for each, descriptor in zip(seen, self._described(seen), strict=True):
            self._of.append(self._tracks[each.crop.key])
            self.descriptors.add(descriptor)
            self.landmarks.add(_moved(each.crop))
            if self.method.needs_pixels:
                self.pixels.add(each.crop.pixels)

    def _described(self, seen: list[_DescribedFace]) -> np.ndarray:
        return self.recogniser.embed(np.stack([each.chip for each in seen]))

    def census(self) -> Census:
        """The census of all that was described."""
        of = np.array(self._of, int)
        rows = self.descriptors[np.arange(len(of))]
        means, best = _by_track(rows, of)
        return Census(
            keys=list(self._tracks),
            pixels=RowSubset(self.pixels, best),
            landmarks=RowSubset(self.landmarks, best),
            descriptors=means,
            people=people(means, self.recogniser.threshold),
        )


def take_census(method: Method, items: Iterable[FrameOrFailure]) -> CensusTaker:
    """The first pass: prepare a method with the census of all frames. To be closed once the method is no more needed.

    Raises UsageError for too few people, and whatever ends the search; nothing stays on the disk then.
    """
    with ExitStack() as failed:
        taker = CensusTaker(method, recogniser(RECOGNISER))
        failed.callback(taker.close)
        method.prepare(taker.take(items))
        failed.pop_all()
    return taker


def _moved(crop: Crop) -> np.ndarray:
    """The landmarks of a crop in its own coordinates, (68, 2) float32."""
    assert crop.face.landmarks is not None  # others are not described
    return apply_affine(crop.transform, crop.face.landmarks).astype(np.float32)


def _by_track(rows: np.ndarray, of: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean descriptor of each track, and the number of the row nearest to it."""
    count = int(of.max()) + 1 if len(of) else 0
    means = np.zeros((count, rows.shape[1]))
    np.add.at(means, of, rows)
    means /= np.maximum(np.bincount(of, minlength=count), 1)[:, None]
    order = np.lexsort((np.linalg.norm(rows - means[of], axis=1), of))
    return means.astype(np.float32), order[np.searchsorted(of[order], np.arange(count))]


POINTS = (68, 2)
WIDTH = 6 + 136  # box, score, track and landmarks of a face


class DiskRows:
    """An array that grows row by row in a file without a name: it is gone when it is closed, or the process dies.

    The file lies in the system's folder for temporary files (TMPDIR).
    """

    def __init__(self, shape: tuple[int, ...], dtype: type):
        self.shape, self.dtype, self._count = shape, np.dtype(dtype), 0
        self._bytes = int(np.prod(shape)) * self.dtype.itemsize
        self._file = tempfile.TemporaryFile(prefix="deid-")  # noqa: SIM115 - lives as long as the rows do

    def add(self, row: np.ndarray) -> None:
        """Append a row. Raises MediaError where the disk is full."""
        if row.shape != self.shape:
            raise ValueError(f"a row of {self.shape} is needed, not {row.shape}")
        try:
            self._file.seek(self._count * self._bytes)
            self._file.write(np.ascontiguousarray(row, self.dtype).tobytes())
        except OSError as error:
            reason = f"no room for the faces of the closed set in {tempfile.gettempdir()}: {error.strerror}"
            raise MediaError(reason, "set TMPDIR to a folder with more room") from error
        self._count += 1

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, numbers: np.ndarray) -> np.ndarray:
        """The rows with these numbers, (m, *shape); one row for one number."""
        wanted = np.atleast_1d(np.asarray(numbers, int))
        rows = np.empty((len(wanted), *self.shape), self.dtype)
        for row, number in zip(rows, wanted, strict=True):
            if not 0 <= number < self._count:
                raise IndexError(f"row {number} of {self._count}")
            self._file.seek(int(number) * self._bytes)
            row[...] = np.frombuffer(self._file.read(self._bytes), self.dtype).reshape(self.shape)
        return rows if np.ndim(numbers) else rows[0]

    def close(self) -> None:
        """Let the file go."""
        self._file.close()


class RowSubset:
    """Some rows of an array on disk, in an order of their own; read when they are asked for."""

    def __init__(self, rows: DiskRows, numbers: np.ndarray):
        self._rows, self._numbers = rows, numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, numbers: np.ndarray) -> np.ndarray:
        return self._rows[self._numbers[numbers]]


@dataclass(frozen=True)
class Detections:
    """What a cache knows of some files, to be sent to another process.

    frames: how many each has. digests: the sha256 of each. places: of frames with faces, the first row and how many.
    rows: (n, WIDTH) float64.
    """

    frames: dict[str, int]
    digests: dict[str, str | None]
    places: dict[tuple[str, int], tuple[int, int]]
    rows: np.ndarray


class DetectionCache:
    """The faces of every frame, on disk; they serve as given ones (engine/face_list.py)."""

    locates = False

    def __init__(self):
        self._rows = DiskRows((WIDTH,), np.float64)
        self._places: dict[tuple[str, int], tuple[int, int]] = {}  # of frames with faces: first row, and how many
        self._frames: dict[str, int] = {}
        self._digests: dict[str, str | None] = {}
        self._lock = threading.Lock()  # frames are looked up from several threads

    def close(self) -> None:
        """Let the file go."""
        self._rows.close()

    def noted(self, items: Iterable[FrameOrFailure]) -> Iterator[FrameOrFailure]:
        """The same items, each written down as it goes by."""
        for item in items:
            if isinstance(item, FileFrame):
                name, index = item.source.job.name, item.frame.index
                self._frames[name] = index + 1
                self._digests[name] = item.source.sha256
                if item.faces:
                    self._places[name, index] = len(self._rows), len(item.faces)
                for face in item.faces:
                    self._rows.add(_as_row(face))
            yield item

    def portion(self, names: Iterable[str] | None = None) -> Detections:
        """What is known of the files `names`, None for all."""
        frames = self._frames if names is None else {n: self._frames[n] for n in names if n in self._frames}
        places: dict[tuple[str, int], tuple[int, int]] = {}
        numbers: list[int] = []
        for name, count in frames.items():
            for frame in range(count):
                start, faces = self._places.get((name, frame), (0, 0))
                if faces:
                    places[name, frame] = len(numbers), faces
                    numbers += range(start, start + faces)
        with self._lock:
            rows = self._rows[np.array(numbers, int)]
        return Detections(dict(frames), {name: self._digests[name] for name in frames}, places, rows)

    def add(self, portion: Detections) -> None:
        """Take what another process has found."""
        for (name, frame), (start, count) in portion.places.items():
            self._places[name, frame] = len(self._rows), count
            for row in portion.rows[start : start + count]:
                self._rows.add(row)
        self._frames |= portion.frames
        self._digests |= portion.digests

    @classmethod
    def of_portion(cls, portion: Detections) -> DetectionCache:
        """A cache that knows what another one did."""
        cache = cls()
        cache.add(portion)
        return cache

    def of(self, name: str, frame: int, size: tuple[int, int] | None = None) -> list[Face]:
        """The faces of a frame. Raises MediaError for one that was not seen: it cannot be said to have none."""
        if frame >= self._frames.get(name, 0):
            raise MediaError(f"{name} could not be read whole in the first pass", "run again, with --resume")
        start, count = self._places.get((name, frame), (0, 0))
        with self._lock:
            return [_as_face(row) for row in self._rows[np.arange(start, start + count)]]

    def numbers(self, name: str) -> int:
        """The first track number that no face of the file has."""
        frames = (self.of(name, frame) for frame in range(self._frames.get(name, 0)))
        return 1 + max((face.track for faces in frames for face in faces), default=-1)

    def check_frame(self, name: str, frame: Frame, sha256: str | None) -> None:
        """Raises MediaError for a file whose bytes are others than in the first pass: its faces are unknown."""
        if sha256 != self._digests.get(name):
            raise MediaError(f"{name} was changed while the run went on", "run again")

    def check_end(self, name: str, frames: int) -> None:
        """Raises MediaError where the first pass saw another number of frames."""
        if frames != self._frames.get(name):
            raise MediaError(f"{name} was changed while the run went on", "run again")


def _as_row(face: Face) -> np.ndarray:
    row = np.full(WIDTH, np.nan)
    row[:6] = face.box.left, face.box.top, face.box.right, face.box.bottom, face.score, face.track
    if face.landmarks is not None:
        row[6:] = face.landmarks.reshape(-1)
    return row


def _as_face(row: np.ndarray) -> Face:
    box, score, track = Box(*map(float, row[:4])), float(row[4]), int(row[5])
    points = None if np.isnan(row[6]) else row[6:].reshape(POINTS).astype(np.float32)
    return Face(box, score, points, track)
