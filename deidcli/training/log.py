"""The log of a run: a row an epoch in `log.csv`, and the same as curves in `log.png`."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

NAME, PLOT = "log.csv", "log.png"
_CLOCK = ("epoch", "minutes", "rate")  # columns that are no curves


def cut(folder: Path, start: int) -> None:
    """Drop the rows of epochs from `start` on: a run was killed after it logged an epoch and before it was saved."""
    path = folder / NAME
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    kept = [line for line in lines[1:] if line.endswith("\n") and int(line.split(",")[0]) < start]
    if lines:
        path.write_text("".join([lines[0], *kept]))


def add(folder: Path, row: Mapping[str, float]) -> None:
    """Append a row, with a head if it is the first."""
    path = folder / NAME
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, list(row))
        if new:
            writer.writeheader()
        writer.writerow(row)


def draw(folder: Path) -> None:
    """Draw every column over the epochs; nothing is drawn where matplotlib (the extra eval) is not installed."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return
    with (folder / NAME).open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = [name for name in rows[0] if name not in _CLOCK]
    figure = Figure(figsize=(8, 2.2 * len(names)), layout="constrained")
    axes = figure.subplots(len(names), sharex=True, squeeze=False)[:, 0]
    for axis, name in zip(axes, names, strict=True):
        axis.plot([int(row["epoch"]) for row in rows], [float(row[name] or "nan") for row in rows], linewidth=1.2)
        axis.set_ylabel(name.replace("_", " "))
        axis.grid(alpha=0.3)
    axes[-1].set_xlabel("epoch")
    figure.savefig(folder / PLOT, dpi=90)
