"""`evaluate attacks`: what an attacker gets out of the outputs."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deidcli.cli import measuring
from deidcli.cli import options as opt
from deidcli.cli.measuring import DIGITS
from deidcli.engine.persona import PERSONAS
from deidcli.errors import UsageError

if TYPE_CHECKING:
    from deidcli.evaluation.results import Attack

learning = opt.stacked(
    click.option("--people", type=click.IntRange(2), default=100, show_default=True,
                 help="People in the closed set among whom the attacker chooses."),
    click.option("--far", type=opt.Real(0.0001, 0.5), default=0.01, show_default=True,
                 help="False-accept rate at which verification is told."),
    click.option("--training", type=click.IntRange(0), default=1000, show_default=True,
                 help="Pictures of other people from which the reconstruction learns; 0 leaves it out."),
    click.option("--steps", type=click.IntRange(1), default=1500, show_default=True,
                 help="Batches over which the reconstruction learns."),
)  # fmt: skip


@click.command("attacks", cls=opt.Command)
@click.argument("folder", metavar="FOLDER")
@opt.stacked(
    click.option("--attacks", default="all", show_default=True,
                 help="Which: naive, parrot, second-pass, reversal, reconstruction, fitting, linkage, averaging, "
                      "background."),
    measuring.methods("original,cleanir:angle=90,cleanir,blur,pixelate,solid"),
    click.option("--split", metavar="FILE", help="CSV with columns person, split; `val` is attacked, `train` learnt."),
    click.option("--persona", type=click.Choice(PERSONAS), default="track", show_default=True,
                 help="Who gets the same secret draw, as for `anonymize`; reversal is tried with track alone."),
    learning,
    measuring.measured,
)  # fmt: skip
def command(folder: str, **options: Any) -> int:
    """Attack the outputs of methods over FOLDER, which has one sub-folder a person.

    For each attack: how often the right person is the first guess, and how many true pairs are accepted at a
    false-accept rate, with 95 % intervals by person, beside what guessing would give. `breaks` stands where an interval
    lies more than ten percentage points above chance. Exit status 0 whatever breaks.

    \b
    deid evaluate attacks lfw/images --split lfw/people.csv --people 50
    """
    from deidcli.evaluation.attacks import available, find
    from deidcli.evaluation.attacks.base import AttackOptions, load_attack_set, run_attacks

    names = list(available()) if options["attacks"] == "all" else options["attacks"].split(",")
    attackers = [find(name) for name in names]
    how = AttackOptions(
        people=options["people"], far=options["far"], training=options["training"], steps=options["steps"]
    )
    bench = measuring.make_bench(Path(folder), Path(folder).parent.name or folder, options, labels=False)
    wanted = measuring.subjects(options["methods"], options["seed"])
    closed = [one.label for one in wanted if one.method is not None and one.method.closed]
    if closed and options["persona"] != "track":
        raise UsageError(f"--persona does not belong to {closed[0]}", "it tells people apart in any case")
    people = load_attack_set(Path(folder), options["split"] and Path(options["split"]), how, bench.study.draw)
    bench.read(people.names)
    done = told(
        (outcome for one in wanted for outcome in run_attacks(bench, one, people, attackers, how)), options["as_json"]
    )
    if not done:
        raise UsageError(f"--attacks {options['attacks']}: none can be tried on {options['methods']}", "choose others")
    measuring.finish((), options, done)
    return 0


def told(outcomes: Iterable[Attack], as_json: bool) -> list[Attack]:
    """Print a line for each outcome while they come; returns all of them."""
    from deidcli.evaluation.results import to_json

    seen: list[Attack] = []
    for one in outcomes:
        if as_json:
            click.echo(json.dumps(to_json(one), allow_nan=False))
        else:
            if not seen:
                click.echo(f"{'method':24}{'attack':26}{'rank-1':>24}{'chance':>9}{one.verification.name:>24}")
            cells = f"{one.rank1.text(DIGITS):>24}{one.chance:>9.4f}{one.verification.text(DIGITS):>24}"
            click.echo(f"{one.label:24}{one.name:26}{cells}{'  breaks' if one.breaks else ''}")
        seen.append(one)
    return seen
