"""Closed sets: the protocols of k-Same-Net (Meden et al. 2018, Sections 4.4 to 4.6), a set of people at a time.

Each draw is a closed set of its own: its probes are replaced by an instance of the method that has seen them and nobody
else, with a secret of its own. What is written is compared with another picture of each person three ways: dlib's
recogniser on the photograph as it is written; the same on the face alone, with all outside its outline painted grey in
both pictures, since a k-Same method answers for the face and not for the hair around it; and histograms of local binary
patterns on the face square, as the paper cuts it out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from deidcli.engine.census import take_census
from deidcli.errors import UsageError
from deidcli.evaluation import metrics, patterns
from deidcli.evaluation.bench import Bench, Subject
from deidcli.evaluation.identification import Draw, all_distances, cmc, hits_at
from deidcli.evaluation.labels import words
from deidcli.evaluation.makers import Made, Original
from deidcli.evaluation.originals import describe
from deidcli.evaluation.parts import Part
from deidcli.evaluation.results import Curve, Figure, Matrix
from deidcli.faces.mask import mask
from deidcli.methods.base import Secret
from deidcli.values import Face, Frame

KS = (2, 3, 5, 7, 9)
WORDS = {"happiness": 20, "neutral": 20, "surprise": 10}  # people of each expression in a draw of fifty
GREY = 128
PLACES = 1000  # pictures that are remembered as a look saw them
Pair = tuple[Frame, Face]


@dataclass(frozen=True)
class Written:
    """A draw as it was written: who, their originals, and what was made of them, all in one order."""

    people: tuple[str, ...]
    before: tuple[Original, ...]
    after: tuple[Made, ...]

    @property
    def pairs(self) -> list[Pair]:
        """The written pictures, each with the face that was found in its original."""
        return [(o.frame.with_pixels(m.pixels), o.face) for o, m in zip(self.before, self.after, strict=True)]


def written(bench: Bench, subject: Subject, draw: Draw, number: int) -> Written:
    """The probes of one draw, replaced; those whose faces were found in both pictures."""
    known = bench.originals.known
    able = [i for i, (p, g) in enumerate(zip(draw.probes, draw.gallery, strict=True)) if p in known and g in known]
    names = [draw.probes[i] for i in able]
    before = [Original(name, bench.originals.frame(name), known[name].face) for name in names]
    one = _again(subject, number)
    with ExitStack() as held:
        if one.method is not None and one.method.closed:
            held.enter_context(closing(take_census(one.method, bench.frames(names))))
        after = bench.maker(one, names)(before)
    done = [(draw.people[i], o, m) for i, o, m in zip(able, before, after, strict=True) if m is not None]
    return Written(tuple(who for who, _, _ in done), tuple(o for _, o, _ in done), tuple(m for _, _, m in done))


def identification(bench: Bench, subject: Subject, draws: Sequence[Draw]) -> Part:
    """Rank-1 of each of LOOKS, its mean, its deviation over draws and the worst draw, and the CMC (Table 3, Figure 9).

    "bound": what k-anonymity promises, for a method that has a k.
    """
    hits: dict[str, list[np.ndarray]] = {name: [] for name in LOOKS}
    curves: dict[str, list[Curve]] = {name: [] for name in LOOKS}
    people: list[str] = []
    for number, draw in enumerate(bench.progress(draws, len(draws), f"draw of {subject.label}")):
        made = written(bench, subject, draw, number)
        place = dict(zip(draw.people, draw.gallery, strict=True))
        for name, look in LOOKS.items():
            gallery = np.stack([_known(bench, name, place[who]) for who in made.people])
            apart = look.distances(bench, look.describe(bench, made.pairs), gallery)
            hits[name].append(hits_at(apart, made.people, made.people, 1))
            curves[name].append(cmc(apart, made.people, made.people, name=f"CMC, {name}"))
        people += made.people
    figures = [figure for name in LOOKS for figure in _ranks(name, hits[name], people)]
    if k := getattr(subject.method and subject.method.options, "k", 0):
        figures.append(Figure("bound", 1 / k))
    return Part(tuple(figures), tuple(_mean(each) for each in curves.values() if each))


def _ranks(name: str, hits: Sequence[np.ndarray], people: Sequence[str]) -> Iterator[Figure]:
    means = [float(each.mean()) for each in hits]
    yield metrics.share(f"rank-1 {name}", np.concatenate(hits), people, "lower")
    yield Figure(f"deviation {name}", float(np.std(means)), count=len(means))
    yield Figure(f"worst {name}", max(means), count=len(means), better="lower")


def _mean(curves: Sequence[Curve]) -> Curve:
    short = min(len(curve.x) for curve in curves)
    y = tuple(np.mean([curve.y[:short] for curve in curves], axis=0).tolist())
    return Curve(curves[0].name, curves[0].x[:short], y, None, None, curves[0].xlabel, curves[0].ylabel)


def _again(subject: Subject, number: int) -> Subject:
    """The subject with a method that has seen nobody, whose secret follows from that of the first."""
    if subject.method is None:
        return subject
    key = subject.method.secret.generator(f"draw {number}").bytes(32)
    return Subject(subject.label, type(subject.method)(subject.method.options, Secret(key)))


# --- looks: what is seen of pictures, and how far apart that is


@dataclass(frozen=True)
class Look:
    """describe: (bench, pictures) to rows (n, ...). distances: (bench, rows (n, ...), rows (m, ...)) to (n, m)."""

    describe: Callable[[Bench, Sequence[Pair]], np.ndarray]
    distances: Callable[[Bench, np.ndarray, np.ndarray], np.ndarray]


def _photograph(bench: Bench, pairs: Sequence[Pair]) -> np.ndarray:
    return describe(bench.judge, [(frame.pixels, face) for frame, face in pairs])


def _alone(bench: Bench, pairs: Sequence[Pair]) -> np.ndarray:
    return _photograph(bench, [_cut_out(*pair) for pair in pairs])


def _by_judge(bench: Bench, probes: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    return all_distances(bench.judge, probes, gallery)


LOOKS: Mapping[str, Look] = {
    "photograph": Look(_photograph, _by_judge),
    "face": Look(_alone, _by_judge),
    "LBP": Look(lambda bench, pairs: patterns.described(pairs), lambda bench, *rows: patterns.distances(*rows)),
}


@lru_cache(maxsize=PLACES)
def _known(bench: Bench, look: str, name: str) -> np.ndarray:
    """What a look sees of a picture that somebody is known by; the same for every method."""
    seen = bench.originals.frame(name), bench.originals.known[name].face
    return LOOKS[look].describe(bench, [seen])[0]


def _cut_out(frame: Frame, face: Face) -> Pair:
    """The picture with everything but the face painted grey."""
    soft = mask(face, "full", (frame.width, frame.height))
    pixels = np.full_like(frame.pixels, GREY)
    share, part = soft.alpha[..., None], frame.pixels[soft.window]
    pixels[soft.window] = np.clip(part * share + GREY * (1 - share) + 0.5, 0, 255).astype(np.uint8)
    return frame.with_pixels(pixels), face


# --- expressions


def expressive(labels: Mapping[str, str], pictures: Mapping[str, Sequence[str]], count: int, seed: int) -> list[Draw]:
    """`count` closed sets of people with the expressions of WORDS, as many of each as it says or as there are.

    labels: the word that people gave to each picture. A person is in a draw with one picture.
    """
    found = []
    for number in range(count):
        random, taken = np.random.default_rng([seed, 11, number]), dict[str, str]()
        for word, wanted in sorted(WORDS.items(), key=lambda item: item[1]):
            able = {who: [n for n in names if labels.get(n) == word] for who, names in pictures.items()}
            free = sorted(who for who, names in able.items() if names and who not in taken)
            for who in random.choice(free, min(wanted, len(free)), replace=False).tolist() if free else ():
                taken[who] = str(random.choice(sorted(able[who])))
        names = tuple(taken[who] for who in sorted(taken))
        found.append(Draw(tuple(sorted(taken)), names, names))
    return found


def expressions(bench: Bench, subject: Subject, draws: Sequence[Draw], labels: Mapping[str, str]) -> Part:
    """How often the judge of expressions reads what people said, before and after (Figure 11).

    "kept": the second as a share of the first. Raises UsageError without a judge of expressions.
    """
    reader = next((each for each in bench.gauge.labellers if "expression" in each.classes), None)
    if reader is None:
        raise UsageError("no classifier of expressions is installed", "see `deid models list`")
    classes, people, truth = reader.classes["expression"], list[str](), list[str]()
    old, new = list[str](), list[str]()
    for number, draw in enumerate(bench.progress(draws, len(draws), f"draw of {subject.label}")):
        made = written(bench, subject, draw, number)
        for told, pairs in ((old, [(o.frame, o.face) for o in made.before]), (new, made.pairs)):
            told += words(classes, reader.read(pairs)["expression"]).tolist() if pairs else []
        people += made.people
        truth += [labels[original.name] for original in made.before]
    said, figures = np.array(truth), []
    for word in ("", *WORDS):
        rows = said == word if word else np.ones(len(said), bool)
        before, after = (np.array(told)[rows] == said[rows] for told in (old, new))
        name, whose = word or "all", [who for who, taken in zip(people, rows, strict=True) if taken]
        figures += [metrics.share(f"{name} before", before, whose), metrics.share(name, after, whose, "higher")]
        figures.append(Figure(f"{name} kept", float(after.mean() / before.mean()) if before.any() else np.nan))
    shares = [
        [sum(t == row and n == column for t, n in zip(truth, new, strict=True)) for column in classes] for row in WORDS
    ]
    return Part(
        tuple(figures), (), (Matrix("expression by people", tuple(WORDS), tuple(classes), tuple(map(tuple, shares))),)
    )
