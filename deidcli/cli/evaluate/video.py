"""`evaluate video`: steadiness over the frames of a video, and attacks over them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deidcli.cli import measuring
from deidcli.cli import options as opt
from deidcli.cli.evaluate.attacks import told
from deidcli.errors import UsageError

if TYPE_CHECKING:
    from deidcli.evaluation.results import Attack, Run

COLUMNS = ("frames", "tracks", "self match rate", "descriptor steps", "landmark shake", "flicker")


@click.command("video", cls=opt.Command)
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@opt.stacked(
    measuring.methods("original,cleanir,blur"),
    measuring.measured,
)  # fmt: skip
def command(files: tuple[str, ...], **options: Any) -> int:
    """How steady new faces are over the frames of FILE..., and what many frames give away.

    Columns: frames, tracks, faces that are matched with their own original, the recogniser's distance from frame to
    frame, how much more landmarks move than the original's, and the change, in grey levels, of replaced pixels whose
    original stands still. Attacks: faces averaged over frames, outputs linked, and how faces move, by their landmarks
    alone; every track counts as a person, in all files together. --limit: frames of each file.

    \b
    deid evaluate video stage.mp4 --methods original,cleanir,blur --detector hog
    """
    from deidcli.evaluation.video import video

    paths = [Path(file) for file in files]
    for path in paths:
        if not path.is_file():
            raise UsageError(f"{path} is no file", "name a video")
    data = paths[0].name if len(paths) == 1 else f"{len(paths)} videos"
    bench = measuring.make_bench(paths[0].parent, data, options, labels=False)
    runs: list[Run] = []
    attacks: list[Attack] = []
    for one in measuring.subjects(options["methods"], options["seed"]):
        run, outcomes = video(bench, paths, one, options["limit"])
        runs += measuring.told([run], COLUMNS, options["as_json"], head=not runs)
        attacks += outcomes
    told(attacks, options["as_json"])
    measuring.finish(runs, options, attacks)
    return 0
