"""The `train` command: a file here for each thing that can be trained; nothing else is edited to add one."""

from __future__ import annotations

import click

from deidcli.cli.folder import Folder


@click.group(cls=Folder, package=__name__)
def command() -> None:
    """Train networks on packed faces (`deid align --pack`) and write a preset.

    \b
    deid train cleanir --data train.npz --val val.npz --out models/cleanir-64 --minutes 60
    """
