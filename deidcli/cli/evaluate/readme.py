"""`evaluate readme`: the table of results in a text."""

from __future__ import annotations

from pathlib import Path

import click

from deidcli.cli import options as opt


@click.command("readme", cls=opt.Command)
@click.argument("report", metavar="REPORT")
@click.argument("readme", metavar="FILE")
def command(report: str, readme: str) -> int:
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
