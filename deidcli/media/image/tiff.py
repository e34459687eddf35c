"""TIFF: pages kept with their samples as they are, or written anew at their own depth and compression.

tifffile puts strips, tiles and planes together, Pillow reads what only libtiff decodes. What neither reads whole is
refused: faces of a picture that is decoded wrongly would not be found.
"""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO

import numpy as np
import tifffile
from PIL import TiffImagePlugin

from deidcli.errors import MediaError
from deidcli.media.image import (
    ENCODED_AGAIN,
    Container,
    Native,
    Rewriter,
    check_size,
    decoded,
    encoded,
    to_pillow,
    to_rgba,
    turned,
    upright,
)
from deidcli.media.image.ifd import SHORT, Entry, number, read_header
from deidcli.media.image.tiff_data import (
    DEFLATE,
    LZW,
    OLD_DEFLATE,
    PLAIN,
    ZSTD,
    cleaned,
    packed,
    predicted,
    silence,
    unpacked,
)
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
        return decode(bare)


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
        fresh = encode(native, page)
        # Colours that the new pixels do not use.
        fresh = cleaned(fresh) or fresh
        old = page.with_tags(kept(page.tags, page.order, self.metadata, native.size)).in_order("<").tags
        tags = {tag: value for tag, value in old.items() if tag not in STRUCTURE}
        tags |= {tag: value for tag, value in fresh.tags.items() if tag in STRUCTURE}
        tags |= {tag: old[tag] for tag in (SUBFILE, PAGE) if tag in old}
        return fresh.with_tags(tags)


JPEG_QUALITY = 95
"""For pages compressed by JPEG, of 100; the other compressions lose nothing."""
_JPEG = 7
_PILLOW = {
    1: "raw", 2: "tiff_ccitt", 3: "group3", 4: "group4", 5: "tiff_lzw", 7: "jpeg", 8: "tiff_adobe_deflate",
    32773: "packbits", 32946: "tiff_deflate", 34925: "lzma", 50000: "zstd",
}  # fmt: skip
_BILEVEL = (2, 3, 4)
_WITH_PREDICTOR = (LZW, DEFLATE, OLD_DEFLATE, ZSTD)
_STRIP = 1 << 18  # bytes of a strip that is written
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _MASK, _INKS, _YCBCR = 0, 1, 2, 3, 4, 5, 6
_CIELAB, _ICCLAB, _LINEAR = 8, 9, 34892
_COLOURS = {_WHITE_IS_ZERO: 1, _BLACK_IS_ZERO: 1, _RGB: 3, _LINEAR: 3, _INKS: 4, _YCBCR: 3, _CIELAB: 3, _ICCLAB: 3}
_ASSOCIATED = 1
_FLOAT_FORMAT, _SIGNED_FORMAT, _COMPLEX_FORMATS = 3, 2, (5, 6)
_CONVERT = "convert it to RGB first"
_MOST_SAMPLES = 256  # of a pixel: the most bands of pictures from the air


def decode(page: Page) -> Native:
    """The picture as stored (not turned). Raises MediaError for a layout that cannot come back whole."""
    photometric, samples = page.number(262, _BLACK_IS_ZERO), page.number(277, 1)
    if samples > _MOST_SAMPLES or not page.bits:
        raise MediaError(f"a TIFF of {samples} samples of {page.bits} bits is not supported", _CONVERT)
    if page.number(259, 1) not in PLAIN:
        return _by_pillow(page, photometric)
    if page.bits == 1 and samples == 1 and photometric in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _MASK, _PALETTE):
        return _by_pillow(page, photometric)
    if len(set(page.numbers(258))) > 1:
        raise MediaError("a TIFF with samples of different depths is not supported", _CONVERT)
    if page.number(339, 1) in _COMPLEX_FORMATS:
        raise MediaError("a TIFF of complex numbers shows no picture", _CONVERT)
    if photometric == _PALETTE:
        return _of_palette(page)
    if photometric not in _COLOURS:
        raise MediaError(f"a TIFF with photometric interpretation {photometric} is not supported", _CONVERT)
    if photometric == _YCBCR and _subsampling(page) != (1, 1):
        return Native("YCbCr", _subsampled(page))
    return _native(page, _samples(page), photometric)


def encode(native: Native, page: Page) -> Page:
    """A page of new pixels, little-endian; depth, planes and, where there is an encoder, compression as in `page`."""
    compression = page.number(259, 1)
    if native.mode == "1" or (native.mode in ("P", "L", "RGB", "CMYK") and compression == _JPEG):
        return pages(_encoded_by_pillow(native, compression))[0].in_order("<")
    if native.mode == "P":
        if native.alphas is None:
            return pages(_encoded_by_pillow(native, compression))[0].in_order("<")
        native = Native("RGBA", to_rgba(native))
    return _laid_out(native, page, compression if compression in PLAIN else DEFLATE)


