"""`evaluate downstream`: whether what is trained on anonymized pictures does as well on real ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from deidcli.cli import measuring
from deidcli.cli import options as opt

COLUMNS = ("expression learnt", "expression learnt, words alike", "face told from beside it")


@click.command("downstream", cls=opt.Command)
@click.argument("folder", metavar="FOLDER")
@opt.stacked(
    measuring.methods("original,cleanir,blur"),
    click.option("--split", metavar="FILE", required=True,
                 help="CSV with columns person, split: pictures of `train` are trained on, of `val` tested."),
    click.option("--labels", metavar="FILE", required=True, help="CSV with columns image, expression."),
    click.option("--train", type=click.IntRange(10), default=1000, show_default=True, help="Pictures to train on."),
    click.option("--test", type=click.IntRange(10), default=1000, show_default=True, help="Pictures to test on."),
    click.option("--epochs", type=click.IntRange(1), default=10, show_default=True, help="Of 100 batches of 32."),
    click.option("--networks", type=click.IntRange(1), default=1, show_default=True,
                 help="Classifiers that are trained on the same pictures, and whose answers are averaged."),
    measuring.setting,
)  # fmt: skip
def command(folder: str, **options: Any) -> int:
    """Train on the outputs of methods over FOLDER, which has one sub-folder a person, and test on untouched pictures.

    A small network learns to read expressions from the outputs, with the labels of their originals, and a linear one to
    tell a face from what lies beside it, as a detector does. The columns: expressions read rightly on untouched
    pictures of other people, the same with every word counting alike, and boxes told rightly. `original` is what can be
    had without anonymizing.

    \b
    deid evaluate downstream lfw/images --split lfw/people.csv --labels lfw/expressions.csv --methods original,cleanir
    """
    from deidcli.evaluation.downstream import DownstreamPlan, downstream

    # Nobody is compared here; faces of originals are described all the same.
    options |= {"recogniser": None, "distance": None}
    bench = measuring.make_bench(Path(folder), Path(folder).parent.name or folder, options, labels=False)
    wanted = measuring.subjects(options["methods"], options["seed"])
    sides = Path(options["split"]), Path(options["labels"]), options["train"], options["test"]
    plan = DownstreamPlan.read(Path(folder), *sides)
    bench.read([*plan.train, *plan.test])
    done = (downstream(bench, one, plan, options["epochs"], options["networks"]) for one in wanted)
    measuring.finish(measuring.told(done, COLUMNS, options["as_json"]), options)
    return 0
