"""Pictures of closed sets: rank-1 over k with its bound, CMC, confusions, and sheets with a row a method.

They are drawn of the runs that were measured (Meden et al. 2018, Figures 7 to 11). The sheets show people.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from deidcli.evaluation.bench import Bench, Subject
from deidcli.evaluation.pages.drawing import canvas, legend, png
from deidcli.evaluation.pages.plots import DASHES, MARKS, curve_plots, matrix_plot, slug
from deidcli.evaluation.pages.style import FAINT, INK, SERIES
from deidcli.evaluation.protocols.closed_sets import LOOKS, Pair, written
from deidcli.evaluation.protocols.plan import Plan
from deidcli.evaluation.results import Run
from deidcli.faces.align import align
from deidcli.values import CropSpec

SHOWN, LABEL = 8, 110  # people of a sheet, and pixels for the names of its rows
CROP = CropSpec(size=144, margin=0.4)


def draw(runs: Sequence[Run], bench: Bench, subjects: Sequence[Subject], plan: Plan, folder: Path) -> None:
    """Write all that can be drawn of the runs as PNG into `folder`. Raises MissingDependency without matplotlib."""
    folder.mkdir(parents=True, exist_ok=True)
    for look in LOOKS:
        if any(run.figure(f"rank-1 {look}") for run in runs):
            _ranks(runs, look, folder / f"rank-1-{slug(look)}.png")
    for plot in curve_plots(runs, "closed"):
        (folder / f"{plot.name}.png").write_bytes(png(plot.drawn))
    for run in runs:
        for matrix in run.matrices:
            name = slug(f"{matrix.name} {run.label}")
            (folder / f"{name}.png").write_bytes(png(matrix_plot(matrix, name, run.label).drawn))
    sheet(bench, subjects, plan).save(folder / "sheet.png")


def _ranks(runs: Sequence[Run], look: str, path: Path) -> None:
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
        made = written(bench, one, plan.draws[0], 0)
        if not rows:
            rows.append(("original", _faces(made.people, [(o.frame, o.face) for o in made.before])))
        rows.append((one.label, _faces(made.people, made.pairs)))
    people = [who for who in plan.draws[0].people if all(who in row for _, row in rows)][:: max(1, 50 // SHOWN)][:SHOWN]
    side = CROP.size or 1
    page = Image.new("RGB", (LABEL + side * len(people), side * len(rows)), "white")
    for number, (name, faces) in enumerate(rows):
        text = name.replace(":", "\n")
        ImageDraw.Draw(page).text((6, number * side + side / 2), text, INK[0], ImageFont.load_default(13), anchor="lm")
        for column, who in enumerate(people):
            page.paste(Image.fromarray(faces[who]), (LABEL + column * side, number * side))
    return page


def _faces(people: Sequence[str], pairs: Sequence[Pair]) -> dict[str, np.ndarray]:
    return {who: align(frame, face, CROP).pixels for who, (frame, face) in zip(people, pairs, strict=True)}
