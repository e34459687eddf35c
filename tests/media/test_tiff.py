"""TIFF beyond Pillow's own output: both byte orders, BigTIFF, tiles, pages that are only previews."""

import struct

import numpy as np
import pytest
from PIL import Image

from deidcli.errors import MediaError
from deidcli.media.image.ifd import SHORT, Entry, number
from deidcli.media.image.tiff_pages import Page, file_of, pages

from .drawn import drawn, frames, opened, region, saved, smooth, through


def in_big_endian(data):
    """The same file in the other byte order; its samples have to be 8 bits or fewer."""
    return file_of(pages(data), ">")


@pytest.mark.parametrize("mode", ["L", "RGB", "P", "1", "CMYK"])
def test_big_endian(mode):
    data = in_big_endian(saved(drawn(mode), "TIFF", dpi=(300, 300)))
    assert data[:2] == b"MM"
    mask = region(29, 37)
    for change in (True, False):
        out = opened(through(data, change))
        kept = ~mask if change else np.ones_like(mask)
        assert np.array_equal(np.array(out)[kept], np.array(opened(data))[kept])
        assert round(float(out.info["dpi"][0])) == 300


def test_big_endian_of_sixteen_bits_with_an_unchanged_page():
    pair = [Image.frombytes("I;16B", (20, 10), np.arange(n, n + 200, dtype=">u2").tobytes()) for n in (0, 9000)]
    data = saved(pair[0], "TIFF", save_all=True, append_images=pair[1:])
    assert data[:2] == b"MM"
    out = Image.open(__import__("io").BytesIO(through(data, which=lambda index: index == 0)))
    out.seek(1)
    assert np.array_equal(np.array(out).astype(int), np.arange(9000, 9200).reshape(10, 20))
    assert np.array_equal(np.array(opened(through(data, False))), np.array(opened(data)))


@pytest.mark.parametrize("change", [True, False])
def test_big_tiff(change):
    data = saved(drawn("RGB"), "TIFF", big_tiff=True)
    assert data[2] == 43
    out = np.array(opened(through(data, change)))
    kept = ~region(29, 37) if change else np.ones((29, 37), bool)
    assert np.array_equal(out[kept], np.array(opened(data))[kept])


@pytest.mark.parametrize("change", [True, False])
def test_tiles(change):
    pixels = smooth(32, 48)
    pieces = tuple(pixels[y : y + 16, x : x + 16].tobytes() for y in (0, 16) for x in (0, 16, 32))
    tags = {256: number(48, "<"), 257: number(32, "<"), 258: Entry(SHORT, struct.pack("<3H", 8, 8, 8))}
    tags |= {259: number(1, "<"), 262: number(2, "<"), 277: number(3, "<"), 322: number(16, "<"), 323: number(16, "<")}
    data = file_of([Page(tags, pieces, True, "<")], "<")
    assert np.array_equal(frames(data)[0].pixels, pixels)
    out = np.array(opened(through(data, change)))
    kept = ~region(32, 48) if change else np.ones((32, 48), bool)
    assert np.array_equal(out[kept], pixels[kept])


def test_only_previews_are_no_picture():
    page = pages(saved(drawn("L"), "TIFF"))[0]
    with pytest.raises(MediaError, match="previews"):
        frames(file_of([page.with_tags(page.tags | {254: number(1, "<")})], "<"))
