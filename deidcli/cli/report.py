"""The `report` command: what a data-protection officer asks of a folder, as a page, a PDF and JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from deidcli.cli import options as opt
from deidcli.cli.progress import say
from deidcli.errors import UsageError


@click.command(cls=opt.Command)
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
def command(output: str, **options: Any) -> int:
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
