"""Plots: rates over thresholds, cumulative matches, what is kept against what is hidden, and confusion matrices."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from deidcli.evaluation.pages.drawing import Plot, canvas, legend
from deidcli.evaluation.pages.names import UNTOUCHED, percent, recognised, useful
from deidcli.evaluation.pages.style import FAINT, INK, PAPER, SERIES
from deidcli.evaluation.results import Curve, Figure, Matrix, Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST, POINTS = 8, 24  # lines and points in one panel: past that nobody can tell them apart
DASHES = ("-", (0, (5, 1.6)), (0, (1.2, 1.3)), (0, (6, 1.5, 1.2, 1.5)))  # lines differ by more than their colour
MARKS = "osD^vPX*"
FLOOR = 0.001  # the smallest share of people that a panel tells from none
ROOM = 14  # pixels at 100 to the inch: the width of a point
LONGEST = 46  # letters of a label in a legend


def curve_plots(runs: Sequence[Run], group: str) -> Iterator[Plot]:
    """For every curve that some run has a panel, or one for each method where there are too many lines.

    The untouched pictures stand in each, to compare with.
    """
    for name in dict.fromkeys(curve.name for run in runs for curve in run.curves):
        having = [run for run in runs if _curve(run, name)]
        for title, chosen in _panels(having):
            said = f"{name}: {title}" if title else name
            yield _curves(f"{group}-{slug(said)}", said, name, chosen)


def tradeoff_plots(runs: Sequence[Run], group: str) -> Iterator[Plot]:
    """A panel for each useful thing: how much of it is kept against how many people are still recognised."""
    for name in useful(runs):
        pairs = [(run, recognised(run), run.figure(name)) for run in runs]
        points = [(run, left, kept) for run, left, kept in pairs if left and kept and not np.isnan(kept.value)]
        for part in range(0, len(points) if len(points) > 1 else 0, POINTS):
            yield _tradeoff(f"{group}-kept-{slug(name)}{part or ''}", name, points[part : part + POINTS])


def matrix_plot(matrix: Matrix, name: str, title: str) -> Plot:
    """A confusion matrix; each row as shares of itself."""
    shares = row_shares(matrix)
    with canvas() as (figure, axes):
        axes.grid(False)
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        axes.set_xticks(range(len(matrix.columns)), matrix.columns, rotation=40, ha="right", fontsize=7.5)
        axes.set_yticks(range(len(matrix.rows)), matrix.rows, fontsize=7.5)
        axes.set(xlabel="told from the new face", ylabel="told from the original")
        for (row, column), share in np.ndenumerate(shares):
            colour = PAPER[0] if share > 0.55 else INK[0]
            axes.text(column, row, f"{100 * share:.0f}", ha="center", va="center", fontsize=7, color=colour)
    return Plot(name, title, f"{title}: per cent of each row", figure)


def row_shares(matrix: Matrix) -> np.ndarray:
    """The cells (rows, columns) as shares of their rows, in [0, 1]; zeros for an empty row."""
    cells = np.nan_to_num(np.array(matrix.cells, float).reshape(len(matrix.rows), len(matrix.columns)))
    return cells / np.maximum(cells.sum(axis=1, keepdims=True), 1e-12)


def slug(text: str) -> str:
    """A name for a file and an id: small letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "plot"


def _panels(runs: Sequence[Run]) -> Iterator[tuple[str, list[Run]]]:
    base = [run for run in runs if run.method == UNTOUCHED][:1]
    others = [run for run in runs if run not in base]
    if len(others) <= MOST:
        yield "", base + others
        return
    families: dict[str, list[Run]] = {}
    for run in others:
        families.setdefault(run.method, []).append(run)
    for method, members in families.items():
        for start in range(0, len(members), MOST):
            yield f"{method}{f' ({start // MOST + 1})' if start else ''}", base + members[start : start + MOST]


def _curve(run: Run, name: str) -> Curve | None:
    return next((curve for curve in run.curves if curve.name == name and curve.x), None)


def _curves(file: str, title: str, name: str, runs: Sequence[Run]) -> Plot:
    said, number = [], 0
    with canvas(len(runs) + 1) as (figure, axes):
        for run in runs:
            curve = _curve(run, name)
            assert curve is not None
            base = run.method == UNTOUCHED
            _line(axes, curve, _short(run.label), FAINT[0] if base else SERIES[number % len(SERIES)][0], number, base)
            number += not base
            said.append(f"{run.label} from {curve.y[0]:.2f} to {curve.y[-1]:.2f}")
        axes.set(title=title, xlabel=curve.xlabel, ylabel=curve.ylabel)
        if max(max(_curve(run, name).y) for run in runs) <= 1:
            axes.set_ylim(-0.02, 1.02)
        if all(float(x).is_integer() for x in curve.x):
            axes.xaxis.get_major_locator().set_params(integer=True)
        _operating(axes, runs[0], curve)
        legend(figure, axes)
    return Plot(file, title, f"{title}, from left to right: {'; '.join(said)}.", figure)


