"""APNG written anew, frame by frame."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import numpy as np

from deidcli.media.image.container import Rewriter, differing
from deidcli.media.image.modes import Native, to_pillow, to_rgba
from deidcli.media.image.png_chunks import GREY, RGB, RGBA, Chunk, coded, written

if TYPE_CHECKING:
    from deidcli.media.image.png import Png


class Animation(Rewriter):
    """Each frame as the rectangle that differs from the one before; a palette becomes RGBA of the same values."""

    def __init__(self, source: Png, metadata: str):
        self.source, self.metadata = source, metadata
        self.drawn: list[Chunk] = []
        self.shown: np.ndarray | None = None
        self.index = self.sequence = 0
        plain = source.colour in (RGB, GREY) and not any(part.kind == b"tRNS" for part in source.chunks)
        self.mode = {RGB: "RGB", GREY: "L"}[source.colour] if plain else "RGBA"

    def add(self, native: Native, changed: np.ndarray | None) -> None:
        data = to_rgba(native) if self.mode == "RGBA" else np.array(to_pillow(native).convert(self.mode))
        left, top, right, bottom = (0, 0, *native.size) if self.shown is None else differing(data, self.shown)
        part = coded(Native(self.mode, np.ascontiguousarray(data[top:bottom, left:right])), 8)
        if self.source.apart and self.index == 0:
            self.drawn += [piece for piece in part if piece.kind == b"IDAT"]
        else:
            self._append(part, (left, top, right, bottom))
            self.shown = data
        self.index += 1

    def finish(self) -> bytes:
        before, behind = self.source.around(self.metadata)
        width, height = self.source.size
        colour = {"L": GREY, "RGB": RGB, "RGBA": RGBA}[self.mode]
        head = Chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0))
        control = next(part for part in self.source.chunks if part.kind == b"acTL")
        before = [part for part in before if part.kind not in (b"PLTE", b"tRNS", b"sBIT", b"bKGD")]
        return written([head, *before, control, *self.drawn, *behind, Chunk(b"IEND", b"")])

    def _append(self, part: list[Chunk], box: tuple[int, int, int, int]) -> None:
        control = self.source.controls[self.index - self.source.apart]
        left, top, right, bottom = box
        head = struct.pack(">5I", self._next(), right - left, bottom - top, left, top)
        # Kept in place and drawn over: what the reader gave was composed already.
        self.drawn.append(Chunk(b"fcTL", head + control[20:24] + b"\0\0"))
        for piece in part:
            if piece.kind == b"IDAT" and self.index == 0:
                self.drawn.append(piece)
            elif piece.kind == b"IDAT":
                self.drawn.append(Chunk(b"fdAT", struct.pack(">I", self._next()) + piece.payload))

    def _next(self) -> int:
        self.sequence += 1
        return self.sequence - 1
