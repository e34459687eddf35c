"""The `evaluate` command: a file here for each thing that can be measured; nothing else is edited to add one."""

from __future__ import annotations

import click

from deidcli.cli.folder import Folder


@click.group(cls=Folder, package=__name__)
def command() -> None:
    """Measure how well faces are protected, and what is kept of the picture."""
