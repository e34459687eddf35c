"""`evaluate report`: results as a page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from deidcli.cli import options as opt


@click.command("report", cls=opt.Command)
@click.argument("results", metavar="REPORT_JSON")
@click.argument("output", metavar="OUT_DIR")
@opt.stacked(
    click.option("--faces/--no-faces", default=True, show_default=True,
                 help="Show the new faces that are closest to their originals, both as pictures."),
    opt.config,
)  # fmt: skip
def command(results: str, output: str, **options: Any) -> int:
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
