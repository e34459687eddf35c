"""The `evaluate` command, and which file holds which of its own: none is loaded before it is called."""

from __future__ import annotations

import click

from deidcli.cli import Files

FILES = {
    **dict.fromkeys(("pair", "pairs", "folder", "looks", "downstream"), "pictures"),
    **dict.fromkeys(("attacks", "all", "video"), "attacks"),
    **dict.fromkeys(("detection", "people"), "faces"),
    **dict.fromkeys(("quick", "kanonymity"), "outputs"),
    **dict.fromkeys(("report", "compare", "readme"), "reports"),
    "table": "table",
}


@click.group(cls=Files, package=__name__, files=FILES)
def command() -> None:
    """Measure how well faces are protected, and what is kept of the picture."""
