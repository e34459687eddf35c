"""What commands read: arguments, names from a file or standard input, and the options of videos and sequences."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click

from deidcli import bounded
from deidcli.cli.options import Real, stacked
from deidcli.engine.jobs import STREAM, Job, list_jobs
from deidcli.errors import UsageError
from deidcli.media.stream import ReadOptions


def gather(
    inputs: Sequence[str], output: str | None, files_from: str | None, null: bool, sequences: bool = False
) -> list[Job]:
    """The jobs of a command. Raises UsageError; also where there is nothing to do."""
    return list_jobs(inputs, output, sequences, named(inputs, files_from, null))


def named(inputs: Sequence[str], files_from: str | None, null: bool) -> list[str]:
    """The names of --files-from. Raises UsageError; also where neither they nor `inputs` name anything."""
    listed = _names(files_from, null) if files_from else []
    if not inputs and not listed:
        raise UsageError("no input was given", "name files or folders, or give --files-from")
    return listed


def _names(files_from: str, null: bool) -> list[str]:
    try:
        with nullcontext(sys.stdin.buffer) if files_from == STREAM else Path(files_from).open("rb") as file:
            text = bounded.read(file, bounded.LIST)
    except bounded.TooLong as error:
        raise UsageError(f"--files-from {files_from}: {error}", "give a file with one name a line") from error
    except OSError as error:
        raise UsageError(f"--files-from {files_from}: {error.strerror}", "give a file with one name a line") from error
    parts = text.split(b"\0") if null else text.splitlines()
    # Names are bytes on the systems we run on; this is how Python writes those that are not UTF-8.
    return [part.decode("utf-8", "surrogateescape") for part in parts if part]


reading = stacked(
    click.option("--salvage", is_flag=True,
                 help="Take of a damaged video, JPEG or PNG what can be decoded; the exit status says so."),
    click.option("--sequence", is_flag=True, help="Take a folder of numbered pictures as one video."),
    click.option("--fps", type=Real(0.001, 100000), default=ReadOptions().fps, show_default=True,
                 help="Frames a second of such a folder."),
)  # fmt: skip

video = stacked(
    reading,
    click.option("--streams", type=click.Choice(["audio", "all", "none"]), default="audio", show_default=True,
                 help="What is copied beside the pictures of a video; all: subtitles and data, too."),
    click.option("--codec", default="", metavar="NAME",
                 help="Codec or encoder by FFmpeg's name, like h264 or h264_nvenc; default: the video's own."),
    click.option("--crf", type=Real(0, 63),
                 help="Quality of the encoder, lower is better; default: no loss that shows."),
    click.option("--encoder-preset", default="", metavar="NAME",
                 help="The encoder's own word for speed against size, like veryfast."),
    click.option("--frames", type=click.Choice(["png", "jpg"]),
                 help="Write each video as a folder of numbered pictures."),
)  # fmt: skip


def read_options(options: dict[str, Any]) -> ReadOptions:
    """What the options of `reading` ask for."""
    return ReadOptions(options["salvage"], options["fps"])
