"""`evaluate pair`, `pairs`, `folder`, `looks`, `downstream`, `detection`, `people`: measured on given pictures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deidcli.cli import evaluate
from deidcli.cli import options as opt
from deidcli.cli.inputs import gather
from deidcli.cli.progress import say, shown
from deidcli.engine.labels import read_faces
from deidcli.errors import UsageError
from deidcli.networks.backend import use_device

if TYPE_CHECKING:
    from deidcli.evaluation.detection import PeopleRates, Rate


PAIR_COLUMNS = ("self match rate", "match rate", "rank-1", "faces found", "SSIM", "pictures missing")


@click.command("pair", cls=opt.Command)
@click.argument("before", metavar="BEFORE")
@click.argument("after", metavar="AFTER")
@opt.stacked(
    click.option("--name", default="given", show_default=True, help="How the report calls what made AFTER."),
    evaluate.recogniser,
    click.option("--limit", type=click.IntRange(1), help="Only so many pictures, spread over all."),
    evaluate.setting,
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

    bench = evaluate.make_bench(Path(before), Path(before).name or before, options)
    subject = Subject(options["name"], folder=Path(after))
    bench.maker(subject, [])
    plan = from_names(Path(before), options["limit"], bench.study.draw)
    bench.read(plan.names)
    runs = (evaluate_subject(bench, one, plan)[0] for one in (Subject("original"), subject))
    done = evaluate.print_runs(runs, PAIR_COLUMNS, options["as_json"])
    evaluate.finish(done, options)
    lost = done[-1].figure("pictures missing")
    return 1 if bench.originals.failed or (lost and lost.value) else 0


PAIRS_COLUMNS = ("match rate", "self match rate", "stranger match rate", "faces found", "rank-1", "SSIM")


@click.command("pairs", cls=opt.Command)
@click.argument("images", metavar="FOLDER")
@opt.stacked(
    click.option("--pairs", required=True, metavar="FILE",
                 help="CSV with columns a, b (files in FOLDER), same (1, 0); or LFW's pairs.txt."),
    evaluate.methods(evaluate.DEFAULT),
    evaluate.measured,
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

    bench = evaluate.make_bench(Path(images), Path(images).parent.name or images, options)
    wanted = evaluate.subjects(options["methods"], options["seed"])
    plan = from_pairs(Path(options["pairs"]), options["limit"], bench.study.draw)
    bench.read(plan.names)
    done = (evaluate_subject(bench, one, plan, evaluate.kept(options, one.label))[0] for one in wanted)
    evaluate.finish(evaluate.print_runs(done, PAIRS_COLUMNS, options["as_json"]), options)
    return 1 if bench.originals.failed else 0


FOLDER_COLUMNS = ("match rate", "self match rate", "rank-1", "DIV", "faces found", "SSIM")


@click.command("folder", cls=opt.Command)
@click.argument("folder", metavar="FOLDER")
@opt.stacked(
    evaluate.methods(evaluate.DEFAULT),
    click.option("--people", type=click.IntRange(2), default=50, show_default=True, help="People in a closed set."),
    click.option("--draws", type=click.IntRange(1), default=5, show_default=True, help="Closed sets that are drawn."),
    evaluate.measured,
)  # fmt: skip
def folder_command(folder: str, **options: Any) -> int:
    """Verification, closed-set identification and utility over FOLDER, which has one sub-folder a person.

    Pairs are drawn: two pictures of each person in turn, and as many of strangers. Identification: one picture of each
    of --people people is known, another is replaced; --draws times.

    \b
    deid evaluate folder staff/ --methods original,cleanir:angle=150 --limit 500
    """
    from deidcli.evaluation.plan import evaluate_subject, from_folder

    bench = evaluate.make_bench(Path(folder), Path(folder).name or folder, options)
    wanted = evaluate.subjects(options["methods"], options["seed"])
    plan = from_folder(Path(folder), options["limit"], bench.study.draw, options["people"], options["draws"])
    bench.read(plan.names)
    done = (evaluate_subject(bench, one, plan, evaluate.kept(options, one.label))[0] for one in wanted)
    evaluate.finish(evaluate.print_runs(done, FOLDER_COLUMNS, options["as_json"]), options)
    return 1 if bench.originals.failed else 0


LOOKS_COLUMNS = ("told from photographs", "Fréchet distance", "milliseconds a face")


@click.command("looks", cls=opt.Command)
@click.argument("folder", metavar="FOLDER")
@opt.stacked(
    evaluate.methods("cleanir,ksame-m,blur"),
    click.option("--split", metavar="FILE", required=True,
                 help="CSV with columns person, split: `train` trains the classifier, `val` is classified."),
    click.option("--train", type=click.IntRange(5), default=300, show_default=True,
                 help="People whose photographs train the classifier, one each."),
    click.option("--test", type=click.IntRange(5), default=150, show_default=True,
                 help="People whose photographs it is tested on."),
    evaluate.measured,
)  # fmt: skip
def looks_command(folder: str, **options: Any) -> int:
    """How recognisable new faces are as replaced ones in FOLDER, which has one sub-folder a person.

    A classifier learns to distinguish replaced crops from untouched ones of the same photographs, and is tested on
    other people: half is chance. The Fréchet distance compares the crops as the recogniser describes them. Each method
    has the same photographs and the same training.

    \b
    deid evaluate looks lfw/images --split lfw/people.csv --methods cleanir,blur
    """
    from deidcli.evaluation.utility import LooksPlan, looks

    bench = evaluate.make_bench(Path(folder), Path(folder).parent.name or folder, options, labels=False)
    wanted = evaluate.subjects(options["methods"], options["seed"])
    plan = LooksPlan.read(Path(folder), Path(options["split"]), options["train"], options["test"])
    bench.read([*plan.train, *plan.test])
    done = (looks(bench, one, plan) for one in wanted)
    evaluate.finish(evaluate.print_runs(done, LOOKS_COLUMNS, options["as_json"]), options)
    return 0


DOWNSTREAM_COLUMNS = ("expression learnt", "expression learnt, words alike", "face told from beside it")


@click.command("downstream", cls=opt.Command)
@click.argument("folder", metavar="FOLDER")
@opt.stacked(
    evaluate.methods("original,cleanir,blur"),
    click.option("--split", metavar="FILE", required=True,
                 help="CSV with columns person, split: pictures of `train` are trained on, of `val` tested."),
    click.option("--labels", metavar="FILE", required=True, help="CSV with columns image, expression."),
    click.option("--train", type=click.IntRange(10), default=1000, show_default=True, help="Pictures to train on."),
    click.option("--test", type=click.IntRange(10), default=1000, show_default=True, help="Pictures to test on."),
    click.option("--epochs", type=click.IntRange(1), default=10, show_default=True, help="Of 100 batches of 32."),
    click.option("--networks", type=click.IntRange(1), default=1, show_default=True,
                 help="Classifiers that are trained on the same pictures, and whose answers are averaged."),
    evaluate.setting,
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
    from deidcli.evaluation.utility import DownstreamPlan, downstream

    # Nobody is compared here; faces of originals are described all the same.
    options |= {"recogniser": None, "distance": None}
    bench = evaluate.make_bench(Path(folder), Path(folder).parent.name or folder, options, labels=False)
    wanted = evaluate.subjects(options["methods"], options["seed"])
    sides = Path(options["split"]), Path(options["labels"]), options["train"], options["test"]
    plan = DownstreamPlan.read(Path(folder), *sides)
    bench.read([*plan.train, *plan.test])
    done = (downstream(bench, one, plan, options["epochs"], options["networks"]) for one in wanted)
    evaluate.finish(evaluate.print_runs(done, DOWNSTREAM_COLUMNS, options["as_json"]), options)
    return 0


@click.command("detection", cls=opt.Command)
@opt.inputs
@opt.stacked(
    click.option("--detectors", default="cnn,hog", show_default=True, metavar="NAME,...",
                 help="What to compare: cnn, hog, mtcnn, yunet:FILE, all; NAME@N doubles the picture N times before."),
    click.option("--truth", metavar="FILE",
                 help="The known faces: what `deid detect` prints, or labels in pixels (COCO, CVAT, Pascal VOC)."),
    click.option("--central", is_flag=True, help="The known face of each picture is the one in its middle (LFW)."),
    click.option("--limit", type=click.IntRange(1), help="Only so many files, spread over all."),
    click.option("--json", "as_json", is_flag=True, help="A JSON line a detector instead of a table."),
    click.option("--plot", metavar="FILE", help="Draw the table, too (needs the extra eval)."),
    opt.searching,
    opt.listing,
    opt.device,
    opt.config,
    opt.progress,
)  # fmt: skip
def detection_command(inputs: tuple[str, ...], **options: Any) -> int:
    """Compare detectors on INPUT... (files and folders of pictures, or of the frames of a video).

    Columns: frames searched, faces found, frames without any; with --central the share of frames whose middle lies in a
    face; with --truth recall and precision at an intersection over union of 0.5; milliseconds a frame without reading;
    then, for each other detector, the share of these faces that it finds too.

    \b
    deid evaluate detection lfw/images --central --detectors hog,cnn,mtcnn,all
    deid evaluate detection frames/ --truth checked.jsonl --plot detectors.png
    """
    from deidcli.evaluation.detection import plot, rates

    use_device(options["device"])
    jobs = gather(inputs, None, options["files_from"], options["null"])
    jobs = jobs[:: max(1, len(jobs) // options["limit"])][: options["limit"]] if options["limit"] else jobs
    truth = read_faces(Path(options["truth"]), [job.name for job in jobs]) if options["truth"] else None
    rows = rates([_searched(jobs, name, options) for name in options["detectors"].split(",")], truth)
    if options["plot"]:
        plot(rows, Path(options["plot"]))
    if options["as_json"]:
        for row in rows:
            click.echo(json.dumps(asdict(row)))
    else:
        _table(rows, options["central"])
    return 0 if not any(row.failed for row in rows) else 3 if not any(row.frames for row in rows) else 1


def _searched(jobs: list, name: str, options: dict[str, Any]):
    from deidcli.evaluation.detection import search
    from deidcli.faces.detectors import detector

    word, _, doublings = name.partition("@")
    wanted = opt.detect_options({**options, "detector": word})
    if doublings:
        wanted = replace(wanted, upsample=opt.whole(doublings, f"--detectors {name}"))
    style = "none" if options["quiet"] else options["progress"]
    steps = -(-len(jobs) // 16)
    return list(shown(search(jobs, name, detector(wanted)), steps, style, "batch"))[-1]


def _table(rows: Sequence, central: bool) -> None:
    known = rows[0].recall is not None
    head = ["detector", "frames", "faces", "empty"] + ["central"] * central + ["recall", "precision"] * known + ["ms"]
    names = [row.detector for row in rows] if len(rows) > 1 else []
    click.echo(_line(head + [f"by {name}" for name in names]))
    for row in rows:
        cells = [row.detector, row.frames, row.faces, row.empty]
        cells += [f"{row.central:.4f}"] * central
        cells += [f"{value:.4f}" for value in (row.recall, row.precision) if known]
        cells += [f"{row.milliseconds:.1f}"]
        cells += [f"{row.agreement[name]:.3f}" if name != row.detector else "-" for name in names]
        click.echo(_line(cells))


def _line(cells: Sequence) -> str:
    return f"{cells[0]:16}" + "".join(f"{cell:>12}" for cell in cells[1:])


PEOPLE_COLUMNS = ("left_strangers", "left", "doubted", "missed", "replaced", "unsure")


@click.command("people", cls=opt.Command)
@click.argument("folder", metavar="FOLDER")
@opt.stacked(
    click.option("--split", metavar="FILE", help="CSV with columns person, split; only `val` is looked at."),
    click.option("--sizes", default="1,10,50", show_default=True, metavar="N,...",
                 help="How many people there are pictures of."),
    click.option("--pictures", type=click.IntRange(1), default=1, show_default=True,
                 help="How many pictures there are of each of them."),
    click.option("--limit", type=click.IntRange(1), help="Only so many people, spread over all."),
    evaluate.cache,
    opt.seed,
    opt.detection,
    opt.device,
    click.option("--json", "as_json", is_flag=True, help="A JSON line a row instead of a table."),
    opt.config,
    opt.progress,
)  # fmt: skip
def people_command(folder: str, **options: Any) -> int:
    """Measure --keep-people and --only-people over FOLDER, which has one sub-folder a person.

    Some people's first pictures are taken for those that are at hand, and every other picture is looked at. With
    --keep-people: strangers who are left (the error that matters), and of those who consented who is left, and who is
    replaced as doubtful. With --only-people: subjects who are left (the error that matters), strangers who are
    replaced, and how many of all strangers as doubtful. The share, and in brackets what it is at most, at 95 %. By
    both recognisers, as a run decides, and by each alone.

    \b
    deid evaluate people lfw/images --split lfw/people.csv
    """
    from deidcli.evaluation.bench import evenly, pictures_of
    from deidcli.evaluation.detection import people_rates
    from deidcli.evaluation.originals import Cache, Originals
    from deidcli.faces.people import is_comparable
    from deidcli.faces.recognisers import recogniser
    from deidcli.training.data import split_of

    use_device(options["device"])
    sizes = [opt.whole(word, f"--sizes {options['sizes']}") for word in options["sizes"].split(",")]
    people = pictures_of(Path(folder))
    if options["split"]:
        wanted = split_of(Path(options["split"]), "val")
        people = {who: names for who, names in people.items() if who in wanted}
    people = {who: people[who] for who in evenly(sorted(people), options["limit"])}
    cache = evaluate.cache_folder(options)
    kept = Cache(cache) if cache else None
    originals = Originals(Path(folder), opt.detect_options(options), recogniser("both"), kept)
    names = [name for own in people.values() for name in own]
    for _ in shown(originals.read(names), len(names), "none" if options["quiet"] else options["progress"], "picture"):
        pass
    rows = {name: known.descriptor for name, known in originals.known.items() if is_comparable(known.face)}
    untold = len(originals.known) - len(rows)
    if not any(sum(name in rows for name in own) > options["pictures"] for own in people.values()):
        raise UsageError(f"{folder}: nobody has more than {options['pictures']} pictures with a face", "add pictures")
    for number, rates in enumerate(people_rates(rows, people, sizes, options["pictures"], options["seed"] or 0)):
        click.echo(json.dumps(asdict(rates)) if options["as_json"] else _people_line(rates, not number))
    say(f"{len(rows)} faces of {len(people)} people; {len(originals.blank)} pictures without one, and {untold} faces "
        "too small or turned away to be compared, which are always replaced")  # fmt: skip
    for reason in originals.failed.values():
        say(f"deid: {reason}")
    return 1 if originals.failed else 0


def _people_line(rates: PeopleRates, head: bool) -> str:
    def cell(rate: Rate) -> str:
        return f"{rate.share:8.3%} ({rate.most:.3%})"

    said = f"{rates.by:6} {rates.people:7} {rates.pictures:9} " + " ".join(
        f"{cell(getattr(rates, name)):>19}" for name in PEOPLE_COLUMNS
    )
    if not head:
        return said
    above = f"{'':24} {'--keep-people: ':>19}{'':40} {'--only-people: ':>19}"
    titles = ("strangers left", "consenting left", "in doubt", "subjects left", "others replaced", "others in doubt")
    names = f"{'by':6} {'people':>7} {'pictures':>9} " + " ".join(f"{title:>19}" for title in titles)
    return "\n".join((above, names, said))
