"""`evaluate pair`: a folder before and the same after, whatever tool made it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from deidcli.cli import measuring
from deidcli.cli import options as opt

COLUMNS = ("self match rate", "match rate", "rank-1", "faces found", "SSIM", "pictures missing")


@click.command("pair", cls=opt.Command)
@click.argument("before", metavar="BEFORE")
@click.argument("after", metavar="AFTER")
@opt.stacked(
    click.option("--name", default="given", show_default=True, help="How the report calls what made AFTER."),
    measuring.recogniser,
    click.option("--limit", type=click.IntRange(1), help="Only so many pictures, spread over all."),
    measuring.setting,
)  # fmt: skip
def command(before: str, after: str, **options: Any) -> int:
    """Compare the pictures of BEFORE with those of the same names in AFTER, which any tool may have written.

    The face nearest the middle of each picture is found in BEFORE and compared at the same place in AFTER. Where BEFORE
    has a sub-folder for each person, matching rates and identification among them are told, too.

    \b
    deid evaluate pair photographs/ rival/ --name rival
    """
    from deidcli.evaluation.bench import Subject
    from deidcli.evaluation.plan import evaluate_subject, from_names

    bench = measuring.make_bench(Path(before), Path(before).name or before, options)
    subject = Subject(options["name"], folder=Path(after))
    bench.maker(subject, [])
    plan = from_names(Path(before), options["limit"], bench.study.draw)
    bench.read(plan.names)
    runs = (evaluate_subject(bench, one, plan)[0] for one in (Subject("original"), subject))
    done = measuring.told(runs, COLUMNS, options["as_json"])
    measuring.finish(done, options)
    lost = done[-1].figure("pictures missing")
    return 1 if bench.originals.failed or (lost and lost.value) else 0
