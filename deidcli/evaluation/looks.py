"""Looks: whether replaced faces can be distinguished from untouched ones, by a classifier and by the Fréchet distance
of crops.

Every method gets the same photographs, the same description of a crop and the same training, so that one number says
how recognisable its faces are as replaced: half of the crops are classified rightly by chance. The description is
fixed and small: what light and colours are where, how strong each octave of detail is where, and which way edges run
(Dalal and Triggs 2005).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from deidcli.errors import UsageError
from deidcli.evaluation import metrics
from deidcli.evaluation.bench import Bench, Subject, evenly, person, pictures_of
from deidcli.evaluation.observe import BATCH, Original
from deidcli.evaluation.originals import describe
from deidcli.evaluation.results import FRECHET, MILLISECONDS, NAN, TOLD_APART, Judge, Run
from deidcli.faces.align import warp
from deidcli.faces.blend import to_lab
from deidcli.training.data import split_of
from deidcli.values import Face

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
        told = describe(bench.judge, [(pixels, original.face) for original, pixels, _ in shown])
        rows += [
            (description(pixels, original.face), row, new, person(original.name))
            for (original, pixels, new), row in zip(shown, told, strict=True)
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
