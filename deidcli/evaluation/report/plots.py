"""Plots: rates over thresholds, cumulative matches, what is kept against what is hidden, and confusion matrices.

Drawn by matplotlib, as SVG within a page, which follows its colours by day and night, and as PNG.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from deidcli.errors import MissingDependency
from deidcli.evaluation.report.summary import UNTOUCHED, percent, recognised, useful
from deidcli.evaluation.results import Curve, Figure, Matrix, Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawn

# By day and by night, alike in hue; each has a contrast of 3 and more with the page (WCAG 1.4.11).
SERIES = (
    ("#2f6ea8", "#6fb1e8"), ("#c0562b", "#f0925f"), ("#3a7d44", "#7cc588"), ("#8a4d9e", "#c793da"),
    ("#9a7b00", "#d9bd4a"), ("#1d7f86", "#5cc4cb"), ("#b03a5b", "#ef8aa6"), ("#5d6470", "#a8b0bd"),
)  # fmt: skip
INK, FAINT, PAPER, RULE = ("#1d2126", "#e8e6e1"), ("#5b616b", "#a5abb5"), ("#fcfbf8", "#15181c"), ("#d8d5cd", "#363b43")
_NAMED = {"ink": INK, "faint": FAINT, "paper": PAPER, "rule": RULE, "card": ("#f3f1eb", "#1d2127"),
          "good": ("#256b43", "#80cb9d"), "fair": ("#825500", "#e2b75f"), "bad": ("#a32f20", "#f49a89"),
          "link": ("#1f5c94", "#8dbfec")}  # fmt: skip


def colours(night: bool) -> str:
    """The colours as custom properties of CSS."""
    named = {**_NAMED, **{f"s{number}": pair for number, pair in enumerate(SERIES, 1)}}
    return "".join(f"--{name}:{pair[night]};" for name, pair in named.items())


WIDTH, HEIGHT = 4.4, 3.3  # inches of a panel, so that its text is as large as the page's where it fills a column
_DAY = {"ink": INK[0], "faint": FAINT[0], "paper": PAPER[0], "rule": RULE[0]}
_DAY |= {f"s{number}": day for number, (day, _) in enumerate(SERIES, 1)}
# Read where a drawing is saved, not where it is made.
_SAVED: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": "deid"}
_RC: dict[Any, Any] = {
    **_SAVED, "font.size": 9, "font.family": "sans-serif", "text.color": INK[0], "axes.labelcolor": INK[0],
    "axes.edgecolor": FAINT[0], "axes.linewidth": 0.8, "axes.facecolor": "none", "figure.facecolor": PAPER[0],
    "xtick.color": FAINT[0], "ytick.color": FAINT[0], "xtick.labelcolor": INK[0], "ytick.labelcolor": INK[0],
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": RULE[0],
    "grid.linewidth": 0.7, "legend.frameon": False, "legend.fontsize": 8.5, "axes.titlesize": 9.5,
    "axes.titlelocation": "left", "axes.titleweight": "bold",
}  # fmt: skip


@dataclass(frozen=True)
class Plot:
    """A panel. name: of its file. title: above it. says: what it shows, for its caption and who cannot see it."""

    name: str
    title: str
    caption: str
    drawn: Drawn


@contextmanager
def canvas(entries: int = 0) -> Iterator[tuple[Drawn, Axes]]:
    """An empty panel with room for a legend of so many lines. Raises MissingDependency without matplotlib."""
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependency("a report needs matplotlib", "run `pip install deidcli[eval]`") from error
    with rc_context(_RC):
        figure = Figure(figsize=(WIDTH, HEIGHT + 0.2 * entries), layout="constrained")
        yield figure, figure.subplots()


def legend(figure: Drawn, axes: Axes) -> None:
    """The legend below the panel, a line an entry: labels may be long."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower left", borderaxespad=0.2, handlelength=2.6, markerscale=0.65)


def png(drawn: Drawn) -> bytes:
    """The bytes of a PNG, by day."""
    return _saved(drawn, "png", dpi=160)


def svg(plot: Plot) -> str:
    """The panel as an element; its colours are the page's."""
    text = _saved(plot.drawn, "svg", transparent=True).decode()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.S)
    # A page holds many: an id must be of one only.
    text = re.sub(r'\b(id="|href="#|url\(#)', lambda found: f"{found[1]}{plot.name}-", text)
    for name, day in _DAY.items():
        text = re.sub(f"{day}\\b", f"var(--{name})", text)
    text = re.sub(r"font: (?:\w+ )*?([\d.]+px) [^;\"]*", r"font-size: \1; font-family: inherit", text)
    text = re.sub(
        r'(<svg [^>]*?) width="[\d.]+pt"', rf'\1 role="img" aria-labelledby="{plot.name}-says"', text, count=1
    )
    text = re.sub(r'(<svg [^>]*?) height="[\d.]+pt"', r"\1", text, count=1)
    return re.sub(r"<style[^>]*>.*?</style>", "", text, flags=re.S)


def _saved(drawn: Drawn, kind: str, **options: Any) -> bytes:
    from matplotlib import rc_context

    held = io.BytesIO()
    metadata = {"Date": None} if kind == "svg" else {"Software": None}
    with rc_context(_SAVED):
        drawn.savefig(held, format=kind, metadata=metadata, **options)
    return held.getvalue()


# --- what is drawn

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
    """The curve called `name`, None where the run has none or it is empty."""
    return next((curve for curve in run.curves if curve.name == name and curve.x), None)


def _curves(file: str, title: str, name: str, runs: Sequence[Run]) -> Plot:
    said, number = [], 0
    with canvas(len(runs) + 1) as (figure, axes):
        drawn = [(run, curve) for run in runs if (curve := _curve(run, name))]
        for run, curve in drawn:
            base = run.method == UNTOUCHED
            _line(axes, curve, _short(run.label), FAINT[0] if base else SERIES[number % len(SERIES)][0], number, base)
            number += not base
            said.append(f"{run.label} from {curve.y[0]:.2f} to {curve.y[-1]:.2f}")
        last = drawn[-1][1]
        axes.set(title=title, xlabel=last.xlabel, ylabel=last.ylabel)
        if max(max(curve.y) for _, curve in drawn) <= 1:
            axes.set_ylim(-0.02, 1.02)
        if all(float(x).is_integer() for x in last.x):
            axes.locator_params(axis="x", integer=True)
        _operating(axes, runs[0], last)
        legend(figure, axes)
    return Plot(file, title, f"{title}, from left to right: {'; '.join(said)}.", figure)


def _line(axes: Axes, curve: Curve, label: str, colour: str, number: int, base: bool) -> None:
    dash = (0, (1, 1.5)) if base else DASHES[number % len(DASHES)]
    mark: dict[str, Any] = {"marker": MARKS[number % len(MARKS)], "markersize": 4} if len(curve.x) <= 12 else {}
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
