"""Progress on standard error: a bar on a terminal, plain lines in a log, JSON lines for programs."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import datetime, timezone
from typing import Any, TypeVar

import click

from deidcli.errors import printable

T = TypeVar("T")
EVERY = 10.0  # seconds between two plain lines
FEW = 5  # files below which a pace says nothing: the first come late, because many are under way at once
STEP = 1.0  # seconds between two JSON lines about the frames of one video


def say(text: str) -> None:
    """One line on standard error, in which no name can make a terminal do anything, nor begin a line of its own.

    A stream that is closed hears nothing.
    """
    with suppress(OSError, ValueError, AttributeError):
        click.echo(printable(text).replace("\n", "\\n"), err=True)


def log(options: Mapping[str, Any], text: str, event: str, **fields: Any) -> None:
    """A line of the log: `text`, or an object of JSON with it and `fields`, as --log-format asks."""
    if options.get("log_format") == "json":
        now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        text = json.dumps({"time": now, "event": event, "message": text.removeprefix("deid: "), **fields})
    say(text)


def shown(items: Iterable[T], total: int | None, style: str, unit: str = "file") -> Iterator[T]:
    """The same items, with progress shown. style: "bar", "plain", "json", "none", or "auto" by what stderr is."""
    style = _chosen(style)
    if style == "bar":
        from tqdm import tqdm

        yield from tqdm(items, total=total, unit=unit, smoothing=0.05, dynamic_ncols=True)
    elif style == "none":
        yield from items
    else:
        yield from _lines(items, total, style, unit)


class FrameMeter:
    """Shows how far one video after the other is: frames done, how many a second, and the time that is left."""

    def __init__(self, style: str):
        self.style = _chosen(style)
        self._began = self._said = 0.0
        self._bar: Any = None

    def __call__(self, name: str, done: int, total: int | None) -> None:
        """Take note of a frame. done: how many there are by now, 1 at the first. total: None where that is unknown."""
        now = time.monotonic()
        if done == 1:
            self._began = self._said = now
        if self.style == "bar":
            self._drawn(name, done, total)
        elif self.style in ("plain", "json") and now - self._said >= (STEP if self.style == "json" else EVERY):
            self._said = now
            _say(done, total, now - self._began, self.style, "frame", name)

    def _drawn(self, name: str, done: int, total: int | None) -> None:
        from tqdm import tqdm

        if done == 1:
            self.close()
            self._bar = tqdm(
                total=total, unit="frame", desc=printable(name), position=1, leave=False, dynamic_ncols=True
            )
        self._bar.update()

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()


def _chosen(style: str) -> str:
    if style != "auto":
        return style
    return "bar" if sys.stderr is not None and sys.stderr.isatty() else "plain"


def _lines(items: Iterable[T], total: int | None, style: str, unit: str) -> Iterator[T]:
    began = said = time.monotonic()
    for done, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if style == "json" or now - said >= EVERY:
            said = now
            _say(done, total, now - began, style, unit)


def _say(done: int, total: int | None, seconds: float, style: str, unit: str, name: str = "") -> None:
    rate = done / max(seconds, 1e-6)
    # A video may state too few frames, and a file of many frames makes more of them than there are files.
    total = None if total is not None and done > total else total
    left = (total - done) / max(rate, 1e-6) if total else None
    if style == "json":
        row = {"done": done, "total": total, "unit": unit, "seconds": round(seconds, 2), "rate": round(rate, 3)}
        more = {"input": name, "left": left if left is None else round(left, 1)} if name else {}
        say(json.dumps(row | more))
    else:
        parts = [f"{name}: " if name else "", f"{done} of {total} {unit}s" if total else f"{done} {unit}s"]
        if name or done >= FEW:
            parts.append(f", {rate:.1f} a second" if rate >= 0.1 else f", {1 / rate:.0f} s each")
            parts.append(f", {left:.0f} s left" if total else "")
        say("".join(parts))
