"""The papers' tables by name: the same protocol, on the pictures that are given, with the methods that exist here.

The papers' data sets (XM2VTS, CK+, RaFD, CelebA) cannot be had freely; LFW's people who were in no training take their
place, and the recogniser is the one that is given. What a paper reports is printed beside what is measured, and is
never the same quantity where data or recogniser differ.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from deidcli.errors import UsageError
from deidcli.evaluation import measures, metrics, parts, results
from deidcli.evaluation.autoencoder_rows import ROWS
from deidcli.evaluation.bench import Bench, Subject, evenly, person
from deidcli.evaluation.closed_sets import KS, VIEWS, WORDS, expression_draws, expressions, identification
from deidcli.evaluation.metrics import all_distances, draws
from deidcli.evaluation.observe import Outputs
from deidcli.evaluation.parts import Part
from deidcli.evaluation.plan import Plan, matched, paired, people_of
from deidcli.evaluation.results import Curve, Run
from deidcli.evaluation.utility import frechet
from deidcli.presets import load_preset

Pictures = Mapping[str, Sequence[str]]
FAR, RANKS, GALLERY = 0.001, range(1, 6), "epdnet-64"  # of EPD-Net's tables; GALLERY is the preset of its verifiers
APART = f"unlike itself at FAR {FAR:g}"
AS_TURNED_BY_0 = "expression as at 0°"
ETA = tuple(round(0.1 * step, 1) for step in range(1, 18))  # thresholds of CLEANIR's Table 2


@dataclass(frozen=True)
class Table:
    """A table of a paper.

    methods: as `--methods` names them; those that do not exist here are left out and said. plan: (pictures of each
    person, seed, limit) to what is compared. tell: (bench, outputs, plan) to the figures. paper: for a row the paper's
    own figures by the name of ours. columns: the figures that are printed, all for none. reference: the row whose
    outputs those of later rows are compared with. sets: (bench, subject, plan) to the figures of closed sets, in place
    of `tell`. readme: (figure, title) of the columns of its table in a text, all the usual ones for none. label: a
    column of --labels, of which `plan` is given the word of each picture, too. verifiers: a preset of epdnet whose
    verifiers judge, instead of the usual classifiers. recogniser: that judges where none is named. crops: a preset on
    whose crops the paper's protocol measures (evaluation/crops.py); "" for whole photographs.
    """

    name: str
    title: str
    methods: tuple[str, ...]
    plan: Callable[..., Plan]
    tell: Callable[[Bench, Outputs, Plan], Part] | None
    paper: Mapping[str, Mapping[str, float]]
    columns: tuple[str, ...] = ()
    reference: str = ""
    sets: Callable[[Bench, Subject, Plan], Part] | None = None
    label: str = ""
    readme: tuple[tuple[str, str], ...] = ()
    verifiers: str = ""
    recogniser: str = ""
    crops: str = ""

    def of_sets(self, bench: Bench, subject: Subject, plan: Plan) -> Run:
        """The run of a row whose sets are made one after the other."""
        assert self.sets is not None
        part, judge = self.sets(bench, subject, plan), parts.recogniser_error(bench, plan.pairs)
        said = {"figures": part.figures, "curves": part.curves, "matrices": part.matrices}
        return bench.run(subject, plan.protocol, judge, float("nan"), **said)


def eta(bench: Bench, value: float) -> float:
    """CLEANIR's threshold, a Euclidean distance of unit vectors, in the unit of the recogniser's own distance.

    The paper's are FaceNet's; dlib's descriptors lie closer together, and at 1.1 it takes everybody for everybody.
    """
    turn = 2 * np.arcsin(value / 2)
    return float(bench.judge.distance(np.array([[1.0, 0.0]]), np.array([[np.cos(turn), np.sin(turn)]]))[0])


def _cleanir(bench: Bench, outputs: Outputs, plan: Plan) -> Part:
    """Matching rates of pairs of one person over thresholds eta, and what Section 4.3 asks of the attributes.

    The paper sets labels of people's (JAFFE) against a classifier's; here a classifier's answer for the output is
    compared with its answer for the original and for the output at 0 degrees, which is what the decoder costs.
    """
    apart = parts.pair_distances(bench, outputs, plan.pairs)
    figures = [metrics.share(results.ETA.named(f"eta {e}"), apart.same <= eta(bench, e), apart.people) for e in ETA]
    y, low, high = (tuple(getattr(f, key) for f in figures) for key in ("value", "low", "high"))
    curve = parts.Curve("matching rate", ETA, y, low, high, "threshold eta", "share of pairs matched")
    shared = parts.verification(bench, outputs, plan.pairs) + parts.self_matching(bench, outputs)
    shared += parts.match_rate_at_far(bench, outputs, plan.pairs) + parts.utility(bench, outputs, plan.truth)
    if plan.reference is not None:
        shared += parts.agreement(bench, outputs, plan.reference, "expression", AS_TURNED_BY_0)
    return Part(tuple(figures), (curve,)) + shared


def _ksame(bench: Bench, subject: Subject, plan: Plan) -> Part:
    """Rank-1 of 50 people over five draws."""
    return identification(bench, subject, plan.draws)


def _expression(bench: Bench, subject: Subject, plan: Plan) -> Part:
    """Expressions that a judge reads as people do, before and after."""
    return expressions(bench, subject, plan.draws, plan.truth["expression"])


def _autoencoder(bench: Bench, outputs: Outputs, plan: Plan) -> Part:
    """FCNS, DEID and DIV, and ANON of Table 8."""
    return parts.autoencoders(bench, outputs)


def _fdeid(bench: Bench, outputs: Outputs, plan: Plan) -> Part:
    """Privacy by every part of the recogniser, retrieval beside verification; then utility and quality."""
    measured = parts.verification(bench, outputs, plan.pairs) + parts.self_matching(bench, outputs)
    for name, seen, own in bench.by_each(outputs):
        part = parts.match_rate_at_far(seen, own, plan.pairs) + parts.protected(seen, own, plan.pairs)
        part += parts.identification(seen, own, plan.draws) + parts.retrieval(seen, own)
        apart = frechet(seen.originals.descriptors(own.names), own.descriptors)
        part += Part((results.FRECHET.figure(apart, count=len(own.names)),))
        measured += Part(tuple(replace(each, name=f"{each.name}, {name}", recognised=0) for each in part.figures))
    return measured + parts.utility(bench, outputs, plan.truth)


def _fatm(bench: Bench, outputs: Outputs, plan: Plan) -> Part:
    """Pairs that are no longer matched, the picture against itself, SSIM of the whole picture, and DIV."""
    apart, own = parts.pair_distances(bench, outputs, plan.pairs), parts.own_distances(bench, outputs)
    whose = [person(name) for name in outputs.names]
    figures = (
        metrics.share(results.PAIRS_UNMATCHED, apart.same > bench.threshold, apart.people),
        metrics.share(results.SELF_UNMATCHED, own > bench.threshold, whose),
        metrics.average(results.SSIM, outputs.ssim, whose),
        results.MILLISECONDS.figure(1000 * outputs.seconds / max(1, len(outputs.names))),
        measures.diversity(bench.judge, outputs.descriptors, bench.threshold, bench.study.draw),
    )
    return Part(figures) + parts.verification(bench, outputs, plan.pairs)


def _epdnet(bench: Bench, outputs: Outputs, plan: Plan) -> Part:
    """Self and switching de-identification over the drawn subjects, misclassification over ranks, emotion error, SSIM.

    A recogniser judges people who were in no training, where the paper's verifier judges those that it was trained on.
    """
    draw, rows = plan.draws[0], outputs.row
    able = [(p, w) for p, w in zip(draw.probes, draw.people, strict=True) if p in rows]
    known = [(g, w) for g, w in zip(draw.gallery, draw.people, strict=True) if g in bench.originals.known]
    probes, gallery = outputs.of([p for p, _ in able]), bench.originals.descriptors([g for g, _ in known])
    own = parts.own_distances(bench, outputs)[outputs.rows([p for p, _ in able])]
    who, whose = [w for _, w in able], [w for _, w in known]
    figures = (
        measures.self_deidentified(own, bench.threshold, who),
        measures.switched(all_distances(bench.judge, probes, gallery), who, whose, bench.threshold),
    )
    limit, _ = parts.threshold_at_far(bench, FAR)
    every = parts.own_distances(bench, outputs)
    apart = metrics.share(results.SELF_UNMATCHED.named(APART), every > limit, [person(name) for name in outputs.names])
    ranks = [1 - metrics.hits_at(all_distances(bench.judge, probes, gallery), who, whose, rank) for rank in RANKS]
    return Part((*figures, apart)) + _missed(ranks, who) + parts.utility(bench, outputs, plan.truth)


def _missed(missed: Sequence[np.ndarray], people: Sequence[str]) -> Part:
    """EPD-Net's Figure 4: the share (n,) of new faces of `people` whose person is not among the first ranks."""
    figures = [
        metrics.share(results.MISSED.named(f"missed at rank {r}"), m, people)
        for r, m in zip(RANKS, missed, strict=True)
    ]
    y, low, high = (tuple(getattr(f, key) for f in figures) for key in ("value", "low", "high"))
    curve = Curve("misclassification", tuple(map(float, RANKS)), y, low, high, "rank", "share misclassified")
    return Part(tuple(figures), (curve,))


