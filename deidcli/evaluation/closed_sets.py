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
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from deidcli.engine.census import take_census
from deidcli.errors import MissingDependency, UsageError
from deidcli.evaluation import metrics, results
from deidcli.evaluation.bench import Bench, Subject
from deidcli.evaluation.metrics import Draw, all_distances, cmc, hits_at
from deidcli.evaluation.observe import Made, Original
from deidcli.evaluation.originals import describe, likeliest
from deidcli.evaluation.parts import Part
from deidcli.evaluation.plan import Plan
from deidcli.evaluation.report.plots import (
    DASHES,
    FAINT,
    INK,
    MARKS,
    SERIES,
    canvas,
    curve_plots,
    legend,
    matrix_plot,
    png,
    slug,
)
from deidcli.evaluation.results import Curve, Figure, Matrix, Run
from deidcli.faces.align import align
from deidcli.faces.blend import mask
from deidcli.methods.base import Secret
from deidcli.values import CropSpec, Face, Frame

KS = (2, 3, 5, 7, 9)
WORDS = {"happiness": 20, "neutral": 20, "surprise": 10}  # people of each expression in a draw of fifty
GREY = 128
PLACES = 1000  # pictures that are remembered as a look saw them
Pair = tuple[Frame, Face]


@dataclass(frozen=True)
class AnonymizedDraw:
    """A draw as it was written: who, their originals, and what was made of them, all in one order."""

    people: tuple[str, ...]
    before: tuple[Original, ...]
    after: tuple[Made, ...]

    @property
    def pairs(self) -> list[Pair]:
        """The written pictures, each with the face that was found in its original."""
        return [(o.frame.with_pixels(m.pixels), o.face) for o, m in zip(self.before, self.after, strict=True)]


def anonymize_draw(bench: Bench, subject: Subject, draw: Draw, number: int) -> AnonymizedDraw:
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
    return AnonymizedDraw(tuple(who for who, _, _ in done), tuple(o for _, o, _ in done), tuple(m for _, _, m in done))


def identification(bench: Bench, subject: Subject, draws: Sequence[Draw]) -> Part:
    """Rank-1 of each of LOOKS, its mean, its deviation over draws and the worst draw, and the CMC (Table 3, Figure 9).

    "bound": what k-anonymity promises, for a method that has a k.
    """
    hits: dict[str, list[np.ndarray]] = {name: [] for name in VIEWS}
    curves: dict[str, list[Curve]] = {name: [] for name in VIEWS}
    people: list[str] = []
    for number, draw in enumerate(bench.progress(draws, len(draws), f"draw of {subject.label}")):
        made = anonymize_draw(bench, subject, draw, number)
        place = dict(zip(draw.people, draw.gallery, strict=True))
        for name, look in VIEWS.items():
            gallery = np.stack([_known(bench, name, place[who]) for who in made.people])
            apart = look.distances(bench, look.describe(bench, made.pairs), gallery)
            hits[name].append(hits_at(apart, made.people, made.people, 1))
            curves[name].append(cmc(apart, made.people, made.people, name=f"CMC, {name}"))
        people += made.people
    figures = [figure for name in VIEWS for figure in _ranks(name, hits[name], people)]
    if subject.method is not None and subject.method.k:
        figures.append(results.BOUND.figure(1 / subject.method.k))
    return Part(tuple(figures), tuple(_mean(each) for each in curves.values() if each))


def _ranks(name: str, hits: Sequence[np.ndarray], people: Sequence[str]) -> Iterator[Figure]:
    means = [float(each.mean()) for each in hits]
    yield metrics.share(results.RANK_1.named(f"rank-1 {name}"), np.concatenate(hits), people)
    yield results.DEVIATION.named(f"deviation {name}").figure(float(np.std(means)), count=len(means))
    yield results.RANK_1.named(f"worst {name}").figure(max(means), count=len(means))


def _mean(curves: Sequence[Curve]) -> Curve:
    short = min(len(curve.x) for curve in curves)
    y = tuple(np.mean([curve.y[:short] for curve in curves], axis=0).tolist())
    return Curve(curves[0].name, curves[0].x[:short], y, None, None, curves[0].xlabel, curves[0].ylabel)


def _again(subject: Subject, number: int) -> Subject:
    """The subject with a method that has seen nobody, whose secret follows from that of the first."""
    if subject.method is None:
        return subject
    key = subject.method.secret.generator(f"draw {number}").bytes(32)
    return Subject(subject.label, subject.method.again(Secret(key)))


# --- looks: what is seen of pictures, and how far apart that is


@dataclass(frozen=True)
class View:
    """describe: (bench, pictures) to rows (n, ...). distances: (bench, rows (n, ...), rows (m, ...)) to (n, m)."""

    describe: Callable[[Bench, Sequence[Pair]], np.ndarray]
    distances: Callable[[Bench, np.ndarray, np.ndarray], np.ndarray]


