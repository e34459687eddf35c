"""`evaluate folder`: any folder with one sub-folder a person."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from deidcli.cli import measuring
from deidcli.cli import options as opt

COLUMNS = ("match rate", "self match rate", "rank-1", "DIV", "faces found", "SSIM")


@click.command("folder", cls=opt.Command)
@click.argument("folder", metavar="FOLDER")
@opt.stacked(
    measuring.methods(measuring.DEFAULT),
    click.option("--people", type=click.IntRange(2), default=50, show_default=True, help="People in a closed set."),
    click.option("--draws", type=click.IntRange(1), default=5, show_default=True, help="Closed sets that are drawn."),
    measuring.measured,
)  # fmt: skip
def command(folder: str, **options: Any) -> int:
    """Verification, closed-set identification and utility over FOLDER, which has one sub-folder a person.

    Pairs are drawn: two pictures of each person in turn, and as many of strangers. Identification: one picture of each
    of --people people is known, another is replaced; --draws times.

    \b
    deid evaluate folder staff/ --methods original,cleanir:angle=150 --limit 500
    """
    from deidcli.evaluation.plan import evaluate_subject, from_folder

    bench = measuring.make_bench(Path(folder), Path(folder).name or folder, options)
    wanted = measuring.subjects(options["methods"], options["seed"])
    plan = from_folder(Path(folder), options["limit"], bench.study.draw, options["people"], options["draws"])
    bench.read(plan.names)
    done = (evaluate_subject(bench, one, plan, measuring.kept(options, one.label))[0] for one in wanted)
    measuring.finish(measuring.told(done, COLUMNS, options["as_json"]), options)
    return 1 if bench.originals.failed else 0
