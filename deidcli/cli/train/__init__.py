"""The `train` command, and which file holds which of its own: none is loaded before it is called."""

from __future__ import annotations

import click

from deidcli.cli import Files

FILES = {
    **dict.fromkeys(("attributes", "expression"), "classifiers"),
    **dict.fromkeys(("fatm", "face-model"), "fatm"),
    "autoencoder": "autoencoder",
    "cleanir": "cleanir",
    "epdnet": "epdnet",
}


@click.group(cls=Files, package=__name__, files=FILES)
def command() -> None:
    """Train networks on packed faces (`deid align --pack`) and write a preset.

    \b
    deid train cleanir --data train.npz --val val.npz --out models/cleanir-64 --minutes 60
    """
