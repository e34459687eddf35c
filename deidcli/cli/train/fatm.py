"""`train fatm` and `train face-model`: donors, and the model of faces in the canonical frame that draws them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from deidcli.cli import options as opt
from deidcli.cli import training
from deidcli.errors import UsageError


@click.command("fatm", cls=opt.Command)
@opt.stacked(
    click.option("--donor", "own", multiple=True, metavar="NAME=SOURCE",
                 help="A donor, and a folder of pictures or a video of that person alone, or a pack of crops "
                      "(`deid align --pack`) for the paper's network; may be given again."),
    click.option("--consent", default="", metavar="TEXT",
                 help="How and when the people of --donor agreed; it goes into the card. Needed with --donor."),
    click.option("--start", metavar="PRESET",
                 help="Whose encoder is taken as it is, and whose donors stay; default: fatm-256 for folders and "
                      "videos, none for packs of crops."),
    click.option("--donors", "table", metavar="FILE",
                 help="Donors who do not exist, in place of --donor: a CSV of donor, file, weight, whose files are "
                      "faces of --data."),
    click.option("--data", metavar="PACK",
                 help="For --donors: textures of faces of nobody, with the labels person and expression "
                      "(`deid align --pack --frame canonical --size 256`)."),
    click.option("--pictures", metavar="DIR",
                 help="For --known: the folder that --data was packed from. Donors are drawn into pictures of it."),
    click.option("--known", multiple=True, metavar="PACK",
                 help="Faces that no donor of --donors may be taken for: packs of crops or of textures. A donor whom "
                      "both recognisers take for one of them is left out."),
    click.option("--like", multiple=True, metavar="PACK",
                 help="With --known: faces of nobody, with which the card compares donors, too."),
    click.option("--out", required=True, metavar="DIR", help="The preset's folder, like models/our-donors."),
    click.option("--work", metavar="DIR", help="Checkpoints, log and sheet; default: OUT.training."),
    click.option("--width", type=opt.Real(0.01, 4), default=0.125, show_default=True,
                 help="Kernels and units as a share of the paper's; a preset of --start has its own."),
    click.option("--linear", type=click.IntRange(0, 512), default=24, show_default=True,
                 help="For --donors: numbers of the code that begin as a linear function of the picture; 0: none."),
    click.option("--together", type=click.IntRange(0), default=0, show_default=True,
                 help="Epochs before those of --epochs, in which one decoder learns all donors; theirs begin as that."),
    training.fitting(epochs=12, steps=50, batch=16, rate=3e-4, ema=0.99, precision="float32"),
    opt.config,
)  # fmt: skip
def fatm_command(**options: Any) -> int:
    """Train FATM's encoder and a decoder for each donor, or add donors to a preset.

    Donors of --donor are people who agreed to show their faces in other people's places. In the canonical frame only
    their decoders are trained, which takes minutes. The paper's network learns from crops: batches of 64, a rate of
    5e-5, a width of 1.

    \b
    deid train fatm --donor alice=alice/ --consent "signed 2026-03-02, ref 17" --out models/our-donors
    deid anonymize --method fatm --preset models/our-donors --donor alice in/ out/
    """
    sources = dict(_named(text) for text in options["own"])
    if bool(sources) is bool(options["table"]):
        raise UsageError("name the donors by --donor or by --donors", "give one of them")
    if sources and not options["consent"].strip():
        raise UsageError("--donor needs --consent", "say how and when these people agreed")
    if options["table"] and not options["data"]:
        raise UsageError("--donors needs --data", "give the pack of textures that its files are in")
    if options["known"] and not (options["table"] and options["pictures"]):
        raise UsageError("--known goes with --donors and --pictures", "give both, or leave it out")
    fit = training.prepared(options)
    _, _, out, work = training.folders({**options, "data": (), "val": ""})
    preset = (_of_nobody if options["table"] else _own)(sources, options, fit, out, work)
    click.echo(f"{preset.name} is in {preset.folder}", err=True)
    return 0


def _named(text: str) -> tuple[str, Path]:
    name, equals, source = text.partition("=")
    if not equals or not name.replace("-", "").replace("_", "").isalnum():
        raise UsageError(f"--donor {text}: not understood", "write NAME=SOURCE, with a name of letters and digits")
    return name, Path(source)


def _of_nobody(sources: dict[str, Path], options: dict[str, Any], fit: Any, out: Path, work: Path) -> Any:
    from deidcli.networks.fatm import FatmConfig
    from deidcli.training.fatm import Recipe
    from deidcli.training.fatm_preset import made_of_nobody

    recipe = Recipe(
        FatmConfig(64, 128, options["width"], residual=True, linear=options["linear"]), fit, options["together"]
    )
    known, like = ([Path(path) for path in options[name]] for name in ("known", "like"))
    pictures = Path(options["pictures"]) if known else None
    said = lambda text: click.echo(text, err=True)  # noqa: E731
    return made_of_nobody(Path(options["data"]), Path(options["table"]), recipe, out, work, pictures, known, like, said)


def _own(sources: dict[str, Path], options: dict[str, Any], fit: Any, out: Path, work: Path) -> Any:
    from deidcli.networks.fatm import FatmConfig, config_of
    from deidcli.presets import load_preset
    from deidcli.training.fatm import Recipe
    from deidcli.training.fatm_preset import of_crops, of_pictures

    packs = [path.suffix == ".npz" for path in sources.values()]
    if any(packs) and not all(packs):
        raise UsageError("packs of crops and other sources do not go together", "give one kind to one preset")
    name = options["start"] or (None if packs[0] else "fatm-256")
    start = load_preset(name, "fatm") if name else None
    if start and packs[0] is (start.config.get("frame") == "canonical"):
        raise UsageError(f"--start {name} is for other sources", "packs of crops go with a preset of crops alone")
    network = config_of(start.config["network"]) if start else FatmConfig(width=options["width"])
    recipe = Recipe(network, fit, options["together"])
    if packs[0]:
        return of_crops(sources, options["consent"], recipe, out, work, start)
    assert start is not None
    return of_pictures(sources, options["consent"], recipe, out, work, start)


@click.command("face-model", cls=opt.Command)
@opt.stacked(
    click.option("--data", required=True, metavar="DIR", help="A folder with faces.csv and images/."),
    click.option("--out", required=True, metavar="DIR", help="The preset's folder, like models/face-256."),
    click.option("--licences", default="CC0,MIT", show_default=True, help="Learn from faces of these licences alone."),
    click.option("--components", type=click.IntRange(40, 400), default=200, show_default=True, help="Of the texture."),
    opt.config,
)  # fmt: skip
def face_model_command(data: str, out: str, licences: str, components: int) -> int:
    """Learn what faces look like from synthetic ones, and write a preset.

    \b
    deid train face-model --data synthetic/ --out models/face-256
    """
    from deidcli.training.face_model import Recipe, train

    recipe = Recipe(components, tuple(name.strip() for name in licences.split(",")))
    preset = train(Path(data), recipe, Path(out), lambda text: click.echo(text, err=True))
    click.echo(f"{preset.name} is in {preset.folder}", err=True)
    return 0
