"""TIFF: pages kept with their samples as they are, or written anew at their own depth and compression."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from deidcli.errors import MediaError
from deidcli.media.image import tiff_pixels
from deidcli.media.image.container import ENCODED_AGAIN, Container, Rewriter, check_size, turned
from deidcli.media.image.ifd import read_header
from deidcli.media.image.modes import Native, upright
from deidcli.media.image.tiff_data import cleaned
from deidcli.media.image.tiff_pages import (
    COMPRESSION,
    PAGE,
    PREDICTOR,
    STRUCTURE,
    SUBFILE,
    Page,
    file_of,
    kept,
    pages,
    structure,
)

_LOSSY = (6, 7)
"""Compressions by JPEG: such a page is not packed anew without loss."""


class Tiff(Container):
    """TIFF of one or more pages."""

    format = "TIFF"

    def __init__(self, data: bytes, name: str, salvage: bool = False):
        super().__init__(data, name, salvage)
        self.order = read_header(data).order
        self.pages = pages(data)
        for page in self.pages:
            check_size(page.size)
        self.size = turned(self.pages[0].size, self.pages[0].orientation)
        self.times: tuple[None, ...] = (None,) * len(self.pages)

    def natives(self) -> Iterator[Native]:
        for page in self.pages:
            yield upright(self._native(page), page.orientation)

    def scrubbed(self, metadata: str) -> bytes:
        clean = [_scrubbed(page, metadata) for page in self.pages]
        done = [page for page in clean if page is not None]
        # A page that only decoding can clean takes the others with it: they share a byte order.
        return file_of(done, self.order) if len(done) == len(clean) else self._anew(metadata)

    def rewriter(self, metadata: str) -> Rewriter:
        return _TiffRewriter(self, metadata)

    def _anew(self, metadata: str) -> bytes:
        if any(page.number(COMPRESSION, 1) in _LOSSY for page in self.pages):
            self.changes = (ENCODED_AGAIN,)
        writer = _TiffRewriter(self, metadata)
        for native in self.natives():
            writer.add(native, None)
        return writer.finish()

    @staticmethod
    def _native(page: Page) -> Native:
        predictor = page.number(PREDICTOR, 1)
        if predictor not in (1, 2, 3):
            raise MediaError(f"a TIFF with predictor {predictor} is not supported", "convert it first")
        bare = page.with_tags(structure(page.tags, page.order))
        return tiff_pixels.decode(bare)


def _scrubbed(page: Page, metadata: str) -> Page | None:
    """A page that was not changed, with its own compression; None where it has to be decoded and encoded."""
    return cleaned(page.with_tags(kept(page.tags, page.order, metadata, None)))


class _TiffRewriter(Rewriter):
    """Pages that were not changed keep their data, unless wide numbers would stand in the wrong byte order."""

    def __init__(self, source: Tiff, metadata: str):
        self.source, self.metadata = source, metadata
        self.done: list[Page] = []

    def add(self, native: Native, changed: np.ndarray | None) -> None:
        page = self.source.pages[len(self.done)]
        movable = changed is None and (page.order == "<" or page.bits <= 8)
        clean = _scrubbed(page, self.metadata) if movable else None
        self.done.append(self._coded(page, native) if clean is None else clean.in_order("<"))

    def finish(self) -> bytes:
        return file_of(self.done, "<")

    def _coded(self, page: Page, native: Native) -> Page:
        if page.bits not in (1, 8, 16, 32, 64):
            written = 8 * native.data.dtype.itemsize
            note = f"{page.bits} bits a sample were written as {written}"
            self.source.changes = tuple(dict.fromkeys([*self.source.changes, note]))
        fresh = tiff_pixels.encode(native, page)
        # Colours that the new pixels do not use.
        fresh = cleaned(fresh) or fresh
        old = page.with_tags(kept(page.tags, page.order, self.metadata, native.size)).in_order("<").tags
        tags = {tag: value for tag, value in old.items() if tag not in STRUCTURE}
        tags |= {tag: value for tag, value in fresh.tags.items() if tag in STRUCTURE}
        tags |= {tag: old[tag] for tag in (SUBFILE, PAGE) if tag in old}
        return fresh.with_tags(tags)
