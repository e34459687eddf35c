"""The command line: one file a command, found by its name and loaded when it is called."""

from __future__ import annotations

from importlib import import_module

import click

from deidcli import __version__
from deidcli.cli.folder import Suggesting

_COMMANDS = (
    "anonymize", "blur", "verify", "review", "report", "detect", "align", "train", "evaluate", "models", "doctor",
    "completion",
)  # fmt: skip


class _Commands(Suggesting):
    """Loads `cli/NAME.py` for the command NAME, so that no command pays for what another one imports."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in _COMMANDS:
            return None
        return import_module(f"deidcli.cli.{name}").command


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="deid")
def main() -> None:
    """Replace every face in photographs and videos by one that cannot be recognised.

    \b
    deid anonymize --method cleanir --angle 180 in/ out/

    Exit status: 0 all done; 1 some files failed and were not written; 2 usage; 3 nothing could be done;
    130 interrupted, safe to --resume. Every option can be set by an environment variable: --min-face is DEID_MIN_FACE.
    """
