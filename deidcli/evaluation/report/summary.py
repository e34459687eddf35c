"""Summary: what a privacy officer asks, answered in plain sentences from the figures and from nothing else."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from deidcli.evaluation.results import INDEX, SHARE, UTILITY, Attack, Figure, Results, Run

UNTOUCHED = "original"  # the method of a run of untouched pictures
FEW = 100  # cases, below which a page says that they are few
SHOWN = 6  # methods in a list; of more the best and the worst
RARELY, OFTEN = 0.05, 0.25  # shares of people still recognised
# The word, its colour, and a sign for those who see no colours.
HOLDS, PARTLY, FAILS, UNKNOWN, BASE = "protects", "protects in part", "does not protect", "not measured", "untouched"
LOOKS = {HOLDS: ("good", "●"), PARTLY: ("fair", "◐"), FAILS: ("bad", "○"), UNKNOWN: ("none", "–"), BASE: ("none", "–")}


@dataclass(frozen=True)
class Group:
    """Runs that can be compared: the same protocol, data, split, and recogniser. key: a short name for files."""

    key: str
    protocol: str
    data: str
    split: str
    runs: tuple[Run, ...]

    @property
    def title(self) -> str:
        run = self.runs[0]
        where = " ".join(word for word in (self.data, self.split) if word)
        return f"{self.protocol} on {where}, seen by {run.judge.recogniser}"


def groups(results: Results) -> list[Group]:
    """The runs in groups, in their order."""
    found: dict[tuple[str, str, str, str, float], list[Run]] = {}
    for run in results.runs:
        judge = run.judge.recogniser, run.judge.threshold
        found.setdefault((run.protocol, run.data, run.split, *judge), []).append(run)
    return [
        Group(f"g{number}", key[0], key[1], key[2], tuple(runs)) for number, (key, runs) in enumerate(found.items(), 1)
    ]


def attacks_on(run: Run, attacks: Iterable[Attack]) -> list[Attack]:
    """The attacks on what this run made."""
    return [attack for attack in attacks if attack.label == run.label]


def verdict(run: Run, attacks: Sequence[Attack]) -> str:
    """One of the words of LOOKS. An attack that anybody can try counts for more than any rate."""
    if run.method == UNTOUCHED:
        return BASE
    if any(attack.breaks and not attack.condition for attack in attacks_on(run, attacks)):
        return FAILS
    rate = recognised(run)
    if rate is None:
        return UNKNOWN
    if rate.value > OFTEN:
        return FAILS
    highest = rate.high if rate.high is not None and not math.isnan(rate.high) else rate.value
    return HOLDS if highest <= RARELY else PARTLY


def rule() -> str:
    """How `verdict` chooses its words."""
    return (
        f"“{HOLDS.capitalize()}”: with its interval of 95 %, at most {percent(RARELY)} of people are recognised, "
        f"and no attack that anybody can try breaks it. “{FAILS.capitalize()}”: more than {percent(OFTEN)} are, or "
        f"such an attack breaks it. “{PARTLY.capitalize()}”: what lies between. An attack breaks a method where it "
        "names people clearly more often than blind guessing does. Attacks that need the secret of a run, or that look "
        "at the picture around the face, are told by themselves and do not count here. "
        "Where no attack was measured, only comparisons speak."
    )


def standing(results: Results) -> dict[str, list[str]]:
    """The labels of all methods by their word, the best word first. A method is as good as where it did worst."""
    worst_first = (FAILS, PARTLY, UNKNOWN, HOLDS)
    found: dict[str, str] = {}
    for run in results.runs:
        word = verdict(run, results.attacks)
        if word != BASE:
            found[run.label] = min(word, found.get(run.label, HOLDS), key=worst_first.index)
    return {word: [label for label, own in found.items() if own == word] for word in (HOLDS, PARTLY, FAILS, UNKNOWN)}


def recognition(group: Group) -> Iterator[str]:
    """Can people be recognised, and by whom: the recogniser on the originals, then each method."""
    judge = group.runs[0].judge
    if not math.isnan(judge.true_accepts):
        errs = "" if math.isnan(judge.false_accepts) else (
            f", and takes {percent(judge.false_accepts)} of pairs of two people for one")  # fmt: skip
        yield (
            f"On the untouched originals {judge.recogniser} (one person up to a distance of {judge.threshold:g}) "
            "matches "
            f"{percent(judge.true_accepts)} of pairs of one person{errs}.{_size(group.runs[0])}"
        )
    rates = [(rate, run.label) for run in group.runs if run.method != UNTOUCHED and (rate := recognised(run))]
    rates.sort(key=lambda pair: pair[0].value)
    shown = rates if len(rates) <= SHOWN else [*rates[: SHOWN // 2], None, *rates[-SHOWN // 2 :]]
    for pair in shown:
        left_out = f"{len(rates) - SHOWN} more lie between; the table below has them all."
        yield left_out if pair is None else f"{pair[1]}: {_of_people(pair[0], judge.false_accepts)}"


def broken(attacks: Sequence[Attack], anybody: bool = True) -> list[str]:
    """A sentence for every attack that works. anybody: those that anybody can try, or else those with a condition."""
    found: dict[str, list[Attack]] = {}
    for attack in sorted(
        (a for a in attacks if a.breaks and bool(a.condition) != anybody), key=lambda a: -_strength(a)
    ):
        found.setdefault(attack.name, []).append(attack)
    return [_breaks(name, own) for name, own in found.items()]


def withstood(attacks: Sequence[Attack]) -> list[str]:
    """A sentence for each attack that breaks some methods about those it does not, and one for all that break none."""
    names: dict[str, list[str]] = {}
    for attack in attacks:
        if not attack.breaks:
            names.setdefault(attack.name, []).append(attack.label)
    works = {attack.name for attack in attacks if attack.breaks}
    idle = [f"“{name}”" for name in names if name not in works]
    if len(idle) > 1:
        names = {name: own for name, own in names.items() if name in works}
        return [
            *withstood_by(names),
            f"The attacks {_listed(idle)} break none of the methods on which they were tried.",
        ]
    return withstood_by(names)


def withstood_by(names: Mapping[str, Sequence[str]]) -> list[str]:
    """A sentence for each attack. names: the methods that each does not break."""
    return [f"The attack “{name}” does not break {_listed(list(dict.fromkeys(own)))}." for name, own in names.items()]


def kept(results: Results) -> Iterator[str]:
    """What is kept of the pictures, one sentence for each useful thing: the best method and the worst."""
    runs = [run for run in results.runs if run.method != UNTOUCHED]
    names = useful(runs)
    plain = [name for name in names if all(figure.plain for run in runs if (figure := run.figure(name)))]
    for name in plain or names:
        figures = [(figure, run.label) for run in runs if (figure := run.figure(name)) and not math.isnan(figure.value)]
        best, worst = max(figures, key=lambda f: f[0].value), min(figures, key=lambda f: f[0].value)
        value, about = written(best[0].value, best[0].unit), _titled(best[0])
        if best[0].value == worst[0].value:
            yield f"{about}: {value} with {best[1] if len(figures) == 1 else 'each of them'}."
        else:
            yield f"{about}: {value} with {best[1]}, {written(worst[0].value, worst[0].unit)} with {worst[1]}."


def closest(runs: Iterable[Run]) -> list[tuple[str, float]]:
    """For each run with worst cases its label and the smallest distance, the smallest first."""
    found = [(run.label, min(worst.distance for worst in run.worst)) for run in runs if run.worst]
    return sorted(found, key=lambda pair: pair[1])


def _size(run: Run) -> str:
    """The number of cases, and a warning where they are few."""
    rate = recognised(run)
    if rate is None or not rate.count:
        return ""
    few = ", which is few: look at the intervals" if rate.count < FEW else ""
    return f" Rates are of {rate.count} cases{few}."


def _of_people(rate: Figure, strangers: float) -> str:
    within = interval(rate)
    said = f"{percent(rate.value)} are still recognised{f' ({within})' if within else ''}"
    if rate.low is not None and not math.isnan(strangers) and rate.low <= strangers:
        return f"{said}, which cannot be told from the recogniser's error on strangers."
    return f"{said}{_about(rate.value)}."


def _about(value: float) -> str:
    return f", about 1 in {round(1 / value)}" if 0 < value < 0.4 else ""


def _breaks(name: str, attacks: Sequence[Attack]) -> str:
    """One sentence about an attack; attacks: where it works, the strongest first."""
    who = _listed(list(dict.fromkeys(attack.label for attack in attacks)))
    how = f" {attacks[0].condition}" if attacks[0].condition else ""
    worst = f"at worst, with {attacks[0].label}, " if len(attacks) > 1 else ""
    return f"The attack “{name}” breaks {who}{how}: {worst}{_gains(attacks[0])}"


def _gains(attack: Attack) -> str:
    parts = [f"it names the right person for {percent(attack.rank1.value)} of faces (blind guessing: "
             f"{percent(attack.chance)})"] if not math.isnan(attack.rank1.value) else []  # fmt: skip
    if not math.isnan(attack.verification.value):
        price = f"({attack.verification.name})" if math.isnan(attack.far) else (
            f"where it errs on {percent(attack.far)} of strangers")  # fmt: skip
        parts.append(f"it confirms {percent(attack.verification.value)} of people {price}")
    return " and ".join(parts) + "."


def _strength(attack: Attack) -> float:
    return max((f.value for f in (attack.rank1, attack.verification) if not math.isnan(f.value)), default=0.0)


def _titled(figure: Figure) -> str:
    says = figure.meaning.rstrip(".")
    return f"{says} ({figure.name})" if says else figure.name


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


# --- figures


def recognised(run: Run) -> Figure | None:
    """The share of people that are still recognised after the method, with its interval; None where not measured."""
    telling = [f for f in run.figures if f.recognised and not math.isnan(f.value)]
    figure = min(telling, key=lambda f: f.recognised, default=None)
    if figure is None or figure.better != "higher":
        return figure
    low, high = (None if side is None else 1 - side for side in (figure.high, figure.low))
    return replace(figure, value=1 - figure.value, low=low, high=high, better="lower")


def useful(runs: Iterable[Run]) -> list[str]:
    """Names of what is kept, as numbers in [0, 1] of which more is better, in the order of the runs.

    Of two names for the same figure only the first is given.
    """
    runs = list(runs)
    meanings = {figure.name: figure.meaning for run in runs for figure in run.figures
                if figure.kind == UTILITY and figure.better == "higher" and figure.unit in (SHARE, INDEX)
                and not math.isnan(figure.value)}  # fmt: skip
    first: dict[tuple, str] = {}
    for name, meaning in meanings.items():
        values = (found and found.value for found in (run.figure(name) for run in runs))
        first.setdefault((meaning, *values), name)
    return list(first.values())


# --- numbers as text


def written(value: float | None, unit: str) -> str:
    """A value as text: a share in [0, 1] as per cent, others with four digits."""
    if value is None or math.isnan(value):
        return "not measured"
    return percent(value) if unit == SHARE and 0 <= value <= 1 else f"{value:.4g}"


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
    low, high = written(figure.low, figure.unit), written(figure.high, figure.unit)
    return f"{low.removesuffix(' %')} to {high}" if low.endswith("%") and high.endswith("%") else f"{low} to {high}"
