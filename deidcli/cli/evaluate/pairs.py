"""`evaluate pairs`: the share of pairs that a recogniser still matches."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from deidcli.cli import options as opt
from deidcli.cli.devices import use_device
from deidcli.errors import UsageError


@click.command("pairs", cls=opt.Command)
@click.argument("images", metavar="FOLDER")
@opt.stacked(
    click.option("--pairs", required=True, metavar="FILE",
                 help="CSV with columns a, b (files in FOLDER), same (1, 0)."),
    click.option("--methods", default="original,cleanir:angle=0,cleanir:angle=90,cleanir:angle=180,blur",
                 show_default=True, help="What to measure: NAME or NAME:OPTION=VALUE, with commas between."),
    opt.recogniser,
    click.option("--distance", type=opt.Real(0), help="Threshold of the recogniser; default: its own."),
    click.option("--limit", type=click.IntRange(1), help="Only so many pairs of each kind."),
    click.option("--json", "as_json", is_flag=True, help="A JSON line a method instead of a table."),
    opt.seed,
    opt.detection,
    opt.device,
    opt.config,
)  # fmt: skip
def command(images: str, **options: Any) -> int:
    """Share of pairs that a recogniser still matches after the second picture went through a method.

    Without verification and fallback: this is what the method alone does. The columns: pairs of one person, a picture
    against its very original, pairs of strangers, each with its 95 % interval, and new faces that the detector finds.

    \b
    deid evaluate pairs lfw/images --pairs lfw/pairs_val.csv
    """
    from deidcli.evaluation.pairs import Gallery, load_pairs, measure
    from deidcli.faces.detect import detector
    from deidcli.faces.embed import recogniser

    use_device(options["device"])
    judge = recogniser(options["recogniser"])
    detect = opt.detect_options(options)
    gallery = Gallery(Path(images), detector(detect), judge)
    pairs = _limited(load_pairs(Path(options["pairs"])), options["limit"])
    gallery.read(sorted({name for a, b, _ in pairs for name in (a, b)}))
    threshold = judge.threshold if options["distance"] is None else options["distance"]
    if not options["as_json"]:
        _head(judge.name, threshold, len(pairs))
    for text in options["methods"].split(","):
        rates = measure(gallery, pairs, _method(text, options["seed"]), threshold)
        click.echo(json.dumps(asdict(rates)) if options["as_json"] else _line(rates))
    return 0


def _limited(pairs: list[tuple[str, str, bool]], limit: int | None) -> list[tuple[str, str, bool]]:
    return [pair for kind in (True, False) for pair in [p for p in pairs if p[2] is kind][:limit]]


def _method(text: str, seed: int | None):
    """A method as it is named on the command line, like cleanir:angle=90; None for the original."""
    if text == "original":
        return None
    name, *settings = text.split(":")
    flags: dict[str, Any] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise UsageError(f"--methods {text}: not understood", "write NAME:OPTION=VALUE")
        flags[key] = opt.parsed(key, value)
    return opt.make_method(name, flags, seed)


def _head(name: str, threshold: float, count: int) -> None:
    click.echo(f"recogniser {name}, threshold {threshold}, {count} pairs")
    click.echo(f"{'method':28} {'one person':>22} {'same picture':>22} {'strangers':>22} {'found':>7}")


def _line(rates) -> str:
    cells = [f"{r[0]:.4f} [{r[1]:.3f}, {r[2]:.3f}]" for r in (rates.matched, rates.itself, rates.strangers)]
    return f"{rates.method:28} " + " ".join(f"{cell:>22}" for cell in cells) + f" {rates.found:7.4f}"
