"""The first pass of a closed-set run: every face of every input is described, spilled to disk, given a person."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace

import numpy as np

from deidcli.engine.find import Shot
from deidcli.engine.persona import track_key
from deidcli.engine.seen import SeenFaces
from deidcli.engine.spill import Picked, Spill
from deidcli.faces.align import align, apply_affine
from deidcli.faces.embed import Recogniser, recogniser
from deidcli.faces.people import people
from deidcli.methods.census import Census
from deidcli.methods.closed import ClosedSet
from deidcli.values import Crop, CropSpec

# The recogniser that tells people apart, whichever one judges the new faces: its distance is Euclidean.
RECOGNISER = "dlib"
BATCH = 32  # faces that are described at once


@dataclass(frozen=True)
class _Seen:
    """A face as it goes on to disk."""

    crop: Crop
    chip: np.ndarray


class CensusTaker:
    """Takes the census of shots for a method. Its files are gone when it is closed, or the process ends."""

    def __init__(self, method: ClosedSet, recogniser: Recogniser):
        self.method, self.recogniser = method, recogniser
        self.spec: CropSpec = replace(method.crop, size=method.stored)
        self._files = ExitStack()
        side = method.stored
        self.pixels, self.landmarks, self.descriptors = (
            self._spill(shape, dtype)
            for shape, dtype in (((side, side, 3), np.uint8), ((68, 2), np.float32), ((recogniser.length,), np.float32))
        )
        self.seen = SeenFaces()
        self._files.callback(self.seen.close)
        self._tracks: dict[str, int] = {}
        self._sightings: list[int] = []  # of each track: how often it was seen
        self._of: list[int] = []  # of each row on disk: its track

    def close(self) -> None:
        """Let the files go; the census cannot be read any more."""
        self._files.close()

    def take(self, shots: Iterable[Shot]) -> Census:
        """The census of all shots. A frame that failed adds nothing: its file will fail in the run itself."""
        waiting: list[_Seen] = []
        for shot in self.seen.noted(shots):
            waiting += self._seen(shot)
            while len(waiting) >= BATCH:
                self._keep(waiting[:BATCH])
                waiting = waiting[BATCH:]
        self._keep(waiting)
        return self._census()

    def _spill(self, shape: tuple[int, ...], dtype: type) -> Spill:
        spill = Spill(shape, dtype)
        self._files.callback(spill.close)
        return spill

    def _seen(self, shot: Shot) -> Iterator[_Seen]:
        """The faces of a shot that can be described and that the method takes, each track now and then."""
        for face in shot.faces:
            if face.landmarks is None or shot.frame is None:
                continue
            crop = align(shot.frame, face, self.spec, track_key(shot.source.job.name, face))
            if self.method.accepts(crop) and self._wanted(crop.key):
                yield _Seen(crop, self.recogniser.chips(shot.frame.pixels, [face])[0])

    def _wanted(self, key: str) -> bool:
        """Whether this sighting of a track is looked at: the 1st, 2nd, 4th, 8th and so on; long ones stay cheap."""
        track = self._tracks.setdefault(key, len(self._tracks))
        if track == len(self._sightings):
            self._sightings.append(0)
        self._sightings[track] += 1
        return self._sightings[track].bit_count() == 1

    def _keep(self, seen: list[_Seen]) -> None:
        if not seen:
            return
        for each, descriptor in zip(seen, self._described(seen), strict=True):
            self._of.append(self._tracks[each.crop.key])
            self.descriptors.add(descriptor)
            self.landmarks.add(_moved(each.crop))
            if self.method.needs_pixels:
                self.pixels.add(each.crop.pixels)

    def _described(self, seen: list[_Seen]) -> np.ndarray:
        return self.recogniser.embed(np.stack([each.chip for each in seen]))

    def _census(self) -> Census:
        of = np.array(self._of, int)
        rows = self.descriptors[np.arange(len(of))]
        means, best = _by_track(rows, of)
        return Census(
            keys=list(self._tracks),
            pixels=Picked(self.pixels, best),
            landmarks=Picked(self.landmarks, best),
            descriptors=means,
            people=people(means, self.recogniser.threshold),
        )


def take_census(method: ClosedSet, shots: Iterable[Shot]) -> CensusTaker:
    """The first pass: prepare a method with the census of all shots. To be closed once the method is no more needed.

    Raises UsageError for too few people, and whatever ends the search; nothing stays on the disk then.
    """
    with ExitStack() as failed:
        taker = CensusTaker(method, recogniser(RECOGNISER))
        failed.callback(taker.close)
        method.prepare(taker.take(shots))
        failed.pop_all()
    return taker


def _moved(crop: Crop) -> np.ndarray:
    """The landmarks of a crop in its own coordinates, (68, 2) float32."""
    return apply_affine(crop.transform, crop.face.landmarks).astype(np.float32)


def _by_track(rows: np.ndarray, of: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean descriptor of each track, and the number of the row nearest to it."""
    count = int(of.max()) + 1 if len(of) else 0
    means = np.zeros((count, rows.shape[1]))
    np.add.at(means, of, rows)
    means /= np.maximum(np.bincount(of, minlength=count), 1)[:, None]
    order = np.lexsort((np.linalg.norm(rows - means[of], axis=1), of))
    return means.astype(np.float32), order[np.searchsorted(of[order], np.arange(count))]
