"""`evaluate quick`: how safe a folder is, without labels."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from deidcli.cli import options as opt
from deidcli.cli.devices import use_device
from deidcli.cli.progress import shown
from deidcli.engine.jobs import MANIFEST
from deidcli.errors import UsageError

FINE, WRONG = 0, 1
SUFFIX = ".png"


@click.command("quick", cls=opt.Command)
@click.argument("output", metavar="OUT_DIR")
@opt.stacked(
    click.option("--input", "inputs", metavar="IN_DIR",
                 help="The originals; without them no face is compared and only the results are searched."),
    click.option("--manifest", metavar="FILE", help=f"Where it lies; default: every manifest in OUT_DIR ({MANIFEST})."),
    click.option("--limit", type=click.IntRange(0), default=0, show_default=True,
                 help="Look at so many files again at most; 0: no limit."),
    click.option("--seconds", type=opt.Real(0), default=60, show_default=True,
                 help="Stop looking after so long; 0: look at all."),
    click.option("--look", type=click.IntRange(1), default=20, show_default=True, help="How many files to name."),
    click.option("--sheet", metavar="FILE", help="Draw those files, before and after, as a PNG. It shows real faces."),
    opt.recogniser,
    click.option("--distance", type=opt.Real(0), help="Threshold of the recogniser; default: its own."),
    opt.detection,
    click.option("--json", "as_json", is_flag=True, help="One JSON object instead of text."),
    opt.device,
    opt.config,
    opt.progress,
)  # fmt: skip
def command(output: str, **options: Any) -> int:
    """Say how safe OUT_DIR is that `deid anonymize` has written, and which files to look at first.

    Reads the manifest, looks for a minute at the files again, the likeliest trouble first: are new faces still taken
    for their originals, are there faces that the run did not know, is every file what was written. It says, too, what
    it cannot know. Exit status: 0 nothing looks wrong; 1 something does.

    \b
    deid evaluate quick out/ --input in/
    deid evaluate quick out/ --input in/ --seconds 0 --detector all --sheet look.png
    """
    from deidcli.evaluation.verify.records import load
    from deidcli.evaluation.verify.words import told

    use_device(options["device"])
    sheet = _sheet_path(options["sheet"], Path(output))
    place = options["inputs"] and Path(options["inputs"]), options["manifest"] and Path(options["manifest"])
    verdict = _verdict(load(Path(output), *place), options)
    if sheet:
        _draw(verdict.look, sheet)
    if options["as_json"]:
        click.echo(json.dumps(asdict(verdict) | {"wrong": verdict.wrong}, default=str))
    else:
        click.echo(told(verdict))
    return WRONG if verdict.wrong else FINE


def _verdict(records, options: dict[str, Any]):
    from deidcli.evaluation.verify.measure import Examiner, chosen, examined
    from deidcli.evaluation.verify.verdict import judged
    from deidcli.faces.detect import detector
    from deidcli.faces.embed import recogniser

    judge, detect = recogniser(options["recogniser"]), opt.detect_options(options)
    threshold = judge.threshold if options["distance"] is None else options["distance"]
    total = len(chosen(records.records, options["limit"]))
    checks = examined(
        records.records, Examiner(detector(detect), judge, threshold), options["limit"], options["seconds"]
    )
    style = "none" if options["quiet"] else options["progress"]
    if options["seconds"] and style != "none":
        click.echo(f"looking at up to {total} files, for {options['seconds']:g} s", err=True)
    looked = list(shown(checks, total, style))
    return judged(records, looked, judge, threshold, detect.detector, options["look"])


def _sheet_path(text: str | None, output: Path) -> Path | None:
    """Raises UsageError for a file that is there, because it may be one of the pictures, and for one in the folder."""
    if text is None:
        return None
    if Path(text).suffix.lower() != SUFFIX:
        raise UsageError(f"--sheet {text}: a sheet is a PNG", "name a file like look.png")
    if Path(text).exists():
        raise UsageError(f"--sheet {text}: this file exists", "name another file, or remove it")
    if Path(text).resolve().is_relative_to(output.resolve()):
        raise UsageError(f"--sheet {text}: it would show real faces in {output}", "name a file outside of it")
    return Path(text)


def _draw(looks: Sequence, path: Path) -> None:
    from deidcli.evaluation.report.sheets import Tile, around, save, sheet

    tiles = []
    for number, look in enumerate(looks, 1):
        worst = look.findings[0]
        before, after = (around(file, worst.frame, worst.box) for file in (worst.before, worst.after))
        tiles.append(Tile(before, after, f"{number}. {look.name}", worst.text))
    if tiles:
        save(sheet(tiles), path)
        click.echo(f"{path} shows faces as they were: keep it as you keep the originals", err=True)
