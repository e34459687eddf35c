"""`evaluate compare`: two evaluations side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from deidcli.cli import options as opt
from deidcli.errors import UsageError


@click.command("compare", cls=opt.Command)
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@opt.stacked(
    click.option("--html", metavar="FILE", help="Write a page, too."),
    opt.config,
)  # fmt: skip
def command(first: str, second: str, **options: Any) -> int:
    """Set two evaluations side by side: A and B are report.json files, or the folders they are in.

    Every figure with its difference. "better" and "worse" are said where the intervals do not overlap; where a figure
    has no interval, that is said with them.

    \b
    deid evaluate compare before/report.json after/report.json --html compare.html
    """
    from deidcli.evaluation.report.compare import as_page, as_text, compared
    from deidcli.evaluation.results import Results

    blocks = compared(Results.load(Path(first)), Results.load(Path(second)))
    if options["html"]:
        _write(Path(options["html"]), as_page(blocks, first, second))
    click.echo(as_text(blocks, first, second))
    return 0


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--html {path}: {error.strerror}", "give a path like compare.html") from error
