"""`evaluate detection` and `people`: what detectors find, and how often people are taken for others."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deidcli.cli import measuring
from deidcli.cli import options as opt
from deidcli.cli.inputs import gather
from deidcli.cli.progress import say, shown
from deidcli.engine.labels import read_faces
from deidcli.errors import UsageError
from deidcli.networks.device import use_device

if TYPE_CHECKING:
    from deidcli.evaluation.people import PeopleRates, Rate


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
    measuring.cache,
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
    from deidcli.evaluation.originals import Cache, Originals
    from deidcli.evaluation.people import people_rates
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
    cache = measuring.cache_folder(options)
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
