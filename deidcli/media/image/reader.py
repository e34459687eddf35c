"""Pictures: the Reader and the Writer over all formats that hold photographs.

One container class a format knows its bytes; this module knows what happens to them: frames go out upright and come
back, and a file of which no frame was changed is never encoded again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import numpy as np

from deidcli.errors import MediaError
from deidcli.media.image.container import Container, Rewriter, container_of, explained
from deidcli.media.image.conversion import views, with_rgb
from deidcli.media.image.modes import Native
from deidcli.media.image.rehearsal import is_suspicious, rehearse
from deidcli.media.looks import continued
from deidcli.media.metadata import checked
from deidcli.media.sniff import HEAD, image_kind
from deidcli.media.stream import Reader, StreamInfo, WriteOptions, Writer
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
