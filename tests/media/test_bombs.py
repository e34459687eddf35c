"""Small files that stand for gigabytes or minutes: each fails alone, in a process that may die."""

import io
import resource
import struct
import subprocess
import sys
import time
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from deidcli.errors import MediaError
from deidcli.media.image import container_of, rehearsal
from deidcli.media.image.jpeg import segments
from deidcli.media.image.jpeg import written as jpeg_of
from deidcli.media.image.png_chunks import Chunk, written

from .drawn import frames, noise, saved, smooth, through

SIDE = 12000
SMALL = saved(Image.fromarray(smooth()), "TIFF")


def packed(size):
    packer = zlib.compressobj(9)
    piece = bytes(1 << 20)
    parts = [packer.compress(piece) for _ in range(size >> 20)]
    return b"".join([*parts, packer.compress(bytes(size & 0xFFFFF)), packer.flush()])


def png(side, size, *extra, depth=8, colour=2):
    head = struct.pack(">IIBBBBB", side, side, depth, colour, 0, 0, 0)
    return written([Chunk(b"IHDR", head), *extra, Chunk(b"IDAT", packed(size)), Chunk(b"IEND", b"")])


def gif(side, frames=1, complete=False):
    one = b"\x2c" + struct.pack("<4HB", 0, 0, *((1, 1) if frames > 1 else (side, side)), 0) + b"\x02\x02\x44\x01\0"
    head = b"GIF89a" + struct.pack("<HHBBB", side, side, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    return head + (b"\x21\xf9\x04\x04\x0a\0\0\0" + one) * frames + b";"


def bmp(side):
    coded = b"\xff\0" * 5 + b"\0\1"
    head = struct.pack("<IiiHHIIiiII", 40, side, side, 1, 8, 1, len(coded), 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", 54 + 1024 + len(coded), 0, 0, 54 + 1024) + head + bytes(1024) + coded


def moving_png(side, count):
    """Frames that are black, each packed about a thousand times."""
    control = struct.pack(">IIIIHHBB", side, side, 0, 0, 1, 10, 0, 0)
    frame = packed(side * (side + 1))
    moving = (
        Chunk(kind, struct.pack(">I", 0) + payload)
        for _ in range(count)
        for kind, payload in ((b"fcTL", control), (b"fdAT", frame))
    )
    head = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    begun = [Chunk(b"IHDR", head), Chunk(b"acTL", struct.pack(">II", count, 0)), Chunk(b"IDAT", frame)]
    return written([*begun, *moving, Chunk(b"IEND", b"")])


def tiff(side):
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, np.zeros((side, side), np.uint8), compression="zlib", rowsperstrip=1000)
    return buffer.getvalue()


def many_scans(count):
    parts = segments(saved(Image.fromarray(smooth()), "JPEG", progressive=True))
    return jpeg_of(parts + [next(part for part in reversed(parts) if part.marker == 0xDA)] * count)


TEXT = packed(300 << 20)


@pytest.mark.parametrize(
    "data",
    [
        png(64, 300 << 20),
        png(64, 300 << 20, depth=16),
        png(64, 64 * 193, Chunk(b"zTXt", b"Comment\0\0" + TEXT)),
        png(64, 64 * 193, Chunk(b"iTXt", b"Comment\0\1\0\0\0" + TEXT)),
        png(64, 64 * 193, Chunk(b"iCCP", b"icc\0\0" + TEXT)),
    ],
    ids=["IDAT", "IDAT of 16 bits", "zTXt", "iTXt", "iCCP"],
)
def test_chunks_are_inflated_within_bounds(data):
    """In this very process: the picture itself is small."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for metadata in ("none", "safe", "all"):
        try:
            assert len(through(data, metadata == "safe", metadata)) < 1_000_000
        except MediaError as error:
            assert "\n" not in str(error)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 150_000  # kilobytes


@pytest.mark.parametrize(
    "data",
    [gif(SIDE), bmp(SIDE), many_scans(600), gif(64, 20_001), moving_png(4000, 300), gif(8000, 200)],
    ids=[
        "a GIF of 35 bytes",
        "an RLE bitmap",
        "a JPEG of 600 scans",
        "a GIF of 20,001 frames",
        "an APNG",
        "a GIF of 8000x8000",
    ],
)
def test_promises_that_nothing_stands_behind_fail_at_once(data):
    begun = time.monotonic()
    with pytest.raises(MediaError, match="drawn: "):
        frames(data)
    assert time.monotonic() - begun < 25


@pytest.fixture
def strict(monkeypatch):
    """Limits that a test reaches quickly."""
    monkeypatch.setattr(rehearsal, "SECONDS", 1)
    monkeypatch.setattr(rehearsal, "LONGEST", 1)


def test_what_takes_too_long_is_stopped(strict):
    with pytest.raises(MediaError, match="drawn: 200 frames of 4000x4000 pixels in .* time|seconds") as caught:
        frames(gif(4000, 200))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG", "WEBP", "GIF", "AVIF"])
def test_what_passes_the_rehearsal_is_a_picture(kind, monkeypatch):
    monkeypatch.setattr(rehearsal, "PIXELS", 1000)
    started = []
    run = subprocess.run
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: started.append(a) or run(*a, **k))
    assert frames(saved(Image.fromarray(smooth()), kind))[0].pixels.shape == smooth().shape
    assert len(started) == 1


def test_damage_is_told_as_the_decoder_tells_it(monkeypatch):
    monkeypatch.setattr(rehearsal, "PIXELS", 1000)
    data = saved(Image.fromarray(noise((90, 70, 3))), "JPEG")
    with pytest.raises(MediaError, match="drawn: the JPEG is truncated.*salvage"):
        frames(data[: len(data) // 2])


def test_memory_is_bounded():
    code = (
        "import sys, deidcli.media.image.rehearsal as r; r.MEMORY = 450 << 20; sys.exit(r._main(['tiff', '20', '0']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input=tiff(SIDE), capture_output=True, env=rehearsal._environment()
    )
    assert done.returncode == 1 and b"memory" in done.stdout


@pytest.mark.parametrize(
    ("kinds", "times", "ends"),
    [(["SEGV", "SEGV"], 2, "breaks its decoder"), (["KILL", "KILL"], 2, "breaks its decoder"), (["KILL"], 2, None),
     (["XCPU"], 1, "breaks its decoder")],
)  # fmt: skip
def test_a_decoder_that_dies_takes_nothing_along(kinds, times, ends, monkeypatch, tmp_path):
    """Its file is tried once more, unless it has used up its time; then it is reported."""
    lines = [f"[ $(wc -l < {tmp_path}/tries) -gt {number} ] || kill -{kind} $$" for number, kind in enumerate(kinds, 1)]
    broken = tmp_path / "python"
    broken.write_text("\n".join(["#!/bin/sh", f"echo >> {tmp_path}/tries", *lines, f'exec {sys.executable} "$@"']))
    broken.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(broken))
    if ends is None:
        rehearsal.rehearse(container_of(SMALL, "drawn", "tiff"), "tiff")
    else:
        with pytest.raises(MediaError, match=ends):
            rehearsal.rehearse(container_of(SMALL, "drawn", "tiff"), "tiff")
    assert len((tmp_path / "tries").read_text()) == times


@pytest.mark.parametrize(
    "data",
    [
        saved(Image.new("RGB", (4000, 3000), "red"), "JPEG"),
        saved(Image.new("L", (3900, 4000)), "PNG"),
        saved(Image.new("L", (300, 300)), "GIF", save_all=True, append_images=[Image.new("L", (300, 300), 9)] * 40),
    ],
    ids=["JPEG", "flat PNG", "animation"],
)
def test_ordinary_pictures_pay_nothing(data, monkeypatch):
    def refused(*_, **__):
        raise AssertionError("a process was started")

    monkeypatch.setattr(subprocess, "run", refused)
    assert len(frames(data)) >= 1
