"""Downstream: does what is trained on anonymized pictures do as well on real ones as what is trained on originals?

Two things are trained, both small and anew for every method: a classifier of expressions, and a detector of a kind,
which tells a face from what lies beside it. Both are tested on untouched pictures of other people.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deidcli.errors import UsageError
from deidcli.evaluation import metrics
from deidcli.evaluation.bench import ORIGINAL, Bench, Subject, evenly, person, pictures_of
from deidcli.evaluation.looks import Classifier, description
from deidcli.evaluation.observe import BATCH, Original
from deidcli.evaluation.results import DETECTED, LEARNT, LEARNT_EVENLY, NAN, Judge, Run
from deidcli.faces.align import align
from deidcli.faces.attributes import load_labels
from deidcli.training.data import split_of
from deidcli.values import Box, CropSpec, Face

COLUMN, SIDE, MARGIN = "expression", 64, 0.06
FEWEST = 5  # pictures of a word that are needed on both sides
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
        words = sorted(w for w in sides[0] if min(len(side.get(w, ())) for side in sides) >= FEWEST)
        if len(words) < 2:
            raise UsageError(f"{labels}: fewer than two words have {FEWEST} pictures in both splits", "label more")
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
    told = Classifier(learn.boxes, learn.faces, whose)(real.boxes)
    figures = (
        metrics.share(LEARNT, right, people),
        metrics.average(LEARNT_EVENLY, evened, people),
        metrics.share(DETECTED, (told > 0) == real.faces, np.repeat(people, 2).tolist()),
    )
    return bench.run(
        subject, "downstream", Judge(bench.study.recogniser, bench.threshold, NAN, NAN), NAN, figures=figures
    )


def _shown(bench: Bench, subject: Subject, names: Sequence[str]) -> Shown:
    """What the outputs of known pictures show at the places of their faces."""
    known = [name for name in names if name in bench.originals.known]
    bench.prepare(subject, known)
    maker, spec = bench.maker(subject, known), CropSpec(SIDE, MARGIN)
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
        made = reader(faces, targets, Recipe((head,), SIDE, CHANNELS, fit=options))
        sums += made.predict(real.crops)[COLUMN]
    return sums.argmax(axis=1)