def _epdnet_gallery(bench: Bench, outputs: Outputs, plan: Plan) -> Part:
    """Section IV of EPD-Net by its own verifiers, on pictures of the gallery's people that nothing was trained on."""
    from deidcli.training.epd_graph import THRESHOLD, distances, places
    from deidcli.training.epd_net import word

    who = [person(name) for name in outputs.names]
    classes = next(reader.classes["identity"] for reader in bench.instruments.labellers if "identity" in reader.classes)
    people = np.array([word(name) for name in who])[:, None] == np.array(classes)[None]
    said, before = (known.labels["emotion"] for known in (outputs, bench.labelled))
    answers = outputs.labels["identity"]
    apart = distances(answers)
    figures = (
        measures.self_deidentified(apart[people], THRESHOLD, who),
        measures.switched(np.where(people, np.inf, apart), who, classes, THRESHOLD),
        measures.emotion_error(before[bench.labelled.rows(outputs.names)], said, who),
        metrics.average(results.SSIM, outputs.ssim, who),
        metrics.average(results.FACE_SSIM, outputs.face_ssim, who),
        metrics.share(results.FACES_FOUND, outputs.found, who),
    )
    return Part(figures) + _missed([places(answers, people) >= rank for rank in RANKS], who)


def _lists(pictures: Pictures, seed: int, limit: int | None) -> Plan:
    return Plan("table:cleanir-2", tuple(paired(pictures, limit or 3000, seed)))


