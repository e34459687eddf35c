"""`evaluate report`, `compare` and `readme`: results as a page, two of them side by side, and as tables in a text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from deidcli.cli import options as opt
from deidcli.errors import UsageError


@click.command("report", cls=opt.Command)
@click.argument("results", metavar="REPORT_JSON")
@click.argument("output", metavar="OUT_DIR")
@opt.stacked(
    click.option("--faces/--no-faces", default=True, show_default=True,
                 help="Show the new faces that are closest to their originals, both as pictures."),
    opt.config,
)  # fmt: skip
def report_command(results: str, output: str, **options: Any) -> int:
    """Write a page, its plots and a table from REPORT_JSON (a report.json, or the folder it is in) into OUT_DIR.

    The page needs no network and no scripts, and begins with a summary in plain words. With pictures of faces it is as
    sensitive as the originals are: leave them out with --no-faces before it is passed on.

    \b
    deid evaluate report results/report.json report/
    """
    from deidcli.evaluation.report.page import write_report
    from deidcli.evaluation.results import Results

    page = write_report(Results.load(Path(results)), Path(output), options["faces"])
    click.echo(str(page))
    return 0


@click.command("compare", cls=opt.Command)
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@opt.stacked(
    click.option("--html", metavar="FILE", help="Write a page, too."),
    opt.config,
)  # fmt: skip
def compare_command(first: str, second: str, **options: Any) -> int:
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
        _write_page(Path(options["html"]), as_page(blocks, first, second))
    click.echo(as_text(blocks, first, second))
    return 0


def _write_page(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--html {path}: {error.strerror}", "give a path like compare.html") from error


@click.command("readme", cls=opt.Command)
@click.argument("report", metavar="REPORT")
@click.argument("readme", metavar="FILE")
def readme_command(report: str, readme: str) -> int:
    """Write the figures of REPORT (a report.json) as a table into FILE, between two lines that mark the place.

    A FILE that ends in .json gets the figures alone, as `deid report` tells them. In a text the lines are
    <!-- results --> and <!-- /results -->; what stands between them is replaced.

    \b
    deid evaluate readme report/report.json docs/results.md
    """
    from deidcli.evaluation.report.readme import update
    from deidcli.evaluation.results import Results

    changed = update(Path(readme), Results.load(Path(report)))
    click.echo(f"{readme}: {'written' if changed else 'as it was'}", err=True)
    return 0
