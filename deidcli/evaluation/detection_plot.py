"""A picture of how detectors compare."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from deidcli.errors import MissingDependency, UsageError
from deidcli.evaluation.detection import DetectionRates


def plot(rows: Sequence[DetectionRates], path: Path) -> None:
    """Write bars of faces, central faces and time to `path` (PNG, PDF or SVG by its suffix).

    Raises MissingDependency without matplotlib, UsageError for a path that cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependency("--plot needs matplotlib", "run `pip install deidcli[eval]`") from error
    figure = Figure(figsize=(10, 1.2 + 0.45 * len(rows)), layout="constrained")
    for axes, (title, values, form) in zip(figure.subplots(1, 3, sharey=True), _panels(rows), strict=True):
        bars = axes.barh([row.detector for row in rows], values, color="#4477aa")
        axes.bar_label(bars, fmt=form, padding=3)
        axes.set_title(title, fontsize=10)
        axes.margins(x=0.2)
        axes.invert_yaxis() if axes.get_subplotspec().is_first_col() else None
    try:
        figure.savefig(path, dpi=120)
    except (OSError, ValueError) as error:
        raise UsageError(f"--plot {path}: {error}", "give a path like detectors.png") from error


def _panels(rows: Sequence[DetectionRates]) -> list[tuple[str, list, str]]:
    known = all(row.recall is not None for row in rows)
    share = [row.recall if known else row.central for row in rows]
    return [
        (f"faces found in {rows[0].frames} frames", [row.faces for row in rows], "%d"),
        ("known faces found" if known else "frames with a face in the middle", share, "%.4f"),
        ("milliseconds a frame", [row.milliseconds for row in rows], "%.0f"),
    ]
