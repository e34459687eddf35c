"""`train expression`: packed faces and their labels in, a classifier of facial expressions out."""

from __future__ import annotations

from typing import Any

import click

from deidcli.cli import classifying
from deidcli.cli import options as opt


@click.command("expression", cls=opt.Command)
@classifying.flags(balance=0.5)
def command(**options: Any) -> int:
    """Train a classifier of expressions: neutral, happiness, surprise, anger and sadness.

    The label is expression; faces that show another one, or have none, are left out.

    \b
    deid train expression --data train.npz --val val.npz --labels expressions.csv --out models/expression \\
        --start models/attributes --minutes 6
    """
    return classifying.run("EXPRESSION", options)
