"""The `review` command: one page on which people decide what is to become of every face."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import click

from deidcli.cli import options as opt
from deidcli.cli.progress import say, shown
from deidcli.engine.manifest import encoded
from deidcli.engine.zones import Instructions, load_instructions
from deidcli.errors import UsageError


@click.command(cls=opt.Command)
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
def command(output: str, **options: Any) -> int:
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
