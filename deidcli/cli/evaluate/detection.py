"""`evaluate detection`: what each detector finds, and how long it takes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click

from deidcli.cli import options as opt
from deidcli.cli.listing import gather
from deidcli.cli.progress import shown
from deidcli.engine.labels import read_faces
from deidcli.networks.device import use_device


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
def command(inputs: tuple[str, ...], **options: Any) -> int:
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
