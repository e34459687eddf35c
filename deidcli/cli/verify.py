"""The `verify` command: a written folder against its input, whatever tool has written it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deidcli.cli import options as opt
from deidcli.cli.progress import shown
from deidcli.errors import UsageError
from deidcli.faces.detectors import DEFAULTS, default
from deidcli.networks.device import use_device

if TYPE_CHECKING:
    from deidcli.evaluation.verify.measure import Judge
    from deidcli.evaluation.verify.records import Records
    from deidcli.evaluation.verify.verdict import Verdict

FINE, WRONG, NOTHING = 0, 1, 3
SUFFIX = ".png"
FORMATS = ("text", "json", "junit")
NO_MANIFEST = "none"

sheet = click.option(
    "--sheet", metavar="FILE", help="Draw those files, before and after, as a PNG. It shows real faces."
)
look = click.option("--look", type=click.IntRange(1), default=20, show_default=True, help="How many files to name.")


@click.command(cls=opt.Command)
@click.argument("inputs", metavar="IN")
@click.argument("output", metavar="OUT")
@opt.stacked(
    click.option("--manifest", metavar="FILE",
                 help=f"Where it lies, {NO_MANIFEST} to read none; default: those in OUT. It only adds places to look "
                      "at, and what the files should be."),
    click.option("--detector", metavar="NAME,...",
                 help="What looks for faces, together; default: that of `deid anonymize` and a second one."),
    opt.searching,
    click.option("--recogniser", metavar="NAME,...",
                 help="What takes two faces for one person; default: dlib, and sface where it is installed."),
    click.option("--frames", type=click.IntRange(0), default=8, show_default=True,
                 help="Look at so many frames of a video or animation, spread over it; 0: at all."),
    click.option("--metadata", type=click.Choice(("none", "safe", "all")), default="safe", show_default=True,
                 help="What a file may hold beside its picture."),
    click.option("--allow", metavar="KIND,...", default="",
                 help="Findings that are no failure, like missing,suspect; they are still reported."),
    click.option("--seconds", type=opt.Real(0), default=0, show_default=True,
                 help="Stop looking after so long; 0: look at all."),
    click.option("--format", type=click.Choice(FORMATS), default="text", show_default=True,
                 help="What goes to standard output."),
    look,
    sheet,
    opt.device,
    opt.config,
    opt.progress,
)  # fmt: skip
def command(inputs: str, output: str, **options: Any) -> int:
    """Check the folder OUT, written by any tool, against the folder IN that it was made from.

    Names missing and extra files, faces in OUT that are as they were or are still recognised, metadata that identify
    people, and files that are not what the manifest says. Whatever can be checked is checked, whatever the manifest
    says, and no manifest is needed.

    Exit status: 0 nothing looks wrong; 1 something does; 2 usage; 3 nothing could be looked at.

    \b
    deid verify in/ out/
    deid verify --frames 0 --format junit in/ out/ > verify.xml
    """
    from deidcli.evaluation.verify.formats import as_json, as_junit, as_text
    from deidcli.evaluation.verify.records import paired
    from deidcli.evaluation.verify.verdict import WRONG as KINDS

    use_device(options["device"])
    allowed = [word for word in options["allow"].split(",") if word]
    for word in allowed:
        if word not in KINDS:
            raise UsageError(f"--allow {word}: no finding is called so", f"there are {', '.join(KINDS)}")
    place = sheet_path(options["sheet"], Path(output))
    manifest = options["manifest"]
    listed = Path(manifest) if manifest and manifest != NO_MANIFEST else None
    records = paired(Path(output), Path(inputs), listed, trusted=manifest != NO_MANIFEST)
    names = _names(options["detector"], "centerface,cnn" if default() == DEFAULTS[0] else "cnn,hog")
    # A program reads all of it; a person what comes first.
    options |= {"look": options["look"] if options["format"] == "text" else 0, "limit": 0}
    verdict = looked(records, names, judges(options["recogniser"]), allowed, options, reach=0, both=True)
    if place:
        draw(verdict, place)
    if options["format"] == "text":
        click.echo(as_text(verdict))
    elif options["format"] == "json":
        click.echo(as_json(verdict))
    else:
        click.echo(as_junit(verdict, [record.name for record in records.records]))
    if not verdict.looked:
        return NOTHING
    return WRONG if verdict.wrong else FINE


def judges(names: str | None, distance: float | None = None) -> list[Judge]:
    """The recognisers that are named, with commas; without a name dlib, and sface where it is installed.

    distance: a threshold in place of their own. Raises UsageError.
    """
    from deidcli.evaluation.verify.measure import Judge
    from deidcli.faces.recognisers import DEFAULTS, default, recogniser

    known = [recogniser(name) for name in _names(names, "dlib,sface" if default() == DEFAULTS[0] else "dlib")]
    return [Judge(each, each.threshold if distance is None else distance) for each in known]


def looked(
    records: Records,
    detectors: Sequence[str],
    judged_by: Sequence[Judge],
    allowed: Sequence[str],
    options: dict[str, Any],
    reach: int,
    both: bool,
) -> Verdict:
    """The verdict of a second look. reach, both: as for `Examiner`."""
    from deidcli.evaluation.verify.measure import Examiner, chosen, examined
    from deidcli.evaluation.verify.verdict import judged
    from deidcli.faces.detectors import detector

    if len(detectors) > 1 and options["threshold"] is not None:
        raise UsageError("--threshold belongs to one detector", "name one with --detector")
    first = opt.detect_options({**options, "detector": detectors[0]})
    search = [detector(replace(first, detector=name)) for name in detectors]
    examiner = Examiner(search, judged_by, options["frames"], reach, options.get("metadata", ""), both)
    style = "none" if options["quiet"] else options["progress"]
    total = len(chosen(records.records, options["limit"]))
    if options["seconds"] and style != "none":
        click.echo(f"looking at up to {total} files, for {options['seconds']:g} s", err=True)
    checks = examined(records.records, examiner, options["limit"], options["seconds"])
    return judged(
        records, list(shown(checks, total, style)), judged_by, " and ".join(detectors), options["look"], allowed
    )


def _names(text: str | None, otherwise: str) -> list[str]:
    return [word.strip() for word in (text or otherwise).split(",") if word.strip()]


def sheet_path(text: str | None, output: Path) -> Path | None:
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


def draw(verdict: Verdict, path: Path) -> None:
    """Draw the files to look at, before and after."""
    from deidcli.evaluation.report.sheets import Tile, around, save
    from deidcli.evaluation.report.sheets import sheet as page

    tiles = []
    for number, each in enumerate(verdict.look, 1):
        worst = each.findings[0]
        before, after = (around(file, worst.frame, worst.box) for file in (worst.before, worst.after))
        tiles.append(Tile(before, after, f"{number}. {each.name}", worst.text))
    if tiles:
        save(page(tiles), path)
        click.echo(f"{path} shows faces as they were: keep it as you keep the originals", err=True)
