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
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from deidcli.engine.replace import Replacer, Request
from deidcli.engine.settings import Settings
from deidcli.errors import MediaError, UsageError
from deidcli.evaluation.measures import ssim
from deidcli.evaluation.originals import Answers, Labeller, Originals, describe
from deidcli.faces.detectors import Detector
from deidcli.faces.landmarks import locate
from deidcli.faces.recognisers import Recogniser
from deidcli.media.open import open_reader
from deidcli.methods.base import Method
from deidcli.values import Box, Face, Frame

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
    background: np.ndarray
    background_embeddings: np.ndarray
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
class Instruments:
    """What measures outputs. detector: None for not searching them. likeness: measure SSIM. untouched: describe the
    untouched rest, too."""

    detector: Detector | None
    labellers: tuple[Labeller, ...] = ()
    likeness: bool = True
    background: bool = False


def observe(originals: Originals, names: Sequence[str], maker: Maker, instruments: Instruments) -> Iterator[Outputs]:
    """Measure the outputs of all known pictures among `names`, a batch at a time; `joined` puts the parts together."""
    known = [name for name in names if name in originals.known]
    with ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="deid") as pool:
        for start in range(0, len(known), BATCH):
            part = known[start : start + BATCH]
            batch = [Original(n, f, originals.known[n].face) for n, f in zip(part, pool.map(originals.frame, part))]  # noqa: B905
            began = time.perf_counter()
            made = maker(batch)
            seconds = time.perf_counter() - began
            yield replace(_measured(originals, batch, made, instruments, pool), seconds=seconds)


def joined(parts: Sequence[Outputs]) -> Outputs:
    """All parts as one. Raises ValueError for none."""
    if not parts:
        raise ValueError("nothing was observed")
    arrays = {key: np.concatenate([getattr(part, key) for part in parts]) for key in _ARRAYS}
    labels = {key: np.concatenate([part.labels[key] for part in parts if part.names]) for key in _labelled(parts)}
    names, missing = (tuple(name for part in parts for name in getattr(part, key)) for key in ("names", "missing"))
    return Outputs(names, **arrays, labels=labels, seconds=sum(part.seconds for part in parts), missing=missing)


_ARRAYS = ("descriptors", "found", "landmarks", "ssim", "face_ssim", "covered", "background", "background_embeddings")


def _labelled(parts: Sequence[Outputs]) -> list[str]:
    return list(dict.fromkeys(key for part in parts for key in part.labels))


def _measured(
    originals: Originals,
    batch: Sequence[Original],
    made: Sequence[Made | None],
    instruments: Instruments,
    pool: ThreadPoolExecutor,
) -> Outputs:
    pairs = [(original, done) for original, done in zip(batch, made, strict=True) if done is not None]
    faces = [o.face for o, _ in pairs]
    pixels = [done.pixels for _, done in pairs]
    again = list(pool.map(_again, faces, pixels, _detected(instruments.detector, pixels, pool)))
    judge, length = originals.judge, originals.judge.length
    greyed = [_greyed(done) for _, done in pairs] if instruments.background else []
    likeness = list(pool.map(_likeness, pairs)) if instruments.likeness else [(np.nan, np.nan)] * len(pairs)
    new = [(o.frame.with_pixels(done.pixels), o.face) for o, done in pairs]
    return Outputs(
        names=tuple(o.name for o, _ in pairs),
        descriptors=describe(judge, list(zip(pixels, faces, strict=True))),
        found=np.array([face is not None for face in again], bool),
        landmarks=np.array([_points(face) for face in again]).reshape(-1, 68, 2),
        ssim=np.array([whole for whole, _ in likeness], float),
        face_ssim=np.array([part for _, part in likeness], float),
        covered=np.array([done.covered for _, done in pairs], bool),
        background=np.array([_small(g) for g in greyed], np.uint8).reshape(len(greyed), THUMBNAIL * THUMBNAIL * 3),
        background_embeddings=describe(judge, list(zip(greyed, faces, strict=True)))
        if greyed
        else np.zeros((0, length)),
        labels={key: rows for reader in instruments.labellers if new for key, rows in reader.read(new).items()},
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


# --- Makers: what turns originals into outputs. A method, the files that another tool wrote, or nothing at all.

ALONE = Settings(verify=False)


@dataclass(frozen=True)
class Original:
    """A picture with its face, as the measuring side knows it."""

    name: str
    frame: Frame
    face: Face


@dataclass(frozen=True)
class Made:
    """An output. changed: (height, width) bool of what may differ from the original. covered: by the fallback."""

    pixels: np.ndarray
    changed: np.ndarray
    covered: bool = False


class Maker(Protocol):
    """Makes outputs of a batch, in order; None for a picture that has none."""

    def __call__(self, batch: Sequence[Original]) -> list[Made | None]: ...


class Untouched:
    """The originals themselves."""

    def __call__(self, batch: Sequence[Original]) -> list[Made | None]:
        return [Made(o.frame.pixels, np.zeros(o.frame.pixels.shape[:2], bool)) for o in batch]


class ByMethod:
    """A method alone, blended back into the photograph; with `verify` its whole escalation, as in `deid anonymize`.

    Without escalation a face that the method cannot make is covered all the same. settings: of the run. judge: needed
    for the escalation, and for the persona "identity".
    """

    def __init__(self, method: Method, settings: Settings = ALONE, judge: Recogniser | None = None):
        self.method = method
        self._replacer = Replacer(method, settings, judge)

    def __call__(self, batch: Sequence[Original]) -> list[Made | None]:
        done = self._replacer([Request(o.frame, (o.face,), o.name) for o in batch])
        return [
            Made(r.frame.pixels, _mask(r.changed, r.frame), r.outcomes[0].action == "covered") for r in done
        ]  # fmt: skip


class ByFolder:
    """The files of the same names in a folder that any tool wrote; a file of the same stem counts where a tool changes
    formats, and one of another size is brought to the original's. Raises UsageError for a folder that is not there.
    """

    def __init__(self, folder: Path):
        if not folder.is_dir():
            raise UsageError(f"{folder} is no folder", "name the folder that holds the outputs")
        self.folder = folder

    def __call__(self, batch: Sequence[Original]) -> list[Made | None]:
        return [self._made(original) for original in batch]

    def path(self, name: str) -> Path | None:
        """Where the output of a picture lies."""
        same = self.folder / name
        if same.is_file():
            return same
        others = sorted(p for p in same.parent.glob("*") if p.stem == same.stem and p.is_file())
        return others[0] if others else None

    def _made(self, original: Original) -> Made | None:
        path = self.path(original.name)
        if path is None:
            return None
        try:
            with open_reader(path) as reader:
                pixels = next(reader.frames()).pixels
        except MediaError:
            return None
        size = original.frame.width, original.frame.height
        if pixels.shape[1::-1] != size:
            pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
        return Made(pixels, (pixels != original.frame.pixels).any(axis=2))


def _mask(changed: np.ndarray | None, frame: Frame) -> np.ndarray:
    return np.zeros((frame.height, frame.width), bool) if changed is None else changed
