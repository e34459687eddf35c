"""Reports: results as a page that people read, with plots, tables and a summary in plain words; and as tables of text.

Pages are Jinja2 templates (`templates/`), each one self-contained file without scripts; plots are matplotlib's.
"""

from __future__ import annotations

import base64
import csv
import io
import math
from collections.abc import Iterator, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deidcli.errors import MissingDependency, UsageError
from deidcli.evaluation.report import summary
from deidcli.evaluation.report.plots import (
    Plot,
    colours,
    curve_plots,
    matrix_plot,
    png,
    row_shares,
    slug,
    svg,
    tradeoff_plots,
)
from deidcli.evaluation.report.sheets import Tile, around, sheet
from deidcli.evaluation.report.sheets import png as sheet_png
from deidcli.evaluation.report.summary import LOOKS, UNTOUCHED, Group, groups, interval, percent, written
from deidcli.evaluation.results import COST, OTHER, PRIVACY, UTILITY, Attack, Figure, Matrix, Results, Run

if TYPE_CHECKING:
    from jinja2 import Environment


PAGE, TABLE, PLOTS = "report.html", "figures.csv", "plots"
COLUMNS = ("what", "label", "method", "options", "preset", "protocol", "data", "split", "seed", "recogniser",
           "threshold", "figure", "value", "low", "high", "count", "better")  # fmt: skip
PAIRS = 12  # of a contact sheet
TITLE = "How well are faces protected?"


