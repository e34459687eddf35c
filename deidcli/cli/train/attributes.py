"""`train attributes`: packed faces and their labels in, a classifier of gender, age and race out."""

from __future__ import annotations

from typing import Any

import click

from deidcli.cli import classifying
from deidcli.cli import options as opt


@click.command("attributes", cls=opt.Command)
@classifying.flags(balance=0.25)
def command(**options: Any) -> int:
    """Train a classifier of gender, age and race on faces with these labels.

    The labels are gender (male, female), age (years) and race (white, black, asian, indian, other); docs/classifiers.md
    makes them from UTKFace's file names.

    \b
    deid align --pack --largest --size 64 --labels utk.csv utkface/images utk.npz
    deid train attributes --data utk.npz --out models/attributes --minutes 10
    """
    return classifying.run("ATTRIBUTES", options)
