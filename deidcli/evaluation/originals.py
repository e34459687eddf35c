"""Originals: the pictures of a set, each with the face nearest its middle, searched and described once; and labels.

Labels are attributes of faces beside identity, read by classifiers. Whatever implements `Labeller` can be used.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from copy import copy
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from deidcli import __version__
from deidcli.engine.frames import FileFailure, FileFrame, batched
from deidcli.engine.jobs import Job
from deidcli.engine.local import find
from deidcli.errors import MediaError, UsageError
from deidcli.faces.align import align
from deidcli.faces.attributes import tone
from deidcli.faces.detectors import DetectOptions
from deidcli.faces.recognisers import Recogniser
from deidcli.media.open import open_reader
from deidcli.presets import load_preset, presets, sha256
from deidcli.values import Box, CropSpec, Face, Frame

BATCH = 64  # pictures that are held in memory at once


@dataclass(frozen=True)
class Known:
    """The face of an original. descriptor: (d,) of the recogniser, at the face's landmarks."""

    face: Face
    descriptor: np.ndarray


class Originals:
    """Pictures of a folder by their names relative to it.

    known: those that were read and show a face whose landmarks can be believed. blank: those without one. failed: the
    reason for each that cannot be read.
    """

    def __init__(self, folder: Path, detect: DetectOptions, judge: Recogniser, cache: Cache | None = None):
        self.folder, self.detect, self.judge, self.cache = folder, detect, judge, cache
        self.known: dict[str, Known] = {}
        self.blank: set[str] = set()
        self.failed: dict[str, str] = {}
        self._settings_key = _settings_key(detect, judge)

    def read(self, names: Iterable[str]) -> Iterator[str]:
        """Find and describe the face of every picture that is not known yet; yields each name when it is done."""
        waiting = []
        for name in names:
            if self._is_settled(name) or self._recall(name) or self._is_settled(name):
                yield name
            else:
                waiting.append(name)
        if waiting:
            yield from self._search(waiting)

    def frame(self, name: str) -> Frame:
        """The first frame of a picture. Raises MediaError."""
        with open_reader(self.folder / name) as reader:
            return next(reader.frames())

    def seen_by(self, judge: Recogniser, columns: slice) -> Originals:
        """The same pictures as a part of the recogniser sees them. columns: of the descriptors that are the part's."""
        seen = copy(self)
        seen.judge = judge
        seen.known = {name: replace(each, descriptor=each.descriptor[columns]) for name, each in self.known.items()}
        return seen

    def descriptors(self, names: Sequence[str]) -> np.ndarray:
        """Of known pictures, (n, d)."""
        rows = [self.known[name].descriptor for name in names]
        return np.stack(rows) if rows else np.zeros((0, self.judge.length), np.float32)

    def landmarks(self, names: Sequence[str]) -> np.ndarray:
        """Of known pictures, (n, 68, 2) in pixels."""
        return np.array([self.known[name].face.landmarks for name in names], np.float64).reshape(-1, 68, 2)

    def _is_settled(self, name: str) -> bool:
        return name in self.known or name in self.blank or name in self.failed

    def _recall(self, name: str) -> bool:
        """Whether the cache knows a picture; then it is known here, too."""
        try:
            row = self.cache.get(self._key(name)) if self.cache else None
        except OSError as error:
            self.failed[name] = f"{name}: cannot be read: {(error.strerror or str(error)).lower()}"
            return False
        if row is not None:
            self._learn(name, row)
        return row is not None

    def _key(self, name: str) -> str:
        return f"{sha256(self.folder / name)} {self._settings_key}"

    def _search(self, names: Sequence[str]) -> Iterator[str]:
        jobs = [Job(self.folder / name, None, name) for name in names]
        first = (one for one in find(jobs, self.detect) if isinstance(one, FileFailure) or one.frame.index == 0)
        for batch in batched(first, lambda one: 1, BATCH, longest=BATCH):
            sound = [(one, central(one.frame, one.faces)) for one in batch if isinstance(one, FileFrame)]
            seen = [(one, face) for one, face in sound if face is not None]
            described = describe(self.judge, [(one.frame.pixels, face) for one, face in seen])
            rows = {id(one): np.zeros(0) for one, face in sound if face is None}
            rows |= {id(one): _packed(Known(f, d)) for (one, f), d in zip(seen, described, strict=True)}
            for one in batch:
                error = one.error if isinstance(one, FileFailure) else ""
                self._learn(one.source.job.name, rows.get(id(one)), error)
            if self.cache:
                self.cache.put({f"{s.source.sha256} {self._settings_key}": rows[id(s)] for s, _ in sound})
            yield from (one.source.job.name for one in batch)

    def _learn(self, name: str, row: np.ndarray | None, error: str = "") -> None:
        if row is None:
            self.failed[name] = error
        elif not row.size:
            self.blank.add(name)
        else:
            self.known[name] = _unpacked(row)


