"""`evaluate attacks`, `all` and `video`: what an attacker gets out of the outputs, alone and with every figure."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deidcli.cli import evaluate
from deidcli.cli import options as opt
from deidcli.cli.evaluate import DIGITS
from deidcli.engine.settings import PERSONAS
from deidcli.errors import UsageError

if TYPE_CHECKING:
    from deidcli.evaluation.results import Attack, Run


learning = opt.stacked(
    click.option("--people", type=click.IntRange(2), default=100, show_default=True,
                 help="People in the closed set among whom the attacker chooses."),
    click.option("--far", type=opt.Real(0.0001, 0.5), default=0.01, show_default=True,
                 help="False-accept rate at which verification is reported."),
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
    evaluate.methods("original,cleanir:angle=90,cleanir,blur,pixelate,solid"),
    click.option("--split", metavar="FILE",
                 help="CSV with columns person, split; `val` is attacked, `train` is for training."),
    click.option("--persona", type=click.Choice(PERSONAS), default="track", show_default=True,
                 help="Who gets the same secret draw, as for `anonymize`; reversal is tried with track alone."),
    learning,
    evaluate.measured,
)  # fmt: skip
def attacks_command(folder: str, **options: Any) -> int:
    """Attack the outputs of methods over FOLDER, which has one sub-folder a person.

    For each attack: how often the right person is the first guess, and how many true pairs are accepted at a
    false-accept rate, with 95 % intervals by person, beside what guessing would give. `breaks` is printed where an
    interval lies more than ten percentage points above chance. Exit status 0 whatever breaks.

    \b
    deid evaluate attacks lfw/images --split lfw/people.csv --people 50
    """
    from deidcli.evaluation.attacks import AttackOptions, available, find, load_attack_set, run_attacks

    names = list(available()) if options["attacks"] == "all" else options["attacks"].split(",")
    attackers = [find(name) for name in names]
    how = AttackOptions(
        people=options["people"], far=options["far"], training=options["training"], steps=options["steps"]
    )
    bench = evaluate.make_bench(Path(folder), Path(folder).parent.name or folder, options, labels=False)
    wanted = evaluate.subjects(options["methods"], options["seed"])
    closed = [one.label for one in wanted if one.method is not None and one.method.closed]
    if closed and options["persona"] != "track":
        raise UsageError(f"--persona does not belong to {closed[0]}", "it always keeps people apart")
    people = load_attack_set(Path(folder), options["split"] and Path(options["split"]), how, bench.study.draw)
    bench.read(people.names)
    done = print_attacks(
        (outcome for one in wanted for outcome in run_attacks(bench, one, people, attackers, how)), options["as_json"]
    )
    if not done:
        raise UsageError(f"--attacks {options['attacks']}: none can be tried on {options['methods']}", "choose others")
    evaluate.finish((), options, done)
    return 0


def print_attacks(outcomes: Iterable[Attack], as_json: bool) -> list[Attack]:
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


ALL_COLUMNS = ("match rate", "self match rate", "rank-1", "faces found", "SSIM", "pose difference")


@click.command("all", cls=opt.Command)
@opt.stacked(
    click.option("--data", required=True, metavar="DIR",
                 help="Holds lfw/images/PERSON/, lfw/people.csv (person, split), and maybe lfw/pairs_val.csv and "
                      "lfw/expressions.csv."),
    evaluate.methods(f"original,{evaluate.EACH},cleanir:angle=0,cleanir:angle=90,cleanir:angle=180"),
    click.option("--attacks", default="all", show_default=True, help="As for `evaluate attacks`; none for no attacks."),
    learning,
    click.option("--resume", is_flag=True, help="Go on with the report in --out; what it holds already is kept."),
    click.option("--overwrite", is_flag=True, help="Begin anew where --out holds a report."),
    evaluate.measured,
)  # fmt: skip
def all_command(data: str, attacks: str, resume: bool, overwrite: bool, **options: Any) -> int:
    """Measure and attack every method and preset that there is, and write report.json and report.html to --out.

    The figures are of the split `val`, whose people were in no training; the reconstruction learns from `train`. The
    report is saved after each method; with --resume only those are measured that are not in it or whose weights have
    changed. ksame-select gets groups of one gender, as a classifier sees it. Exit status 1 where a method or a picture
    failed.

    \b
    deid evaluate all --data data/ --out report/ --detector hog --limit 200 --seed 1
    """
    from deidcli.evaluation.attacks import AttackOptions, available, load_attack_set
    from deidcli.evaluation.everything import Evaluation, evaluate_all, write_labels
    from deidcli.evaluation.plan import from_lfw
    from deidcli.evaluation.report import write_report
    from deidcli.evaluation.results import REPORT, Results

    if not options["out"]:
        raise UsageError("--out is missing", "name the folder that the report goes to")
    out = Path(options["out"])
    if (out / REPORT).exists() and not (resume or overwrite):
        raise UsageError(f"{out / REPORT} exists", "use --resume to go on with it, or --overwrite")
    names = {"all": tuple(available()), "none": ()}.get(attacks, tuple(attacks.split(",")))
    lfw = Path(data) / "lfw"
    bench = evaluate.make_bench(lfw / "images", "lfw", options, "val")
    plan = from_lfw(Path(data), options["limit"], bench.study.draw)
    how = AttackOptions(options["people"], far=options["far"], training=options["training"], steps=options["steps"])
    crowd = load_attack_set(lfw / "images", lfw / "people.csv", how, bench.study.draw) if names else None
    bench.read([*plan.names, *(crowd.names if crowd else ())])
    labels = write_labels(bench, out / "labels.csv", evaluate.SELECTED)
    wanted, missing = evaluate.existing(evaluate.split(options["methods"]), options["seed"], labels)
    order = Evaluation(plan, crowd, names, how, out, lambda label: out / "worst" / evaluate.safe(label))
    failed = dict(missing)
    runs = 0
    for step in evaluate_all(bench, wanted, order, resume):
        if step.run is None:
            failed[step.subject.label] = step.error
        else:
            runs += len(evaluate.print_runs([step.run], ALL_COLUMNS, options["as_json"], head=not runs))
    if runs:
        click.echo(str(write_report(Results.load(out), out)), err=True)
    for label, reason in [*failed.items(), *bench.originals.failed.items()]:
        click.echo(f"failed: {label}: {reason}", err=True)
    return 3 if not runs else 1 if failed or bench.originals.failed else 0


VIDEO_COLUMNS = ("frames", "tracks", "self match rate", "descriptor steps", "landmark shake", "flicker")


@click.command("video", cls=opt.Command)
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@opt.stacked(
    evaluate.methods("original,cleanir,blur"),
    evaluate.measured,
)  # fmt: skip
def video_command(files: tuple[str, ...], **options: Any) -> int:
    """How steady new faces are over the frames of FILE..., and what many frames give away.

    Columns: frames, tracks, faces that are matched with their own original, the recogniser's distance from frame to
    frame, how much more landmarks move than the original's, and the change, in grey levels, of replaced pixels whose
    original does not change. Attacks: faces averaged over frames, outputs linked, and how faces move, by their
    landmarks alone; every track counts as a person, in all files together. --limit: frames of each file.

    \b
    deid evaluate video stage.mp4 --methods original,cleanir,blur --detector hog
    """
    from deidcli.evaluation.video import video

    paths = [Path(file) for file in files]
    for path in paths:
        if not path.is_file():
            raise UsageError(f"{path} is no file", "name a video")
    data = paths[0].name if len(paths) == 1 else f"{len(paths)} videos"
    bench = evaluate.make_bench(paths[0].parent, data, options, labels=False)
    runs: list[Run] = []
    attacks: list[Attack] = []
    for one in evaluate.subjects(options["methods"], options["seed"]):
        run, outcomes = video(bench, paths, one, options["limit"])
        runs += evaluate.print_runs([run], VIDEO_COLUMNS, options["as_json"], head=not runs)
        attacks += outcomes
    print_attacks(attacks, options["as_json"])
    evaluate.finish(runs, options, attacks)
    return 0
