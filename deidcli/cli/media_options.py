"""Options for videos and sequences: how they are read, and how they are written."""

from __future__ import annotations

from typing import Any

import click

from deidcli.cli.options import Real, stacked
from deidcli.media.stream import ReadOptions, VideoOptions

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


def video_options(options: dict[str, Any]) -> VideoOptions:
    """What the options of `video` ask for."""
    names = ("streams", "codec", "crf", "encoder_preset")
    return VideoOptions(**{name: options[name] for name in names}, frames=options["frames"] or "")
