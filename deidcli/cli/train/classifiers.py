"""`train attributes` and `train expression`: packed faces and their labels in, a classifier out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from deidcli.cli import options as opt
from deidcli.cli import train as training


class Counts(click.ParamType):
    """Whole numbers of 1 and up, with commas between."""

    name = "N,N,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        words = value.split(",") if isinstance(value, str) else [str(n) for n in value]
        if not all(word.strip().isdigit() and int(word) for word in words):
            self.fail(f"{value} is not a list of whole numbers like 16,32,64", param, ctx)
        return tuple(int(word) for word in words)


def flags(balance: float):
    """The options of a classifier's training. balance: the default of --balance."""
    return opt.stacked(
        click.option("--data", multiple=True, required=True, metavar="PACK", help="Training faces; may be repeated."),
        click.option("--val", multiple=True, metavar="PACK",
                     help="Faces of other people, for the figures. Without: a share of --data, by a hash of the name."),
        click.option("--labels", multiple=True, metavar="CSV",
                     help="Labels of packs that were made without: names as in the pack in the first column."),
        click.option("--out", required=True, metavar="DIR", help="The preset's folder, like models/attributes."),
        click.option("--work", metavar="DIR", help="Checkpoints and log; default: OUT.training."),
        click.option("--start", metavar="PRESET", help="Begin with the blocks of another classifier."),
        click.option("--style", type=click.Choice(["residual", "gradients", "vgg", "xception"]), default="residual",
                     show_default=True, help="CLEANIR's blocks, histograms of grey gradients, VGG-16, mini-Xception."),
        click.option("--channels", type=Counts(), default="16,32,64,128", show_default=True,
                     help="Of the first convolution and of each block; of gradients: directions, hidden units; "
                          "of VGG-16: its five stages."),
        click.option("--balance", type=opt.Real(0, 1), default=balance, show_default=True,
                     help="How far rare classes count more: 0 not at all, 1 until all count alike."),
        click.option("--hold-out", type=opt.Real(0.001, 0.9), default=0.1, show_default=True,
                     help="Share of --data that is kept for the figures where there is no --val."),
        training.fitting(rate=1e-3, precision="float32", epochs=40),
        opt.config,
    )  # fmt: skip


def run(heads: str, options: dict[str, Any]) -> int:
    """Train the classifier whose heads the constant `heads` of training/classifiers.py holds."""
    fit = training.prepared(options)
    from deidcli.training import classifiers

    named = {key: options[key] for key in ("balance", "hold_out", "start", "style", "channels")}
    recipe = classifiers.Recipe(getattr(classifiers, heads), fit=fit, **named)
    val, labels = ([Path(p) for p in options[key]] for key in ("val", "labels"))
    data, _, out, work = training.folders({**options, "val": ""})
    preset = classifiers.train(data, val, labels, recipe, out, work)
    click.echo(f"{preset.name} is in {preset.folder}", err=True)
    return 0


@click.command("attributes", cls=opt.Command)
@flags(balance=0.25)
def attributes_command(**options: Any) -> int:
    """Train a classifier of gender, age and race on faces with these labels.

    The labels are gender (male, female), age (years) and race (white, black, asian, indian, other); docs/classifiers.md
    makes them from UTKFace's file names.

    \b
    deid align --pack --largest --size 64 --labels utk.csv utkface/images utk.npz
    deid train attributes --data utk.npz --out models/attributes --minutes 10
    """
    return run("ATTRIBUTES", options)


@click.command("expression", cls=opt.Command)
@flags(balance=0.5)
def expression_command(**options: Any) -> int:
    """Train a classifier of expressions: neutral, happiness, surprise, anger and sadness.

    The label is expression; faces that show another one, or have none, are left out.

    \b
    deid train expression --data train.npz --val val.npz --labels expressions.csv --out models/expression \\
        --start models/attributes --minutes 6
    """
    return run("EXPRESSION", options)