def _thousand(pictures: Pictures, seed: int, limit: int | None) -> Plan:
    return Plan("table:fatm-lfw", tuple(matched(pictures, limit or 1000, seed)))


def _closed(name: str, people: int, repetitions: int) -> Callable[[Pictures, int, int | None], Plan]:
    def plan(pictures: Pictures, seed: int, limit: int | None) -> Plan:
        count = min(people, limit or people)
        sets = tuple(draws(pictures, count, repetitions, seed))
        return Plan(name, tuple(paired(pictures, limit or 200, seed)), sets)

    return plan


def _of_people(pictures: Pictures, seed: int, limit: int | None) -> Plan:
    """Pairs, and closed sets of the people in them, so that few pictures serve for both."""
    pairs = paired(pictures, limit or 300, seed)
    return Plan("table:fdeid", tuple(pairs), tuple(draws(people_of(pairs), 50, 3, seed)))


def _held_out(pictures: Pictures, seed: int, limit: int | None) -> Plan:
    """The pictures of the people that the verifier of the preset GALLERY knows, of those that nothing learnt from."""
    from deidcli.training.classifiers import held_out
    from deidcli.training.epd_net import HELD_OUT, word

    known = load_preset(GALLERY, "epdnet").config["identity"]["heads"][0]["classes"]
    names = [name for who, each in sorted(pictures.items()) if word(who) in known for name in each]
    kept = [name for name, free in zip(names, held_out(np.array(names), HELD_OUT), strict=True) if free]
    if not kept:
        raise UsageError(
            f"the folder has no picture of the people that {GALLERY} knows", "give LFW's images, no --split"
        )
    return Plan("table:epdnet-gallery", also=tuple(evenly(kept, limit)))


