"""`evaluate kanonymity`: whether a closed-set run kept its promise, by its manifest."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from deidcli.cli import options as opt


@click.command("kanonymity", cls=opt.Command)
@click.argument("manifests", metavar="MANIFEST...", nargs=-1, required=True)
@opt.stacked(
    click.option("--k", type=click.IntRange(2), help="What is to hold; default: what the run promised."),
    click.option("--json", "as_json", is_flag=True, help="One JSON object instead of lines."),
    opt.config,
)  # fmt: skip
def command(manifests: tuple[str, ...], k: int | None, as_json: bool) -> int:
    """Check that every surrogate is shown for at least k people and no person has two; exit status 1 if not.

    It also looks for every output that is listed, and compares its sha256. Give the manifests of all parts of a run
    with --shard together.

    \b
    deid evaluate kanonymity out/deid-manifest.jsonl
    deid evaluate kanonymity out/deid-manifest-*-of-4.jsonl
    """
    from deidcli.evaluation.kanonymity import check

    verdict = check([Path(path) for path in manifests], k)
    if as_json:
        click.echo(json.dumps(asdict(verdict)))
    else:
        for problem in verdict.problems:
            click.echo(f"deid: {problem}", err=True)
        click.echo(verdict.line())
    return 0 if verdict.holds else 1