def central(frame: Frame, faces: Sequence[Face]) -> Face | None:
    """The face nearest the middle, of those with landmarks."""
    middle = np.array([frame.width, frame.height]) / 2
    usable = [face for face in faces if face.landmarks is not None]
    return min(usable, key=lambda f: float(np.hypot(*(f.box.center - middle))), default=None)


def describe(judge: Recogniser, pairs: Sequence[tuple[np.ndarray, Face]]) -> np.ndarray:
    """Descriptors (n, d) of faces with landmarks, each in its picture (h, w, 3) uint8."""
    if not pairs:
        return np.zeros((0, judge.length), np.float32)
    return judge.embed(np.stack([judge.chips(pixels, [face])[0] for pixels, face in pairs]))


def read_error(originals: Originals) -> MediaError:
    """What to say where no picture of a set can be used."""
    reasons = [*originals.failed.values(), *(f"{name}: no face was found" for name in sorted(originals.blank))]
    return MediaError(
        f"no picture of {originals.folder} can be measured; the first: {(reasons or ['there is none'])[0]}"
    )


def _packed(known: Known) -> np.ndarray:
    box = known.face.box
    head = [box.left, box.top, box.right, box.bottom, known.face.score]
    points = np.asarray(known.face.landmarks, np.float64)  # only faces with landmarks are known
    return np.concatenate([head, points.ravel(), known.descriptor]).astype(np.float64)


def _unpacked(row: np.ndarray) -> Known:
    face = Face(Box(*map(float, row[:4])), float(row[4]), row[5:141].reshape(68, 2).astype(np.float32))
    return Known(face, row[141:].astype(np.float32))


def _settings_key(detect: DetectOptions, judge: Recogniser) -> str:
    """A name for how faces are found and described; files by their content, because one may be replaced."""
    said = {"detect": asdict(detect), "judge": judge.name, "deid": __version__}
    said |= {"files": [sha256(Path(f)) for f in (detect.detector.partition(":")[2], judge.file) if f]}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


# --- What was found in pictures, kept over runs: rows of numbers by name in one file, never a pixel.
#
# SQLite, because several runs may share the file and a killed one leaves it whole.

FILE = "faces.sqlite"


class Cache:
    """Rows of float64 by name in FILE of a folder. Raises UsageError where that cannot be used."""

    def __init__(self, folder: Path):
        self.path = folder / FILE
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with closing(self._open()) as base, base:
                base.execute("CREATE TABLE IF NOT EXISTS rows (name TEXT PRIMARY KEY, numbers BLOB NOT NULL)")
        except (OSError, sqlite3.Error) as error:
            raise UsageError(f"--cache {folder} cannot be used: {error}", "name another folder, or none") from error

    def get(self, name: str) -> np.ndarray | None:
        """The row called `name`, None where there is none."""
        with closing(self._open()) as base:
            found = base.execute("SELECT numbers FROM rows WHERE name = ?", (name,)).fetchone()
        return None if found is None else np.frombuffer(found[0], np.float64)

    def put(self, rows: Mapping[str, np.ndarray]) -> None:
        """Keep rows, all or none of them."""
        entries = [(name, np.asarray(row, np.float64).tobytes()) for name, row in rows.items()]
        with closing(self._open()) as base, base:
            base.executemany("INSERT OR REPLACE INTO rows VALUES (?, ?)", entries)

    def _open(self) -> sqlite3.Connection:
        return sqlite3.connect(self.path, timeout=60)