def _labelled(pictures: Pictures, seed: int, limit: int | None, labels: Mapping[str, str]) -> Plan:
    sets = tuple(expression_draws(labels, pictures, limit or 5, seed))
    return Plan("table:ksame-net-11", (), sets, {"expression": labels})


def _all(pictures: Pictures, seed: int, limit: int | None) -> Plan:
    return Plan("table:autoencoder", tuple(paired(pictures, limit or 10_000, seed)))


def _people(pictures: Pictures, seed: int, limit: int | None) -> Plan:
    """One picture each of 200 people."""
    drawn = np.random.default_rng(seed).permutation(sorted(pictures))[: min(200, limit or 200)]
    firsts = [pictures[who][0] for who in drawn]
    pairs = tuple((a, b, False) for a, b in zip(firsts, firsts[1:], strict=False))
    return Plan("table:autoencoder-8", pairs, also=tuple(firsts))


_CLOSED = (
    "original",
    "blur",
    "pixelate",
    *(f"{name}:k={k}" for name in ("ksame-pixel", "ksame-eigen", "ksame-m") for k in KS),
    *(f"ksame-net:preserve=none:k={k}" for k in KS),
)
_PAPERS = "fatm:preset=fatm-64:paper=true"
_DONORS = (_PAPERS, "fatm:among=1", "fatm:among=6", "fatm:reach=1")
_FATM_PAPER = {"pairs no longer matched": 0.831, "itself no longer matched": 0.672, "SSIM": 0.97}
_REFERENCE, _ANGLES = "cleanir:angle=0", (0, 30, 60, 90, 120, 150, 180)
# Of the paper at its threshold 1.1; what is kept (--keep) is not in the paper.
_PAPER = dict(zip(_ANGLES, (0.998, 0.998, 0.997, 0.965, 0.507, 0.219, 0.161), strict=True))
_KEEPING = ("cleanir:angle={}", "cleanir:keep=none:angle={}")
_ROWS = ("original", *(text.format(a) for text in _KEEPING for a in _ANGLES if a or text == _KEEPING[0]))
_SHOWN = (
    "match rate",
    "match rate at FAR 0.001",
    "eta 1.1",
    "faces found",
    "gender kept",
    "age group kept",
    "tone group kept",
    "landmark error",
    "expression kept",
    AS_TURNED_BY_0,
)
_EPD = ("original", "epdnet", "epdnet:shape=0", f"epdnet:preset={GALLERY}", "ksame-net", "ksame-m", "cleanir", "blur")
_EPD_PAPER = {"self de-identification": 0.6990, "switching de-identification": 0.8608, "emotion error": 0.0099}
_MISSED = tuple(f"missed at rank {rank}" for rank in RANKS)
_IN_TEXT = (
    ("match rate", "matched"), ("match rate at FAR 0.001", "matched at FAR 0.001"), ("faces found", "found"),
    ("gender kept", "gender"), ("age group kept", "age group"), ("tone group kept", "tone"),
    ("landmark error", "landmark error"), ("expression kept", "expression"), (AS_TURNED_BY_0, "expression as at 0°"),
)  # fmt: skip
_FDEID = ("original", "blur", "pixelate", "solid", "ksame-pixel", "ksame-eigen", "ksame-net", "ksame-m", "fatm",
          "autoencoder", "cleanir", "epdnet")  # fmt: skip
