"""The `train` command: packed faces in, a preset out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from deidcli.cli import options as opt

METHODS = ("cleanir",)


@click.command(cls=opt.Command)
@click.argument("method", type=click.Choice(METHODS))
@opt.stacked(
    click.option("--data", multiple=True, required=True, metavar="PACK", help="Training faces; may be given again."),
    click.option("--val", required=True, metavar="PACK", help="Faces of people who are not in the training data."),
    click.option("--out", required=True, metavar="DIR", help="The preset's folder, like models/cleanir-64."),
    click.option("--work", metavar="DIR", help="Checkpoints, log and sheets; default: OUT.training."),
    click.option("--start", metavar="PRESET", help="Begin with the weights of a preset of the same sizes."),
    click.option("--encoder-width", type=opt.Real(0.05, 4), default=1.0, show_default=True,
                 help="Channels of the encoder as a share of the paper's."),
    click.option("--decoder-width", type=opt.Real(0.05, 4), default=0.5, show_default=True,
                 help="Channels of the decoder as a share of the paper's."),
    click.option("--pool", type=click.Choice(["average", "flatten"]), default="flatten", show_default=True,
                 help="What stands before the encoder's fully connected layer; the paper has average."),
    click.option("--rank", type=click.IntRange(0), default=128, show_default=True,
                 help="Numbers that make up the identity half; 0: all 512 are free, as in the paper."),
    click.option("--epochs", type=click.IntRange(1), default=100, show_default=True, help="Of --steps batches each."),
    click.option("--steps", type=click.IntRange(1), default=250, show_default=True, help="Batches in an epoch."),
    click.option("--batch", type=click.IntRange(1), default=64, show_default=True, help="Faces in a batch."),
    click.option("--rate", type=opt.Real(0), default=4e-4, show_default=True, help="First learning rate."),
    click.option("--minutes", type=opt.Real(0), help="Stop at the end of the epoch in which these are over."),
    click.option("--picture", default=1.0, show_default=True, help="Weight of Equation 1, the cross entropy."),
    click.option("--detail", default=0.25, show_default=True, help="Weight of the differences of neighbours."),
    click.option("--likeness", default=1000.0, show_default=True, help="Weight of the descriptors' squared distance."),
    click.option("--identity", default=3000.0, show_default=True, help="Weight of Equation 3, the embedding loss."),
    click.option("--kl-identity", default=0.01, show_default=True, help="Weight of Equation 2 on the identity half."),
    click.option("--kl-attributes", default=0.03, show_default=True, help="Weight of Equation 2 on the other half."),
    click.option("--precision", type=click.Choice(["float32", "mixed_bfloat16"]), default="mixed_bfloat16",
                 show_default=True, help="Of the arithmetic; weights stay in float32."),
    click.option("--seed", type=int, default=1, show_default=True, help="Of weights, batches and noise."),
    opt.config,
)  # fmt: skip
def command(method: str, **options: Any) -> int:
    """Train the networks of METHOD and write a preset: configuration, float16 weights, checksums and a card.

    A run that is killed goes on from its last epoch when the same command is given again.

    \b
    deid align --pack --largest --only people.csv --split train lfw/images train.npz
    deid align --pack --largest --only people.csv --split val lfw/images val.npz
    deid train cleanir --data train.npz --val val.npz --out models/cleanir-64 --minutes 60
    """
    import keras

    from deidcli.training.cleanir import Losses, Recipe, train
    from deidcli.training.fit import FitOptions

    keras.mixed_precision.set_dtype_policy(options["precision"])
    keras.utils.set_random_seed(options["seed"])
    recipe = Recipe(
        encoder_width=options["encoder_width"],
        decoder_width=options["decoder_width"],
        pool=options["pool"],
        rank=options["rank"] or None,
        start=options["start"],
        losses=Losses(**{k: options[k] for k in Losses.__dataclass_fields__}),
        fit=FitOptions(**{k: options[k] for k in ("epochs", "steps", "batch", "rate", "minutes", "seed")}),
    )
    out = Path(options["out"])
    work = Path(options["work"]) if options["work"] else out.with_name(out.name + ".training")
    preset = train([Path(p) for p in options["data"]], Path(options["val"]), recipe, out, work)
    click.echo(f"{preset.name} is in {preset.folder}", err=True)
    return 0
