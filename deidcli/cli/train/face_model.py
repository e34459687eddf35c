"""`train face-model`: a folder of synthetic faces in, the model of faces in the canonical frame out."""

from __future__ import annotations

from pathlib import Path

import click

from deidcli.cli import options as opt


@click.command("face-model", cls=opt.Command)
@opt.stacked(
    click.option("--data", required=True, metavar="DIR", help="A folder with faces.csv and images/."),
    click.option("--out", required=True, metavar="DIR", help="The preset's folder, like models/face-256."),
    click.option("--licences", default="CC0,MIT", show_default=True, help="Learn from faces of these licences alone."),
    click.option("--components", type=click.IntRange(40, 400), default=200, show_default=True, help="Of the texture."),
    opt.config,
)  # fmt: skip
def command(data: str, out: str, licences: str, components: int) -> int:
    """Learn what faces look like from synthetic ones, and write a preset.

    \b
    deid train face-model --data synthetic/ --out models/face-256
    """
    from deidcli.training.face_model import Recipe, train

    recipe = Recipe(components, tuple(name.strip() for name in licences.split(",")))
    preset = train(Path(data), recipe, Path(out), lambda text: click.echo(text, err=True))
    click.echo(f"{preset.name} is in {preset.folder}", err=True)
    return 0