def _samples(page: Page) -> np.ndarray:
    """(height, width, samples) in the file's own numbers, in this machine's byte order."""
    plain = unpacked(page)
    with tifffile.TiffFile(BytesIO(file_of([plain], plain.order))) as file:
        # (planes, depth, height, width, samples of a plane)
        whole = np.asarray(file.pages[0].asarray(squeeze=False))
    if whole.ndim != 5 or whole.shape[1] != 1:
        raise MediaError("a TIFF with depth is not supported", "split it into pages first")
    joined = np.moveaxis(whole[:, 0], 0, 2).reshape(*whole.shape[2:4], -1)
    return np.ascontiguousarray(joined, dtype=joined.dtype.newbyteorder("="))


def _native(page: Page, data: np.ndarray, photometric: int) -> Native:
    if data.dtype.kind not in "uif":
        raise MediaError(f"a TIFF of {data.dtype} is not supported", _CONVERT)
    colours, count = _COLOURS[photometric], data.shape[2]
    inverted = photometric == _WHITE_IS_ZERO
    if photometric == _INKS and (count < colours or page.number(332, 1) != 1):
        # Inks that are not cyan, magenta, yellow and black: each is looked at as it is.
        colours, photometric, inverted = 1, _BLACK_IS_ZERO, True
    if count < colours:
        raise MediaError(
            f"the TIFF has {count} samples a pixel where {colours} were due", "get a whole copy of the file"
        )
    step = 1
    if page.bits < 8:
        step = 255 // ((1 << page.bits) - 1)
        data = (data.astype(np.uint16) * 255 // ((1 << page.bits) - 1)).astype(np.uint8)
    elif data.dtype == np.uint16 and page.bits < 16:
        data = data << (16 - page.bits) | data >> (2 * page.bits - 16)
    mode = {1: "L", 3: "RGB", 4: "CMYK"}[colours]
    mode = {_YCBCR: "YCbCr", _CIELAB: "LAB", _ICCLAB: "LAB"}.get(photometric, mode)
    if mode == "LAB":
        data = _offset(data, photometric)
    associated = False
    if (
        mode in ("L", "RGB")
        and count > colours
        and photometric not in (_INKS, _YCBCR)
        and _is_alpha(page, count - colours)
    ):
        mode += "A"
        associated = next(iter(page.numbers(338)), 0) == _ASSOCIATED
    data = data[..., 0] if count == 1 else data
    return Native(mode, data, inverted=inverted, associated=associated, step=step)


def _is_alpha(page: Page, extra: int) -> bool:
    """Whether viewers may take the first further plane for alpha; where it is not said, they do for a single one."""
    said = page.numbers(338)
    return said[0] in (1, 2) if said and said[0] else extra == 1


def _offset(data: np.ndarray, photometric: int) -> np.ndarray:
    """CIELab's signed a and b as unsigned ones around the middle; its own opposite."""
    if data.dtype.kind == "f":
        raise MediaError("a TIFF of CIELab in floating point is not supported", _CONVERT)
    unsigned = data.view(data.dtype.str.replace("i", "u")).copy()
    if photometric == _CIELAB:
        unsigned[..., 1:3] ^= unsigned.dtype.type(1 << (8 * unsigned.dtype.itemsize - 1))
    return unsigned


def _of_palette(page: Page) -> Native:
    entries = np.array(page.numbers(320), np.uint16).reshape(3, -1).T
    index = _samples(page)
    if not len(entries):
        raise MediaError("the picture has indices but no palette", "get a whole copy of the file")
    if page.bits > 8 or index.shape[2] > 1:
        colours = entries[np.minimum(index[..., 0], len(entries) - 1)]
        return Native("RGB;16", np.concatenate([colours, *_further(index)], axis=2))
    # Some writers fill only the lower half of the sixteen bits.
    eight = entries >> 8 if entries.max() > 255 else entries
    return Native("P", index[..., 0], eight.astype(np.uint8))


def _further(index: np.ndarray) -> list[np.ndarray]:
    """Planes behind an index, as wide as the colours are."""
    return [index[..., 1:].astype(np.uint16) * (257 if index.dtype == np.uint8 else 1)] if index.shape[2] > 1 else []


def _subsampling(page: Page) -> tuple[int, int]:
    across, down = (page.numbers(530) or (2, 2))[:2]
    return across, down


def _subsampled(page: Page) -> np.ndarray:
    """(height, width, 3) uint8 of luma and chroma that stand in blocks: the lumas of a block, then its Cb and Cr."""
    (across, down), (width, height) = _subsampling(page), page.size
    if page.bits != 8 or page.number(277, 1) != 3 or page.number(284, 1) != 1 or not {across, down} <= {1, 2, 4}:
        raise MediaError("this kind of YCbCr TIFF is not supported", _CONVERT)
    high = min(page.number(278, height) or height, height)
    columns, length = -(-width // across), across * down + 2
    one = np.array([8], f"{page.order}u2").tobytes()
    blocks = page.with_tags(page.tags | {277: number(1, page.order), 258: Entry(SHORT, one)})
    if page.tiled or page.number(317, 1) != 1:
        raise MediaError("this kind of YCbCr TIFF is not supported", _CONVERT)
    rows = []
    for place, piece in enumerate(page.pieces):
        lines = -(-min(high, height - place * high) // down)
        part = blocks.with_tags(
            blocks.tags | {256: number(columns * length, page.order), 257: number(lines, page.order)}
        )
        part = Page(part.tags | {278: number(lines, page.order)}, (piece,), False, page.order)
        data = np.frombuffer(unpacked(part).pieces[0], np.uint8).reshape(lines, columns, length)
        luma = data[..., :-2].reshape(lines, columns, down, across).transpose(0, 2, 1, 3).reshape(lines * down, -1)
        chroma = data[..., -2:].repeat(down, axis=0).repeat(across, axis=1)
        rows.append(np.dstack([luma, chroma])[: min(high, height - place * high), :width])
    return np.concatenate(rows)


def _by_pillow(page: Page, photometric: int) -> Native:
    """What only libtiff decodes. Raises MediaError where Pillow would cut it to fewer bits."""
    if page.bits > 8:
        said = f"a TIFF with {page.bits} bits and compression {page.number(259, 1)} is not supported"
        raise MediaError(said, "write it without compression, or with Deflate or LZW")
    silence()
    try:
        image = TiffImagePlugin.TiffImageFile(BytesIO(file_of([page], page.order)))
    except SyntaxError as error:
        raise MediaError(f"this kind of TIFF is not supported: {error}", _CONVERT) from error
    return decoded(image)


def _encoded_by_pillow(native: Native, compression: int) -> bytes:
    if compression in _BILEVEL and native.mode != "1":
        compression = DEFLATE
    silence()
    settings: dict[str, object] = {"compression": _PILLOW.get(compression, _PILLOW[DEFLATE])}
    if compression == _JPEG:
        settings["quality"] = JPEG_QUALITY
    try:
        return encoded(to_pillow(native), "TIFF", **settings)
    except (OSError, ValueError, RuntimeError):
        return encoded(to_pillow(native), "TIFF", compression=_PILLOW[DEFLATE])


def _laid_out(native: Native, page: Page, compression: int) -> Page:
    """The samples in strips of whole rows, little-endian."""
    data = native.data if native.data.ndim == 3 else native.data[..., None]
    photometric = _photometric(native, page)
    if native.mode == "LAB":
        data = _offset(data, photometric)
    data = data.astype(data.dtype.newbyteorder("<"))
    height, width, samples = data.shape
    planar = page.number(284, 1) == 2 and samples > 1
    planes = [data[..., n : n + 1] for n in range(samples)] if planar else [data]
    differences = compression in _WITH_PREDICTOR and page.number(317, 1) == 2 and data.dtype.kind != "f"
    length = planes[0][0].nbytes
    rows = max(1, min(height, _STRIP // max(length, 1)))
    pieces = []
    for plane in planes:
        for top in range(0, height, rows):
            strip = np.ascontiguousarray(plane[top : top + rows])
            pieces.append(packed((predicted(strip) if differences else strip).tobytes(), length, compression))
    formats = {"f": _FLOAT_FORMAT, "i": _SIGNED_FORMAT, "u": 1}
    tags: dict = {256: width, 257: height, 259: compression, 262: photometric, 277: samples, 278: rows}
    tags |= {284: 2 if planar else 1, 317: 2 if differences else 1}
    laid: dict = {tag: number(value, "<") for tag, value in tags.items()}
    laid[258] = _shorts([8 * data.dtype.itemsize] * samples)
    laid[339] = _shorts([formats[data.dtype.kind]] * samples)
    if native.mode == "YCbCr":
        laid[530] = _shorts([1, 1])
    further = samples - {"L": 1, "RGB": 3, "CMYK": 4, "YCbCr": 3, "LAB": 3}.get(
        native.mode.split(";")[0].rstrip("A"), 1
    )
    if further > 0:
        said = list(page.numbers(338))[:further]
        laid[338] = _shorts(said + [0] * (further - len(said)))
    if photometric == _INKS and 332 in page.tags:
        laid[332] = number(page.number(332, 1), "<")
    return Page(laid, tuple(pieces), False, "<")


def _photometric(native: Native, page: Page) -> int:
    stated = page.number(262, _BLACK_IS_ZERO)
    if native.mode.startswith("L") and native.mode != "LAB":
        return stated if stated in (_WHITE_IS_ZERO, _INKS) else _BLACK_IS_ZERO
    if native.mode == "LAB":
        return stated if stated in (_CIELAB, _ICCLAB) else _CIELAB
    if native.mode.startswith("RGB"):
        return _LINEAR if stated == _LINEAR else _RGB
    return {"CMYK": _INKS, "YCbCr": _YCBCR}.get(native.mode, _BLACK_IS_ZERO)


def _shorts(values: list[int]) -> Entry:
    return Entry(SHORT, np.array(values, "<u2").tobytes())
