"""`evaluate all`: every method and preset, under every figure and attack."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from deidcli.cli import measuring
from deidcli.cli import options as opt
from deidcli.cli.evaluate.attacks import learning
from deidcli.errors import UsageError

COLUMNS = ("match rate", "self match rate", "rank-1", "faces found", "SSIM", "pose difference")


@click.command("all", cls=opt.Command)
@opt.stacked(
    click.option("--data", required=True, metavar="DIR",
                 help="Holds lfw/images/PERSON/, lfw/people.csv (person, split), and maybe lfw/pairs_val.csv and "
                      "lfw/expressions.csv."),
    measuring.methods(f"original,{measuring.EACH},cleanir:angle=0,cleanir:angle=90,cleanir:angle=180"),
    click.option("--attacks", default="all", show_default=True, help="As for `evaluate attacks`; none for no attacks."),
    learning,
    click.option("--resume", is_flag=True, help="Go on with the report in --out; what it holds already is kept."),
    click.option("--overwrite", is_flag=True, help="Begin anew where --out holds a report."),
    measuring.measured,
)  # fmt: skip
def command(data: str, attacks: str, resume: bool, overwrite: bool, **options: Any) -> int:
    """Measure and attack every method and preset that there is, and write report.json and report.html to --out.

    The figures are of the split `val`, whose people were in no training; the reconstruction learns from `train`. The
    report is saved after each method; with --resume only those are measured that are not in it or whose weights have
    changed. ksame-select gets groups of one gender, as a classifier sees it. Exit status 1 where a method or a picture
    failed.

    \b
    deid evaluate all --data data/ --out report/ --detector hog --limit 200 --seed 1
    """
    from deidcli.evaluation.attacks import available
    from deidcli.evaluation.attacks.base import AttackOptions, load_attack_set
    from deidcli.evaluation.everything import Evaluation, evaluate_all, write_labels
    from deidcli.evaluation.plan import from_lfw
    from deidcli.evaluation.report.page import write_report
    from deidcli.evaluation.results import REPORT, Results

    if not options["out"]:
        raise UsageError("--out is missing", "name the folder that the report goes to")
    out = Path(options["out"])
    if (out / REPORT).exists() and not (resume or overwrite):
        raise UsageError(f"{out / REPORT} exists", "use --resume to go on with it, or --overwrite")
    names = {"all": tuple(available()), "none": ()}.get(attacks, tuple(attacks.split(",")))
    lfw = Path(data) / "lfw"
    bench = measuring.make_bench(lfw / "images", "lfw", options, "val")
    plan = from_lfw(Path(data), options["limit"], bench.study.draw)
    how = AttackOptions(options["people"], far=options["far"], training=options["training"], steps=options["steps"])
    crowd = load_attack_set(lfw / "images", lfw / "people.csv", how, bench.study.draw) if names else None
    bench.read([*plan.names, *(crowd.names if crowd else ())])
    labels = write_labels(bench, out / "labels.csv", measuring.SELECTED)
    wanted, missing = measuring.existing(measuring.split(options["methods"]), options["seed"], labels)
    order = Evaluation(plan, crowd, names, how, out, lambda label: out / "worst" / measuring.safe(label))
    failed = dict(missing)
    runs = 0
    for step in evaluate_all(bench, wanted, order, resume):
        if step.run is None:
            failed[step.subject.label] = step.error
        else:
            runs += len(measuring.told([step.run], COLUMNS, options["as_json"], head=not runs))
    if runs:
        click.echo(str(write_report(Results.load(out), out)), err=True)
    for label, reason in [*failed.items(), *bench.originals.failed.items()]:
        click.echo(f"failed: {label}: {reason}", err=True)
    return 3 if not runs else 1 if failed or bench.originals.failed else 0
