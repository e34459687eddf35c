"""Parts of a run: the figures of verification, identification and utility, each from the same observed outputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from deidcli.evaluation import measures, metrics, results
from deidcli.evaluation.bench import Bench, evenly, person
from deidcli.evaluation.measures import pose_difference
from deidcli.evaluation.metrics import Draw, all_distances, cmc, distances_of, hits_at
from deidcli.evaluation.observe import Outputs
from deidcli.evaluation.originals import group_of, likeliest
from deidcli.evaluation.results import Curve, Figure, Judge, Matrix

Pair = tuple[str, str, bool]
STEPS = 41  # thresholds of a curve
ORIGINALS = 2000  # that are compared with each other, at most: the work grows with the square


@dataclass(frozen=True)
class Part:
    """Some figures of a run; parts add up."""

    figures: tuple[Figure, ...] = ()
    curves: tuple[Curve, ...] = ()
    matrices: tuple[Matrix, ...] = ()

    def __add__(self, other: Part) -> Part:
        return Part(self.figures + other.figures, self.curves + other.curves, self.matrices + other.matrices)


@dataclass(frozen=True)
class Distances:
    """Distances of pairs: an untouched picture to the output of another. people: whose the first picture is."""

    same: np.ndarray
    strangers: np.ndarray
    people: tuple[str, ...]
    strange: tuple[str, ...]


def pair_distances(bench: Bench, outputs: Outputs, pairs: Sequence[Pair]) -> Distances:
    """Of the pairs whose both pictures are known. The second picture of a pair is the one that was replaced."""
    rows = outputs.row
    usable = [(a, b, same) for a, b, same in pairs if a in bench.originals.known and b in rows]
    firsts = {name: place for place, name in enumerate(dict.fromkeys(a for a, _, _ in usable))}
    places = np.array([(firsts[a], rows[b]) for a, b, _ in usable], int).reshape(-1, 2)
    apart = distances_of(bench.judge, bench.originals.descriptors(list(firsts)), outputs.descriptors, places)
    same = np.array([s for _, _, s in usable], bool)
    whose = [tuple(person(a) for a, _, s in usable if s is kind) for kind in (True, False)]
    return Distances(apart[same], apart[~same], *whose)


def own_distances(bench: Bench, outputs: Outputs) -> np.ndarray:
    """Distances (n,) of every output to its very original."""
    return np.asarray(bench.judge.distance(bench.originals.descriptors(outputs.names), outputs.descriptors), float)


def recogniser_error(bench: Bench, pairs: Sequence[Pair]) -> Judge:
    """The recogniser's error on the originals of `pairs`."""
    known = bench.originals.known
    usable = [(a, b, same) for a, b, same in pairs if a in known and b in known]
    place = {name: row for row, name in enumerate(dict.fromkeys(name for a, b, _ in usable for name in (a, b)))}
    rows, same = np.array([(place[a], place[b]) for a, b, _ in usable], int), np.array([s for _, _, s in usable], bool)
    described = bench.originals.descriptors(list(place))
    apart = distances_of(bench.judge, described, described, rows.reshape(-1, 2))
    rates = (metrics.matching_rate(apart[kind], bench.threshold) for kind in (same, ~same))
    return Judge(bench.study.recogniser, bench.threshold, *rates)


def verification(bench: Bench, outputs: Outputs, pairs: Sequence[Pair]) -> Part:
    """Matching rates, TAR at FAR, equal error rate, ROC and the rate over thresholds (CLEANIR, Table 2; FATM, 4)."""
    apart, limit = pair_distances(bench, outputs, pairs), bench.threshold
    people = apart.people
    figures = [
        metrics.share(results.MATCH_RATE, apart.same <= limit, people),
        metrics.share(results.STRANGER_MATCH_RATE, apart.strangers <= limit, apart.strange),
    ]
    curves = [metrics.rate_curve("match rate", apart.same, grid(bench), people)]
    if len(apart.same) and len(apart.strangers):
        figures += [metrics.accepts_at(apart.same, apart.strangers, far, people) for far in (0.01, 0.001)]
        error = metrics.equal_error_rate(apart.same, apart.strangers)
        figures.append(results.EQUAL_ERROR.figure(error, count=len(apart.same)))
        curves.append(metrics.roc(apart.same, apart.strangers))
    return Part(tuple(figures), tuple(curves))


