"""The `detect` and `align` commands: where the faces are, and upright crops of them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import click
import numpy as np

from deidcli.cli import options as opt
from deidcli.cli.inputs import gather, read_options, reading
from deidcli.cli.progress import say, shown
from deidcli.engine.face_list import COLUMNS, face_entry, misplaced
from deidcli.engine.frames import FileFailure, FileFrame, FrameOrFailure
from deidcli.engine.jobs import Job, check_apart
from deidcli.engine.labels import FORMATS, PER_PICTURE, Labelled, document, labelled, put_labels
from deidcli.engine.manifest import encoded
from deidcli.engine.output import OutputFolder
from deidcli.engine.settings import RECOGNISER
from deidcli.errors import DeidError, UsageError, one_line
from deidcli.faces.align import align
from deidcli.faces.landmarks import serves
from deidcli.faces.tracking import TrackOptions
from deidcli.networks.backend import use_device
from deidcli.presets import sha256
from deidcli.values import Crop, CropSpec, Face


@click.command("detect", cls=opt.Command)
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
def detect_command(inputs: tuple[str, ...], form: str, **options: Any) -> int:
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


@click.command("align", cls=opt.Command)
@opt.inputs
@click.argument("output", metavar="OUTPUT")
@opt.stacked(
    click.option("--size", type=click.IntRange(8, 2048), default=64, show_default=True, help="Side of a crop, pixels."),
    click.option("--margin", type=opt.Real(0, 2), default=0.06, show_default=True,
                 help="Surroundings on each side, as a share of the face."),
    click.option("--pack", is_flag=True,
                 help="Write one .npz file with crops, descriptors, landmarks and labels instead of a folder of PNG "
                      "files. A pack that was made of the same files with the same settings is left as it is."),
    click.option("--frame", type=click.Choice(["upright", "canonical"]), default="upright", show_default=True,
                 help="Of a pack: crops that are turned upright, or textures unwrapped in the canonical frame, with "
                      "shapes and the descriptors of two recognisers."),
    click.option("--largest", is_flag=True, help="Take one face of each picture: the largest near the middle."),
    click.option("--only", metavar="FILE", help="CSV of people (person,split): take only those of --split."),
    click.option("--split", default="train", show_default=True, help="Which people of --only."),
    click.option("--labels", metavar="FILE",
                 help="CSV with a head, file names in its first column: the others become labels of the pack."),
    opt.detection,
    opt.faces,
    opt.device,
    opt.workers,
    opt.listing,
    opt.config,
    opt.progress,
)  # fmt: skip
def align_command(inputs: tuple[str, ...], output: str, **options: Any) -> int:
    """Cut the faces of INPUT... out, turn them upright, and write them to OUTPUT (a folder, or a file with --pack).

    \b
    deid align --size 256 in/ crops/
    deid align --pack --largest --only people.csv --split train lfw/images train.npz
    deid align --pack --frame canonical --size 128 --largest in/ textures.npz
    """
    from deidcli.training.data import split_of

    if options["frame"] == "canonical" and not options["pack"]:
        raise UsageError("--frame canonical goes with --pack", "leave one out")
    use_device(options["device"])
    options["detect"] = opt.detect_options(options)
    jobs = gather(inputs, None, options["files_from"], options["null"])
    if options["only"]:
        people = split_of(Path(options["only"]), options["split"], "--only")
        jobs = [job for job in jobs if job.name.split("/")[0] in people]
    failed: list[str] = []
    write = _pack if options["pack"] else _folder
    count = write(jobs, options, Path(output), failed)
    if count is None:
        say(f"{output} is up to date")
        return 0
    say(f"{count} faces of {len(jobs)} files in {output}")
    return 3 if not count else 1 if failed else 0


def _pack(jobs: list[Job], options: dict[str, Any], output: Path, failed: list[str]) -> int | None:
    """Write one pack, whole or not at all. How many faces are in it; None where it is there already."""
    from deidcli.faces.attributes import load_labels
    from deidcli.training.data import WINDOW, origin_of, pack_faces, pack_origin, unwrapped, write_pack, write_textures

    check_apart(output, jobs)
    wanted = [options[name] for name in ("size", "margin", "largest", "frame")] + [options["detect"]]
    wanted += [sha256(Path(options[name])) for name in ("faces", "labels") if options[name]]
    said = pack_origin(jobs, *wanted)
    if origin_of(output) == said:
        return None
    labels = load_labels(Path(options["labels"])) if options["labels"] else {}
    if options["frame"] == "canonical":
        windows = (crop for crop, _ in _crops(jobs, options, failed, WINDOW))
        textures = unwrapped(windows, options["size"], labels)
        if textures is not None:
            write_textures(textures, output, said if not failed else "")
        return len(textures or ())
    pack = pack_faces(_crops(jobs, options, failed, CropSpec(options["size"], options["margin"])), labels)
    if pack is not None:
        write_pack(pack, output, said if not failed else "")
    return len(pack or ())


def _crops(jobs: list, options: dict[str, Any], failed: list[str], spec: CropSpec) -> Iterator[tuple[Crop, np.ndarray]]:
    """Every face that can be aligned, with the chip that the recogniser sees of it; errors are reported and noted."""
    from deidcli.engine.local import find
    from deidcli.faces.recognisers import recogniser

    alone = TrackOptions(track=False)  # only landmarks that were located in the very frame are of use here
    given = opt.given_faces(options, [job.name for job in jobs])
    judge = recogniser(RECOGNISER)
    style = "none" if options["quiet"] else options["progress"]
    for item in shown(find(jobs, options["detect"], given, options["workers"], track=alone), len(jobs), style, "frame"):
        if isinstance(item, FileFailure):
            _note(item.error, failed)
            continue
        faces = [face for face in item.faces if serves(spec, face, item.frame)]
        for face in _central(faces, item.frame.width, item.frame.height) if options["largest"] else faces:
            key = f"{item.source.job.name}#{item.frame.index}.{face.track}"
            yield align(item.frame, face, spec, key), judge.chips(item.frame.pixels, [face])[0]


def _note(error: str, failed: list[str]) -> None:
    say(f"deid: {error}")
    failed.append(error)


def _central(faces: list[Face], width: int, height: int) -> list[Face]:
    """The face that matters most: large, and not far from the middle."""

    def weight(face: Face) -> float:
        x, y = face.box.center
        return face.box.width / width - abs(x / width - 0.5) - abs(y / height - 0.5)

    return [max(faces, key=weight)] if faces else []


def _folder(jobs: list[Job], options: dict[str, Any], output: Path, failed: list[str]) -> int | None:
    """Write a PNG for each crop, whole or not at all; crops of an earlier run are replaced. How many were written."""
    from PIL import Image

    count, folder = 0, OutputFolder(output, overwrite=True)
    for crop, _ in _crops(jobs, options, failed, CropSpec(options["size"], options["margin"])):
        name, _, number = crop.key.rpartition("#")
        target = folder.target(output / f"{name}.{number}.png")
        try:
            Image.fromarray(crop.pixels).save(target.open(), "PNG")
            target.commit()
            count += 1
        except (DeidError, OSError) as error:
            target.discard()
            _note(one_line(error), failed)
    folder.close()
    return count
