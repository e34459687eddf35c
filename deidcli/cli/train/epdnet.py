"""`train epdnet`: packed faces in, a preset of the method epdnet out."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from deidcli.cli import options as opt
from deidcli.cli import training
from deidcli.cli.train.classifiers import Counts


@click.command("epdnet", cls=opt.Command)
@opt.stacked(
    training.packs,
    click.option("--model", default="", metavar="PRESET",
                 help="A face model: the packs hold textures in the canonical frame, and the generator starts from "
                      "what the model draws of other identities. Without: aligned crops, as in the paper."),
    click.option("--size", type=click.IntRange(32), default=64, show_default=True, help="Pixels of a side."),
    click.option("--channels", type=Counts(), default="32,64,96,128", show_default=True,
                 help="Of the generator's way down, each at half the height and width of the one before."),
    click.option("--licences", default="CC0,MIT", show_default=True,
                 help="Learn from textures of these licences alone, where the pack says them."),
    click.option("--starts", type=click.IntRange(1), default=4, show_default=True,
                 help="Identities that the model draws of each face."),
    click.option("--least", type=click.IntRange(0), default=12, show_default=True,
                 help="Pictures of a person from which on the identity verifier knows them; 0: no such verifier."),
    click.option("--labels", default="expression", show_default=True,
                 help="The label with the emotions that the emotion verifier learns."),
    click.option("--verifier-minutes", type=opt.Real(0.01), default=8.0, show_default=True,
                 help="How long each verifier learns, at most."),
    click.option("--verifier-steps", type=click.IntRange(1), default=100, show_default=True,
                 help="Batches in each of at most 40 epochs of a verifier."),
    click.option("--adversary-rate", type=opt.Real(0), default=4e-4, show_default=True,
                 help="Learning rate of the adversary."),
    training.fitting(rate=4e-4, batch=16, ema=0.995, precision="float32"),
    click.option("--adversarial", type=opt.Real(0, 10), default=1.0, show_default=True, help="Lambda 1 of (11)."),
    click.option("--identity", type=opt.Real(0, 10), default=1.0, show_default=True, help="Lambda 2."),
    click.option("--emotion", type=opt.Real(0, 10), default=1.0, show_default=True, help="Lambda 3."),
    click.option("--structure", type=opt.Real(0, 10), default=0.25, show_default=True, help="Phi of Equation 7."),
    click.option("--alpha", type=opt.Real(0, 2), default=1.2, show_default=True, help="Of Equation 9."),
    click.option("--descriptor", type=opt.Real(0), default=0.0, show_default=True,
                 help="Weight of what dlib's recogniser says of the likeness; the paper has none."),
    click.option("--margin", type=opt.Real(0, 2), default=0.8, show_default=True,
                 help="Distance by the recogniser from which on this loss is zero."),
    click.option("--change", type=opt.Real(0), default=0.0, show_default=True,
                 help="Weight of the difference to the picture that is changed, pix2pix's L1."),
    opt.config,
)  # fmt: skip
def epdnet_command(**options: Any) -> int:
    """Train EPD-Net's networks and write a preset: configuration, float16 weights, checksums and a card.

    First the two verifiers, then the generator against its adversary. A run that is killed goes on from its last epoch
    when the same command is given again.

    \b
    deid align --pack --largest --labels expressions.csv --only people.csv --split train lfw/images train.npz
    deid align --pack --largest --labels expressions.csv --only people.csv --split val lfw/images val.npz
    deid train epdnet --data train.npz --val val.npz --out models/epdnet-64 --minutes 30
    """
    fit = training.prepared(options)
    from deidcli.training.epd_net import Losses, Recipe, train

    given = {item.name for item in fields(Recipe)} - {"losses", "fit"}
    recipe = Recipe(
        **{name: options[name] for name in given & options.keys()},
        losses=Losses(**{item.name: options[item.name] for item in fields(Losses)}),
        fit=fit,
    )
    data, val, out, work = training.folders(options)
    preset = train([Path(path) for path in data], val, recipe, out, work)
    click.echo(f"{preset.name} is in {preset.folder}", err=True)
    return 0
