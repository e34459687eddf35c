"""`train ksame-net`: a gallery of proxies in, a preset of the method ksame-net out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from deidcli.cli import options as opt
from deidcli.cli import training
from deidcli.cli.classifying import Counts


@click.command("ksame-net", cls=opt.Command)
@opt.stacked(
    click.option("--gallery", default="ksame-gallery", show_default=True, help="The preset whose proxies are mixed."),
    click.option("--data", required=True, metavar="PACK",
                 help="Faces with landmarks and the label expression, from which expressions are learnt."),
    click.option("--out", required=True, metavar="DIR", help="The preset's folder, like models/ksame-net-96."),
    click.option("--work", metavar="DIR", help="Checkpoints, log and samples; default: OUT.training."),
    click.option("--size", type=click.IntRange(16, 1024), default=96, show_default=True, help="Side, pixels."),
    click.option("--channels", type=Counts(), default="256,160,96,64,32", show_default=True,
                 help="Of the first map and after each doubling; the last doubling is MaxUP's."),
    click.option("--last", type=click.IntRange(1), default=12, show_default=True, help="Channels before ToRGB."),
    click.option("--strength", type=opt.Real(0, 3), default=1.3, show_default=True,
                 help="How far expressions move a face; 1 as people do."),
    click.option("--mixes", type=click.IntRange(1), default=3000, show_default=True, help="Mixes to train on."),
    training.fitting(batch=8, rate=1e-3, precision="float32"),
    opt.config,
)  # fmt: skip
def command(**options: Any) -> int:
    """Train k-Same-Net's generative network on a gallery of proxies.

    \b
    deid align --pack --largest --only people.csv --labels expressions.csv lfw/images train.npz
    deid train ksame-net --data train.npz --out models/ksame-net-96 --minutes 25
    """
    # Every picture is certain, so the average of the weights need not reach far back.
    fit = replace(training.prepared(options), ema=0.99)
    from deidcli.training.ksame_net import Recipe, train

    named = {key: options[key] for key in ("size", "channels", "last", "strength", "mixes")}
    _, _, out, work = training.folders({**options, "data": (), "val": ""})
    preset = train(options["gallery"], Path(options["data"]), Recipe(fit=fit, **named), out, work)
    click.echo(f"{preset.name} is in {preset.folder}", err=True)
    return 0
