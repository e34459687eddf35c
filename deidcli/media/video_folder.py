"""The frames of a video as a folder of numbered pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from deidcli.errors import MediaError
from deidcli.media.stream import Writer
from deidcli.values import Frame

if TYPE_CHECKING:
    from deidcli.media.video import VideoReader

_SETTINGS: dict[str, dict] = {"png": {"compress_level": 3}, "jpg": {"quality": 95, "subsampling": 0}}


class FolderWriter(Writer):
    """Writes 000000.png, 000001.png and so on: the number of the frame in the manifest and in lists of faces.

    The pictures have eight bits, are upright and carry no metadata. Sound and time stamps have no place in them.
    """

    def __init__(self, reader: VideoReader, folder: Path, kind: str):
        self.reader, self.folder, self.kind = reader, folder, kind
        self._taken = 0

    def write(self, frame: Frame, changed: np.ndarray | None) -> None:
        path = self.folder / f"{frame.index:06d}.{self.kind}"
        try:
            Image.fromarray(frame.pixels).save(path, **_SETTINGS[self.kind])
        except OSError as error:
            said = f"{self.reader.source.name}: frame {frame.index} cannot be written: {error.strerror or error}"
            raise MediaError(said, "check the disk") from error
        self._taken += 1

    def finish(self) -> None:
        if self._taken != self.reader.count:
            name = self.reader.source.name
            raise MediaError(f"{name}: {self._taken} of {self.reader.count} frames were written", "write every frame")
