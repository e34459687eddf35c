"""The detection cache: what the first pass of a closed-set run found, on disk.

The second pass takes it from there, so that it neither searches again nor finds other faces.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from deidcli.engine.frames import FileFrame, FrameOrFailure
from deidcli.errors import MediaError
from deidcli.values import Box, Face, Frame

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