def write_report(results: Results, folder: Path, faces: bool = True) -> Path:
    """Write report.html, report.json, figures.csv and plots/*.png into `folder`; the path of the page.

    faces: whether the page shows the worst cases as pictures, originals beside outputs; such a page is as sensitive as
    the originals are. Raises MissingDependency without matplotlib, UsageError for a folder that cannot be written.
    """
    drawn = {group.key: _drawn(group) for group in groups(results)}
    sheets = {id(run): _sheet(run) for run in results.runs if faces and run.worst}
    try:
        (folder / PLOTS).mkdir(parents=True, exist_ok=True)
        for plot in (plot for found in drawn.values() for plot in found):
            (folder / PLOTS / f"{plot.name}.png").write_bytes(png(plot.drawn))
        for name, drawing in _pictures(results, sheets):
            (folder / PLOTS / f"{name}.png").write_bytes(drawing)
        (folder / TABLE).write_text(figures_csv(results), encoding="utf-8", errors="replace", newline="")
        results.save(folder)
        (folder / PAGE).write_text(_page(results, drawn, sheets), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{folder}: the report cannot be written: {error.strerror}", "name another folder") from error
    return folder / PAGE


def figures_csv(results: Results) -> str:
    """Every figure as a row, those of attacks too; an empty field for what was not measured."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, restval="")
    writer.writeheader()
    for run in results.runs:
        for figure in run.figures:
            writer.writerow({"what": "figure", **_of_run(run), **_of_figure(figure, figure.name)})
    for attack in results.attacks:
        own = {"what": "attack", "label": attack.label, "method": attack.method}
        for part, figure in (
            ("rank 1", attack.rank1),
            (f"verification, {attack.verification.name}", attack.verification),
        ):
            writer.writerow({**own, **_of_figure(figure, f"{attack.name}: {part}")})
    return text.getvalue()


def _of_run(run: Run) -> dict[str, Any]:
    options = " ".join(f"{key}={value}" for key, value in run.options.items())
    return {"label": run.label, "method": run.method, "options": options, "preset": run.preset, "seed": run.seed,
            "protocol": run.protocol, "data": run.data, "split": run.split, "recogniser": run.judge.recogniser,
            "threshold": run.judge.threshold}  # fmt: skip


def _of_figure(figure: Figure, name: str) -> dict[str, Any]:
    numbers = {key: getattr(figure, key) for key in ("value", "low", "high")}
    known = {key: "" if value is None or math.isnan(value) else value for key, value in numbers.items()}
    return {"figure": name, **known, "count": figure.count, "better": figure.better}


def _drawn(group: Group) -> list[Plot]:
    return [*tradeoff_plots(group.runs, group.key), *curve_plots(group.runs, group.key)]


def _sheet(run: Run) -> bytes:
    worst = sorted(run.worst, key=lambda one: one.distance)[:PAIRS]
    pairs = ((one, around(Path(one.before)), around(Path(one.after))) for one in worst)
    return sheet_png(
        sheet([Tile(before, after, one.name, f"distance {one.distance:.2f}") for one, before, after in pairs], 3)
    )


def _pictures(results: Results, sheets: dict[int, bytes]) -> Iterator[tuple[str, bytes]]:
    for number, run in enumerate(results.runs, 1):
        for matrix in run.matrices:
            name = slug(f"{number} {run.label} {matrix.name}")
            yield name, png(matrix_plot(matrix, name, f"{run.label}: {matrix.name}").drawn)
        if id(run) in sheets:
            yield slug(f"{number} {run.label} worst"), sheets[id(run)]


def _page(results: Results, drawn: dict[str, list[Plot]], sheets: dict[int, bytes]) -> str:
    from markupsafe import Markup

    found = groups(results)
    panels = [(group, drawn[group.key]) for group in found if drawn[group.key]]
    shown = sorted(
        (run for run in results.runs if id(run) in sheets), key=lambda run: min(w.distance for w in run.worst)
    )
    contents = {"In plain words": True, "All methods": found, "Plots": panels, "Attacks": results.attacks,
                "The closest calls": shown, "Every run": results.runs}  # fmt: skip
    return render(
        "report.html",
        title=TITLE,
        results=results,
        groups=found,
        panels=panels,
        sheets=[(run, base64.b64encode(sheets[id(run)]).decode()) for run in shown],
        contents=[title for title, there in contents.items() if there],
        kicker=_kicker(results),
        protected=[attack for attack in results.attacks if attack.method != UNTOUCHED],
        sorted_attacks=sorted(results.attacks, key=lambda a: (a.method == UNTOUCHED, not a.breaks)),
        closest=summary.closest(results.runs)[:3],
        versions=sorted({f"{run.version} {run.commit}".strip() for run in results.runs}),
        words=summary,
        best_attack=lambda run: _best_attack(run, results.attacks),
        columns=_columns,
        facts=_facts,
        matrix_rows=_matrix_rows,
        most_pairs=PAIRS,
        outcome=_outcome,
        sides=_sides,
        slug=slug,
        svg=lambda plot: Markup(svg(plot)),
    )


def _kicker(results: Results) -> list[str]:
    """How much was measured, and when."""
    methods, judges = len({run.label for run in results.runs}), len({run.judge.recogniser for run in results.runs})
    words = [("method", methods), ("recogniser", judges), ("attack", len({a.name for a in results.attacks}))]
    said = [f"{count} {word}{'' if count == 1 else 's'}" for word, count in words]
    return said + ([results.made[:10]] if results.made else [])


def _columns(group: Group) -> list[Figure]:
    """The figures of a group's table, one of each name, by their kinds."""
    first: dict[str, Figure] = {}
    for run in group.runs:
        for figure in run.figures:
            first.setdefault(figure.name, figure)
    return [figure for kind in (PRIVACY, UTILITY, COST, OTHER) for figure in first.values() if figure.kind == kind]


def _best_attack(run: Run, attacks: Sequence[Attack]) -> Attack | None:
    found = [a for a in summary.attacks_on(run, attacks) if not math.isnan(a.rank1.value)]
    return max(found, key=lambda a: (a.breaks and not a.condition, a.rank1.value), default=None)


def _outcome(attack: Attack) -> str:
    return summary.BASE if attack.method == UNTOUCHED else "broken" if attack.breaks else "withstood"


def _sides(rate: Figure) -> tuple[float, float]:
    """The interval of a share, or the share itself twice."""
    low, high = (side if side is not None and not math.isnan(side) else rate.value for side in (rate.low, rate.high))
    return low, high


def _matrix_rows(matrix: Matrix) -> Iterator[tuple[str, list[tuple[float, float]]]]:
    """(name, (count, share of the row) of each cell) of each row."""
    for name, counts, shares in zip(matrix.rows, matrix.cells, row_shares(matrix), strict=True):
        yield name, list(zip(counts, shares.tolist(), strict=True))


def _facts(run: Run) -> dict[str, str]:
    """What was run on what; empty where there is nothing to say."""
    options = ", ".join(f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}"
                        for key, value in run.options.items())  # fmt: skip
    return {
        "Method": f"{run.method} ({options})" if options else run.method, "Preset": run.preset,
        "Weights": run.checksum, "Protocol": run.protocol, "Data": f"{run.data} {run.split}".strip(),
        "Recogniser": f"{run.judge.recogniser}, one person up to {run.judge.threshold:g}",
        "Seed": "secret" if run.seed is None else str(run.seed), "Version": f"{run.version} {run.commit}".strip(),
        "Time": "" if math.isnan(run.seconds) else f"{run.seconds:.1f} s for all pictures",
    }  # fmt: skip


ARROWS = {"lower": ("↓", "lower is better"), "higher": ("↑", "higher is better")}


def render(template: str, **context: Any) -> str:
    """The page of a template of this package."""
    return environment().get_template(template).render(**context)


@cache
def environment() -> Environment:
    """Jinja2 with this package's templates, and what all of them use. Raises MissingDependency without Jinja2."""
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
        from markupsafe import Markup
    except ImportError as error:
        raise MissingDependency("a report needs Jinja2", "run `pip install deidcli[eval]`") from error
    loader = PackageLoader("deidcli.evaluation.report", "templates")
    made = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=_sound
    )
    looks = {**LOOKS, "broken": ("bad", "○"), "withstood": ("good", "●")}
    made.globals.update(
        arrows=ARROWS, colours=lambda night: Markup(colours(night)), css=Markup(_css()), interval=interval,
        looks=looks, percent=percent, written=written,
    )  # fmt: skip
    return made


def _css() -> str:
    return (resources.files("deidcli.evaluation.report") / "templates" / "style.css").read_text(encoding="utf-8")


def _sound(value: Any) -> Any:
    """Text as a page can hold it: a name that is no UTF-8 holds surrogates; a number and its % stay together."""
    if value is None:
        return ""
    if not isinstance(value, str) or hasattr(value, "__html__"):
        return value
    return value.encode("utf-8", "replace").decode().replace(" %", "\u00a0%")
