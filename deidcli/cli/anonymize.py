"""The `anonymize` command: replace every face in files and folders."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import click

from deidcli.cli import closed
from deidcli.cli import media_options as med
from deidcli.cli import options as opt
from deidcli.cli.devices import use_device
from deidcli.cli.listing import gather, parted
from deidcli.cli.progress import FrameMeter, shown
from deidcli.engine.face_list import face_entry, load_faces
from deidcli.engine.frames import FileFailure, FileFrame
from deidcli.engine.jobs import MANIFEST, STREAM, Job, check_apart, check_sheets
from deidcli.engine.manifest import FAILED, SALVAGED, Earlier, Manifest, Row, encoded, totals
from deidcli.engine.output import OutputFolder
from deidcli.engine.persona import PERSONAS
from deidcli.engine.settings import ON_NO_FACE, Settings, fingerprint
from deidcli.errors import MediaError, UsageError
from deidcli.faces.blend import BlendOptions
from deidcli.faces.mask import FEATHER
from deidcli.media.stream import WriteOptions
from deidcli.methods.base import Method
from deidcli.presets import sha256

METADATA = ("none", "safe", "all")
DONE, SOME, NONE = 0, 1, 3  # exit status: all done, some files failed, nothing could be done


@click.command(cls=opt.Command)
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
    click.option("--mask-scale", type=opt.Real(0.5, 3), default=1.0, show_default=True,
                 help="Grow the part of the picture that is replaced."),
    click.option("--feather", type=opt.Real(0, 0.5), default=FEATHER, show_default=True,
                 help="Width of the soft edge as a share of the face."),
    click.option("--poisson", is_flag=True, help="Join gradients at the edge of the new face."),
    click.option("--on-no-face", type=click.Choice(ON_NO_FACE), default="copy", show_default=True,
                 help="What happens to a picture without a face."),
    opt.fallback,
    click.option("--verify/--no-verify", default=None,
                 help="Compare every new face with its original, and go on while they are taken for one person; "
                      "default: on, and off for the ksame methods, whose promise is another one."),
    opt.recogniser,
    click.option("--distance", type=opt.Real(0), help="Threshold of --verify; default: the recogniser's own."),
    click.option("--metadata", type=click.Choice(METADATA), default="safe", show_default=True,
                 help="What is kept of EXIF, XMP and the like. Thumbnails never are."),
    med.video,
    click.option("--batch-size", type=click.IntRange(1), default=32, show_default=True, help="Faces made in one go."),
    opt.device,
    opt.workers,
    click.option("--resume", is_flag=True, help="Leave out what the manifest says is done alike."),
    click.option("--overwrite", is_flag=True, help="Replace files that exist."),
    click.option("--shard", metavar="I/N", help="Do only part I of N; the parts can run on N machines."),
    opt.listing,
    click.option("--preview-sheet", is_flag=True,
                 help="Write a picture of all tracks, as they were written, beside each video."),
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
    flags, rest = opt.split_flags(options)
    use_device(rest["device"])
    method = opt.make_method(rest["method"], flags, rest["seed"])
    settings = _settings(rest, method.judged)
    if rest["persona"] == "identity" and (rest["resume"] or rest["shard"]):
        # Descriptors of people are written nowhere, so another process cannot know who was seen before.
        raise UsageError("--persona identity needs all files in one run", "leave out --resume and --shard")
    whole = gather(inputs, output, rest["files_from"], rest["null"], rest["sequence"])
    jobs = parted(whole, rest["shard"])
    if method.closed:
        settings = closed.settled(settings, whole, rest)
    if rest["preview_sheet"]:
        check_sheets(jobs)
    if rest["dry_run"]:
        return _dry_run(jobs, settings, rest)
    place = _manifest_path(output, jobs, rest)
    waiting = _not_done(jobs, place, fingerprint(method, settings)) if rest["resume"] else jobs
    _tell(rest, f"{len(jobs) - len(waiting)} of {len(jobs)} files are done already", rest["resume"])
    single = output == STREAM or [job.target for job in jobs] == [Path(output)]
    folder = OutputFolder(None if single else Path(output), rest["overwrite"] or rest["resume"])
    status = _run(waiting, method, settings, folder, place, rest, whole)
    # Where something was done earlier, "nothing could be done" would not be true.
    return SOME if status == NONE and len(waiting) < len(jobs) else status


def _settings(rest: dict[str, Any], judged: bool) -> Settings:
    return Settings(
        detect=opt.detect_options(rest),
        track=opt.track_options(rest),
        blend=BlendOptions(rest["mask_scale"], rest["feather"], rest["poisson"]),
        read=med.read_options(rest),
        write=WriteOptions(rest["metadata"], med.video_options(rest)),
        faces=_checksum(rest["faces"]),
        verify=judged if rest["verify"] is None else rest["verify"],
        **{name: rest[name] for name in ("on_no_face", "fallback", "recogniser", "distance")},
        **{name: rest[name] for name in ("persona", "preview_sheet", "batch_size", "workers", "seed")},
    )


def _checksum(faces: str | None) -> str:
    """Of the list of faces, so that --resume knows when it was edited."""
    try:
        return sha256(Path(faces)) if faces else ""
    except OSError as error:
        raise UsageError(f"--faces {faces}: {error.strerror}", "give a file that `deid detect` wrote") from error


def _manifest_path(output: str, jobs: Sequence[Job], rest: dict[str, Any]) -> Path | None:
    """Beside the output, so that --resume finds it; none for a single file or a stream unless it is asked for."""
    if rest["manifest"]:
        check_apart(Path(rest["manifest"]), jobs)
        return Path(rest["manifest"])
    if output == STREAM or [job.target for job in jobs] == [Path(output)]:
        if rest["resume"]:
            raise UsageError("--resume needs to know what was done", "give --manifest FILE")
        return None
    part = f"-{rest['shard'].replace('/', '-of-')}" if rest["shard"] else ""
    return Path(output) / MANIFEST.replace(".jsonl", f"{part}.jsonl")


def _not_done(jobs: Sequence[Job], manifest: Path | None, settings: str) -> list[Job]:
    earlier = Earlier.load(manifest) if manifest else Earlier({})
    return [job for job in jobs if not earlier.has(job.name, job.source, job.target, settings)]


def _run(
    jobs: Sequence[Job],
    method: Method,
    settings: Settings,
    output: OutputFolder,
    place: Path | None,
    rest: dict[str, Any],
    whole: Sequence[Job],
) -> int:
    from deidcli.engine.local import anonymize

    given = load_faces(Path(rest["faces"])) if rest["faces"] else None
    if given:
        given.check_files({job.name for job in whole})
    meter = FrameMeter(_style(rest))
    seen = partial(shown, total=len(whole), style=_style(rest), unit="frame")
    kept = closed.Kept(place is None and method.declares_donors)
    with ExitStack() as held:
        held.callback(meter.close)
        # A folder that is there is claimed before anything takes long; one that is not, when nothing can be refused.
        if output.root and output.root.is_dir():
            output.lock(shared=bool(rest["shard"]))
        held.callback(output.close)
        work = anonymize(jobs, method, settings, given, output, meter, whole, seen)
        output.lock(shared=bool(rest["shard"]))
        _tell(rest, output.stale, bool(output.stale))
        manifest = Manifest(place, keep=rest["resume"] or not rest["overwrite"]) if place else None
        if manifest:
            held.callback(manifest.close)
        rows = shown(work, len(jobs), _style(rest))
        count = totals(kept(_recorded(rows, manifest, rest)))
    status = _conclude(count, len(jobs), place, rest)
    return closed.concluded(status, place, kept.rows, rest) if method.declares_donors else status


def _recorded(rows: Iterator[Row], manifest: Manifest | None, rest: dict[str, Any]) -> Iterator[Row]:
    for row in rows:
        if manifest:
            row = _added(manifest, row)
        if row.error:
            click.echo(f"deid: {row.error}", err=True)
        elif rest["verbose"]:
            click.echo(f"{row.input}: {row.status}, {sum(row.actions().values())} faces, {row.seconds:.2f} s", err=True)
        if row.status == SALVAGED or not rest["quiet"]:
            for note in row.notes:
                click.echo(f"deid: {row.input}: {note}", err=True)
        yield row


def _added(manifest: Manifest, row: Row) -> Row:
    """The row as it counts: a file that nobody can look up is not done, and the batch goes on."""
    try:
        manifest.add(row)
    except MediaError as error:
        return replace(row, status=FAILED, error=row.error or str(error))
    return row


def _conclude(count: dict[str, int], files: int, place: Path | None, rest: dict[str, Any]) -> int:
    """Say what was done; the exit status."""
    failed, salvaged = count.get(FAILED, 0), count.get(SALVAGED, 0)
    replaced, covered = count.get("replaced", 0), count.get("covered", 0)
    written = count.get("done", 0) + salvaged
    words = [f"{written} of {files} files written", f"{replaced} faces replaced, {covered} covered"]
    words += [f"{count[word]} {word}" for word in ("skipped", SALVAGED, FAILED) if word in count]
    _tell(rest, "; ".join(words) + (f"; see {place}" if place else ""))
    return DONE if not failed + salvaged else NONE if failed == files else SOME


def _dry_run(jobs: Sequence[Job], settings: Settings, rest: dict[str, Any]) -> int:
    import json

    from deidcli.engine.local import find

    given = load_faces(Path(rest["faces"])) if rest["faces"] else None
    failed = 0
    items = find(jobs, settings.detect, given, settings.workers, settings.read, settings.track)
    for item in shown(items, len(jobs), _style(rest), "frame"):
        job, error = item.source.job, item.error if isinstance(item, FileFailure) else None
        frame, faces = (item.frame.index, item.faces) if isinstance(item, FileFrame) else (0, ())
        row = {"input": job.name, "frame": frame, "output": job.target and str(job.target)}
        row |= {"faces": [face_entry(face, landmarks=False) for face in faces], "error": error}
        failed += error is not None
        click.echo(encoded(json.dumps(row, ensure_ascii=False)))
    return DONE if not failed else NONE if failed == len(jobs) else SOME


def _style(rest: dict[str, Any]) -> str:
    return "none" if rest["quiet"] else rest["progress"]


def _tell(rest: dict[str, Any], text: str, when: bool = True) -> None:
    if when and not rest["quiet"]:
        click.echo(text, err=True)
