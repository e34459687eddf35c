"""Files that are made to cost time or memory: parsers stay linear, and no more is taken from a file than it holds."""

import struct
import time
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image

from deidcli.errors import MediaError
from deidcli.media.image.ifd import laid_out, number, read_chain, read_directory, read_header
from deidcli.media.image.png_chunks import Chunk, chunks, written

from .drawn import frames, saved, smooth, through
from .test_modes import sixteen_bits

JPEG = saved(Image.fromarray(smooth()), "JPEG", quality=90)
SCAN = JPEG.index(b"\xff\xda") + 14


@pytest.mark.parametrize("pattern", [b"\xff", b"\xff\x00", b"\xff\xd0", b"\xff\xff\x00", b"\xff\x01\x02"])
@pytest.mark.parametrize("at", [2, SCAN, len(JPEG) - 2])
def test_jpeg_markers_are_found_in_linear_time(pattern, at):
    begun = time.process_time()
    try:
        frames(JPEG[:at] + pattern * (1_000_000 // len(pattern)))
    except MediaError as error:
        assert "\n" not in str(error)
    assert time.process_time() - begun < 2


def overlapping(order="<", many=2000, size=500_000, big=False):
    """A TIFF of 16 by 16 whose tags all point at the same half megabyte."""
    tags = {256: 16, 257: 16, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: 16, 279: 256}
    entries = [struct.pack(order + "HHII", tag, 4, 1, value) for tag, value in tags.items()]
    entries += [struct.pack(order + "HHII", 40000 + k, 1, size, 8) for k in range(many)]
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8 + size)
    return head + bytes(size) + struct.pack(order + "H", len(entries)) + b"".join(entries) + bytes(4)


def directories_over_each_other(count=6_000, entries=20_000):
    """A TIFF of directories of 20,000 entries of which each begins four bytes behind the last one."""
    body = bytearray(8 + 4 * count + 2 + 12 * entries + 4)
    body[:8] = b"II*\0" + struct.pack("<I", 8)
    for at in range(8, 8 + 4 * count, 4):
        struct.pack_into("<H", body, at, entries)
        struct.pack_into("<I", body, at + 2 + 12 * entries, at + 4)
    return bytes(body)


def strips_over_each_other(many=4000, size=500_000):
    """A TIFF whose strips all are the same half megabyte."""
    at = 8 + size + size % 2
    places = struct.pack(f"<{many}I", *[8] * many)
    sizes = struct.pack(f"<{many}I", *[size] * many)
    from deidcli.media.image.ifd import LONG, Entry

    tags = {tag: number(value, "<") for tag, value in ((256, 16), (257, many), (258, 8), (259, 1), (262, 1), (277, 1))}
    tags |= {278: number(1, "<"), 273: Entry(LONG, places), 279: Entry(LONG, sizes)}
    return b"II*\0" + struct.pack("<I", at) + bytes(size) + laid_out(tags, at, "<")


@pytest.mark.parametrize(
    "data",
    [overlapping(), overlapping(">"), directories_over_each_other(), strips_over_each_other()],
    ids=["tags", "tags, big endian", "directories", "strips"],
)
def test_tiff_values_that_lie_over_each_other_are_refused(data):
    begun = time.process_time()
    tracemalloc.start()
    with pytest.raises(MediaError, match="than the file holds|damaged"):
        frames(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20 * len(data) and time.process_time() - begun < 5


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_exif_whose_values_lie_over_each_other_is_left_out(kind):
    block = overlapping(size=40_000, many=1500)
    plain = Image.fromarray(smooth())
    if kind == "PNG":
        head, *rest = chunks(saved(plain, "PNG"))
        data = written([head, Chunk(b"eXIf", block), *rest])
    else:
        data = saved(plain, kind, exif=b"Exif\0\0" + block)
    tracemalloc.start()
    (frame,) = frames(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert frame.pixels.shape == (48, 64, 3) and peak < 20_000_000
    assert b"\x9c\x40" not in through(data, metadata="all")[:200]


def test_an_honest_directory_is_read_whole():
    tags = {tag: number(tag, "<") for tag in range(1000, 1500)}
    data = b"II*\0" + struct.pack("<I", 8) + laid_out(tags, 8, "<")
    assert read_directory(data, read_header(data), 8)[0] == tags
    assert read_chain(data, read_header(data)) == [tags]


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_png_pixels_are_inflated_no_further_than_the_picture(channels):
    if channels == 1:
        parts = chunks(saved(Image.fromarray(np.full((29, 37), 900, np.uint16)), "PNG"))
    else:
        parts = chunks(sixteen_bits(channels))
    raw = zlib.decompress(b"".join(part.payload for part in parts if part.kind == b"IDAT"))
    packer = zlib.compressobj()
    bomb = packer.compress(raw) + b"".join(packer.compress(bytes(1 << 20)) for _ in range(60)) + packer.flush()
    data = written([parts[0], Chunk(b"IDAT", bomb), Chunk(b"IEND", b"")])
    tracemalloc.start()
    try:
        (frame,) = frames(data)
        assert frame.pixels.shape == (29, 37, 3)
    except MediaError as error:
        assert "\n" not in str(error)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000_000