def match_rate_at_far(bench: Bench, outputs: Outputs, pairs: Sequence[Pair], far: float = 0.001) -> Part:
    """The matching rate at the threshold at which so many pairs of two people match, among the originals.

    Every pair of two people counts, because the listed ones are too few for small rates.
    """
    limit, count = threshold_at_far(bench, far)
    apart = pair_distances(bench, outputs, pairs)
    measure = results.MATCH_RATE.named(f"match rate at FAR {far:g}")
    rate = metrics.share(measure, apart.same <= limit, apart.people)
    return Part((rate, results.THRESHOLD.named(f"threshold at FAR {far:g}").figure(limit, count=count)))


def threshold_at_far(bench: Bench, far: float) -> tuple[float, int]:
    """The distance up to which so many pairs of two people match, among the originals, and of how many pairs."""
    names = evenly(sorted(bench.originals.known), ORIGINALS)
    whose, rows = np.array([person(name) for name in names]), bench.originals.descriptors(names)
    strange = np.triu(whose[:, None] != whose[None, :])
    return metrics.threshold_at(all_distances(bench.judge, rows, rows)[strange], far), int(strange.sum())


def agreement(bench: Bench, outputs: Outputs, reference: Outputs, label: str, name: str) -> Part:
    """The share of outputs of which the labellers say the same as of the same picture's output in `reference`."""
    classes = next((known for reader in bench.instruments.labellers if (known := reader.classes.get(label))), None)
    both = [n for n in outputs.names if n in reference.row]
    if not classes or not both:
        return Part()
    before, after = (likeliest(classes, each.labels[label][each.rows(both)]) for each in (reference, outputs))
    return Part((measures.accuracy(results.KEPT.named(name), before, after, [person(n) for n in both]),))


def self_matching(bench: Bench, outputs: Outputs) -> Part:
    """The share of outputs that are matched with their very original (FATM, Section 4: self de-identification)."""
    whose = [person(name) for name in outputs.names]
    own = own_distances(bench, outputs)
    curve = metrics.rate_curve("self match rate", own, grid(bench), whose)
    return Part((metrics.share(results.SELF_MATCH_RATE, own <= bench.threshold, whose),), (curve,))


def grid(bench: Bench) -> np.ndarray:
    """Thresholds from 0 to twice the recogniser's own."""
    return np.linspace(0, 2 * bench.judge.threshold, STEPS)


def identification(bench: Bench, outputs: Outputs, draws: Sequence[Draw]) -> Part:
    """Rank-1, rank-5 and the CMC over closed sets (k-Same-Net, Section 4.4); the probes are the replaced pictures."""
    known, rows = bench.originals.known, outputs.row
    hits: dict[int, list] = {1: [], 5: []}
    people: list[str] = []
    means, curves, sets = [], [], []
    for draw in draws:
        able = [i for i, (p, g) in enumerate(zip(draw.probes, draw.gallery, strict=True)) if p in rows and g in known]
        who, probes, gallery = ([column[i] for i in able] for column in (draw.people, draw.probes, draw.gallery))
        apart = all_distances(bench.judge, outputs.of(probes), bench.originals.descriptors(gallery))
        people += who
        sets.append((apart, who))
        for rank, found in hits.items():
            found.extend(hits_at(apart, who, who, rank))
        means.append(np.mean(hits_at(apart, who, who, 1)) if who else np.nan)
        curves.append(cmc(apart, who, who) if who else None)
    figures = [
        metrics.share(results.RANK_1 if rank == 1 else results.RANK_1.named(f"rank-{rank}"), np.array(found), people)
        for rank, found in hits.items()
    ]
    figures += [_by_chance(bench, sets, rank, len(people)) for rank in hits] if people else []
    figures.append(results.DEVIATION.figure(float(np.nanstd(means)) if people else np.nan, count=len(draws)))
    return Part(tuple(figures), tuple(_mean_curve([c for c in curves if c])))


