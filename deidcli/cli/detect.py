"""The `detect` command: where the faces are, as JSON lines, CSV, or labels of a data set."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import click

from deidcli.cli import options as opt
from deidcli.cli.inputs import gather, read_options, reading
from deidcli.cli.progress import say, shown
from deidcli.engine.face_list import COLUMNS, face_entry, misplaced
from deidcli.engine.frames import FileFailure, FileFrame, FrameOrFailure
from deidcli.engine.labels import FORMATS, PER_PICTURE, Labelled, document, labelled, put_labels
from deidcli.engine.manifest import encoded
from deidcli.engine.output import OutputFolder
from deidcli.errors import UsageError
from deidcli.networks.device import use_device


@click.command(cls=opt.Command)
@opt.inputs
@opt.stacked(
    click.option("--format", "form", type=click.Choice(["json", "csv", *FORMATS]), default="json", show_default=True,
                 help="JSON lines, a line a frame with landmarks; CSV, a row a face; or labels of a data set."),
    click.option("-o", "--out", metavar="DIR",
                 help="Write labels as a file for each input into this folder; yolo and voc need it."),
    opt.detection,
    opt.tracking,
    opt.faces,
    reading,
    opt.device,
    opt.workers,
    opt.listing,
    opt.config,
    opt.progress,
)  # fmt: skip
def command(inputs: tuple[str, ...], form: str, **options: Any) -> int:
    """Print the faces of INPUT... (files, folders, - for standard input) to standard output.

    `deid anonymize --faces FILE` takes the result back, edited or not. A file without a face has a line with none:
    a file that is missing from the list is refused there. A face with a "track" is taken as it stands there, without
    landmarks it is covered; one without "track" is located, and in a video followed like one that was found.

    \b
    deid detect in/ > faces.jsonl
    deid detect --format csv --upsample 2 crowd.jpg
    deid detect --format coco in/ > faces.json
    deid detect --format yolo --out labels/ in/

    \b
    JSON: {"input", "frame", "size": [width, height], "faces": [{"box": [left, top, right, bottom], "score", "track",
           "landmarks": 68 x [x, y] or null}], "error"}
    CSV:  input, frame, left, top, right, bottom, score
    """
    if form in ("json", "csv") and options["out"]:
        raise UsageError(f"--out does not belong to --format {form}", "send standard output into a file")
    if form in PER_PICTURE and not options["out"]:
        raise UsageError(f"--format {form} is a file for each picture", "name their folder with --out DIR")
    use_device(options["device"])
    jobs = gather(inputs, None, options["files_from"], options["null"], sequences=options["sequence"])
    return _print(jobs, form, options)


def _print(jobs: list, form: str, options: dict[str, Any]) -> int:
    from deidcli.engine.local import find

    detect = opt.detect_options(options)
    given = opt.given_faces(options, [job.name for job in jobs])
    style = "none" if options["quiet"] else options["progress"]
    failed: set[str] = set()

    def sound(items: Iterator[FrameOrFailure]) -> Iterator[FrameOrFailure]:
        for item in items:
            if isinstance(item, FileFailure):
                failed.add(item.source.job.name)
                say(f"deid: {item.error}")
            yield item

    track, read = opt.track_options(options), read_options(options)
    items = sound(shown(find(jobs, detect, given, options["workers"], read, track), len(jobs), style, "frame"))
    if form in FORMATS:
        _labels(items, form, Path(options["out"]) if options["out"] else None)
    else:
        _lines(items, form)
    return 0 if not failed else 3 if len(failed) == len(jobs) else 1


def _lines(items: Iterator[FrameOrFailure], form: str) -> None:
    if form == "csv":
        click.echo(_line(COLUMNS), nl=False)
    for item in items:
        if form == "json":
            click.echo(encoded(json.dumps(_row(item), ensure_ascii=False)))
        elif isinstance(item, FileFrame):
            for row in _csv_rows(item):
                click.echo(_line(row), nl=False)


def _labels(items: Iterator[FrameOrFailure], form: str, out: Path | None) -> None:
    """Labels of each file into the folder `out`, or of all of them to standard output."""
    files: dict[str, list[Labelled]] = {}
    for source, group in groupby(items, key=lambda item: item.source):
        frames = [labelled(item.frame, item.faces) if isinstance(item, FileFrame) else None for item in group]
        whole = [frame for frame in frames if frame is not None]
        if len(whole) < len(frames):
            continue  # a file that was not searched to its end has no labels
        if out is None:
            files[source.job.name] = whole
        else:
            put_labels(form, source.job.name, whole, out / source.job.name, OutputFolder(out, True)).commit()
    if out is None:
        click.echo(document(form, files), nl=False)


def _row(item: FrameOrFailure) -> dict[str, Any]:
    name = item.source.job.name
    if isinstance(item, FileFailure):
        return {"input": name, "frame": 0, "size": None, "faces": [], "error": item.error}
    # A face that is followed may be gone from the picture; a list that says where it would be does not fit.
    frame, found = item.frame, [face_entry(face) for face in item.faces if not misplaced(face, item.frame)]
    size = [frame.width, frame.height]
    return {"input": name, "frame": frame.index, "size": size, "sha256": item.source.sha256, "faces": found}


def _line(row: Sequence[Any]) -> bytes:
    """A line of CSV in UTF-8 on every system; a name that is no UTF-8 in its own bytes."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(row)
    return text.getvalue().encode("utf-8", "surrogateescape")


def _csv_rows(item: FileFrame) -> list[list[Any]]:
    name, index = item.source.job.name, item.frame.index
    rows = [
        [name, index, *face.box.as_list(), round(face.score, 4)]
        for face in item.faces
        if not misplaced(face, item.frame)
    ]
    return rows or [[name, index, "", "", "", "", ""]]
