"""The `models` command: which presets there are, where they lie, and whether they are whole."""

from __future__ import annotations

import json

import click

from deidcli.cli import options as opt
from deidcli.errors import PresetError
from deidcli.presets import load_preset, presets


@click.group()
def command() -> None:
    """List, show and verify the trained weights."""


@command.command("list", cls=opt.Command)
def list_command() -> None:
    """One line for each preset: name, method, size and folder."""
    for preset in presets():
        size = sum((preset.folder / name).stat().st_size for name in preset.config["files"]) / 1e6
        click.echo(f"{preset.name:20} {preset.method:12} {size:6.1f} MB  {preset.folder}")


@command.command("show", cls=opt.Command)
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="The configuration instead of the card.")
def show_command(name: str, as_json: bool) -> None:
    """The card of a preset: data, recipe, numbers and limits."""
    preset = load_preset(name)
    click.echo(json.dumps(preset.config, indent=2) if as_json else preset.card.rstrip())


@command.command("verify", cls=opt.Command)
@click.argument("names", nargs=-1)
def verify_command(names: tuple[str, ...]) -> int:
    """Compare every weight file of NAMES (default: all presets) with its checksum."""
    damaged = 0
    for name in names or [preset.name for preset in presets()]:
        try:
            preset = load_preset(name)
            preset.verify()
            click.echo(f"{name}: whole, {preset.checksum[:16]}")
        except PresetError as error:
            damaged += 1
            click.echo(f"deid: {error}", err=True)
    return 3 if damaged else 0