def _by_chance(bench: Bench, sets: Sequence[tuple[np.ndarray, list[str]]], rank: int, count: int) -> Figure:
    """What the same distances say of shuffled people. sets: distances of each draw, and whose rows and columns are."""

    def guessed(generator: np.random.Generator) -> float:
        shuffled = ((apart, who, generator.permutation(who).tolist()) for apart, who in sets)
        return float(np.mean(np.concatenate([hits_at(apart, who, other, rank) for apart, who, other in shuffled])))

    return metrics.by_chance(results.CHANCE.named(f"rank-{rank} by chance"), guessed, count, bench.study.draw)


def retrieval(bench: Bench, outputs: Outputs) -> Part:
    """Every output is searched for among all originals but its own: mean average precision, and that by chance."""
    names = sorted(bench.originals.known)
    apart = all_distances(bench.judge, outputs.descriptors, bench.originals.descriptors(names))
    apart[np.array(outputs.names)[:, None] == np.array(names)[None, :]] = np.inf
    probes, gallery = (np.array([person(name) for name in each]) for each in (outputs.names, names))
    found = metrics.average_precision(apart, probes[:, None] == gallery[None, :])
    able = np.isfinite(found)
    if not able.any():
        return Part()

    def guessed(generator: np.random.Generator) -> float:
        shuffled = generator.permutation(gallery)
        return float(np.nanmean(metrics.average_precision(apart[able], probes[able, None] == shuffled[None, :])))

    figure = metrics.average(results.RETRIEVAL, found, probes.tolist())
    return Part((figure, metrics.by_chance(results.RETRIEVAL_CHANCE, guessed, figure.count, bench.study.draw)))


def protected(bench: Bench, outputs: Outputs, pairs: Sequence[Pair]) -> Part:
    """PSR as FDeID-Toolbox (Wei et al. 2026) counts it: of all pairs of one person those that matched and do no more.

    There both pictures are replaced; here one is, since whoever searches has photographs of the person.
    """
    rows = outputs.row
    same = [pair for pair in pairs if pair[2] and pair[0] in bench.originals.known and pair[1] in rows]
    before, after = (bench.originals.descriptors([b for _, b, _ in same]), outputs.of([b for _, b, _ in same]))
    first = bench.originals.descriptors([a for a, _, _ in same])
    old, new = (np.asarray(bench.judge.distance(first, each)) for each in (before, after))
    lost = (old <= bench.threshold) & (new > bench.threshold)
    return Part((metrics.share(results.PROTECTED, lost, [person(a) for a, _, _ in same]),))


def _mean_curve(curves: Sequence[Curve]) -> list[Curve]:
    """The mean over draws, as far as all of them go; the interval is that of the first draw where there is only one."""
    if len(curves) <= 1:
        return list(curves)
    short = min(len(curve.x) for curve in curves)
    y, low, high = (
        tuple(np.mean([getattr(c, key)[:short] for c in curves], axis=0)) for key in ("y", "low", "high")
    )  # fmt: skip
    return [Curve("CMC", curves[0].x[:short], y, low, high, curves[0].xlabel, curves[0].ylabel)]


def autoencoders(bench: Bench, outputs: Outputs) -> Part:
    """FCNS, DEID, DIV and ANON of "Deep Autoencoders", and the rates of EPD-Net, on all outputs."""
    own, whose = own_distances(bench, outputs), [person(name) for name in outputs.names]
    figures = [
        measures.faceness(outputs.found, whose),
        measures.deidentified(own, bench.threshold, whose),
        measures.diversity(bench.judge, outputs.descriptors, bench.threshold, bench.study.draw),
        measures.anonymity(bench.judge, outputs.descriptors, bench.threshold),
    ]
    return Part((*figures, *_attributes(bench, outputs)))


