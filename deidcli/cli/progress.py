"""Progress on standard error: a bar on a terminal, plain lines in a log, JSON lines for programs."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

import click

T = TypeVar("T")
EVERY = 10.0  # seconds between two plain lines


def shown(items: Iterable[T], total: int, style: str, unit: str = "file") -> Iterator[T]:
    """The same items, with progress shown. style: "bar", "plain", "json", "none", or "auto" by what stderr is."""
    if style == "auto":
        style = "bar" if sys.stderr.isatty() else "plain"
    if style == "bar":
        from tqdm import tqdm

        yield from tqdm(items, total=total, unit=unit, smoothing=0.05, dynamic_ncols=True)
    elif style == "none":
        yield from items
    else:
        yield from _lines(items, total, style, unit)


def _lines(items: Iterable[T], total: int, style: str, unit: str) -> Iterator[T]:
    began = said = time.monotonic()
    for done, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if style == "json" or now - said >= EVERY:
            said = now
            _say(done, total, now - began, style, unit)


def _say(done: int, total: int, seconds: float, style: str, unit: str) -> None:
    rate = done / max(seconds, 1e-6)
    if style == "json":
        row = {"done": done, "total": total, "unit": unit, "seconds": round(seconds, 2), "rate": round(rate, 3)}
        click.echo(json.dumps(row), err=True)
    else:
        left = (total - done) / max(rate, 1e-6)
        click.echo(f"{done} of {total} {unit}s, {rate:.1f} a second, {left:.0f} s left", err=True)
