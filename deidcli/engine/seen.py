"""Seen faces: what the first pass of a closed-set run found, so that the second one neither searches again nor finds
other faces."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from deidcli.engine.jobs import Job
from deidcli.engine.spill import Spill
from deidcli.errors import MediaError
from deidcli.values import Box, Face

if TYPE_CHECKING:
    from deidcli.engine.find import Shot

POINTS = (68, 2)
WIDTH = 6 + 136  # box, score, track and landmarks of a face


class SeenFaces:
    """The faces of every frame, on disk; they serve as given ones (engine/given.py)."""

    def __init__(self):
        self._rows = Spill((WIDTH,), np.float64)
        self._places: dict[tuple[str, int], tuple[int, int]] = {}  # of frames with faces: first row, and how many
        self._frames: dict[str, int] = {}
        self._digests: dict[str, str | None] = {}
        self._lock = threading.Lock()  # frames are looked up from several threads

    def close(self) -> None:
        """Let the file go."""
        self._rows.close()

    def noted(self, shots: Iterable[Shot]) -> Iterator[Shot]:
        """The same shots, each written down as it goes by."""
        for shot in shots:
            if shot.frame is not None:
                name, index = shot.source.job.name, shot.frame.index
                self._frames[name] = index + 1
                self._digests[name] = shot.source.sha256
                if shot.faces:
                    self._places[name, index] = len(self._rows), len(shot.faces)
                for face in shot.faces:
                    self._rows.add(_as_row(face))
            yield shot

    def of(self, name: str, frame: int) -> list[Face]:
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

    def unchanged(self, search: Callable[[Iterable[Job]], Iterator[Shot]]) -> Callable[[Iterable[Job]], Iterator[Shot]]:
        """The search of the second pass; a file whose bytes are others now fails in it, since its faces are unknown."""
        return lambda jobs: self._checked(search(jobs))

    def _checked(self, shots: Iterable[Shot]) -> Iterator[Shot]:
        for shot in shots:
            name = shot.source.job.name
            if shot.frame is not None and shot.source.sha256 != self._digests.get(name):
                error = f"{name} was changed while the run went on (run again)"
                shot = replace(shot, frame=None, faces=(), last=True, error=error)
            yield shot


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
