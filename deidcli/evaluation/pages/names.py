"""Names: what the figures of results are about, by their names, and how their values are written."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from deidcli.evaluation.results import Figure, Run

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
    Meaning(r"^second|time|memory|\bms\b", COST, "What it costs.", False),
    Meaning(r"stranger", PRIVACY, "Pairs of two people that the recogniser takes for one: its own error."),
    Meaning(r"itself|same picture|very (original|picture)", PRIVACY,
            "New faces that are taken for the person in the very picture they were made from."),
    Meaning(r"match|accept|\btar\b", PRIVACY,
            "Pairs of pictures of one person, one of them anonymized, that the recogniser takes for one person."),
    Meaning(r"rank", PRIVACY, "New faces whose person is the recogniser's first guess (first k guesses) in a gallery."),
    Meaning(r"\bdeid\b|de-identification", PRIVACY, "New faces that are not taken for the person in their original."),
    Meaning(r"link", PRIVACY, "Pairs of outputs of one person that can be put together."),
    Meaning(r"\bdiv\b|divers", PRIVACY, "Pairs of new faces that look like two people."),
    Meaning(r"\banon\b", PRIVACY, "The fewest new faces that cannot be told from one of them.", False),
    Meaning(r"equal error|\beer\b", PRIVACY, "The error where both errors are alike; 50 % is a coin."),
    Meaning(r"fcns|found|yield|faceness|detect", UTILITY, "New faces that a detector takes for a face."),
    Meaning(r"ssim", UTILITY, "How alike the pictures are, pixel by pixel; 1 is the same picture.", False),
    Meaning(r"lpips", UTILITY, "How unlike the pictures look; 0 is the same picture.", False),
    Meaning(r"landmark", UTILITY, "How far the face's points moved, as a share of the distance of the eyes.", False),
    Meaning(r"pose|yaw|pitch|roll", UTILITY, "How far the head was turned, in degrees.", False),
    Meaning(r"emotion.*error", UTILITY, "How far a classifier's view of the emotion moved, squared.", False),
    Meaning(r"express|emotion|f-measure", UTILITY, "Expressions that a classifier still tells alike."),
    Meaning(r"\bage\b.*(diff|error|year)", UTILITY, "How many years a classifier's guess of the age moved.", False),
    Meaning(r"\bage\b|gender|race|\battr\b|attribute", UTILITY, "Attributes that a classifier still tells alike."),
    Meaning(r"flicker|shake|step|stead", UTILITY, "How much a new face changes from frame to frame.", False),
)  # fmt: skip
_OTHER = Meaning("", "other", "", False)
# Which share of people is still recognised, told by these in turn; the last two count the others.
_RECOGNISED = (r"^(?!.*stranger)(?!.*itself)(?!.*same picture).*match", r"true accept|\btar\b", r"rank[- ]?1\b")
_HIDDEN = (r"\bdeid\b", r"self de-identification")


def meaning(name: str) -> Meaning:
    """What a figure of this name is about."""
    return next((each for each in MEANINGS if re.search(each.pattern, name.lower())), _OTHER)


def recognised(run: Run) -> Figure | None:
    """The share of people that are still recognised after the method, with its interval; None where not measured."""
    for pattern in _RECOGNISED:
        if figure := _first(run.figures, pattern):
            return figure
    for pattern in _HIDDEN:
        if figure := _first(run.figures, pattern):
            low, high = (None if side is None else 1 - side for side in (figure.high, figure.low))
            return replace(figure, value=1 - figure.value, low=low, high=high, better="lower")
    return None


def useful(runs: Iterable[Run]) -> list[str]:
    """Names of what is kept, as shares of which more is better, in the order of the runs; SSIM counts among them."""
    names: dict[str, None] = {}
    for run in runs:
        for figure in run.figures:
            about = meaning(figure.name)
            scaled = about.share or "ssim" in figure.name.lower()
            if about.kind == UTILITY and figure.better == "higher" and scaled and not math.isnan(figure.value):
                names.setdefault(figure.name)
    return list(names)


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
