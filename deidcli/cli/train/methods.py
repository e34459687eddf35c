"""`train cleanir`, `autoencoder`, `epdnet`, `fatm` and `face-model`: packed faces in, a preset of a method out."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from deidcli.cli import options as opt
from deidcli.cli import train as training
from deidcli.cli.train.classifiers import Counts
from deidcli.errors import UsageError


@click.command("cleanir", cls=opt.Command)
@opt.stacked(
    training.packs,
    click.option("--start", metavar="PRESET",
                 help="Begin with the weights of a preset, of every layer that is there, too."),
    click.option("--encoder-width", type=opt.Real(0.05, 4), default=1.0, show_default=True,
                 help="Channels of the encoder as a share of the paper's."),
    click.option("--decoder-width", type=opt.Real(0.05, 4), default=0.5, show_default=True,
                 help="Channels of the decoder as a share of the paper's."),
    click.option("--pool", type=click.Choice(["average", "flatten"]), default="flatten", show_default=True,
                 help="Layer before the encoder's fully connected one; the paper has average."),
    click.option("--rank", type=click.IntRange(0), default=128, show_default=True,
                 help="Numbers that make up the identity half; 0: all 512 are free, as in the paper."),
    click.option("--seen", type=click.IntRange(32), metavar="PIXELS",
                 help="Side that the encoder averages larger crops down to."),
    click.option("--decoder-only", is_flag=True, help="Leave the encoder of --start as it is."),
    click.option("--erase/--no-erase", default=False, show_default=True,
                 help="Erase what identifies the person from the half that is not turned; needs --start and --rank."),
    training.fitting(rate=4e-4),
    training.sampling,
    click.option("--picture", default=1.0, show_default=True, help="Weight of Equation 1, the cross entropy."),
    click.option("--detail", default=0.25, show_default=True, help="Weight of the differences of neighbours."),
    click.option("--structure", default=0.0, show_default=True, help="Weight of 1 - SSIM."),
    click.option("--likeness", default=1000.0, show_default=True, help="Weight of the descriptors' squared distance."),
    click.option("--identity", default=3000.0, show_default=True, help="Weight of Equation 3, the embedding loss."),
    click.option("--kl-identity", default=0.01, show_default=True, help="Weight of Equation 2 on the identity half."),
    click.option("--kl-attributes", default=0.03, show_default=True, help="Weight of Equation 2 on the other half."),
    click.option("--adversarial", default=0.0, show_default=True, help="Weight of what a critic says of the faces."),
    click.option("--features", default=0.0, show_default=True, help="Weight of the difference in the critic's eyes."),
    click.option("--consistency", default=0.0, show_default=True,
                 help="Weight of the difference of the latent vector asked for and the one read from a turned face."),
    click.option("--repulsion", default=0.0, show_default=True,
                 help="Weight of how much more alike turned faces of two people are than was asked for."),
    click.option("--expression", default=0.0, show_default=True,
                 help="Weight of what a classifier reads otherwise in the expression, turned or not."),
    opt.config,
)  # fmt: skip
def cleanir_command(**options: Any) -> int:
    """Train CLEANIR's networks and write a preset: configuration, float16 weights, checksums and a card.

    A run that is killed goes on from its last epoch when the same command is given again.

    \b
    deid align --pack --largest --only people.csv --split train lfw/images train.npz
    deid align --pack --largest --only people.csv --split val lfw/images val.npz
    deid train cleanir --data train.npz --val val.npz --out models/cleanir-64 --minutes 60
    """
    if options["erase"] and not (options["rank"] and options["start"]):
        raise UsageError("--erase needs a trained preset with a rank", "give --start PRESET and no --rank 0")
    if options["decoder_only"] and not options["start"]:
        raise UsageError("--decoder-only needs a trained encoder", "give --start PRESET")
    fit = training.prepared(options)
    from deidcli.training.cleanir import Losses, Recipe, train
    from deidcli.training.sampling import Augment

    recipe = Recipe(
        encoder_width=options["encoder_width"],
        decoder_width=options["decoder_width"],
        pool=options["pool"],
        rank=options["rank"] or None,
        seen=options["seen"],
        erase=options["erase"],
        decoder_only=options["decoder_only"],
        start=options["start"],
        augment=Augment(options["mirror"], options["shift"], options["colour"]),
        balance=options["balance"],
        losses=Losses(**{k: options[k] for k in Losses.__dataclass_fields__}),
        fit=fit,
    )
    data, val, out, work = training.folders(options)
    preset = train(data, val, recipe, out, work)
    click.echo(f"{preset.name} is in {preset.folder}", err=True)
    return 0


SHIFTS = ("none", "cluster", "neighbor", "nth", "cells", "attribute")
WIDTHS = {"dense": "1024-768-512", "convolutional": "16-32-64-128-256", "vector": "512-200"}


@click.command("autoencoder", cls=opt.Command)
@opt.stacked(
    click.option("--data", multiple=True, metavar="PACK", help="Training faces; may be given again."),
    click.option("--val", metavar="PACK", help="Faces of people who are not in the training data; without --shift."),
    click.option("--out", required=True, metavar="DIR", help="The preset's folder, like models/mine."),
    click.option("--work", metavar="DIR", help="Checkpoints, log and sheets; default: OUT.training."),
    click.option("--model", metavar="PRESET",
                 help="Learn from the bank of a face model and not from packs: for the canonical frame."),
    click.option("--network", type=click.Choice(["dense", "convolutional"]), default="dense", show_default=True,
                 help="Kind of its layers, without --model."),
    click.option("--widths", metavar="N-N-N",
                 help="Of the encoder's layers, the code last; default: "
                      f"{WIDTHS['dense']}, convolutional {WIDTHS['convolutional']}, of --model {WIDTHS['vector']}."),
    click.option("--colour/--grey", default=False, show_default=True, help="What the networks see of a picture."),
    click.option("--shared", type=click.IntRange(0), default=1, show_default=True,
                 help="Layers of the encoder that all shifts have in common."),
    click.option("--behind", default="", metavar="PRESET",
                 help="Without --shift: take deblurrer and smoother of this preset, and train none."),
    click.option("--start", metavar="PRESET", help="With --shift: the preset that gets it."),
    click.option("--shift", type=click.Choice(SHIFTS), default="none", show_default=True,
                 help="Fine-tune the encoder of --start; none: train an autoencoder."),
    click.option("--clusters", type=click.IntRange(2), default=180, show_default=True, help="Of --shift cluster."),
    click.option("--neighbors", type=click.IntRange(1), default=9, show_default=True,
                 help="Of the other shifts: how many are looked at."),
    click.option("--alpha", type=opt.Real(0, 2), default=0.8, show_default=True,
                 help="Of Equations 7 and 11; above 1 a face goes beyond its target, away from itself."),
    click.option("--beta", type=opt.Real(0, 4), default=0.0, show_default=True,
                 help="Of Equation 9, for clusters and attributes."),
    click.option("--beyond", type=opt.Real(0, 4), default=0.0, show_default=True,
                 help="How much farther a target lies than these say, as a share of the way to it."),
    click.option("--attributes", default="expression,mouth,race", show_default=True,
                 help="Of --shift attribute: labels of the faces, one after the other."),
    training.fitting(rate=1e-3),
    opt.config,
)  # fmt: skip
def autoencoder_command(**options: Any) -> int:
    """Train an autoencoder with its deblurrer and smoother, then an encoder for each shift; each call writes a preset.

    Labels that nobody gave are read by the classifiers `attributes` and `expression`; `mouth` comes from the landmarks.

    \b
    deid train autoencoder --data train.npz --val val.npz --out models/mine --minutes 30
    deid train autoencoder --data train.npz --start models/mine --shift cluster --clusters 180 --out models/mine
    """
    shifts = options["shift"] != "none"
    _check(options, shifts)
    fit = training.prepared(options)
    from deidcli.training import autoencoder
    from deidcli.training.autoencoder_targets import Shift, columns

    out = Path(options["out"])
    work = training.work_folder(options)
    data = [Path(path) for path in options["data"]]
    if shifts:
        attributes = columns(options["attributes"].split(",")) if options["shift"] == "attribute" else ()
        numbers = {name: options[name] for name in ("clusters", "neighbors", "alpha", "beta", "beyond")}
        shift = Shift(options["shift"], **numbers, attributes=attributes)
        preset = autoencoder.add_shift(options["start"], data, shift, fit, out, work)
    else:
        kind = "vector" if options["model"] else options["network"]
        widths = tuple(int(width) for width in (options["widths"] or WIDTHS[kind]).split("-"))
        recipe = autoencoder.Recipe(
            kind, 3 if options["colour"] else 1, widths, options["shared"], options["model"] or "", options["behind"],
            fit=fit,
        )  # fmt: skip
        preset = (
            autoencoder.train_on_bank(recipe, out, work)
            if options["model"]
            else autoencoder.train(data, Path(options["val"]), recipe, out, work)
        )
    click.echo(f"{preset.name} is in {preset.folder}", err=True)
    return 0


def _check(options: dict[str, Any], shifts: bool) -> None:
    if shifts and not options["start"]:
        raise UsageError("--shift needs the preset that gets it", "give --start PRESET")
    if not shifts and options["start"]:
        raise UsageError("--start is for --shift", "say which shift the preset gets")
    if options["behind"] and (shifts or options["model"]):
        raise UsageError("--behind is for networks that are trained on packs", "leave it out")
    if not shifts and bool(options["model"]) == bool(options["data"] and options["val"]):
        raise UsageError("an autoencoder learns from packs or from a face model", "give --data and --val, or --model")
    if not all(word.isdigit() and int(word) for word in (options["widths"] or "1").split("-")):
        raise UsageError(f"--widths {options['widths']}: not understood", "give numbers, like 1024-768-512")


@click.command("epdnet", cls=opt.Command)
@opt.stacked(
    training.packs,
    click.option("--model", default="", metavar="PRESET",
                 help="A face model: the packs hold textures in the canonical frame, and the generator starts from "
                      "what the model draws of other identities. Without: aligned crops, as in the paper."),
    click.option("--size", type=click.IntRange(32), default=64, show_default=True, help="Pixels of a side."),
    click.option("--channels", type=Counts(), default="32,64,96,128", show_default=True,
                 help="Of the generator's way down, each at half the height and width of the one before."),
    click.option("--fine", type=click.IntRange(0), default=0, show_default=True,
                 help="Channels at the picture's own resolution, beside the picture; 0: none."),
    click.option("--targets", multiple=True, metavar="PACK",
                 help="Crops of the same files after another method, cut where those of --data were: the generator "
                      "learns to draw these first, and --change pulls it to them. May be given again."),
    click.option("--target-minutes", type=opt.Real(0.001), default=20.0, show_default=True,
                 help="How long it learns --targets alone."),
    click.option("--beyond", type=opt.Real(0, 1), default=0.0, show_default=True,
                 help="How much more than to --targets it changes faces afterwards, as a share."),
    click.option("--target-batch", type=click.IntRange(1), default=16, show_default=True,
                 help="Faces in a batch of these."),
    click.option("--licences", default="CC0,MIT", show_default=True,
                 help="Learn from textures of these licences alone, where the pack says them."),
    click.option("--starts", type=click.IntRange(1), default=4, show_default=True,
                 help="Identities that the model draws of each face."),
    click.option("--least", type=click.IntRange(0), default=12, show_default=True,
                 help="Pictures of a person from which on the identity verifier knows them; 0: no such verifier."),
    click.option("--labels", default="expression", show_default=True,
                 help="The label with the emotions that the emotion verifier learns."),
    click.option("--verifier-minutes", type=opt.Real(0.01), default=8.0, show_default=True,
                 help="How long each verifier learns, at most."),
    click.option("--verifier-steps", type=click.IntRange(1), default=100, show_default=True,
                 help="Batches in each of at most 40 epochs of a verifier."),
    click.option("--adversary-rate", type=opt.Real(0), default=4e-4, show_default=True,
                 help="Learning rate of the adversary."),
    training.fitting(rate=4e-4, batch=16, ema=0.995, precision="float32"),
    click.option("--adversarial", type=opt.Real(0, 10), default=1.0, show_default=True, help="Lambda 1 of (11)."),
    click.option("--identity", type=opt.Real(0, 10), default=1.0, show_default=True, help="Lambda 2."),
    click.option("--emotion", type=opt.Real(0, 10), default=1.0, show_default=True, help="Lambda 3."),
    click.option("--structure", type=opt.Real(0, 10), default=0.25, show_default=True, help="Phi of Equation 7."),
    click.option("--alpha", type=opt.Real(0, 2), default=1.2, show_default=True, help="Of Equation 9."),
    click.option("--descriptor", type=opt.Real(0), default=0.0, show_default=True,
                 help="Weight of what dlib's recogniser says of the likeness; the paper has none."),
    click.option("--margin", type=opt.Real(0, 2), default=0.8, show_default=True,
                 help="Distance by the recogniser from which on this loss is zero."),
    click.option("--change", type=opt.Real(0), default=0.0, show_default=True,
                 help="Weight of the difference to the picture that is changed, or to the target; pix2pix's L1."),
    click.option("--switching", type=opt.Real(0), default=0.0, show_default=True,
                 help="Weight of Equation 9 for everybody else of the gallery; the paper has none."),
    opt.config,
)  # fmt: skip
def epdnet_command(**options: Any) -> int:
    """Train EPD-Net's networks and write a preset: configuration, float16 weights, checksums and a card.

    First the two verifiers, then the generator against its adversary. A run that is killed goes on from its last epoch
    when the same command is given again.

    \b
    deid align --pack --largest --labels expressions.csv --only people.csv --split train lfw/images train.npz
    deid align --pack --largest --labels expressions.csv --only people.csv --split val lfw/images val.npz
    deid train epdnet --data train.npz --val val.npz --out models/epdnet-64 --minutes 30
    """
    if options["targets"] and options["model"]:
        raise UsageError("--targets does not go with --model", "a face model draws what the generator starts from")
    fit = training.prepared(options)
    from deidcli.training.epd_net import Losses, Recipe, train

    given = {item.name for item in fields(Recipe)} - {"losses", "fit"}
    recipe = Recipe(
        **{name: options[name] for name in given & options.keys()},
        losses=Losses(**{item.name: options[item.name] for item in fields(Losses)}),
        fit=fit,
    )
    data, val, out, work = training.folders(options)
    preset = train(data, val, recipe, out, work, [Path(path) for path in options["targets"]])
    click.echo(f"{preset.name} is in {preset.folder}", err=True)
    return 0


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
    click.option("--without", metavar="FILE", help="Names of files in images/, one a line, whose faces "
                 "the bank does not take: somebody saw glasses or the like on them (bank.png and bank.txt in --work)."),
    click.option("--work", metavar="DIR", help="A sheet of the bank; default: OUT.training."),
    opt.config,
)  # fmt: skip
def face_model_command(**options: Any) -> int:
    """Learn what faces look like from synthetic ones, and write a preset.

    \b
    deid train face-model --data synthetic/ --out models/face-256
    """
    from deidcli.cli.inputs import named
    from deidcli.training.face_model import Recipe, train

    without = frozenset(named([], options["without"], False) if options["without"] else ())
    recipe = Recipe(options["components"], tuple(name.strip() for name in options["licences"].split(",")), without)
    out, work = Path(options["out"]), training.work_folder(options)
    preset = train(Path(options["data"]), recipe, out, work, lambda text: click.echo(text, err=True))
    click.echo(f"{preset.name} is in {preset.folder}", err=True)
    return 0
