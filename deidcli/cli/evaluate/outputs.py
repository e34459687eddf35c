"""`evaluate quick` and `kanonymity`: what a finished run has reached, by its manifest."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from deidcli.cli import options as opt
from deidcli.cli import verify
from deidcli.engine.settings import RECOGNISER
from deidcli.engine.survey import MANIFEST
from deidcli.networks.device import use_device


@click.command("kanonymity", cls=opt.Command)
@click.argument("manifests", metavar="MANIFEST...", nargs=-1, required=True)
@opt.stacked(
    click.option("--k", type=click.IntRange(2), help="What is to hold; default: what the run promised."),
    click.option("--json", "as_json", is_flag=True, help="One JSON object instead of lines."),
    opt.config,
)  # fmt: skip
def kanonymity_command(manifests: tuple[str, ...], k: int | None, as_json: bool) -> int:
    """Check that every surrogate is shown for at least k people and no person has two; exit status 1 if not.

    It also looks for every output that is listed, and compares its sha256. Give the manifests of all parts of a run
    with --shard together.

    \b
    deid evaluate kanonymity out/deid-manifest.jsonl
    deid evaluate kanonymity out/deid-manifest-*-of-4.jsonl
    """
    from deidcli.evaluation.kanonymity import check

    verdict = check([Path(path) for path in manifests], k)
    if as_json:
        click.echo(json.dumps(asdict(verdict)))
    else:
        for problem in verdict.problems:
            click.echo(f"deid: {problem}", err=True)
        click.echo(verdict.line())
    return 0 if verdict.holds else 1


ALLOWED = ("missing",)  # results that were moved away; what is there is judged


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
    verify.look,
    verify.sheet,
    opt.recogniser(RECOGNISER),
    click.option("--distance", type=opt.Real(0), help="Threshold of the recogniser; default: its own."),
    opt.detection,
    click.option("--json", "as_json", is_flag=True, help="One JSON object instead of text."),
    opt.device,
    opt.config,
    opt.progress,
)  # fmt: skip
def quick_command(output: str, **options: Any) -> int:
    """Say how safe OUT_DIR is that `deid anonymize` has written, and which files to look at first.

    Reads the manifest, looks for a minute at the files again, the likeliest trouble first: are new faces still taken
    for their originals, are there faces that the run did not know, is every file what was written. It says, too, what
    it cannot know. `deid verify` looks at everything, and needs no manifest. Exit status: 0 nothing looks wrong;
    1 something does.

    \b
    deid evaluate quick out/ --input in/
    deid evaluate quick out/ --input in/ --seconds 0 --detector all --sheet look.png
    """
    from deidcli.evaluation.verify.formats import as_json, as_text
    from deidcli.evaluation.verify.measure import FRAMES, READ
    from deidcli.evaluation.verify.records import load

    use_device(options["device"])
    sheet = verify.sheet_path(options["sheet"], Path(output))
    place = options["inputs"] and Path(options["inputs"]), options["manifest"] and Path(options["manifest"])
    judges = verify.judges(options["recogniser"] or RECOGNISER, options["distance"])
    detectors = [opt.detect_options(options).detector]
    options |= {"frames": FRAMES}
    verdict = verify.looked(load(Path(output), *place), detectors, judges, ALLOWED, options, reach=READ, both=False)
    if sheet:
        verify.draw(verdict, sheet)
    click.echo(as_json(verdict) if options["as_json"] else as_text(verdict))
    return verify.WRONG if verdict.wrong else verify.FINE
