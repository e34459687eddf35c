"""Write a manual page for `deid` and for every command below it: python docs/man.py FOLDER."""

import sys
from pathlib import Path

import click
from click_man.core import write_man_pages

from deidcli import __version__
from deidcli.cli import main


def write(name: str, command: click.Command, folder: Path) -> None:
    """The pages of a command and of those below it, which are loaded when they are asked for."""
    write_man_pages(name, command, version=__version__, target_dir=str(folder))
    if isinstance(command, click.Group):
        context = click.Context(command)
        for part in command.list_commands(context):
            below = command.get_command(context, part)
            assert below is not None
            write(f"{name}-{part}", below, folder)


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    write("deid", main, target)
