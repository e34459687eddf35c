"""Makers: what turns originals into outputs. A method, the files that another tool wrote, or nothing at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from deidcli.engine.replace import Replacer, Request
from deidcli.engine.settings import Settings
from deidcli.errors import MediaError, UsageError
from deidcli.faces.embed import Recogniser
from deidcli.media.open import open_reader
from deidcli.methods.base import Method
from deidcli.values import Face, Frame

ALONE = Settings(verify=False)


@dataclass(frozen=True)
class Original:
    """A picture with its face, as the measuring side knows it."""

    name: str
    frame: Frame
    face: Face


@dataclass(frozen=True)
class Made:
    """An output. changed: (height, width) bool of what may differ from the original. covered: by the fallback."""

    pixels: np.ndarray
    changed: np.ndarray
    covered: bool = False


class Maker(Protocol):
    """Makes outputs of a batch, in order; None for a picture that has none."""

    def __call__(self, batch: Sequence[Original]) -> list[Made | None]: ...


class Untouched:
    """The originals themselves."""

    def __call__(self, batch: Sequence[Original]) -> list[Made | None]:
        return [Made(o.frame.pixels, np.zeros(o.frame.pixels.shape[:2], bool)) for o in batch]


class ByMethod:
    """A method alone, blended back into the photograph; with `verify` its whole escalation, as in `deid anonymize`.

    Without escalation a face that the method cannot make is covered all the same. settings: of the run. judge: needed
    for the escalation, and for the persona "identity".
    """

    def __init__(self, method: Method, settings: Settings = ALONE, judge: Recogniser | None = None):
        self.method = method
        self._replacer = Replacer(method, settings, judge)

    def __call__(self, batch: Sequence[Original]) -> list[Made | None]:
        done = self._replacer([Request(o.frame, (o.face,), o.name) for o in batch])
        return [
            Made(r.frame.pixels, _mask(r.changed, r.frame), r.outcomes[0].action == "covered") for r in done
        ]  # fmt: skip


class ByFolder:
    """The files of the same names in a folder that any tool wrote; a file of the same stem counts where a tool changes
    formats, and one of another size is brought to the original's. Raises UsageError for a folder that is not there.
    """

    def __init__(self, folder: Path):
        if not folder.is_dir():
            raise UsageError(f"{folder} is no folder", "name the folder that holds the outputs")
        self.folder = folder

    def __call__(self, batch: Sequence[Original]) -> list[Made | None]:
        return [self._made(original) for original in batch]

    def path(self, name: str) -> Path | None:
        """Where the output of a picture lies."""
        same = self.folder / name
        if same.is_file():
            return same
        others = sorted(p for p in same.parent.glob("*") if p.stem == same.stem and p.is_file())
        return others[0] if others else None

    def _made(self, original: Original) -> Made | None:
        path = self.path(original.name)
        if path is None:
            return None
        try:
            with open_reader(path) as reader:
                pixels = next(reader.frames()).pixels
        except MediaError:
            return None
        size = original.frame.width, original.frame.height
        if pixels.shape[1::-1] != size:
            pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
        return Made(pixels, (pixels != original.frame.pixels).any(axis=2))


def _mask(changed: np.ndarray | None, frame: Frame) -> np.ndarray:
    return np.zeros((frame.height, frame.width), bool) if changed is None else changed
