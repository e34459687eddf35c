"""A group of commands that is a folder: each file in it holds one, loaded when it is called."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules
from typing import Any

import click


class Folder(click.Group):
    """The command `some-word` is `command` in the file some_word.py of `package`.

    No command pays for what another one imports, and a new file is a new command.
    """

    def __init__(self, *args: Any, package: str, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.package = package

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(info.name.replace("_", "-") for info in iter_modules(import_module(self.package).__path__))

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in self.list_commands(ctx):
            return None
        return import_module(f"{self.package}.{name.replace('-', '_')}").command