def _line(axes: Axes, curve: Curve, label: str, colour: str, number: int, base: bool) -> None:
    dash = (0, (1, 1.5)) if base else DASHES[number % len(DASHES)]
    mark = {"marker": MARKS[number % len(MARKS)], "markersize": 4} if len(curve.x) <= 12 else {}
    axes.plot(curve.x, curve.y, color=colour, linestyle=dash, linewidth=1.8, label=label, **mark)
    if curve.low and curve.high:
        axes.fill_between(curve.x, curve.low, curve.high, color=colour, alpha=0.15, linewidth=0)


def _operating(axes: Axes, run: Run, curve: Curve) -> None:
    """The recogniser's own threshold, where the curve is over thresholds."""
    label = f"{run.judge.recogniser}'s threshold, {run.judge.threshold:g}"
    if curve.xlabel.endswith("threshold"):  # in the recogniser's own unit, which CLEANIR's eta is not
        axes.axvline(run.judge.threshold, color=INK[0], linewidth=0.9, label=label)


def _tradeoff(file: str, name: str, points: Sequence[tuple[Run, Figure, Figure]]) -> Plot:
    said = []
    methods = list(dict.fromkeys(run.method for run, _, _ in points if run.method != UNTOUCHED))
    with canvas(len(points)) as (figure, axes):
        for number, (run, hidden, kept) in enumerate(points, 1):
            family = methods.index(run.method) if run.method in methods else -1
            colour = FAINT[0] if family < 0 else SERIES[family % len(SERIES)][0]
            x, y = max(hidden.value, FLOOR), kept.value
            axes.errorbar([x], [y], yerr=_sides(kept), xerr=_sides(hidden, FLOOR), fmt="o", markersize=10.5,
                          color=colour, elinewidth=1.6, label=f"{number}  {_short(run.label)}")  # fmt: skip
            said.append(f"{run.label} leaves {percent(hidden.value)} recognised and keeps {y:.3g}")
        axes.set(title=name, xlabel="people still recognised (better to the right)", ylabel=f"{name}, kept")
        axes.margins(y=0.15)
        _rates(axes)
        _numbers(axes, [(max(left.value, FLOOR), kept.value) for _, left, kept in points])
        legend(figure, axes)
    return Plot(file, name, f"{name} against people still recognised: {'; '.join(said)}.", figure)


def _numbers(axes: Axes, points: Sequence[tuple[float, float]]) -> None:
    """The number of each point on it; of points that hide each other the later ones' numbers stand to the left."""
    taken: list[np.ndarray] = []
    for number, point in enumerate(points, 1):
        place, shift = axes.transData.transform(point), 0
        while any(np.abs(place + (shift, 0) - other).max() < ROOM for other in taken):
            shift -= ROOM
        taken.append(place + (shift, 0))
        axes.annotate(str(number), point, (shift * 72 / axes.figure.dpi, 0), textcoords="offset points", ha="center",
                      va="center_baseline", fontsize=7.5, color=INK[0] if shift else PAPER[0],
                      fontweight="bold", zorder=5)  # fmt: skip


def _rates(axes: Axes) -> None:
    """An axis of shares from all to next to none; by its logarithm, because 1 in 100 and 1 in 1000 differ as much."""
    ticks = (1, 0.3, 0.1, 0.03, 0.01, 0.003, FLOOR)
    axes.set_xscale("log")
    axes.set_xlim(1.4, FLOOR / 1.4)
    axes.set_xticks(ticks, [f"{100 * tick:g} %" for tick in ticks[:-1]] + [f"≤ {100 * FLOOR:g} %"])
    axes.minorticks_off()


def _sides(figure: Figure, floor: float = -np.inf) -> np.ndarray | None:
    """How far the interval reaches below and above (2, 1), as matplotlib wants it, down to `floor`."""
    if figure.low is None or figure.high is None or np.isnan([figure.low, figure.high]).any():
        return None
    low, value, high = (max(number, floor) for number in (figure.low, figure.value, figure.high))
    return np.maximum([[value - low], [high - value]], 0)


def _short(label: str) -> str:
    return label if len(label) <= LONGEST else f"{label[: LONGEST - 1]}…"
