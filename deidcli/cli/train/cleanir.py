"""`train cleanir`: packed faces in, a preset of the method cleanir out."""

from __future__ import annotations

from typing import Any

import click

from deidcli.cli import options as opt
from deidcli.cli import training
from deidcli.errors import UsageError


@click.command("cleanir", cls=opt.Command)
@opt.stacked(
    training.packs,
    click.option("--start", metavar="PRESET",
                 help="Begin with the weights of a preset, of every layer that is there, too."),
    click.option("--encoder-width", type=opt.Real(0.05, 4), default=1.0, show_default=True,
                 help="Channels of the encoder as a share of the paper's."),
    click.option("--decoder-width", type=opt.Real(0.05, 4), default=0.5, show_default=True,
                 help="Channels of the decoder as a share of the paper's."),
    click.option("--pool", type=click.Choice(["average", "flatten"]), default="flatten", show_default=True,
                 help="Layer before the encoder's fully connected one; the paper has average."),
    click.option("--rank", type=click.IntRange(0), default=128, show_default=True,
                 help="Numbers that make up the identity half; 0: all 512 are free, as in the paper."),
    click.option("--seen", type=click.IntRange(32), metavar="PIXELS",
                 help="Side that the encoder averages larger crops down to."),
    click.option("--decoder-only", is_flag=True, help="Leave the encoder of --start as it is."),
    click.option("--erase/--no-erase", default=False, show_default=True,
                 help="Erase what identifies the person from the half that is not turned; needs --start and --rank."),
    training.fitting(rate=4e-4),
    training.sampling,
    click.option("--picture", default=1.0, show_default=True, help="Weight of Equation 1, the cross entropy."),
    click.option("--detail", default=0.25, show_default=True, help="Weight of the differences of neighbours."),
    click.option("--structure", default=0.0, show_default=True, help="Weight of 1 - SSIM."),
    click.option("--likeness", default=1000.0, show_default=True, help="Weight of the descriptors' squared distance."),
    click.option("--identity", default=3000.0, show_default=True, help="Weight of Equation 3, the embedding loss."),
    click.option("--kl-identity", default=0.01, show_default=True, help="Weight of Equation 2 on the identity half."),
    click.option("--kl-attributes", default=0.03, show_default=True, help="Weight of Equation 2 on the other half."),
    click.option("--adversarial", default=0.0, show_default=True, help="Weight of what a critic says of the faces."),
    click.option("--features", default=0.0, show_default=True, help="Weight of the difference in the critic's eyes."),
    click.option("--consistency", default=0.0, show_default=True,
                 help="Weight of the difference of the latent vector asked for and the one read from a turned face."),
    click.option("--repulsion", default=0.0, show_default=True,
                 help="Weight of how much more alike turned faces of two people are than was asked for."),
    click.option("--expression", default=0.0, show_default=True,
                 help="Weight of what a classifier reads otherwise in the expression, turned or not."),
    opt.config,
)  # fmt: skip
def cleanir_command(**options: Any) -> int:
    """Train CLEANIR's networks and write a preset: configuration, float16 weights, checksums and a card.

    A run that is killed goes on from its last epoch when the same command is given again.

    \b
    deid align --pack --largest --only people.csv --split train lfw/images train.npz
    deid align --pack --largest --only people.csv --split val lfw/images val.npz
    deid train cleanir --data train.npz --val val.npz --out models/cleanir-64 --minutes 60
    """
    if options["erase"] and not (options["rank"] and options["start"]):
        raise UsageError("--erase needs a trained preset with a rank", "give --start PRESET and no --rank 0")
    if options["decoder_only"] and not options["start"]:
        raise UsageError("--decoder-only needs a trained encoder", "give --start PRESET")
    fit = training.prepared(options)
    from deidcli.training.cleanir import Losses, Recipe, train
    from deidcli.training.sampling import Augment

    recipe = Recipe(
        encoder_width=options["encoder_width"],
        decoder_width=options["decoder_width"],
        pool=options["pool"],
        rank=options["rank"] or None,
        seen=options["seen"],
        erase=options["erase"],
        decoder_only=options["decoder_only"],
        start=options["start"],
        augment=Augment(options["mirror"], options["shift"], options["colour"]),
        balance=options["balance"],
        losses=Losses(**{k: options[k] for k in Losses.__dataclass_fields__}),
        fit=fit,
    )
    data, val, out, work = training.folders(options)
    preset = train(data, val, recipe, out, work)
    click.echo(f"{preset.name} is in {preset.folder}", err=True)
    return 0
