"""Canvas: a frame on which faces are replaced one by one, and which of them lies over which."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from deidcli.faces.blend import Patch
from deidcli.values import Face, Frame


@dataclass(eq=False)
class Canvas:
    """A frame on which faces are being replaced, the nearest last.

    owner: (height, width) uint16, which face changed a pixel last; 0 for none. nearer: likewise, which face has a new
    face there, final and whole.
    """

    source: Frame
    frame: Frame
    changed: np.ndarray | None = None
    owner: np.ndarray | None = None
    nearer: np.ndarray | None = None

    def cleared(self) -> Self:
        """Without the new faces."""
        self.frame, self.changed, self.owner, self.nearer = self.source, None, None, None
        return self

    def lay(self, patch: Patch, number: int) -> None:
        """Put a new face in, that of the face with this number, which is above 0."""
        if self.changed is None or self.owner is None:
            size = self.source.pixels.shape[:2]
            self.frame = self.source.with_pixels(self.source.pixels.copy())
            self.changed, self.owner = np.zeros(size, bool), np.zeros(size, np.uint16)
            self.nearer = np.zeros(size, np.uint16)
        self.frame.pixels[patch.window] = patch.pixels
        self.changed[patch.window] |= patch.changed
        self.owner[patch.window][patch.changed] = number

    def settle(self, done: Patch, number: int) -> None:
        """A new face that was laid is final: what lies behind it, by its number, no longer changes it."""
        if self.nearer is not None:
            self.nearer[done.window][done.whole] = number

    def behind(self, patch: Patch, face: Face, number: int) -> Patch:
        """A patch of a face without what the new faces of nearer ones hide of it.

        One whose middle lies within a nearer face is in front of that, for all we know, and lies over it.
        """
        if self.nearer is None:
            return patch
        height, width = self.nearer.shape
        x, y = face.box.center
        if self.nearer[min(max(int(y), 0), height - 1), min(max(int(x), 0), width - 1)] > number:
            return patch
        hidden = self.nearer[patch.window] > number
        pixels = np.where(hidden[..., None], self.frame.pixels[patch.window], patch.pixels)
        return replace(patch, pixels=pixels, changed=patch.changed & ~hidden, whole=patch.whole & ~hidden)

    def take_out(self, before: Patch, number: int) -> None:
        """Take a new face out again: its pixels are as `before`, but for those that other faces have changed since."""
        if self.owner is not None:
            own = self.owner[before.window] == number
            self.frame.pixels[before.window][own] = before.pixels[own]