def _attributes(bench: Bench, outputs: Outputs) -> list[Figure]:
    """ATTR, where labellers tell gender and race: one attribute for gender and three for race, as in Section 4.4."""
    classes = {label: said for reader in bench.instruments.labellers for label, said in reader.classes.items()}
    if not all(classes.get(label) for label in ("gender", "race")):
        return []
    rows = bench.labelled.rows(outputs.names)
    asked = [("gender", classes["gender"][-1]), *(("race", word) for word in classes["race"][:3])]
    before, after = (
        np.column_stack([likeliest(classes[label], said[label]) == word for label, word in asked])
        for said in ({label: bench.labelled.labels[label][rows] for label in ("gender", "race")}, outputs.labels)
    )
    value = measures.attributes_kept(before, after)
    return [results.ATTRIBUTES_KEPT.figure(value, count=len(outputs.names))]


def linkability(bench: Bench, outputs: Outputs, pairs: Sequence[Pair]) -> Part:
    """How far two outputs of one person can be put together: those of `pairs` whose both pictures were replaced."""
    rows = outputs.row
    both = [(a, b) for a, b, same in pairs if same and a in rows and b in rows]
    places = np.array([(rows[a], rows[b]) for a, b in both], int).reshape(-1, 2)
    apart = distances_of(bench.judge, outputs.descriptors, outputs.descriptors, places)
    return Part((measures.linkability(apart, bench.threshold, [person(a) for a, _ in both]),))


def utility(bench: Bench, outputs: Outputs, truth: Mapping[str, Mapping[str, str]] | None = None) -> Part:
    """What is kept: faces found, SSIM, landmarks, pose and labels.

    truth: for each label the word that people gave to each picture, where they did.
    """
    whose = [person(name) for name in outputs.names]
    before = bench.originals.landmarks(outputs.names)
    figures = [
        metrics.share(results.FACES_FOUND, outputs.found, whose),
        metrics.average(results.SSIM, outputs.ssim, whose),
        metrics.average(results.FACE_SSIM, outputs.face_ssim, whose),
        metrics.average(results.LANDMARK_ERROR, measures.landmark_error(before, outputs.landmarks), whose),
        metrics.average(results.POSE_DIFFERENCE, pose_difference(before, outputs.landmarks), whose),
        metrics.share(results.COVERED, outputs.covered, whose),
        results.MISSING.figure(len(outputs.missing), count=len(outputs.names) + len(outputs.missing)),
        results.MILLISECONDS.figure(1000 * outputs.seconds / max(1, len(outputs.names))),
    ]
    part = Part(tuple(figures))
    for reader in bench.instruments.labellers:
        for label, classes in reader.classes.items():
            part += _label(bench, outputs, label, classes, (truth or {}).get(label, {}))
    return part


def _numbers(label: str, before: np.ndarray, after: np.ndarray, whose: Sequence[str]) -> Iterator[Figure]:
    yield measures.difference(results.DIFFERENCE.named(f"{label} difference"), before, after, whose)
    old, new = group_of(label, before), group_of(label, after)
    if old is not None and new is not None:
        yield measures.accuracy(results.KEPT.named(f"{label} group kept"), old, new, whose)


def _label(bench: Bench, outputs: Outputs, label: str, classes: tuple[str, ...], truth: Mapping[str, str]) -> Part:
    """How far a label is kept. The classifier's label of the original counts as the truth, and so does the label of
    annotators where there is one."""
    whose = [person(name) for name in outputs.names]
    before = bench.labelled.labels[label][bench.labelled.rows(outputs.names)]
    after = outputs.labels[label]
    if not classes:
        return Part(tuple(_numbers(label, before, after, whose)))
    old, new = likeliest(classes, before), likeliest(classes, after)
    figures = [
        measures.accuracy(results.KEPT.named(f"{label} kept"), old, new, whose),
        measures.f_measure(results.F_MEASURE.named(f"{label} F-measure"), old, new),
    ]
    if label == "expression":
        figures.append(measures.emotion_error(before, after, whose))
    matrices = [measures.confusion(label, old, new, classes)]
    predicted = [i for i, name in enumerate(outputs.names) if truth.get(name) in classes]
    if predicted:
        given = [truth[outputs.names[i]] for i in predicted]
        figures.append(
            measures.accuracy(
                results.ACCURACY.named(f"{label} accuracy"), given, new[predicted], [whose[i] for i in predicted]
            )
        )
        matrices.append(measures.confusion(f"{label} by people", given, new[predicted], classes))
    return Part(tuple(figures), (), tuple(matrices))