_BY = ("dlib", "sface")
_LAYOUT = (
    *((f"match rate at FAR {FAR:g}, {name}", f"privacy: TAR at FAR {FAR:g}, {name}") for name in _BY),
    *((f"PSR, {name}", f"PSR, {name}") for name in _BY),
    *((f"rank-{rank}, {name}", f"rank-{rank}, {name}") for rank in (1, 5) for name in _BY),
    *((f"mAP, {name}", f"mAP, {name}") for name in _BY),
    ("age difference", "utility: age, years off"), ("gender kept", "gender"), ("race kept", "race"),
    ("expression kept", "expression"), ("landmark error", "landmarks off"), ("faces found", "found"),
    ("SSIM", "quality: SSIM"), *((f"Fréchet distance, {name}", f"Fréchet, {name}") for name in _BY),
    ("milliseconds a face", "ms a face"),
)  # fmt: skip
TABLES = {
    table.name: table
    for table in (
        Table("cleanir-2", "CLEANIR, Table 2: matching rates of pairs over thresholds, and what is kept", _ROWS, _lists,
              _cleanir, {"original": {"eta 1.1": 0.998}, _REFERENCE: {"eta 1.1": 0.998},
                         **{_KEEPING[1].format(a): {"eta 1.1": rate} for a, rate in _PAPER.items() if a}},
              _SHOWN, _REFERENCE, readme=_IN_TEXT),
        Table("ksame-net-3", "k-Same-Net, Table 3, Figures 9 and 10: rank-1 of 50 people, five draws", _CLOSED,
              _closed("table:ksame-net-3", 50, 5), None,
              {"original": {"rank-1 photograph": 0.928, "rank-1 LBP": 0.828},
               "ksame-net:preserve=none:k=2": {"rank-1 photograph": 0.020, "rank-1 LBP": 0.021}},
              ("bound", *(f"{said} {look}" for look in VIEWS for said in ("rank-1", "worst"))), "", _ksame),
        Table("ksame-net-11", "k-Same-Net, Figure 11: expressions that are read as people read them",
              tuple(f"ksame-net:preserve=none:k={k}" for k in KS), _labelled, None,
              {"ksame-net:preserve=none:k=5": {"all": 0.924}},
              tuple(f"{word}{said}" for word in ("all", *WORDS) for said in (" before", "", " kept")), "",
              _expression, "expression"),
        *(
            Table(f"autoencoder-{number}", f"Deep Autoencoders, Table {number}: {title}", ("original", *rows),
                  _people if number == 8 else _all, _autoencoder, rows, shown, crops=preset)
            for number, (title, preset, rows, shown) in ROWS.items()
        ),
        Table("fatm-lfw", "FATM, Section 4: 1,000 pairs of LFW, the picture itself, SSIM",
              ("original", "fatm", *_DONORS, "cleanir", "blur"), _thousand, _fatm, {
                  "original": {"match rate": 0.976},
                  "fatm": _FATM_PAPER, _PAPERS: _FATM_PAPER,
              }, ("pairs no longer matched", "itself no longer matched", "SSIM", "match rate", "milliseconds a face",
                  "DIV")),
        Table("fdeid", "FDeID-Toolbox (Wei et al. 2026): privacy, utility and quality, by both recognisers", _FDEID,
              _of_people, _fdeid, {}, (f"match rate at FAR {FAR:g}, dlib", f"match rate at FAR {FAR:g}, sface",
                                       "PSR, sface", "rank-1, sface", "mAP, sface", "faces found", "SSIM"),
              readme=_LAYOUT, recogniser="both"),
        Table("epdnet-1", "EPD-Net, Table I and Section IV: de-identification, switching, emotion error",
              _EPD, _closed("table:epdnet-1", 67, 1), _epdnet, {"epdnet": _EPD_PAPER},
              ("self de-identification", "switching de-identification", APART, "emotion error", "SSIM", "face SSIM",
               "faces found", *_MISSED)),
        Table("epdnet-gallery", "EPD-Net, Section IV by its own verifiers, on its gallery's people", _EPD, _held_out,
              _epdnet_gallery, {f"epdnet:preset={GALLERY}": _EPD_PAPER},
              ("self de-identification", "switching de-identification", "emotion error", "SSIM", "face SSIM",
               "faces found", *_MISSED), verifiers=GALLERY),
    )
}  # fmt: skip


def table(name: str) -> Table:
    """The table called `name`. Raises UsageError with the names that there are."""
    if name not in TABLES:
        raise UsageError(f"no table is called {name!r}", f"choose one of {', '.join(TABLES)}")
    return TABLES[name]
