"""Sections: the parts of the report, each made of results."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterator, Sequence

from deidcli.evaluation.pages import summary as words
from deidcli.evaluation.pages.drawing import Plot, svg
from deidcli.evaluation.pages.markup import Child, Html, e, joined, scrolling, table
from deidcli.evaluation.pages.names import (
    COST,
    PRIVACY,
    UNTOUCHED,
    UTILITY,
    condition,
    interval,
    meaning,
    percent,
    recognised,
    written,
)
from deidcli.evaluation.pages.plots import row_shares
from deidcli.evaluation.pages.summary import LOOKS, Group, attacks_on, verdict
from deidcli.evaluation.results import Attack, Figure, Matrix, Results, Run

PAIRS = 12  # of a contact sheet
ARROWS = {"lower": ("↓", "lower is better"), "higher": ("↑", "higher is better")}


def summary(results: Results, groups: Sequence[Group]) -> Html:
    """The answers, before any table."""
    seen = [e("h3", "Can people be recognised, and by whom?"), *(_recognition(group) for group in groups)]
    attacked = _attacked(results.attacks)
    useful = list(words.kept(results))
    lowest = [f"{label}: the closest new face is {distance:.2f} from its original." for label, distance in
              words.closest(results.runs)[:3]]  # fmt: skip
    return joined(
        _cards(results), seen, attacked,
        [e("h3", "What is kept of the pictures?"), _list(useful)] if useful else None,
        [e("h3", "Which faces are the closest calls?"), _list(lowest)] if lowest else None,
        e("p", words.rule(), class_="note"),
        e("p", "These are measurements of the recognisers and attacks named here, on the people of these data. Another "
               "recogniser, an attack that nobody has tried, or a friend who knows the clothes may do better.",
          class_="note"),
    )  # fmt: skip


def overview(group: Group, attacks: Sequence[Attack], number: int) -> Html:
    """One table of all methods: how well each hides people, and what it keeps."""
    names = list(dict.fromkeys(figure.name for run in group.runs for figure in run.figures))
    order = [name for kind in (PRIVACY, UTILITY, COST, "other") for name in names if meaning(name).kind == kind]
    head: list[Child] = [
        "Method",
        "Verdict",
        "Still recognised",
        "Best attack: rank 1",
        *map(_heading, _given(order, group)),
    ]
    rows = [[run.label, tag(verdict(run, attacks)), _bar(recognised(run)), _best_attack(run, attacks),
             *(_value(run.figure(name)) for name in order)] for run in group.runs]  # fmt: skip
    return joined(e("h3", group.title, id=f"methods-{number}"), table(head, rows, group.title, hidden=True))


def plots(found: Sequence[Plot]) -> Html | None:
    """Panels side by side."""
    return e("div", (_plot(plot) for plot in found), class_="plots") if found else None


def attacks_table(attacks: Sequence[Attack]) -> Html | None:
    """Every attack on every method."""
    if not attacks:
        return None
    head = ["Attack", "On", "Result", "Rank 1", "Blind guessing", "Verification", "What was done"]
    rows: list[list[Child]] = [
        [a.name, a.label, tag(_outcome(a)), _value(a.rank1), percent(a.chance),
         [_value(a.verification), e("small", a.verification.name)], e("span", a.note, class_="words")]
        for a in sorted(attacks, key=lambda a: (a.method == UNTOUCHED, not a.breaks))
    ]  # fmt: skip
    return table(head, rows, "Attacks, those that work first")


def closest_faces(sheets: Sequence[tuple[Run, bytes]]) -> Html | None:
    """The faces of each run that are still closest to their originals; those of the closest run unfolded."""
    ordered = sorted(sheets, key=lambda pair: min(worst.distance for worst in pair[0].worst))
    folded = (e("details", _title(run), _sheet(run, sheet), open=not number)
              for number, (run, sheet) in enumerate(ordered))  # fmt: skip
    return joined(folded) if sheets else None


def _outcome(attack: Attack) -> str:
    return words.BASE if attack.method == UNTOUCHED else "broken" if attack.breaks else "withstood"


def details(run: Run, attacks: Sequence[Attack]) -> Html:
    """All that is known of one run, folded up."""
    options = ", ".join(f"{key} {_plain(value)}" for key, value in run.options.items())
    facts = {
        "Method": f"{run.method} ({options})" if options else run.method, "Preset": run.preset,
        "Weights": run.checksum, "Protocol": run.protocol, "Data": f"{run.data} {run.split}".strip(),
        "Recogniser": f"{run.judge.recogniser}, one person up to {run.judge.threshold:g}",
        "Seed": "secret" if run.seed is None else str(run.seed), "Version": f"{run.version} {run.commit}".strip(),
        "Time": "" if math.isnan(run.seconds) else f"{run.seconds:.1f} s for all pictures",
    }  # fmt: skip
    listed = e("dl", ((e("dt", name), e("dd", value)) for name, value in facts.items() if value))
    figures = [
        [f.name, _value(f), str(f.count or ""), _direction(f), e("span", meaning(f.name).says, class_="words")]
        for f in run.figures
    ]
    numbers = table(
        ["Figure", "Value", "Cases", "Better", "What it counts"], figures, f"Figures of {run.label}", hidden=True
    )
    return e(
        "details", _title(run, tag(verdict(run, attacks_on(run, attacks)))),
        listed, numbers if figures else None, (_matrix(matrix) for matrix in run.matrices),
    )  # fmt: skip


def tag(word: str) -> Html:
    """A word with its sign and colour."""
    colour, sign = {**LOOKS, "broken": ("bad", "○"), "withstood": ("good", "●")}[word]
    return e("span", e("span", sign, aria_hidden="true"), f" {word}", class_=f"tag {colour}")


def _title(run: Run, *more: Html) -> Html:
    return e("summary", run.label, " ", *more, e("small", f"{run.protocol}, seen by {run.judge.recogniser}"))


def _plain(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _cards(results: Results) -> Html:
    """Which methods protect, at one glance."""
    found = {word: labels for word, labels in words.standing(results).items() if labels}
    cards = (
        e("li", tag(word), e("strong", str(len(labels))), e("p", ", ".join(labels))) for word, labels in found.items()
    )
    return e("ul", cards, class_="cards") if found else e("p", "Nothing but untouched pictures was measured.")


def _recognition(group: Group) -> Html:
    return joined(e("p", e("strong", group.title)), _list(list(words.recognition(group))))


def _attacked(attacks: Sequence[Attack]) -> Html:
    title = e("h3", "Which attacks work?")
    if not attacks:
        return joined(title, e("p", "No attack was measured; the rates above are those of plain comparisons."))
    attacks = [attack for attack in attacks if attack.method != UNTOUCHED]
    works, told, fails = words.broken(attacks), words.broken(attacks, anybody=False), words.withstood(attacks)
    first = _list(works, "works") if works else e("p", "None of those measured that anybody can try.")
    return joined(title, first, *(_list(lines) for lines in (told, fails) if lines))


def _list(lines: Sequence[str], style: str | None = None) -> Html:
    return e("ul", (e("li", line) for line in lines), class_=style)


def _given(names: Sequence[str], group: Group) -> list[Figure]:
    return [next(f for run in group.runs if (f := run.figure(name))) for name in names]


def _heading(figure: Figure) -> Child:
    return [figure.name, " ", _direction(figure)]


def _direction(figure: Figure) -> Html:
    sign, says = ARROWS.get(figure.better, ("", ""))
    return e("span", e("span", sign, aria_hidden="true"), e("span", says, class_="unseen")) if sign else Html("")


def _value(figure: Figure | None) -> Html:
    if figure is None:
        return e("span", "–", class_="none")
    within = interval(figure)
    return joined(written(figure.value, figure.name), e("small", within) if within else None)


def _bar(rate: Figure | None) -> Html:
    """The share as a bar with its interval; the number says the same."""
    if rate is None:
        return e("span", "not measured", class_="none")
    low, high = (side if side is not None and not math.isnan(side) else rate.value for side in (rate.low, rate.high))
    parts = e("i", style=f"width:{100 * rate.value:.1f}%"), e(
        "b", style=f"left:{100 * low:.1f}%;width:{max(100 * (high - low), 1):.1f}%")  # fmt: skip
    return joined(percent(rate.value), e("span", *parts, class_="bar", aria_hidden="true"), e("small", interval(rate)))


def _best_attack(run: Run, attacks: Sequence[Attack]) -> Html:
    found = [a for a in attacks_on(run, attacks) if not math.isnan(a.rank1.value)]
    if not found:
        return e("span", "–", class_="none")
    best = max(found, key=lambda a: (a.breaks and not condition(a), a.rank1.value))
    return joined(percent(best.rank1.value), e("small", f"{best.name}; chance {percent(best.chance)}"))


def _plot(plot: Plot) -> Html:
    return e("figure", svg(plot), e("figcaption", plot.says, id=f"{plot.name}-says", class_="unseen"))


def _matrix(matrix: Matrix) -> Html:
    shares = row_shares(matrix)

    def rows() -> Iterator[list[Child]]:
        for name, counts, own in zip(matrix.rows, matrix.cells, shares, strict=True):
            yield [name, *(_cell(count, share) for count, share in zip(counts, own, strict=True))]

    # The cells carry their shade themselves, which `table` does not know.
    body = (e("tr", e("th", name, scope="row"), cells) for name, *cells in rows())
    head = e("tr", (e("th", name, scope="col") for name in ("original ↓ new →", *matrix.columns)))
    inner = e("table", e("caption", f"{matrix.name}: cases, shaded by their share of the row"), e("thead", head),
              e("tbody", body), class_="heat")  # fmt: skip
    return scrolling(inner, matrix.name)


def _cell(count: float, share: float) -> Html:
    return e("td", f"{count:g}", style=f"--p:{100 * share:.0f}", class_="deep" if share > 0.55 else None)


def _sheet(run: Run, sheet: bytes) -> Html:
    data = base64.b64encode(sheet).decode()
    count = min(len(run.worst), PAIRS)
    says = f"{count} pairs of original and new face of {run.label}, the closest to their originals first"
    image = scrolling(e("img", src=f"data:image/png;base64,{data}", alt=says), f"Closest faces of {run.label}")
    return e("figure", image, e("figcaption", f"{says}."), class_="sheet")
