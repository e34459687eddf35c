"""Whether replaced faces can be told from untouched ones (looks), and whether training on them works (downstream).

Looks: by a classifier and by the Fréchet distance of crops. Every method gets the same photographs, the same
description of a crop and the same training, so that one number says how recognisable its faces are as replaced: half of
the crops are classified rightly by chance. The description is fixed and small: what light and colours are where, how
strong each octave of detail is where, and which way edges run (Dalal and Triggs 2005).

Downstream: does what is trained on anonymized pictures do as well on real ones as what is trained on originals?
Two things are trained, both small and anew for every method: a classifier of expressions, and a detector of a kind,
which tells a face from what lies beside it. Both are tested on untouched pictures of other people.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from deidcli.errors import UsageError
from deidcli.evaluation import metrics
from deidcli.evaluation.bench import ORIGINAL, Bench, Subject, evenly, person, pictures_of
from deidcli.evaluation.observe import BATCH, Original
from deidcli.evaluation.originals import describe
from deidcli.evaluation.results import (
    DETECTED,
    FRECHET,
    LEARNT,
    LEARNT_EVENLY,
    MILLISECONDS,
    NAN,
    TOLD_APART,
    Judge,
    Run,
)
from deidcli.faces.align import align, warp
from deidcli.faces.attributes import load_labels
from deidcli.faces.blend import to_lab
from deidcli.training.data import split_of
from deidcli.values import Box, CropSpec, Face

SIDE = 96  # pixels of a crop
ROOM = 1.3  # side of a crop, in boxes: the rim of a new face is seen, and little beside it
CELLS, COARSE = 6, 12  # cells across a crop for its detail, and places for its colours
OCTAVES = 4
DIRECTIONS, EDGE_CELLS = 8, 12
STRENGTHS = 10.0 ** np.arange(-2, 4)  # of the ridge, of which training keeps the best
FOLDS, FEWEST = 5, 2  # parts into which the people of the training are split, and people of each side


@dataclass(frozen=True)
class LooksPlan:
    """The photographs, one a person: those of `train` train the classifier, those of `test` are classified."""

    train: tuple[str, ...]
    test: tuple[str, ...]

    @classmethod
    def read(cls, folder: Path, table: Path, train: int, test: int) -> LooksPlan:
        """At most so many people of the splits `train` and `val` of a CSV. Raises UsageError for too few."""
        pictures = pictures_of(folder)
        people = split_of(table, "train"), split_of(table, "val")
        sides = [[names[0] for who, names in pictures.items() if who in part] for part in people]
        if min(map(len, sides)) < FEWEST:
            raise UsageError(f"{table} has fewer than {FEWEST} people of `train` or of `val`", "give more people")
        return cls(*(tuple(evenly(names, count)) for names, count in zip(sides, (train, test), strict=True)))


def looks(bench: Bench, subject: Subject, plan: LooksPlan) -> Run:
    """What gives the new faces of `subject` away. The originals of the plan have been read."""
    seconds, sides = 0.0, []
    bench.prepare(subject, [*plan.train, *plan.test])
    for names in (plan.train, plan.test):
        side, spent = _described(bench, subject, names)
        sides.append(side)
        seconds += spent
    train, test = sides
    guessed = Classifier(train.features, train.replaced, train.people)(test.features)
    apart = frechet(test.descriptors[~test.replaced], test.descriptors[test.replaced])
    figures = (
        metrics.share(TOLD_APART, (guessed > 0) == test.replaced, test.people.tolist()),
        FRECHET.figure(apart, count=len(test.people)),
        MILLISECONDS.figure(1000 * seconds / max(1, sum(side.replaced.sum() for side in sides))),
    )
    judge = Judge(bench.study.recogniser, bench.threshold, NAN, NAN)
    return bench.run(subject, "looks", judge, seconds, figures=figures)


@dataclass(frozen=True)
class Crops:
    """Crops of photographs, each untouched and replaced. features: (n, d). descriptors: (n, length) of the recogniser.

    replaced: (n,) bool. people: (n,) whose photograph it is.
    """

    features: np.ndarray
    descriptors: np.ndarray
    replaced: np.ndarray
    people: np.ndarray


def _described(bench: Bench, subject: Subject, names: Sequence[str]) -> tuple[Crops, float]:
    """The crops of photographs before and after, and the seconds that the method took."""
    known, seconds = [name for name in names if name in bench.originals.known], 0.0
    maker = bench.maker(subject, known)
    rows: list[tuple[np.ndarray, np.ndarray, bool, str]] = []
    for start in range(0, len(known), BATCH):
        part = known[start : start + BATCH]
        batch = [Original(name, bench.originals.frame(name), bench.originals.known[name].face) for name in part]
        began = time.perf_counter()
        made = maker(batch)
        seconds += time.perf_counter() - began
        shown = [(o, o.frame.pixels, False) for o in batch]
        shown += [(o, done.pixels, True) for o, done in zip(batch, made, strict=True) if done is not None]
        descriptors = describe(bench.judge, [(pixels, original.face) for original, pixels, _ in shown])
        rows += [
            (description(pixels, original.face), row, new, person(original.name))
            for (original, pixels, new), row in zip(shown, descriptors, strict=True)
        ]
    if not any(new for _, _, new, _ in rows):
        raise UsageError(f"{subject.label} made no face of {len(known)} photographs", "give more of them")
    features, descriptors, replaced, people = zip(*rows, strict=True)
    return Crops(np.array(features), np.array(descriptors), np.array(replaced), np.array(people)), seconds


def description(pixels: np.ndarray, face: Face) -> np.ndarray:
    """What a crop about a face looks like, (d,) float32: its colours, its detail by octave, its edges, by place."""
    crop = to_lab(_crop(pixels, face))
    parts = [cv2.resize(crop, (COARSE, COARSE), interpolation=cv2.INTER_AREA)]
    finer = crop
    for _ in range(OCTAVES):
        height, width = finer.shape[:2]
        half = cv2.resize(finer, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
        detail = np.abs(finer - cv2.resize(half, (width, height), interpolation=cv2.INTER_LINEAR))
        parts.append(np.log(cv2.resize(detail, (CELLS, CELLS), interpolation=cv2.INTER_AREA) + 0.05))
        finer = half
    parts.append(_edges(crop[..., 0]))
    return np.concatenate([part.ravel() for part in parts]).astype(np.float32)


def _crop(pixels: np.ndarray, face: Face) -> np.ndarray:
    (x, y), scale = face.box.center, SIDE / (ROOM * max(face.box.width, face.box.height, 1.0))
    to_crop = np.array([[scale, 0, SIDE / 2 - 0.5 - scale * x], [0, scale, SIDE / 2 - 0.5 - scale * y]])
    return warp(pixels, to_crop, SIDE)


def _edges(light: np.ndarray) -> np.ndarray:
    """Histograms of the directions of edges in each cell, (12, 12, 8), each cell by its own strength."""
    x, y = (cv2.Sobel(light, cv2.CV_32F, dx, 1 - dx) for dx in (1, 0))
    way = np.floor(np.arctan2(y, x) / np.pi * DIRECTIONS).astype(int) % DIRECTIONS
    strength = np.hypot(x, y)
    planes = [
        cv2.resize(strength * (way == n), (EDGE_CELLS, EDGE_CELLS), interpolation=cv2.INTER_AREA)
        for n in range(DIRECTIONS)
    ]
    cells = np.stack(planes, axis=2)
    return cells / (cells.sum(axis=2, keepdims=True) + 1.0)


class Classifier:
    """Ridge regression from descriptions to untouched (-1) or replaced (1), with the best of STRENGTHS for people that
    it has not seen.
    """

    def __init__(self, features: np.ndarray, replaced: np.ndarray, people: np.ndarray):
        """features: (n, d). replaced: (n,) bool. people: (n,), whose crops stay together while a strength is chosen."""
        self._mean, self._spread = features.mean(axis=0), np.maximum(features.std(axis=0), 1e-6)
        self._known = self._standard(features)
        wanted, kernel = np.where(replaced, 1.0, -1.0), self._known @ self._known.T
        fold = np.unique(people, return_inverse=True)[1] % FOLDS
        rights = [self._right(kernel, wanted, fold, strength) for strength in STRENGTHS]
        self._weights, self._level = _ridge(kernel, wanted, STRENGTHS[int(np.argmax(rights))])

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """(n, d) to (n,), above 0 where a crop is taken for replaced."""
        return self._standard(features) @ self._known.T @ self._weights + self._level

    def _standard(self, features: np.ndarray) -> np.ndarray:
        return (features - self._mean) / self._spread / np.sqrt(features.shape[1])

    @staticmethod
    def _right(kernel: np.ndarray, wanted: np.ndarray, fold: np.ndarray, strength: float) -> float:
        right = 0
        for number in range(int(fold.max()) + 1):
            out = fold == number
            weights, level = _ridge(kernel[np.ix_(~out, ~out)], wanted[~out], strength)
            right += int(np.sum((kernel[np.ix_(out, ~out)] @ weights + level > 0) == (wanted[out] > 0)))
        return right / len(wanted)


def _ridge(kernel: np.ndarray, wanted: np.ndarray, strength: float) -> tuple[np.ndarray, float]:
    """Weights (n,) of the known crops, and what is added, by kernel ridge regression about the mean."""
    level = float(wanted.mean())
    return np.linalg.solve(kernel + strength * np.eye(len(kernel)), wanted - level), level


def frechet(first: np.ndarray, second: np.ndarray) -> float:
    """The squared Fréchet distance between the normal distributions of rows (n, d) and (m, d) (Heusel et al. 2017)."""
    gap = first.mean(axis=0) - second.mean(axis=0)
    a, b = (np.cov(rows, rowvar=False).astype(np.float64) for rows in (first, second))
    values, vectors = np.linalg.eigh(a)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    shared = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ b @ root), 0)).sum()
    return max(0.0, float(gap @ gap + np.trace(a) + np.trace(b) - 2 * shared))


COLUMN, READ_SIDE, MARGIN = "expression", 64, 0.06
PER_WORD = 5  # pictures of a word that are needed on both sides
CHANNELS = (16, 32, 64, 96)  # of the classifier
STEPS, BATCH_SIZE = 100, 32  # of an epoch
BESIDE = 0.05  # share of a face's box that a box beside it may cover at most


@dataclass(frozen=True)
class DownstreamPlan:
    """Pictures that are trained on and tested on, of different people. words: what people say of each."""

    train: tuple[str, ...]
    test: tuple[str, ...]
    words: Mapping[str, str]

    @classmethod
    def read(cls, folder: Path, table: Path, labels: Path, train: int, test: int) -> DownstreamPlan:
        """At most so many pictures of the people of `train` and of `val`, of each word as many where there are so many.

        Words that are rare on either side are left out. Raises UsageError where fewer than two are left.
        """
        known = load_labels(labels).get(COLUMN)
        if known is None:
            raise UsageError(f"--labels {labels}: it has no column {COLUMN!r}", "give a CSV with image, expression")
        pictures, sides = pictures_of(folder), []
        for split in ("train", "val"):
            people = split_of(table, split)
            own = [name for who, names in sorted(pictures.items()) if who in people for name in names]
            by_word: dict[str, list[str]] = {}
            for name in own:
                if known.get(name):
                    by_word.setdefault(known[name], []).append(name)
            sides.append(by_word)
        words = sorted(w for w in sides[0] if min(len(side.get(w, ())) for side in sides) >= PER_WORD)
        if len(words) < 2:
            raise UsageError(f"{labels}: fewer than two words have {PER_WORD} pictures in both splits", "label more")
        chosen = [_chosen(side, words, count) for side, count in zip(sides, (train, test), strict=True)]
        return cls(chosen[0], chosen[1], {name: known[name] for side in chosen for name in side})

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(sorted(set(self.words.values())))


def _chosen(side: Mapping[str, list[str]], words: Sequence[str], count: int) -> tuple[str, ...]:
    """At most `count` pictures: all of the rare words, and of the others alike many."""
    found: list[str] = []
    for place, word in enumerate(sorted(words, key=lambda word: len(side[word]))):
        found += evenly(side[word], (count - len(found)) // (len(words) - place))
    return tuple(sorted(found))


@dataclass(frozen=True)
class Shown:
    """What a side shows. crops: (n, 64, 64, 3) uint8, aligned. boxes: (2 n, d), descriptions of each face and of a
    place beside it, by turns. names: (n,).
    """

    crops: np.ndarray
    boxes: np.ndarray
    names: tuple[str, ...]

    @property
    def faces(self) -> np.ndarray:
        """Which of the boxes are faces, (2 n,) bool."""
        return np.arange(len(self.boxes)) % 2 == 0


def downstream(bench: Bench, subject: Subject, plan: DownstreamPlan, epochs: int, seeds: int) -> Run:
    """What is learnt from the outputs of `subject`, on untouched pictures. The originals of the plan have been read.

    seeds: so many networks are trained, and their answers are averaged.
    """
    learn, real = (_shown(bench, who, names) for who, names in ((subject, plan.train), (Subject(ORIGINAL), plan.test)))
    words, truth = (np.array([plan.words[name] for name in side.names]) for side in (learn, real))
    said = np.array(plan.classes)[_answers(learn, words, real, plan.classes, epochs, seeds, bench.study.draw)]
    people = [person(name) for name in real.names]
    right = said == truth
    # Every word counts alike, however many faces have it.
    share = {word: np.mean(truth == word) for word in set(truth.tolist())}
    evened = right / np.array([share[word] * len(share) for word in truth])
    whose = np.repeat([person(name) for name in learn.names], 2)
    scores = Classifier(learn.boxes, learn.faces, whose)(real.boxes)
    figures = (
        metrics.share(LEARNT, right, people),
        metrics.average(LEARNT_EVENLY, evened, people),
        metrics.share(DETECTED, (scores > 0) == real.faces, np.repeat(people, 2).tolist()),
    )
    return bench.run(
        subject, "downstream", Judge(bench.study.recogniser, bench.threshold, NAN, NAN), NAN, figures=figures
    )


def _shown(bench: Bench, subject: Subject, names: Sequence[str]) -> Shown:
    """What the outputs of known pictures show at the places of their faces."""
    known = [name for name in names if name in bench.originals.known]
    bench.prepare(subject, known)
    maker, spec = bench.maker(subject, known), CropSpec(READ_SIDE, MARGIN)
    crops, boxes, there = [], [], []
    starts = range(0, len(known), BATCH)
    for start in bench.progress(starts, len(starts), f"batch of {subject.label}"):
        part = known[start : start + BATCH]
        batch = [Original(name, bench.originals.frame(name), bench.originals.known[name].face) for name in part]
        for original, made in zip(batch, maker(batch), strict=True):
            if made is None:
                continue
            there.append(original.name)
            crops.append(align(original.frame.with_pixels(made.pixels), original.face, spec).pixels)
            beside = _beside(original, np.random.default_rng([bench.study.draw, len(there)]))
            boxes += [description(made.pixels, face) for face in (original.face, beside)]
    if not there:
        raise UsageError(f"{subject.label} made nothing of {len(known)} pictures", "give more of them")
    return Shown(np.stack(crops), np.stack(boxes), tuple(there))


def _beside(original: Original, random: np.random.Generator) -> Face:
    """A box of the face's size, or smaller where there is no room, that hardly touches it."""
    box, width, height = original.face.box, original.frame.width, original.frame.height
    side = min(max(box.width, box.height), min(width, height) / 2)
    for _ in range(50):
        left, top = random.uniform(0, width - side), random.uniform(0, height - side)
        over = max(0, min(left + side, box.right) - max(left, box.left))
        over *= max(0, min(top + side, box.bottom) - max(top, box.top))
        if over <= BESIDE * side * side:
            break
        side *= 0.95
    return Face(Box(left, top, left + side, top + side))


def _answers(
    learn: Shown, words: np.ndarray, real: Shown, classes: tuple[str, ...], epochs: int, seeds: int, first: int
) -> np.ndarray:
    """The likeliest class (n,) of each real crop, by the mean of so many networks."""
    from deidcli.networks.classifiers import Head
    from deidcli.training.classifiers import Recipe, reader, with_targets
    from deidcli.training.data import Pack
    from deidcli.training.fit import FitOptions

    head = Head(COLUMN, classes)
    pack = Pack(learn.crops, np.zeros((len(words), 128), np.float32), np.array(learn.names), labels={COLUMN: words})
    faces, targets = with_targets(pack, (head,))
    sums = np.zeros((len(real.crops), len(classes)))
    for seed in range(first, first + seeds):
        options = FitOptions(epochs=epochs, steps=STEPS, batch=BATCH_SIZE, rate=1e-3, ema=0.98, seed=seed)
        made = reader(faces, targets, Recipe((head,), READ_SIDE, CHANNELS, fit=options))
        sums += made.predict(real.crops)[COLUMN]
    return sums.argmax(axis=1)
