"""`evaluate pair`, `pairs`, `folder`, `looks` and `downstream`: what methods, or any tool, make of given pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from deidcli.cli import measuring
from deidcli.cli import options as opt

PAIR_COLUMNS = ("self match rate", "match rate", "rank-1", "faces found", "SSIM", "pictures missing")


@click.command("pair", cls=opt.Command)
@click.argument("before", metavar="BEFORE")
@click.argument("after", metavar="AFTER")
@opt.stacked(
    click.option("--name", default="given", show_default=True, help="How the report calls what made AFTER."),
    measuring.recogniser,
    click.option("--limit", type=click.IntRange(1), help="Only so many pictures, spread over all."),
    measuring.setting,
)  # fmt: skip
def pair_command(before: str, after: str, **options: Any) -> int:
    """Compare the pictures of BEFORE with those of the same names in AFTER, which any tool may have written.

    The face nearest the middle of each picture is found in BEFORE and compared at the same place in AFTER. Where BEFORE
    has a sub-folder for each person, matching rates and identification among them are reported, too.

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
    done = measuring.print_runs(runs, PAIR_COLUMNS, options["as_json"])
    measuring.finish(done, options)
    lost = done[-1].figure("pictures missing")
    return 1 if bench.originals.failed or (lost and lost.value) else 0


PAIRS_COLUMNS = ("match rate", "self match rate", "stranger match rate", "faces found", "rank-1", "SSIM")


@click.command("pairs", cls=opt.Command)
@click.argument("images", metavar="FOLDER")
@opt.stacked(
    click.option("--pairs", required=True, metavar="FILE",
                 help="CSV with columns a, b (files in FOLDER), same (1, 0); or LFW's pairs.txt."),
    measuring.methods(measuring.DEFAULT),
    measuring.measured,
)  # fmt: skip
def pairs_command(images: str, **options: Any) -> int:
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
    measuring.finish(measuring.print_runs(done, PAIRS_COLUMNS, options["as_json"]), options)
    return 1 if bench.originals.failed else 0


FOLDER_COLUMNS = ("match rate", "self match rate", "rank-1", "DIV", "faces found", "SSIM")


@click.command("folder", cls=opt.Command)
@click.argument("folder", metavar="FOLDER")
@opt.stacked(
    measuring.methods(measuring.DEFAULT),
    click.option("--people", type=click.IntRange(2), default=50, show_default=True, help="People in a closed set."),
    click.option("--draws", type=click.IntRange(1), default=5, show_default=True, help="Closed sets that are drawn."),
    measuring.measured,
)  # fmt: skip
def folder_command(folder: str, **options: Any) -> int:
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
    measuring.finish(measuring.print_runs(done, FOLDER_COLUMNS, options["as_json"]), options)
    return 1 if bench.originals.failed else 0


LOOKS_COLUMNS = ("told from photographs", "Fréchet distance", "milliseconds a face")


@click.command("looks", cls=opt.Command)
@click.argument("folder", metavar="FOLDER")
@opt.stacked(
    measuring.methods("cleanir,ksame-m,blur"),
    click.option("--split", metavar="FILE", required=True,
                 help="CSV with columns person, split: `train` trains the classifier, `val` is classified."),
    click.option("--train", type=click.IntRange(5), default=300, show_default=True,
                 help="People whose photographs train the classifier, one each."),
    click.option("--test", type=click.IntRange(5), default=150, show_default=True,
                 help="People whose photographs it is tested on."),
    measuring.measured,
)  # fmt: skip
def looks_command(folder: str, **options: Any) -> int:
    """How recognisable new faces are as replaced ones in FOLDER, which has one sub-folder a person.

    A classifier learns to distinguish replaced crops from untouched ones of the same photographs, and is tested on
    other people: half is chance. The Fréchet distance compares the crops as the recogniser describes them. Each method
    has the same photographs and the same training.

    \b
    deid evaluate looks lfw/images --split lfw/people.csv --methods cleanir,blur
    """
    from deidcli.evaluation.looks import LooksPlan, looks

    bench = measuring.make_bench(Path(folder), Path(folder).parent.name or folder, options, labels=False)
    wanted = measuring.subjects(options["methods"], options["seed"])
    plan = LooksPlan.read(Path(folder), Path(options["split"]), options["train"], options["test"])
    bench.read([*plan.train, *plan.test])
    done = (looks(bench, one, plan) for one in wanted)
    measuring.finish(measuring.print_runs(done, LOOKS_COLUMNS, options["as_json"]), options)
    return 0


DOWNSTREAM_COLUMNS = ("expression learnt", "expression learnt, words alike", "face told from beside it")


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
def downstream_command(folder: str, **options: Any) -> int:
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
    measuring.finish(measuring.print_runs(done, DOWNSTREAM_COLUMNS, options["as_json"]), options)
    return 0
