"""The contract of every format: a reader gives upright RGB frames, a writer takes them back.

A writer owns the promise that nothing but the faces changes: it gets the new frame together with the pixels that were
changed, takes every other pixel from the source itself (in its own mode and depth), and when no frame was changed it
copies the source without re-encoding, metadata scrubbed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import BinaryIO

import numpy as np

from deidcli.values import Frame


@dataclass(frozen=True)
class StreamInfo:
    """What is known of a file before its frames are read. size: (width, height) of the upright frame in pixels."""

    format: str
    size: tuple[int, int]
    frames: int | None


@dataclass(frozen=True)
class WriteOptions:
    """How files are written. metadata: "none", "safe" or "all" (see `media.metadata`)."""

    metadata: str = "safe"


class Reader(ABC):
    """An opened source of frames; use it as a context manager."""

    info: StreamInfo

    @abstractmethod
    def frames(self) -> Iterator[Frame]:
        """Every frame in order. Raises MediaError where the file is damaged."""

    @abstractmethod
    def writer(self, target: BinaryIO, options: WriteOptions) -> Writer:
        """A writer that makes the same kind of file out of this source."""

    def close(self) -> None:  # noqa: B027 - most readers hold nothing
        """Let go of the file."""

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


class Writer(ABC):
    """Takes the frames of its reader back, in order, and ends with a whole file in `target`."""

    @abstractmethod
    def write(self, frame: Frame, changed: np.ndarray | None) -> None:
        """Take one frame. changed: (height, width) bool, the pixels that differ from the source; None where none do."""

    @abstractmethod
    def finish(self) -> None:
        """Write what is left. Nothing in `target` may be used before this returned."""
