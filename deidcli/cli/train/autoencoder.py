"""`train autoencoder`: an autoencoder of faces, and encoders that are fine-tuned for a shift."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from deidcli.cli import options as opt
from deidcli.cli import training
from deidcli.errors import UsageError

SHIFTS = ("none", "cluster", "neighbor", "nth", "cells", "attribute")
WIDTHS = {"dense": "1024-768-512", "convolutional": "16-32-64-128-256", "vector": "512-200"}


@click.command("autoencoder", cls=opt.Command)
@opt.stacked(
    click.option("--data", multiple=True, metavar="PACK", help="Training faces; may be given again."),
    click.option("--val", metavar="PACK", help="Faces of people who are not in the training data; without --shift."),
    click.option("--out", required=True, metavar="DIR", help="The preset's folder, like models/mine."),
    click.option("--work", metavar="DIR", help="Checkpoints, log and sheets; default: OUT.training."),
    click.option("--model", metavar="PRESET",
                 help="Learn from the bank of a face model and not from packs: for the canonical frame."),
    click.option("--network", type=click.Choice(["dense", "convolutional"]), default="dense", show_default=True,
                 help="Kind of its layers, without --model."),
    click.option("--widths", metavar="N-N-N",
                 help="Of the encoder's layers, the code last; default: "
                      f"{WIDTHS['dense']}, convolutional {WIDTHS['convolutional']}, of --model {WIDTHS['vector']}."),
    click.option("--colour/--grey", default=False, show_default=True, help="What the networks see of a picture."),
    click.option("--shared", type=click.IntRange(0), default=1, show_default=True,
                 help="Layers of the encoder that all shifts have in common."),
    click.option("--start", metavar="PRESET", help="With --shift: the preset that gets it."),
    click.option("--shift", type=click.Choice(SHIFTS), default="none", show_default=True,
                 help="Fine-tune the encoder of --start; none: train an autoencoder."),
    click.option("--clusters", type=click.IntRange(2), default=180, show_default=True, help="Of --shift cluster."),
    click.option("--neighbors", type=click.IntRange(1), default=9, show_default=True,
                 help="Of the other shifts: how many are looked at."),
    click.option("--alpha", type=opt.Real(0, 2), default=0.8, show_default=True,
                 help="Of Equations 7 and 11; above 1 a face goes beyond its target, away from itself."),
    click.option("--beta", type=opt.Real(0, 4), default=0.0, show_default=True,
                 help="Of Equation 9, for clusters and attributes."),
    click.option("--attributes", default="expression,mouth,race", show_default=True,
                 help="Of --shift attribute: labels of the faces, one after the other."),
    training.fitting(rate=1e-3),
    opt.config,
)  # fmt: skip
def autoencoder_command(**options: Any) -> int:
    """Train an autoencoder with its deblurrer and smoother, then an encoder for each shift; each call writes a preset.

    Labels that nobody gave are read by the classifiers `attributes` and `expression`; `mouth` comes from the landmarks.

    \b
    deid train autoencoder --data train.npz --val val.npz --out models/mine --minutes 30
    deid train autoencoder --data train.npz --start models/mine --shift cluster --clusters 180 --out models/mine
    """
    shifts = options["shift"] != "none"
    _check(options, shifts)
    fit = training.prepared(options)
    from deidcli.training import autoencoder
    from deidcli.training.autoencoder_targets import Shift, columns

    out = Path(options["out"])
    work = Path(options["work"]) if options["work"] else out.with_name(out.name + ".training")
    data = [Path(path) for path in options["data"]]
    if shifts:
        attributes = columns(options["attributes"].split(",")) if options["shift"] == "attribute" else ()
        numbers = {name: options[name] for name in ("clusters", "neighbors", "alpha", "beta")}
        shift = Shift(options["shift"], **numbers, attributes=attributes)
        preset = autoencoder.add_shift(options["start"], data, shift, fit, out, work)
    else:
        kind = "vector" if options["model"] else options["network"]
        widths = tuple(int(width) for width in (options["widths"] or WIDTHS[kind]).split("-"))
        recipe = autoencoder.Recipe(
            kind, 3 if options["colour"] else 1, widths, options["shared"], options["model"] or "", fit=fit
        )
        preset = (
            autoencoder.train_on_bank(recipe, out, work)
            if options["model"]
            else autoencoder.train(data, Path(options["val"]), recipe, out, work)
        )
    click.echo(f"{preset.name} is in {preset.folder}", err=True)
    return 0


def _check(options: dict[str, Any], shifts: bool) -> None:
    if shifts and not options["start"]:
        raise UsageError("--shift needs the preset that gets it", "give --start PRESET")
    if not shifts and options["start"]:
        raise UsageError("--start is for --shift", "say which shift the preset gets")
    if not shifts and bool(options["model"]) == bool(options["data"] and options["val"]):
        raise UsageError("an autoencoder learns from packs or from a face model", "give --data and --val, or --model")
    if not all(word.isdigit() and int(word) for word in (options["widths"] or "1").split("-")):
        raise UsageError(f"--widths {options['widths']}: not understood", "give numbers, like 1024-768-512")
