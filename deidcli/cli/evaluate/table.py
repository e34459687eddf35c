"""`evaluate table`: the tables of the papers, by name."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deidcli.cli import measuring
from deidcli.cli import options as opt
from deidcli.errors import UsageError

if TYPE_CHECKING:
    from deidcli.evaluation.results import Run

TABLES = (
    "cleanir-2", "ksame-net-3", "ksame-net-11", *(f"autoencoder-{n}" for n in (1, 3, 4, 5, 6, 7, 8)), "fatm-lfw",
    "epdnet-1", "epdnet-gallery", "fdeid",
)  # fmt: skip


@click.command("table", cls=opt.Command)
@click.argument("name", type=click.Choice(TABLES))
@click.argument("folder", metavar="FOLDER")
@opt.stacked(
    click.option("--methods", help="Other methods than the table's own, as for `evaluate pairs`."),
    click.option("--split", metavar="FILE", help="CSV with columns person, split; only the people of `val` are taken."),
    click.option("--labels", metavar="FILE", help="CSV with columns image, expression: for ksame-net-11."),
    click.option("--resume", is_flag=True, help="Go on with the report in --out; other weights are done again."),
    measuring.measured,
)  # fmt: skip
def command(name: str, folder: str, **options: Any) -> int:
    """Measure a paper's table on FOLDER, which has one sub-folder a person.

    Methods of the table that are not in this tool are left out, and said on standard error. What the paper reports is
    printed behind what is measured, as far as it does; its data and its recogniser were others.

    \b
    deid evaluate table cleanir-2 lfw/images --split lfw/people.csv
    """
    from deidcli.evaluation.bench import pictures_of
    from deidcli.evaluation.everything import evaluate_table
    from deidcli.evaluation.tables import table
    from deidcli.faces.attributes import load_labels
    from deidcli.training.data import split_of

    chosen = table(name)
    if chosen.label and not options["labels"]:
        raise UsageError(f"{name} needs --labels", f"give a CSV with the columns image and {chosen.label}")
    if chosen.recogniser and options["recogniser"] is None:
        options["recogniser"] = chosen.recogniser
    labels = (load_labels(Path(options["labels"])).get(chosen.label, {}),) if chosen.label else ()
    pictures = pictures_of(Path(folder))
    if options["split"]:
        people = split_of(Path(options["split"]), "val")
        pictures = {who: names for who, names in pictures.items() if who in people}
    texts = options["methods"].split(",") if options["methods"] else chosen.methods
    wanted, missing = measuring.existing(texts, options["seed"])
    data, split = Path(folder).parent.name or folder, "val" * bool(options["split"])
    bench = measuring.make_bench(Path(folder), data, options, split, verifiers=chosen.verifiers)
    plan = chosen.plan(pictures, bench.study.draw, options["limit"], *labels)
    bench.read(plan.names)
    runs: list[Run] = []
    if not options["as_json"]:
        click.echo(chosen.title)
    for text, reason in missing.items():
        click.echo(f"left out: {text}: {reason}", err=True)
    if not wanted:
        raise UsageError(f"none of {', '.join(texts)} can be measured", "name others with --methods")
    out = Path(options["out"]) if options["out"] else None
    keep = partial(measuring.kept, options)
    for run in evaluate_table(bench, chosen, wanted, plan, out, options["resume"], keep):
        columns = chosen.columns or [figure.name for figure in run.figures]
        runs += measuring.print_runs([run], columns, options["as_json"], head=not runs)
        paper = chosen.paper.get(run.label)
        if paper and not options["as_json"]:
            click.echo(f"{'  the paper':28}" + "".join(f"{paper.get(column, ''):>27}" for column in columns))
    if chosen.sets and out:
        from deidcli.evaluation.closed_sets import draw

        draw(runs, bench, wanted, plan, out)
    return 1 if bench.originals.failed else 0
