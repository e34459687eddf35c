"""Observe: make every output once and keep of it only numbers, from which all figures and attacks are computed.

Outputs are described at the landmarks of their originals: a method that only breaks the search for landmarks has
protected nobody. Memory holds one batch of pictures, and a few kilobytes for each output.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import cv2
import numpy as np

from deidcli.evaluation.labels import Answers, Labeller
from deidcli.evaluation.makers import Made, Maker, Original
from deidcli.evaluation.originals import Originals, describe
from deidcli.evaluation.utility import ssim
from deidcli.faces.detect import Detector
from deidcli.faces.landmarks import locate
from deidcli.values import Box, Face

BATCH = 32
FOUND = 0.3  # intersection over union with the original's box above which a face counts as found at its place
THUMBNAIL = 32  # side in pixels of the whole picture without what was changed


@dataclass(frozen=True)
class Outputs:
    """What was measured of the outputs of one maker; row i of everything belongs to names[i].

    descriptors: (n, d). found: (n,) bool, whether the detector finds a face there. landmarks: (n, 68, 2), NaN where no
    face is found. ssim, face_ssim: (n,) of the whole picture and of the face's box. covered: (n,) bool, by the
    fallback. rest: (n, THUMBNAIL² · 3) uint8, the untouched rest of the picture made small; rest_descriptors: (n, d),
    what the recogniser says with all that was changed painted grey; both empty unless asked for. labels: what the
    labellers said. seconds: of the maker alone. missing: pictures that have no output.
    """

    names: tuple[str, ...]
    descriptors: np.ndarray
    found: np.ndarray
    landmarks: np.ndarray
    ssim: np.ndarray
    face_ssim: np.ndarray
    covered: np.ndarray
    rest: np.ndarray
    rest_descriptors: np.ndarray
    labels: Answers = field(default_factory=dict)
    seconds: float = 0.0
    missing: tuple[str, ...] = ()

    @property
    def row(self) -> dict[str, int]:
        """The row of each name."""
        return {name: row for row, name in enumerate(self.names)}

    def rows(self, names: Sequence[str]) -> np.ndarray:
        """The rows of several names."""
        place = self.row
        return np.array([place[name] for name in names], int)

    def of(self, names: Sequence[str]) -> np.ndarray:
        """Descriptors (n, d) of several names."""
        return self.descriptors[self.rows(names)]


@dataclass(frozen=True)
class Gauge:
    """What measures outputs. detector: None for not searching them. likeness: measure SSIM. untouched: describe the
    untouched rest, too."""

    detector: Detector | None
    labellers: tuple[Labeller, ...] = ()
    likeness: bool = True
    untouched: bool = False


def observe(originals: Originals, names: Sequence[str], maker: Maker, gauge: Gauge) -> Iterator[Outputs]:
    """Measure the outputs of all known pictures among `names`, a batch at a time; `joined` puts the parts together."""
    known = [name for name in names if name in originals.known]
    with ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="deid") as pool:
        for start in range(0, len(known), BATCH):
            part = known[start : start + BATCH]
            batch = [Original(n, f, originals.known[n].face) for n, f in zip(part, pool.map(originals.frame, part))]  # noqa: B905
            began = time.perf_counter()
            made = maker(batch)
            seconds = time.perf_counter() - began
            yield replace(_measured(originals, batch, made, gauge, pool), seconds=seconds)


def joined(parts: Sequence[Outputs]) -> Outputs:
    """All parts as one. Raises ValueError for none."""
    if not parts:
        raise ValueError("nothing was observed")
    arrays = {key: np.concatenate([getattr(part, key) for part in parts]) for key in _ARRAYS}
    labels = {key: np.concatenate([part.labels[key] for part in parts if part.names]) for key in _labelled(parts)}
    names, missing = (tuple(name for part in parts for name in getattr(part, key)) for key in ("names", "missing"))
    return Outputs(names, **arrays, labels=labels, seconds=sum(part.seconds for part in parts), missing=missing)


_ARRAYS = ("descriptors", "found", "landmarks", "ssim", "face_ssim", "covered", "rest", "rest_descriptors")


def _labelled(parts: Sequence[Outputs]) -> list[str]:
    return list(dict.fromkeys(key for part in parts for key in part.labels))


def _measured(
    originals: Originals, batch: Sequence[Original], made: Sequence[Made | None], gauge: Gauge, pool: ThreadPoolExecutor
) -> Outputs:
    pairs = [(original, done) for original, done in zip(batch, made, strict=True) if done is not None]
    faces = [o.face for o, _ in pairs]
    pixels = [done.pixels for _, done in pairs]
    again = list(pool.map(_again, faces, pixels, _detected(gauge.detector, pixels, pool)))
    judge, length = originals.judge, originals.judge.length
    greyed = [_greyed(done) for _, done in pairs] if gauge.untouched else []
    likeness = list(pool.map(_likeness, pairs)) if gauge.likeness else [(np.nan, np.nan)] * len(pairs)
    new = [(o.frame.with_pixels(done.pixels), o.face) for o, done in pairs]
    return Outputs(
        names=tuple(o.name for o, _ in pairs),
        descriptors=describe(judge, list(zip(pixels, faces, strict=True))),
        found=np.array([face is not None for face in again], bool),
        landmarks=np.array([_points(face) for face in again]).reshape(-1, 68, 2),
        ssim=np.array([whole for whole, _ in likeness], float),
        face_ssim=np.array([part for _, part in likeness], float),
        covered=np.array([done.covered for _, done in pairs], bool),
        rest=np.array([_small(g) for g in greyed], np.uint8).reshape(len(greyed), THUMBNAIL * THUMBNAIL * 3),
        rest_descriptors=describe(judge, list(zip(greyed, faces, strict=True))) if greyed else np.zeros((0, length)),
        labels={key: rows for reader in gauge.labellers if new for key, rows in reader.read(new).items()},
        missing=tuple(o.name for o, done in zip(batch, made, strict=True) if done is None),
    )


def _detected(detector: Detector | None, pixels: Sequence[np.ndarray], pool: ThreadPoolExecutor) -> list[list[Face]]:
    if detector is None:
        return [[] for _ in pixels]
    if detector.batches:
        return detector.detect(pixels) if pixels else []
    return list(pool.map(lambda picture: detector.detect([picture])[0], pixels))


def _again(face: Face, pixels: np.ndarray, found: Sequence[Face]) -> Face | None:
    """The found face at the place of the old one, with its landmarks where they can be believed."""
    best = max(found, key=lambda other: other.box.iou(face.box), default=None)
    if best is None or best.box.iou(face.box) <= FOUND:
        return None
    return locate(pixels, [best])[0]


def _points(face: Face | None) -> np.ndarray:
    return np.full((68, 2), np.nan) if face is None or face.landmarks is None else np.asarray(face.landmarks, float)


def _likeness(pair: tuple[Original, Made]) -> tuple[float, float]:
    original, made = pair
    before, after = original.frame.pixels, made.pixels
    rows, columns = _window(original.face.box, before.shape)
    return ssim(before, after), ssim(before[rows, columns], after[rows, columns])


def _window(box: Box, shape: tuple[int, ...]) -> tuple[slice, slice]:
    left, top, right, bottom = (max(0, round(side)) for side in (box.left, box.top, box.right, box.bottom))
    return slice(top, min(bottom, shape[0])), slice(left, min(right, shape[1]))


def _greyed(made: Made) -> np.ndarray:
    return np.where(made.changed[..., None], np.uint8(128), made.pixels)


def _small(pixels: np.ndarray) -> np.ndarray:
    return cv2.resize(pixels, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA).ravel()
