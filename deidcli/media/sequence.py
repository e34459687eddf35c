"""A folder of numbered pictures as one sequence of frames, like a video without sound."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np

from deidcli.errors import MediaError
from deidcli.media.image.reader import ImageReader, open_image
from deidcli.media.sniff import HEAD, image_kind
from deidcli.media.stream import Reader, ReadOptions, StreamInfo, WriteOptions, Writer
from deidcli.values import Frame

_PICTURE = re.compile(r"\.(png|apng|jpe?g|jpe|jfif|webp|tiff?|bmp|dib|avif|heic|heif)$", re.IGNORECASE)
_NUMBERED = re.compile(r"^(.*?)(\d+)(\.[A-Za-z]+)$", re.DOTALL)


def numbered(names: Iterable[str]) -> list[tuple[int, str]]:
    """(number, name) of the pictures among `names`, in the order of the numbers before their suffixes.

    Empty where they differ in more than that, where two have one number, or where there are fewer than two.
    """
    pictures = [name for name in names if _PICTURE.search(name)]
    parts = [part for part in map(_NUMBERED.match, pictures) if part]
    alike = len({(part[1], part[3]) for part in parts}) == 1 and len(parts) == len(pictures)
    order = sorted((int(part[2]), part[0]) for part in parts)
    return order if alike and len(order) > 1 and len({number for number, _ in order}) == len(order) else []


class SequenceReader(Reader):
    """Frames of a folder. The time of a frame is its distance from the first number, at `ReadOptions.fps` a second."""

    streams = True

    def __init__(self, folder: Path, name: str, options: ReadOptions):
        """Raises MediaError for a folder whose pictures are not numbered alike."""
        self.folder, self.name = folder, name
        self.rate = Fraction(str(options.fps))
        self.order = numbered(path.name for path in folder.iterdir())
        if not self.order:
            raise MediaError(f"{name}: not a sequence of numbered pictures", "leave out --sequence")
        with self._open(0) as first:
            self.info = StreamInfo("sequence", first.info.size, len(self.order))

    def frames(self) -> Iterator[Frame]:
        begin = self.order[0][0]
        for index, (number, name) in enumerate(self.order):
            reader = self._open(index)
            shown = list(reader.frames()) if reader.info.frames == 1 else []
            if not shown:
                raise MediaError(f"{self.name}/{name}: holds several pictures", "a sequence has one a file")
            yield Frame(shown[0].pixels, index, (number - begin) / self.rate, reader)

    def writer(self, target: BinaryIO | Path, options: WriteOptions, suffix: str = "") -> Writer:
        if not isinstance(target, Path):
            raise MediaError(f"{self.name}: a sequence cannot be written to one file", "name an output folder")
        return SequenceWriter(self, target, options)

    def makes_folder(self, options: WriteOptions) -> bool:
        return True

    def _open(self, index: int) -> ImageReader:
        name = f"{self.name}/{self.order[index][1]}"
        try:
            data = (self.folder / self.order[index][1]).read_bytes()
        except OSError as error:
            raise MediaError(f"{name}: cannot be read: {error.strerror}", "check its permissions") from error
        kind = image_kind(data[:HEAD])
        if kind is None:
            raise MediaError(f"{name}: not a picture", "leave it out of the folder")
        return open_image(data, name, kind)


class SequenceWriter(Writer):
    """Writes each frame as the picture it was, under its own name and in its own format."""

    def __init__(self, reader: SequenceReader, folder: Path, options: WriteOptions):
        self.reader, self.folder, self.options = reader, folder, options
        self._taken = 0

    def write(self, frame: Frame, changed: np.ndarray | None) -> None:
        if frame.index != self._taken or not isinstance(frame.native, ImageReader):
            raise MediaError(f"frame {frame.index} came where {self._taken} was due", "write the frames in order")
        picture, path = BytesIO(), self.folder / self.reader.order[frame.index][1]
        with frame.native as source:
            writer = source.writer(picture, self.options)
            # To its own file every picture is the first one.
            writer.write(Frame(frame.pixels), changed)
            writer.finish()
        try:
            path.write_bytes(picture.getvalue())
        except OSError as error:
            said = f"{self.reader.name}: {path.name} cannot be written: {error.strerror}"
            raise MediaError(said, "check the disk") from error
        self._taken += 1

    def finish(self) -> None:
        wanted = len(self.reader.order)
        if self._taken != wanted:
            raise MediaError(f"{self.reader.name}: {self._taken} of {wanted} frames were written", "write every frame")