def _photograph(bench: Bench, pairs: Sequence[Pair]) -> np.ndarray:
    return describe(bench.judge, [(frame.pixels, face) for frame, face in pairs])


def _face_only(bench: Bench, pairs: Sequence[Pair]) -> np.ndarray:
    return _photograph(bench, [_grey_background(*pair) for pair in pairs])


def _by_judge(bench: Bench, probes: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    return all_distances(bench.judge, probes, gallery)


VIEWS: Mapping[str, View] = {
    "photograph": View(_photograph, _by_judge),
    "face": View(_face_only, _by_judge),
    "LBP": View(lambda bench, pairs: lbp_histograms(pairs), lambda bench, *rows: lbp_distances(*rows)),
}


@lru_cache(maxsize=PLACES)
def _known(bench: Bench, look: str, name: str) -> np.ndarray:
    """What a look sees of a picture that somebody is known by; the same for every method."""
    seen = bench.originals.frame(name), bench.originals.known[name].face
    return VIEWS[look].describe(bench, [seen])[0]


def _grey_background(frame: Frame, face: Face) -> Pair:
    """The picture with everything but the face painted grey."""
    soft = mask(face, "full", (frame.width, frame.height))
    pixels = np.full_like(frame.pixels, GREY)
    share, part = soft.alpha[..., None], frame.pixels[soft.window]
    pixels[soft.window] = np.clip(part * share + GREY * (1 - share) + 0.5, 0, 255).astype(np.uint8)
    return frame.with_pixels(pixels), face


# --- expressions


def expression_draws(
    labels: Mapping[str, str], pictures: Mapping[str, Sequence[str]], count: int, seed: int
) -> list[Draw]:
    """`count` closed sets of people with the expressions of WORDS, as many of each as WORDS asks for, or as there are.

    labels: the expression that annotators gave to each picture. A person is in a draw with one picture.
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
    """How often the classifier of expressions agrees with annotators, before and after (Figure 11).

    "kept": the second as a share of the first. Raises UsageError without a judge of expressions.
    """
    reader = next((each for each in bench.instruments.labellers if "expression" in each.classes), None)
    if reader is None:
        raise UsageError("no classifier of expressions is installed", "see `deid models list`")
    classes, people, truth = reader.classes["expression"], list[str](), list[str]()
    old, new = list[str](), list[str]()
    for number, draw in enumerate(bench.progress(draws, len(draws), f"draw of {subject.label}")):
        made = anonymize_draw(bench, subject, draw, number)
        for words, pairs in ((old, [(o.frame, o.face) for o in made.before]), (new, made.pairs)):
            words += likeliest(classes, reader.read(pairs)["expression"]).tolist() if pairs else []
        people += made.people
        truth += [labels[original.name] for original in made.before]
    said, figures = np.array(truth), []
    for word in ("", *WORDS):
        rows = said == word if word else np.ones(len(said), bool)
        before, after = (np.array(words)[rows] == said[rows] for words in (old, new))
        name, whose = word or "all", [who for who, taken in zip(people, rows, strict=True) if taken]
        figures.append(metrics.share(results.ACCURACY_BEFORE.named(f"{name} before"), before, whose))
        figures.append(metrics.share(results.ACCURACY.named(name), after, whose))
        kept = float(after.mean() / before.mean()) if before.any() else np.nan
        figures.append(results.KEPT.named(f"{name} kept").figure(kept))
    shares = [
        [sum(t == row and n == column for t, n in zip(truth, new, strict=True)) for column in classes] for row in WORDS
    ]
    return Part(
        tuple(figures), (), (Matrix("expression by people", tuple(WORDS), tuple(classes), tuple(map(tuple, shares))),)
    )


# --- Patterns: a recogniser that learnt nothing, from histograms of local binary patterns (Ahonen et al. 2006).

# Only the face square, hairline to chin: the papers that use such patterns cut out the face alone.
LBP_CROP = CropSpec(size=128, margin=0.0)
POINTS, RADIUS, CELLS = 8, 2, 8  # of the circle, in pixels, and cells along a side
LABELS = POINTS * (POINTS - 1) + 3  # uniform patterns, and one for all others


def lbp_histograms(pairs: Sequence[tuple[Frame, Face]]) -> np.ndarray:
    """Histograms (n, cells, LABELS) of faces with landmarks, each sums to 1. Raises MissingDependency."""
    try:
        from skimage.feature import local_binary_pattern
    except ImportError as error:
        raise MissingDependency("local binary patterns need scikit-image", "run `pip install deidcli[eval]`") from error
    rows = []
    for frame, face in pairs:
        grey = cv2.cvtColor(align(frame, face, LBP_CROP).pixels, cv2.COLOR_RGB2GRAY)
        labels = local_binary_pattern(grey, POINTS, RADIUS, "nri_uniform").astype(int)
        side = LBP_CROP.size // CELLS if LBP_CROP.size else 1
        cells = labels.reshape(CELLS, side, CELLS, side).swapaxes(1, 2).reshape(CELLS * CELLS, -1)
        rows.append(np.stack([np.bincount(cell, minlength=LABELS) for cell in cells]) / cells.shape[1])
    return np.array(rows).reshape(len(rows), CELLS * CELLS, LABELS)


def lbp_distances(probes: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    """Chi-squared distances (n, m) of histograms (n, cells, labels) and (m, cells, labels)."""
    rows = [((probe - gallery) ** 2 / np.maximum(probe + gallery, 1e-12)).sum(axis=(1, 2)) for probe in probes]
    return np.array(rows).reshape(len(probes), len(gallery))


# --- Pictures of closed sets: rank-1 over k with its bound, CMC, confusions, and sheets with a row a method.
#
# They are drawn of the runs that were measured (Meden et al. 2018, Figures 7 to 11). The sheets show people.

SHOWN, LABEL = 8, 110  # people of a sheet, and pixels for the names of its rows
SHEET_CROP = CropSpec(size=144, margin=0.4)


def draw(runs: Sequence[Run], bench: Bench, subjects: Sequence[Subject], plan: Plan, folder: Path) -> None:
    """Write all that can be drawn of the runs as PNG into `folder`. Raises MissingDependency without matplotlib."""
    folder.mkdir(parents=True, exist_ok=True)
    for look in VIEWS:
        if any(run.figure(f"rank-1 {look}") for run in runs):
            _rank_plot(runs, look, folder / f"rank-1-{slug(look)}.png")
    for plot in curve_plots(runs, "closed"):
        (folder / f"{plot.name}.png").write_bytes(png(plot.drawn))
    for run in runs:
        for matrix in run.matrices:
            name = slug(f"{matrix.name} {run.label}")
            (folder / f"{name}.png").write_bytes(png(matrix_plot(matrix, name, run.label).drawn))
    sheet(bench, subjects, plan).save(folder / "sheet.png")


def _rank_plot(runs: Sequence[Run], look: str, path: Path) -> None:
    """Rank-1 over k, a line a method; what has no k is level, and 1/k is the bound."""
    points: dict[str, list[tuple[float, float]]] = {}
    for run in runs:
        if found := run.figure(f"rank-1 {look}"):
            k, others = float(run.options.get("k") or 0), run.label.replace(f":k={run.options.get('k')}", "")
            points.setdefault(others, []).append((k, found.value))
    ks = sorted({k for line in points.values() for k, _ in line if k}) or [2.0, 10.0]
    with canvas(len(points) + 1) as (figure, axes):
        for number, (name, line) in enumerate(points.items()):
            colour, dash = SERIES[number % len(SERIES)][0], DASHES[number % len(DASHES)]
            if any(k for k, _ in line):
                x, y = zip(*sorted(line), strict=True)
                axes.plot(x, y, color=colour, linestyle=dash, marker=MARKS[number % len(MARKS)], label=name)
            else:
                axes.axhline(line[0][1], color=FAINT[0], linestyle=dash, label=name)
        axes.plot(ks, [1 / k for k in ks], color=INK[0], linewidth=2.4, label="the bound, 1/k")
        axes.set(title=f"rank-1, {look}", xlabel="k", ylabel="share recognised", xticks=ks, ylim=(-0.02, 1.02))
        legend(figure, axes)
    path.write_bytes(png(figure))


def sheet(bench: Bench, subjects: Sequence[Subject], plan: Plan) -> Image.Image:
    """The first people of the first draw: their originals, and a row below for the first subject of each method."""
    chosen = list({one.kind: one for one in reversed(subjects) if one.method or one.folder}.values())[::-1]
    rows: list[tuple[str, dict[str, np.ndarray]]] = []
    for one in chosen:
        made = anonymize_draw(bench, one, plan.draws[0], 0)
        if not rows:
            rows.append(("original", _faces(made.people, [(o.frame, o.face) for o in made.before])))
        rows.append((one.label, _faces(made.people, made.pairs)))
    people = [who for who in plan.draws[0].people if all(who in row for _, row in rows)][:: max(1, 50 // SHOWN)][:SHOWN]
    side = SHEET_CROP.size or 1
    page = Image.new("RGB", (LABEL + side * len(people), side * len(rows)), "white")
    for number, (name, faces) in enumerate(rows):
        text = name.replace(":", "\n")
        ImageDraw.Draw(page).text((6, number * side + side / 2), text, INK[0], ImageFont.load_default(13), anchor="lm")
        for column, who in enumerate(people):
            page.paste(Image.fromarray(faces[who]), (LABEL + column * side, number * side))
    return page


def _faces(people: Sequence[str], pairs: Sequence[Pair]) -> dict[str, np.ndarray]:
    return {who: align(frame, face, SHEET_CROP).pixels for who, (frame, face) in zip(people, pairs, strict=True)}
