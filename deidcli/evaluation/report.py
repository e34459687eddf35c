"""Report: one folder with a page, its plots, a table and the results themselves."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from deidcli.errors import UsageError
from deidcli.evaluation.pages import sections
from deidcli.evaluation.pages.drawing import Plot, png
from deidcli.evaluation.pages.markup import Html, e, joined, page, section
from deidcli.evaluation.pages.plots import curve_plots, matrix_plot, slug, tradeoff_plots
from deidcli.evaluation.pages.summary import Group, groups
from deidcli.evaluation.results import Figure, Results, Run
from deidcli.evaluation.sheets import Tile, around, sheet
from deidcli.evaluation.sheets import png as sheet_png

PAGE, TABLE, PLOTS = "report.html", "figures.csv", "plots"
COLUMNS = ("what", "label", "method", "options", "preset", "protocol", "data", "split", "seed", "recogniser",
           "threshold", "figure", "value", "low", "high", "count", "better")  # fmt: skip
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
    worst = sorted(run.worst, key=lambda one: one.distance)[: sections.PAIRS]
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
    found = groups(results)
    tables = [sections.overview(group, results.attacks, number) for number, group in enumerate(found, 1)]
    panels = [_panels(group, drawn[group.key], len(found) > 1) for group in found]
    shown = [(run, sheets[id(run)]) for run in results.runs if id(run) in sheets]
    parts = {
        "In plain words": sections.summary(results, found),
        "All methods": joined(*tables),
        "Plots": joined(*panels),
        "Attacks": sections.attacks_table(results.attacks),
        "The closest calls": sections.closest_faces(shown),
        "Every run": joined(sections.details(run, results.attacks) for run in results.runs),
    }
    there = {title: inner for title, inner in parts.items() if inner}
    inner = (section(slug(title), title, part) for title, part in there.items())
    return page(TITLE, _header(results, bool(sheets), list(there)), *inner, _footer(results))


def _header(results: Results, faces: bool, titles: Sequence[str]) -> Html:
    warning = "This page shows original faces. Keep it as you keep the originals, and do not pass it on."
    return e(
        "header", _kicker(results), e("h1", TITLE),
        e("p", warning, class_="warn") if faces else None,
        e("nav", (e("a", title, href=f"#{slug(title)}") for title in titles), aria_label="Contents"),
    )  # fmt: skip


def _kicker(results: Results) -> Html:
    methods, judges = len({run.label for run in results.runs}), len({run.judge.recogniser for run in results.runs})
    words = [("method", methods), ("recogniser", judges), ("attack", len({a.name for a in results.attacks}))]
    said = [f"{count} {word}{'' if count == 1 else 's'}" for word, count in words]
    said += [results.made[:10]] if results.made else []
    spans = [e("span", text, class_="whole") for text in said]
    return e("p", spans[0], *(part for span in spans[1:] for part in (" · ", span)), class_="kicker")


def _panels(group: Group, found: Sequence[Plot], several: bool) -> Html | None:
    inner = sections.plots(found)
    return joined(e("h3", group.title) if several else None, inner) if inner else None


def _footer(results: Results) -> Html:
    versions = sorted({f"{run.version} {run.commit}".strip() for run in results.runs})
    made = (
        f"Made by deid {', '.join(versions)} from report.json beside this page; figures.csv holds every figure, plots/ "
    )
    return e("footer", e("p", made, "every plot. All intervals are of 95 %.", class_="note"))
