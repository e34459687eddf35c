"""The contract of every format: a reader gives upright RGB frames, a writer takes them back.

A writer owns the promise that nothing but the faces changes: it gets the new frame together with the pixels that were
changed, takes every other pixel from the source itself (in its own mode and depth), and when no frame was changed it
copies the source without re-encoding, metadata scrubbed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, ClassVar

import numpy as np

from deidcli import bounded
from deidcli.errors import MediaError
from deidcli.values import Frame

CROPPED = "what the file crops away was left out"
"""What a file says of pixels that it holds and no viewer shows."""


class SoundOnly(MediaError):
    """A file that could be a video and holds sound alone."""


@dataclass(frozen=True)
class StreamInfo:
    """What is known of a file before its frames are read. size: (width, height) of the upright frame in pixels."""

    format: str
    size: tuple[int, int]
    frames: int | None


@dataclass(frozen=True)
class ReadOptions:
    """How files are read.

    salvage: take of a damaged video what can be decoded, instead of refusing it. fps: frames a second of a folder of
    numbered pictures that is read as one sequence.
    """

    salvage: bool = False
    fps: float = 25.0


@dataclass(frozen=True)
class VideoOptions:
    """How videos are written.

    streams: what is copied beside the picture: "audio", "all" (subtitles and data too) or "none". codec: a codec or an
    encoder by FFmpeg's name, "" for the source's own. crf: the encoder's quality, lower is better; None for one that
    does not show. encoder_preset: the encoder's own word for speed against size, "" for its default. frames: "png" or
    "jpg" for a folder of numbered pictures in place of a video, "" for a video.
    """

    streams: str = "audio"
    codec: str = ""
    crf: float | None = None
    encoder_preset: str = ""
    frames: str = ""


@dataclass(frozen=True)
class WriteOptions:
    """How files are written. metadata: "none", "safe" or "all" (see `media.metadata` and `media.video.tags`)."""

    metadata: str = "safe"
    video: VideoOptions = field(default_factory=VideoOptions)


class Reader(ABC):
    """An opened source of frames; use it as a context manager.

    damage: what is missing of a damaged file that was salvaged, "" for a whole one; known when the frames were read.
    streams: whether frames are decoded as they are asked for and not kept, so that a file may be of any length.
    notes: what the user should know of the file, a line each.
    """

    info: StreamInfo
    damage: str = ""
    notes: tuple[str, ...] = ()
    streams: ClassVar[bool] = False

    @abstractmethod
    def frames(self) -> Iterator[Frame]:
        """Every frame in order. Raises MediaError where the file is damaged."""

    @abstractmethod
    def writer(self, target: BinaryIO | Path, options: WriteOptions, suffix: str = "") -> Writer:
        """A writer that makes the same kind of file out of this source.

        target: an empty file, or an empty folder where `makes_folder` says so. suffix: of the name that the file will
        have, like ".mp4"; a format that depends on it takes it from there.
        """

    def makes_folder(self, options: WriteOptions) -> bool:
        """Whether what is written is a folder and not a file."""
        return False

    def close(self) -> None:  # noqa: B027 - most readers hold nothing
        """Let go of the file."""

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


class Writer(ABC):
    """Takes the frames of its reader back, in order, and ends with a whole file in `target`.

    notes: what the user should know of the file, a line each; beside: what of a video is copied beside its pictures
    ("audio", "subtitle", "data"); both complete when it is finished.
    """

    notes: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()

    @abstractmethod
    def write(self, frame: Frame, changed: np.ndarray | None) -> None:
        """Take one frame. changed: (height, width) bool, the pixels that differ from the source; None where none do."""

    def preview(self) -> Reader | None:
        """What `finish` is going to write, opened anew; None for a format that is not looked at again.

        To be asked for when every frame was taken.
        """
        return None

    @abstractmethod
    def finish(self) -> None:
        """Write what is left. Nothing in `target` may be used before this returned."""

    def close(self) -> None:  # noqa: B027 - most writers hold nothing
        """Free everything; called at the end, also of a file that failed."""


def read_picture(file: BinaryIO, name: str) -> bytes:
    """All that an open file of a picture holds. Raises MediaError with its name where that is too much, and OSError."""
    try:
        return bounded.read(file, bounded.PICTURE)
    except bounded.TooLong as error:
        raise MediaError(f"{name}: too large for a picture: {error}", "scale it down first") from error
