"""The `train` command: which file holds which of its own, none loaded before it is called; and shared options."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from deidcli.cli import Files
from deidcli.cli import options as opt

FILES = {
    **dict.fromkeys(("attributes", "expression"), "classifiers"),
    **dict.fromkeys(("autoencoder", "cleanir", "epdnet", "face-model", "fatm"), "methods"),
}


@click.group("train", cls=Files, package=__name__, files=dict(sorted(FILES.items())))
def command() -> None:
    """Train networks on packed faces (`deid align --pack`) and write a preset.

    \b
    deid train cleanir --data train.npz --val val.npz --out models/cleanir-64 --minutes 60
    """


packs = opt.stacked(
    click.option("--data", multiple=True, required=True, metavar="PACK", help="Training faces; may be given again."),
    click.option("--val", required=True, metavar="PACK", help="Faces of people who are not in the training data."),
    click.option("--out", required=True, metavar="DIR", help="The preset's folder, like models/mine."),
    click.option("--work", metavar="DIR", help="Checkpoints, log and sheets; default: OUT.training."),
)


def fitting(**defaults: Any):
    """How long and how fast: the fields of FitOptions as flags. defaults: those that differ from FitOptions' own."""
    own = {
        "epochs": 100,
        "steps": 250,
        "batch": 64,
        "rate": 3e-4,
        "ema": 0.998,
        "precision": "mixed_bfloat16",
        **defaults,
    }
    return opt.stacked(
        click.option("--epochs", type=click.IntRange(1), default=own["epochs"], show_default=True,
                     help="Of --steps batches each."),
        click.option("--steps", type=click.IntRange(1), default=own["steps"], show_default=True,
                     help="Batches in an epoch."),
        click.option("--batch", type=click.IntRange(1), default=own["batch"], show_default=True,
                     help="Faces in a batch."),
        click.option("--rate", type=opt.Real(0), default=own["rate"], show_default=True, help="First learning rate."),
        click.option("--ema", type=opt.Real(0, 0.9999), default=own["ema"], show_default=True,
                     help="Momentum of the moving average of the weights, which is what is kept; 0: none."),
        click.option("--minutes", type=opt.Real(0), help="Stop at the end of the epoch in which these are over."),
        click.option("--patience", type=click.IntRange(0), default=0, show_default=True,
                     help="Stop after so many epochs without a better score; 0: never."),
        click.option("--precision", type=click.Choice(["float32", "mixed_bfloat16"]), default=own["precision"],
                     show_default=True, help="Of the arithmetic; weights stay in float32."),
        click.option("--seed", type=int, default=1, show_default=True, help="Of weights, batches and noise."),
    )  # fmt: skip


sampling = opt.stacked(
    click.option("--shift", type=opt.Real(0, 0.5), default=0.0, show_default=True,
                 help="Move training crops by up to this share of their side."),
    click.option("--colour", type=opt.Real(0, 0.5), default=0.0, show_default=True,
                 help="Vary colour and light of training crops by this share of the range."),
    click.option("--mirror/--no-mirror", default=True, show_default=True, help="Turn half of the training crops over."),
    click.option("--balance", default="", metavar="LABEL", help="Draw every value of this label equally often."),
)  # fmt: skip


def prepared(options: dict[str, Any]):
    """Set the arithmetic and the seed of this process, and give the FitOptions that the flags ask for."""
    from deidcli.networks.backend import keras
    from deidcli.training.fit import FitOptions

    keras.mixed_precision.set_dtype_policy(options["precision"])
    keras.utils.set_random_seed(options["seed"])
    names = ("epochs", "steps", "batch", "rate", "ema", "minutes", "patience", "seed")
    return FitOptions(**{name: options[name] for name in names})


def folders(options: dict[str, Any]) -> tuple[list[Path], Path, Path, Path]:
    """--data, --val, --out and --work as paths."""
    return [Path(p) for p in options["data"]], Path(options["val"]), Path(options["out"]), work_folder(options)


def work_folder(options: dict[str, Any]) -> Path:
    """--work as a path, beside --out where it is not given."""
    out = Path(options["out"])
    return Path(options["work"]) if options["work"] else out.with_name(out.name + ".training")
