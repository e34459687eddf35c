"""Pictures: the Reader and the Writer over all formats that hold photographs, and over folders of numbered pictures.

One container class a format knows its bytes; this module knows what happens to them: frames go out upright and come
back, and a file of which no frame was changed is never encoded again. A folder of numbered pictures is one sequence of
frames, like a video without sound.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from fractions import Fraction
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from deidcli.errors import MediaError
from deidcli.media.image import Container, Native, Rewriter, container_of, explained
from deidcli.media.image.conversion import views, with_rgb
from deidcli.media.image.rehearsal import is_endless, is_suspicious, promise, rehearse
from deidcli.media.looks import continued
from deidcli.media.metadata import checked
from deidcli.media.sniff import HEAD, image_kind
from deidcli.media.stream import Reader, ReadOptions, StreamInfo, WriteOptions, Writer, read_picture
from deidcli.values import Frame

MOST_FRAMES = 20_000
"""The most frames of an animation, and pages of a file: a quarter of an hour at 24 a second. Each may be searched."""
_RECENT = 4
"""How many decoded frames wait for the writer; a writer that is further behind decodes again, in order."""


def open_image(data: bytes, name: str, kind: str, salvage: bool = False) -> ImageReader:
    """A reader of a picture in memory. kind: what `sniff.image_kind` said. salvage: see `ReadOptions`.

    Raises MediaError for a damaged file, unless it is salvaged.
    """
    with explained(name):
        container = container_of(data, name, kind, salvage)
        if len(container.times) > MOST_FRAMES:
            said = f"{len(container.times)} frames in {len(data)} bytes are more than the limit of {MOST_FRAMES}"
            raise MediaError(said, "convert it to a video first")
        if is_endless(container):
            raise MediaError(promise(container, "a decompression bomb"), "convert it to a video first")
        if is_suspicious(container):
            rehearse(container, kind)
        return ImageReader(container)


class ImageReader(Reader):
    """Frames of a picture: one for a still, each frame of an animation (composed), each page of a TIFF.

    Pixels of a frame are read-only: an unchanged frame is recognised by being the source's own.
    """

    def __init__(self, container: Container):
        self.container = container
        self.notes = container.notes
        self.info = StreamInfo(container.format, container.size, len(container.times))
        self._recent: OrderedDict[int, Native] = OrderedDict()

    def frames(self) -> Iterator[Frame]:
        with explained(self.container.name):
            for index, native in enumerate(self.container.natives()):
                pixels, others = views(native)
                self.damage = self.container.damage
                # A face that breaks off where the decoded rows end is searched as one that a border cuts.
                if self.damage and (whole := continued(pixels)) is not None:
                    others = (*others, whole)
                pixels.flags.writeable = False
                self._remember(index, native)
                yield Frame(pixels, index, self.container.times[index], looks=others)

    def writer(self, target: BinaryIO | Path, options: WriteOptions, suffix: str = "") -> Writer:
        if isinstance(target, Path):
            raise MediaError(f"{self.container.name}: a picture cannot be written to a folder", "name a file")
        return ImageWriter(self, target, checked(options.metadata))

    def close(self) -> None:
        self._recent.clear()

    def recent(self, index: int) -> Native | None:
        """Take a frame that was just decoded, or None where it is gone already."""
        return self._recent.pop(index, None)

    def _remember(self, index: int, native: Native) -> None:
        self._recent[index] = native
        if len(self._recent) > _RECENT:
            self._recent.popitem(last=False)


def _has_profile(data: bytes) -> bool:
    """Whether Pillow sees a colour profile in a file."""
    with suppress(Exception), Image.open(BytesIO(data)) as image:
        return bool(image.info.get("icc_profile"))
    return False


class ImageWriter(Writer):
    """Takes the frames back. Nothing is encoded before the first changed frame, and nothing at all without one."""

    def __init__(self, reader: ImageReader, target: BinaryIO, metadata: str):
        self.reader, self.target, self.metadata = reader, target, metadata
        self.container = reader.container
        self._rewriter: Rewriter | None = None
        self._whole: bytes | None = None
        self._late: Iterator[Native] | None = None
        self._decoded = self._taken = 0

    def write(self, frame: Frame, changed: np.ndarray | None) -> None:
        """As `Writer.write`. Raises MediaError for a frame out of turn or of another size."""
        with explained(self.container.name, "the picture cannot be written"):
            self._check(frame, changed)
            if changed is not None and not changed.any():
                changed = None
            if changed is not None and self._rewriter is None:
                self._begin()
            if self._rewriter is not None:
                native = self._source(frame.index)
                new = native if changed is None else with_rgb(native, frame.pixels, changed)
                self._rewriter.add(new, changed)
            self._taken += 1
            if self._taken == len(self.container.times):
                # No later change can ask for them.
                self.reader.close()

    def preview(self) -> Reader | None:
        """The finished picture, read from its bytes. Raises MediaError where they cannot be read."""
        whole = self._finished()
        kind = image_kind(whole[:HEAD])
        if kind is None:
            raise MediaError(f"{self.container.name}: what was to be written is no picture", "report this file")
        return open_image(whole, self.container.name, kind)

    def finish(self) -> None:
        whole = self._finished()
        self.notes = self.container.changes
        try:
            self.target.write(whole)
        except OSError as error:
            name = self.container.name
            raise MediaError(f"{name}: cannot be written: {error.strerror or error}", "check the disk") from error

    def _finished(self) -> bytes:
        """The whole file; made once."""
        name, wanted = self.container.name, len(self.container.times)
        if self._taken != wanted:
            raise MediaError(f"{name}: {self._taken} of {wanted} frames were written", "write every frame")
        if self._whole is None:
            with explained(name, "the picture cannot be written"):
                self._whole = self._rewriter.finish() if self._rewriter else self.container.scrubbed(self.metadata)
                if self.metadata != "none" and _has_profile(self.container.data) and not _has_profile(self._whole):
                    self.container.changes += ("its colour profile is lost: it is damaged, or of an unknown kind",)
            self._rewriter = None
        return self._whole

    def _begin(self) -> None:
        """The first change came late: the frames before it, which are the source's own, are decoded once more."""
        self._rewriter = self.container.rewriter(self.metadata)
        for index in range(self._taken):
            self._rewriter.add(self._source(index), None)

    def _source(self, index: int) -> Native:
        native = self.reader.recent(index)
        if native is not None:
            return native
        if self._late is None:
            self._late = self.container.natives()
        native = next(islice(self._late, index - self._decoded, None))
        self._decoded = index + 1
        return native

    def _check(self, frame: Frame, changed: np.ndarray | None) -> None:
        if frame.index != self._taken:
            raise MediaError(f"frame {frame.index} came where {self._taken} was due", "write the frames in order")
        if changed is not None and changed.shape != frame.pixels.shape[:2]:
            raise MediaError(f"a mask of {changed.shape} came for {frame.pixels.shape}", "give one of the frame's size")


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
            with (self.folder / self.order[index][1]).open("rb") as file:
                data = read_picture(file, name)
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
