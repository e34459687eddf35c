"""Videos: frames out of whatever FFmpeg decodes, upright and with their exact times, one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from deidcli.errors import MediaError
from deidcli.media import metadata as policies
from deidcli.media.image.container import check_size
from deidcli.media.looks import looks
from deidcli.media.stream import Reader, ReadOptions, StreamInfo, WriteOptions, Writer
from deidcli.media.video.decoder import Decoder
from deidcli.media.video.pixels import Pixels
from deidcli.media.video.source import Source
from deidcli.media.video.writer import FolderWriter, VideoWriter
from deidcli.values import Frame


def open_video(data: Path | bytes, name: str, kind: str, options: ReadOptions) -> VideoReader:
    """A reader of a video. kind: what `sniff.video_kind` said.

    Raises MediaError for a file without moving pictures, and for one that was cut off unless it is to be salvaged.
    """
    return VideoReader(Source(data, kind, name), options)


class VideoReader(Reader):
    """Frames of a video as they are asked for; no more of them are held than the decoder needs."""

    streams = True

    def __init__(self, source: Source, options: ReadOptions):
        self.decoder = Decoder(source, options.salvage)
        facts = self.decoder.facts
        check_size(facts.size)
        self.info = StreamInfo(source.kind, facts.upright, facts.frames)

    @property
    def notes(self) -> tuple[str, ...]:  # type: ignore[override]
        """What the user should know of the file, complete when its frames were read."""
        others = self.decoder.facts.others
        # They were not searched, and may show the same people.
        left = (f"it has {others} more tracks of moving pictures: left out",) if others else ()
        alpha = ("its alpha channel is left out",) if self.decoder.facts.alpha else ()
        return tuple(note for note in (*left, *alpha, self.decoder.clock) if note)

    @property
    def damage(self) -> str:  # type: ignore[override]
        """What is missing of a damaged video, known when its frames were read."""
        return self.decoder.damage

    def frames(self) -> Iterator[Frame]:
        """As `Reader.frames`; they are read from the file's beginning each time."""
        pixels = Pixels(self.decoder.facts.orientation)
        for index, (native, time) in enumerate(self.decoder.frames()):
            self.decoder.count = index + 1
            first, others = looks(pixels.rgb(native), pixels.alpha(native))
            yield Frame(first, index, time, native, others)
        if not self.decoder.count:
            raise MediaError(
                f"{self.decoder.source.name}: no frame of the video can be decoded", "get a whole copy of the file"
            )

    def writer(self, target: BinaryIO | Path, options: WriteOptions, suffix: str = "") -> Writer:
        policies.checked(options.metadata)
        if isinstance(target, Path):
            return FolderWriter(self.decoder, target, options.video.frames)
        return VideoWriter(self.decoder, target, options, suffix)

    def close(self) -> None:
        """Stop: a file that cannot be written is read no further."""
        self.decoder.close()

    def makes_folder(self, options: WriteOptions) -> bool:
        return bool(options.video.frames)