def default_folder() -> Path:
    """`deid` in the user's cache folder, which XDG_CACHE_HOME names."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "deid"


# Which presets judge. The judge of expressions has another network than the classifier that methods learn from.
JUDGES, CLASSIFIER = (("attributes",), ("expression-judge", "expression")), "classifier"
Answers = dict[str, np.ndarray]
# Where the groups of a number end: ages as in the classifier's card, tones as Chardon et al. (1991) name them.
GROUPS = {"age": (13, 20, 30, 45, 60), "tone": (-30, 10, 28, 41)}
SIDE, MARGIN = 64, 0.06  # of the crop that a tone is read off


class Labeller(Protocol):
    """Reads labels.

    name: with what reads, down to its weights. classes: for each label the words that it can be; empty for one that is
    a number, like an age.
    """

    name: str
    classes: dict[str, tuple[str, ...]]

    def read(self, pairs: Sequence[tuple[Frame, Face]]) -> Answers:
        """For each label the probabilities (n, classes) of its words, or the numbers (n,), of faces with landmarks."""
        ...


def likeliest(labeller_classes: Sequence[str], answers: np.ndarray) -> np.ndarray:
    """The most probable class (n,) of probabilities (n, classes)."""
    return np.asarray(labeller_classes)[np.argmax(answers, axis=1)] if len(answers) else np.array([], str)


class ClassifierLabeller:
    """Reads the labels of a preset's classifier off aligned crops. Raises PresetError where that is damaged.

    verifier: which one, of a preset of epdnet; "" for a preset that is a classifier.
    """

    def __init__(self, preset: str, verifier: str = ""):
        from deidcli.networks import classifiers, epd_net

        self._classifier: Any = (
            epd_net.load_verifier(load_preset(preset), verifier) if verifier else classifiers.load(preset)
        )
        self.name = " ".join([preset, load_preset(preset).checksum, verifier]).strip()
        self._spec = CropSpec(self._classifier.config.size, self._classifier.margin)
        heads = self._classifier.heads
        self.classes = {name: () if head.places is not None else tuple(head.classes) for name, head in heads.items()}

    def read(self, pairs: Sequence[tuple[Frame, Face]]) -> Answers:
        """Probabilities of words, and numbers on scales."""
        crops = np.stack([align(frame, face, self._spec).pixels for frame, face in pairs])
        said = self._classifier.predict(crops)
        heads = self._classifier.heads
        return {name: rows if self.classes[name] else heads[name].read(rows) for name, rows in said.items()}


class SkinToneLabeller:
    """Reads the tone of the skin off the cheeks, in degrees (`faces.attributes.tone`); a measure and no classifier."""

    name = "tone"
    classes: dict[str, tuple[str, ...]] = {"tone": ()}

    def read(self, pairs: Sequence[tuple[Frame, Face]]) -> Answers:
        """Degrees (n,)."""
        spec = CropSpec(SIDE, MARGIN)
        return {"tone": np.array([tone(align(frame, face, spec).pixels, MARGIN) for frame, face in pairs])}


def group_of(label: str, numbers: np.ndarray) -> np.ndarray | None:
    """In which group of GROUPS each number lies, as (n,) int; None for a label that has no groups."""
    return np.digitize(numbers, GROUPS[label]) if label in GROUPS else None


def verifiers_of(preset: str) -> tuple[Labeller, ...]:
    """The verifiers that a preset of epdnet was trained with: of identity, and of emotion. Raises PresetError."""
    return tuple(ClassifierLabeller(preset, name) for name in ("identity", "emotion"))


def installed() -> tuple[Labeller, ...]:
    """The classifiers whose presets are installed, the first of each kind, and what is measured without any."""
    there = {preset.name for preset in presets() if preset.method == CLASSIFIER}
    chosen = [next((name for name in kind if name in there), None) for kind in JUDGES]
    return (*(ClassifierLabeller(name) for name in chosen if name), SkinToneLabeller())
