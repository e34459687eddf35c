"""The first pass of a closed-set run: every face of every input is described, kept on disk, given a person."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace

import numpy as np

from deidcli.engine.detection_cache import DetectionCache, Detections, DiskRows, RowSubset
from deidcli.engine.frames import Choice, FileFrame, FrameOrFailure
from deidcli.engine.persona import track_key
from deidcli.engine.settings import RECOGNISER
from deidcli.faces.align import align, apply_affine
from deidcli.faces.landmarks import serves
from deidcli.faces.people import people
from deidcli.faces.recognisers import Recogniser, recogniser
from deidcli.methods.base import Census, Method
from deidcli.values import Crop, CropSpec

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
