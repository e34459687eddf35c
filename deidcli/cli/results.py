"""The `verify`, `review` and `report` commands: an output folder judged, reviewed by people, and accounted for."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deidcli.cli import options as opt
from deidcli.cli.progress import say, shown
from deidcli.engine.manifest import encoded
from deidcli.engine.zones import Instructions, load_instructions
from deidcli.errors import UsageError
from deidcli.faces.detectors import DEFAULTS, default
from deidcli.networks.backend import use_device

if TYPE_CHECKING:
    from deidcli.evaluation.verify import Verdict
    from deidcli.evaluation.verify.measure import Judge
    from deidcli.evaluation.verify.records import Records


FINE, WRONG, NOTHING = 0, 1, 3
SUFFIX = ".png"
FORMATS = ("text", "json", "junit")
NO_MANIFEST = "none"

sheet = click.option(
    "--sheet", metavar="FILE", help="Draw those files, before and after, as a PNG. It shows real faces."
)
look = click.option("--look", type=click.IntRange(1), default=20, show_default=True, help="How many files to name.")


@click.command("verify", cls=opt.Command)
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
def verify_command(inputs: str, output: str, **options: Any) -> int:
    """Check the folder OUT, written by any tool, against the folder IN that it was made from.

    Names missing and extra files, faces in OUT that are as they were or are still recognised, metadata that identify
    people, and files that are not what the manifest says. Whatever can be checked is checked, whatever the manifest
    says, and no manifest is needed.

    Exit status: 0 nothing looks wrong; 1 something does; 2 usage; 3 nothing could be looked at.

    \b
    deid verify in/ out/
    deid verify --frames 0 --format junit in/ out/ > verify.xml
    """
    from deidcli.evaluation.verify import WRONG as KINDS
    from deidcli.evaluation.verify.formats import as_json, as_junit, as_text
    from deidcli.evaluation.verify.records import paired

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
    from deidcli.evaluation.verify import judged
    from deidcli.evaluation.verify.measure import Examiner, chosen, examined
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


@click.command("review", cls=opt.Command)
@click.argument("output", metavar="OUTPUT")
@opt.stacked(
    click.option("--originals", metavar="INPUT",
                 help="Show the faces as they were, too, and group them by likeness. The page then holds open faces: "
                      "it is written for its owner alone."),
    click.option("--page", metavar="FILE", help="Where the page goes; default: OUTPUT.review.html beside OUTPUT."),
    click.option("--decisions", metavar="FILE", help="Go on with what was decided before."),
    click.option("--list", "listed", is_flag=True, help="Print the faces in doubt as JSON lines, and write no page."),
    click.option("--limit", type=click.IntRange(1), default=2000, show_default=True,
                 help="Only so many faces or tracks, those in doubt first."),
    opt.config,
    opt.progress,
)  # fmt: skip
def review_command(output: str, **options: Any) -> int:
    """Write a page about OUTPUT, a folder that `deid anonymize` wrote, in which everything is contained: no server, no
    network.

    It shows a card for each face or track, those in doubt first, with "replace", "cover", "leave" and, where the run
    took it for somebody, "wrong person"; the tracks of videos on a line of time; and pictures on which zones are drawn.
    "Save decisions" gives a file; the command as before with `--decisions FILE` does again what changed.

    \b
    deid review out/ --originals in/
    deid anonymize --method cleanir in/ out/ --decisions deid-decisions.jsonl
    """
    from deidcli.evaluation import review

    out = Path(output)
    if not out.is_dir():
        raise UsageError(f"{out}: there is no such folder", "name the OUTPUT of `deid anonymize`")
    if options["listed"]:
        for entry in review.doubtful(out):
            click.echo(encoded(json.dumps(entry, ensure_ascii=False)))
        return 0
    originals = Path(options["originals"]) if options["originals"] else None
    if originals is not None and not originals.exists():
        raise UsageError(f"--originals {originals}: there is no such folder", "name the INPUT of the run")
    instructions = (
        load_instructions(Path(options["decisions"]), "--decisions") if options["decisions"] else Instructions()
    )
    page = Path(options["page"]) if options["page"] else out.resolve().with_name(f"{out.resolve().name}.review.html")
    files, cards = review.reviewed(out, originals)
    kept, judge = cards[: options["limit"]], _judge() if originals else None
    problems = []
    order = sorted(range(len(files)), key=lambda number: min((n for n, c in enumerate(kept) if c.file == number),
                                                             default=len(kept)))  # fmt: skip
    style = "none" if options["quiet"] else options["progress"]
    for place, number in enumerate(shown(order, len(order), style)):
        own = [card for card in kept if card.file == number]
        problem = review.add_pictures(files[number], own, place < review.PICTURES, judge)
        problems += [problem] if problem else []
    _write(page, review.page(out, files, kept, judge, instructions))
    for problem in problems:
        say(f"deid: {problem}")
    if not options["decisions"] and review.was_decided(out):
        say("deid: the run was given decisions or zones that this page does not have, and a file saved on it lacks"
            " them: go on with them by --decisions FILE")  # fmt: skip
    if not options["quiet"]:
        more = f", and {len(cards) - len(kept)} more that --limit leaves out" if len(cards) > len(kept) else ""
        warned = "; it shows faces as they were" if originals else ""
        say(f"{page}: {len(kept)} faces or tracks of {len(files)} files{more}{warned}")
    return 1 if problems else 0


def _judge() -> Any:
    from deidcli.engine.settings import RECOGNISER
    from deidcli.faces.recognisers import recogniser

    return recogniser(RECOGNISER)


def _write(path: Path, text: str) -> None:
    """Write a page that only its owner can read. Raises UsageError."""
    try:
        with open(path, "w", encoding="utf-8", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(text)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}", "name another file with --page") from error


@click.command("report", cls=opt.Command)
@click.argument("output", metavar="OUTPUT")
@opt.stacked(
    click.option("--originals", metavar="INPUT",
                 help="The inputs of the run: those of which no manifest speaks are named, too."),
    click.option("--manifest", metavar="FILE", help="Where the manifest lies; default: every manifest in OUTPUT."),
    click.option("--page", metavar="FILE", help="Where the page goes, and the PDF and JSON beside it; default: "
                                                "OUTPUT.audit.html beside OUTPUT."),
    click.option("--sign", type=click.Choice(("auto", "minisign", "gpg")), is_flag=False, flag_value="auto",
                 help="Sign the JSON file, which holds the sha256 of page and PDF; auto: minisign, else GPG."),
    click.option("--key", metavar="KEY", help="With --sign: GPG's name of a key, or minisign's secret key file."),
    opt.config,
    click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors."),
)  # fmt: skip
def report_command(output: str, **options: Any) -> int:
    """Write an audit of OUTPUT, a folder that `deid anonymize` wrote: a page, a PDF, and JSON for programs.

    What ran, by which version and with which weights and licences; what this version measured of the method; how many
    files and faces; everything that failed, was covered, left, not compared or left out; the sha256 of every manifest.
    Each result is read and compared with its manifest. No picture and no secret is in it, but the names of files are.

    Exit status: 0 nothing is wrong; 1 a file failed, is missing, was altered or was left out; 2 usage.

    \b
    deid report out/ --originals in/
    deid report out/ --sign gpg --key dpo@example.org
    """
    from deidcli.evaluation.audit import audit
    from deidcli.evaluation.report.audit import sign, signer, write_audit

    out = Path(output)
    program = signer(options["sign"]) if options["sign"] else ""
    if options["key"] and not program:
        raise UsageError("--key belongs to --sign", "give --sign, too")
    page = Path(options["page"]) if options["page"] else out.resolve().with_name(f"{out.resolve().name}.audit.html")
    if page.suffix != ".html":
        raise UsageError(f"--page {page}: a page ends in .html", "name a file like audit.html")
    originals, manifest = (Path(text) if text else None for text in (options["originals"], options["manifest"]))
    said = audit(out, originals, manifest)
    written = write_audit(said, page)
    if program:
        written.append(sign(written[-1], program, options["key"] or ""))
    if not options["quiet"]:
        say(f"{', '.join(map(str, written))}: {said['wrong'] or 'nothing'} wrong")
    return 1 if said["wrong"] else 0
