"""`evaluate pairs`: the share of pairs that a recogniser still matches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from deidcli.cli import measuring
from deidcli.cli import options as opt

COLUMNS = ("match rate", "self match rate", "stranger match rate", "faces found", "rank-1", "SSIM")


@click.command("pairs", cls=opt.Command)
@click.argument("images", metavar="FOLDER")
@opt.stacked(
    click.option("--pairs", required=True, metavar="FILE",
                 help="CSV with columns a, b (files in FOLDER), same (1, 0); or LFW's pairs.txt."),
    measuring.methods(measuring.DEFAULT),
    measuring.measured,
)  # fmt: skip
def command(images: str, **options: Any) -> int:
    """Share of pairs that a recogniser still matches after the second picture went through a method.

    Without verification and fallback this is what the method alone does. The columns: pairs of one person, a picture
    against its very original, pairs of strangers, new faces that the detector finds, the right person first among 50,
    and the likeness of the whole picture; with 95 % intervals by person. docs/evaluation.md explains every figure.

    \b
    deid evaluate pairs lfw/images --pairs lfw/pairs_val.csv
    """
    from deidcli.evaluation.plan import evaluate_subject, from_pairs

    bench = measuring.make_bench(Path(images), Path(images).parent.name or images, options)
    wanted = measuring.subjects(options["methods"], options["seed"])
    plan = from_pairs(Path(options["pairs"]), options["limit"], bench.study.draw)
    bench.read(plan.names)
    done = (evaluate_subject(bench, one, plan, measuring.kept(options, one.label))[0] for one in wanted)
    measuring.finish(measuring.told(done, COLUMNS, options["as_json"]), options)
    return 1 if bench.originals.failed else 0
