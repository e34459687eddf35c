"""Drawing: matplotlib's figures as SVG within a page, which follows its colours by day and night, and as PNG."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deidcli.errors import MissingDependency
from deidcli.evaluation.pages.markup import Html
from deidcli.evaluation.pages.style import FAINT, INK, PAPER, RULE, SERIES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawn

WIDTH, HEIGHT = 4.4, 3.3  # inches of a panel, so that its text is as large as the page's where it fills a column
_DAY = {"ink": INK[0], "faint": FAINT[0], "paper": PAPER[0], "rule": RULE[0]}
_DAY |= {f"s{number}": day for number, (day, _) in enumerate(SERIES, 1)}
# Read where a drawing is saved, not where it is made.
_SAVED = {"svg.fonttype": "none", "svg.hashsalt": "deid"}
_RC = {
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
    says: str
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


def svg(plot: Plot) -> Html:
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
    return Html(re.sub(r"<style[^>]*>.*?</style>", "", text, flags=re.S))


def _saved(drawn: Drawn, kind: str, **options: float | bool) -> bytes:
    from matplotlib import rc_context

    held = io.BytesIO()
    metadata = {"Date": None} if kind == "svg" else {"Software": None}
    with rc_context(_SAVED):
        drawn.savefig(held, format=kind, metadata=metadata, **options)
    return held.getvalue()
