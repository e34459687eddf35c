"""Names: what the figures of results are about, by their names, and how their values are written."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from deidcli.evaluation.results import Attack, Figure, Run

PRIVACY, UTILITY, COST = "privacy", "what is kept", "cost"
UNTOUCHED = "original"


@dataclass(frozen=True)
class Meaning:
    """A kind of figure. pattern: of names, in small letters. share: whether its value is a share of cases."""

    pattern: str
    kind: str
    says: str
    share: bool = True


# The first that fits a name counts.
MEANINGS = (
    Meaning(r"second|\btime\b|memory", COST, "What it costs.", False),
    Meaning(r"by chance", PRIVACY, "What blind guessing gets."),
    Meaning(r"deviation", PRIVACY, "How much the share differs from draw to draw."),
    Meaning(r"^threshold", PRIVACY, "The distance up to which that many pairs of two untouched people match.", False),
    Meaning(r"^eta ", PRIVACY, "Pairs of one person that match up to this distance (CLEANIR, Table 2)."),
    Meaning(r"stranger", PRIVACY, "Pairs of two people that the recogniser takes for one: its own error."),
    Meaning(r"itself no longer", PRIVACY, "New faces that are not taken for the person in their own original."),
    Meaning(r"no longer matched", PRIVACY, "Pairs of one person, one anonymized, that are not taken for one any more."),
    Meaning(r"^self match|itself|same picture", PRIVACY,
            "New faces that are taken for the person in the very picture they were made from."),
    Meaning(r"match|accept|\btar\b", PRIVACY,
            "Pairs of pictures of one person, one of them anonymized, that the recogniser takes for one person."),
    Meaning(r"rank", PRIVACY, "New faces whose person is the recogniser's first guess (first k guesses) in a gallery."),
    Meaning(r"\bdeid\b|self de-identification", PRIVACY,
            "New faces that are not taken for the person in their own original."),
    Meaning(r"switching", PRIVACY, "New faces that are taken for nobody else in the gallery either."),
    Meaning(r"link", PRIVACY, "Pairs of outputs of one person that can be put together."),
    Meaning(r"\bdiv\b", PRIVACY, "Pairs of new faces that look like two people."),
    Meaning(r"\banon\b", PRIVACY, "The fewest new faces that cannot be told from one of them.", False),
    Meaning(r"equal error", PRIVACY, "The error where both errors are alike; 50 % is a coin."),
    Meaning(r"covered", UTILITY, "Faces that got a cover instead of a new face."),
    Meaning(r"missing", UTILITY, "Pictures that have no output.", False),
    Meaning(r"fcns|faces found", UTILITY, "New faces that a detector takes for a face."),
    Meaning(r"face ssim", UTILITY, "How alike the faces are, pixel by pixel; 1 is the same face.", False),
    Meaning(r"ssim", UTILITY, "How alike the pictures are, pixel by pixel; 1 is the same picture.", False),
    Meaning(r"lpips", UTILITY, "How unlike the pictures look; 0 is the same picture.", False),
    Meaning(r"landmark", UTILITY, "How far the face's points moved, as a share of the distance of the eyes.", False),
    Meaning(r"pose|yaw|pitch|roll", UTILITY, "How far the head was turned, in degrees.", False),
    Meaning(r"emotion error", UTILITY, "How far a classifier's view of the emotion moved, squared.", False),
    Meaning(r"f-measure", UTILITY, "How well a classifier tells the label's classes as before, all classes alike."),
    Meaning(r"accuracy", UTILITY, "New faces of which a classifier says what people say of the original."),
    Meaning(r"kept|attr|as at", UTILITY, "New faces of which a classifier says what it says of the original."),
    Meaning(r"difference", UTILITY, "How much a classifier's number moved, as of years of age.", False),
    Meaning(r"flicker|shake|step|stead", UTILITY, "How much a new face changes from frame to frame.", False),
)  # fmt: skip
_OTHER = Meaning("", "other", "", False)
# Which share of people is still recognised, told by these in turn: a rate of which less is better tells it itself, one
# of which more is better tells the others.
_RECOGNISED = (r"^match", r"^pairs no longer matched", r"^rank-1$", r"^deid$", r"^self de-identification")


def meaning(name: str) -> Meaning:
    """What a figure of this name is about."""
    return next((each for each in MEANINGS if re.search(each.pattern, name.lower())), _OTHER)


def recognised(run: Run) -> Figure | None:
    """The share of people that are still recognised after the method, with its interval; None where not measured."""
    for pattern in _RECOGNISED:
        figure = _first(run.figures, pattern)
        if figure and figure.better == "higher":
            low, high = (None if side is None else 1 - side for side in (figure.high, figure.low))
            return replace(figure, value=1 - figure.value, low=low, high=high, better="lower")
        if figure:
            return figure
    return None


def useful(runs: Iterable[Run]) -> list[str]:
    """Names of what is kept, as shares of which more is better, in the order of the runs; SSIM counts among them.

    Of two names for the same figure only the first is given.
    """
    names: dict[str, None] = {}
    runs = list(runs)
    for run in runs:
        for figure in run.figures:
            about = meaning(figure.name)
            scaled = about.share or "ssim" in figure.name.lower()
            if about.kind == UTILITY and figure.better == "higher" and scaled and not math.isnan(figure.value):
                names.setdefault(figure.name)
    first: dict[tuple, str] = {}
    for name in names:
        values = (found and found.value for found in (run.figure(name) for run in runs))
        first.setdefault((meaning(name).says, *values), name)
    return list(first.values())


def condition(attack: Attack) -> str:
    """What an attack needs besides the tool, or looks at besides the face; empty for one that anybody can try."""
    if "same secret" in attack.name:
        return "for those who know the secret of the run"
    return "by the picture around the face" if attack.name.startswith("rest") else ""


def written(value: float | None, name: str) -> str:
    """A value of the figure called `name` as text: a share as per cent, others with four digits."""
    if value is None or math.isnan(value):
        return "not measured"
    if meaning(name).share and 0 <= value <= 1:
        return percent(value)
    return f"{value:.4g}"


def percent(value: float) -> str:
    """A share as per cent: one decimal where it matters."""
    if math.isnan(value):
        return "not measured"
    hundredth = 100 * value
    return f"{hundredth:.0f} %" if hundredth in (0, 100) else f"{hundredth:.1f} %"


def interval(figure: Figure) -> str:
    """The interval of a figure as text, empty where it has none."""
    if figure.low is None or figure.high is None or math.isnan(figure.low) or math.isnan(figure.high):
        return ""
    low, high = written(figure.low, figure.name), written(figure.high, figure.name)
    return f"{low.removesuffix(' %')} to {high}" if low.endswith("%") and high.endswith("%") else f"{low} to {high}"


def _first(figures: Iterable[Figure], pattern: str) -> Figure | None:
    return next((f for f in figures if re.search(pattern, f.name.lower()) and not math.isnan(f.value)), None)
