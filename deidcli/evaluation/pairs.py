"""Verification pairs: is a person still matched after one picture of the pair went through a method?

The protocol of CLEANIR's Table 2 and FATM's Section 4: pairs of pictures of one person; the second goes through the
method and back into its photograph; a recogniser compares it with the untouched first one.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deidcli.engine.replace import Replacer, Request
from deidcli.engine.settings import Settings
from deidcli.errors import UsageError
from deidcli.evaluation.metrics import bootstrap, matching_rate
from deidcli.faces.detect import Detector
from deidcli.faces.embed import Recogniser
from deidcli.faces.landmarks import locate
from deidcli.media.open import open_reader
from deidcli.methods.base import Method
from deidcli.values import Face, Frame


@dataclass(frozen=True)
class PairRates:
    """Shares of pairs at a threshold, each with its interval of 95 %.

    matched: pairs of one person. itself: a picture against its own original. strangers: pairs of two people. found: new
    faces that the detector still finds.
    """

    method: str
    threshold: float
    pairs: int
    matched: tuple[float, float, float]
    itself: tuple[float, float, float]
    strangers: tuple[float, float, float]
    found: float


def load_pairs(path: Path) -> list[tuple[str, str, bool]]:
    """Rows of a CSV with the columns a, b (files) and same (1 or 0). Raises UsageError."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return [(row["a"], row["b"], row["same"] == "1") for row in csv.DictReader(file)]
    except (OSError, KeyError) as error:
        raise UsageError(f"--pairs {path}: {error}", "give a CSV with the columns a, b and same") from error


class Gallery:
    """The pictures of a set of pairs, each with the face nearest its middle, read once."""

    def __init__(self, folder: Path, detector: Detector, recogniser: Recogniser):
        self.folder, self.detector, self.recogniser = folder, detector, recogniser
        self.faces: dict[str, Face] = {}
        self.originals: dict[str, np.ndarray] = {}

    def read(self, names: Sequence[str]) -> None:
        """Find the face of every picture and describe it."""
        for batch in _parts(names, 64):
            frames = [self.frame(name) for name in batch]
            found = self.detector.detect([frame.pixels for frame in frames])
            central = [(n, frame, _central(frame, faces)) for n, frame, faces in zip(batch, frames, found, strict=True)]
            known = [(name, frame, face) for name, frame, face in central if face is not None]
            self.faces.update({name: face for name, _, face in known})
            described = self._describe([(frame, face) for _, frame, face in known])
            self.originals.update(zip([name for name, _, _ in known], described, strict=True))

    def frame(self, name: str) -> Frame:
        with open_reader(self.folder / name) as reader:
            return next(reader.frames())

    def replaced(self, names: Sequence[str], method: Method) -> tuple[dict[str, np.ndarray], float]:
        """Descriptors of every picture after `method`, and the share of new faces that the detector finds."""
        replacer = Replacer(method, Settings(verify=False), None)
        described: dict[str, np.ndarray] = {}
        found = 0
        for batch in _parts([name for name in names if name in self.faces], 64):
            requests = [Request(self.frame(name), (self.faces[name],), name) for name in batch]
            done = [result.frame for result in replacer(requests)]
            pairs = [(frame, self.faces[name]) for name, frame in zip(batch, done, strict=True)]
            described.update(zip(batch, self._describe(pairs), strict=True))
            again = self.detector.detect([frame.pixels for frame in done])
            found += sum(_finds(faces, face) for (_, face), faces in zip(pairs, again, strict=True))
        return described, found / max(1, len(described))

    def _describe(self, pairs: Sequence[tuple[Frame, Face]]) -> np.ndarray:
        if not pairs:
            return np.zeros((0, self.recogniser.length), np.float32)
        # The landmarks of the original: a method that only breaks the search for landmarks has not protected anyone.
        chips = [self.recogniser.chips(frame.pixels, [face])[0] for frame, face in pairs]
        return self.recogniser.embed(np.stack(chips))


def measure(
    gallery: Gallery, pairs: Sequence[tuple[str, str, bool]], method: Method | None, threshold: float
) -> PairRates:
    """The rates of one method, or of the originals where `method` is None. Pictures without a face are left out."""
    names = sorted({b for _, b, _ in pairs})
    after, found = (gallery.originals, 1.0) if method is None else gallery.replaced(names, method)
    distance = gallery.recogniser.distance
    usable = [(a, b, same) for a, b, same in pairs if a in gallery.originals and b in after]
    apart = np.array([float(distance(gallery.originals[a], after[b])) for a, b, _ in usable])
    same = np.array([s for _, _, s in usable])
    own = np.array([float(distance(gallery.originals[n], after[n])) for n in names if n in after])
    matched, itself, strangers = (_rate(values, threshold) for values in (apart[same], own, apart[~same]))
    return PairRates(_label(method), threshold, len(usable), matched, itself, strangers, round(found, 4))


def _central(frame: Frame, found: Sequence[Face]) -> Face | None:
    """The face nearest the middle, of those with landmarks."""
    middle = np.array([frame.width, frame.height]) / 2
    usable = [face for face in locate(frame.pixels, found) if face.landmarks is not None]
    return min(usable, key=lambda f: float(np.hypot(*(f.box.center - middle))), default=None)


def _finds(found: Sequence[Face], face: Face) -> bool:
    return any(other.box.iou(face.box) > 0.3 for other in found)


def _rate(distances: np.ndarray, threshold: float) -> tuple[float, float, float]:
    low, high = bootstrap(distances <= threshold)
    return round(matching_rate(distances, threshold), 4), round(low, 4), round(high, 4)


def _label(method: Method | None) -> str:
    if method is None:
        return "original"
    return " ".join([method.name, *(str(v) for v in vars(method.options).values())])


def _parts(names: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for start in range(0, len(names), size):
        yield names[start : start + size]
