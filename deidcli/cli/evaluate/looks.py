"""`evaluate looks`: whether new faces can be told from untouched ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from deidcli.cli import measuring
from deidcli.cli import options as opt

COLUMNS = ("told from photographs", "Fréchet distance", "milliseconds a face")


@click.command("looks", cls=opt.Command)
@click.argument("folder", metavar="FOLDER")
@opt.stacked(
    measuring.methods("cleanir,ksame-m,blur"),
    click.option("--split", metavar="FILE", required=True,
                 help="CSV with columns person, split: `train` trains the classifier, `val` is told."),
    click.option("--train", type=click.IntRange(5), default=300, show_default=True,
                 help="People whose photographs train the classifier, one each."),
    click.option("--test", type=click.IntRange(5), default=150, show_default=True,
                 help="People whose photographs it is tested on."),
    measuring.measured,
)  # fmt: skip
def command(folder: str, **options: Any) -> int:
    """What gives new faces away in FOLDER, which has one sub-folder a person.

    A classifier learns to tell replaced crops from untouched ones of the same photographs, and is tested on other
    people: half is chance. The Fréchet distance compares the crops as the recogniser describes them. Each method has
    the same photographs and the same training.

    \b
    deid evaluate looks lfw/images --split lfw/people.csv --methods cleanir,blur
    """
    from deidcli.evaluation.looks import LooksPlan, looks

    bench = measuring.make_bench(Path(folder), Path(folder).parent.name or folder, options, labels=False)
    wanted = measuring.subjects(options["methods"], options["seed"])
    plan = LooksPlan.read(Path(folder), Path(options["split"]), options["train"], options["test"])
    bench.read([*plan.train, *plan.test])
    done = (looks(bench, one, plan) for one in wanted)
    measuring.finish(measuring.told(done, COLUMNS, options["as_json"]), options)
    return 0
