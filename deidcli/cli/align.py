"""The `align` command: upright crops of faces, as pictures in a folder or as one packed file for training."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np

from deidcli.cli import options as opt
from deidcli.cli.inputs import gather
from deidcli.cli.progress import say, shown
from deidcli.engine.frames import FileFailure
from deidcli.engine.jobs import Job, check_apart
from deidcli.engine.output import OutputFolder
from deidcli.engine.settings import RECOGNISER
from deidcli.errors import DeidError, UsageError, one_line
from deidcli.faces.align import align
from deidcli.faces.landmarks import serves
from deidcli.faces.tracking.options import TrackOptions
from deidcli.networks.device import use_device
from deidcli.presets import sha256
from deidcli.values import Crop, CropSpec, Face


@click.command(cls=opt.Command)
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
def command(inputs: tuple[str, ...], output: str, **options: Any) -> int:
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
    from deidcli.training.data import origin_of, pack_faces, pack_origin, write_pack
    from deidcli.training.textures import WINDOW, unwrapped, write_textures

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
