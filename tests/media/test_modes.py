"""Every mode of every lossless format comes back bit for bit outside the changed pixels."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from .drawn import drawn, frames, negative, noise, opened, region, saved, smooth, through

LOSSLESS = [
    *[("PNG", mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")],
    *[("TIFF", mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "F")],
    *[("BMP", mode) for mode in ("1", "L", "P", "RGB", "RGBA")],
    *[("GIF", mode) for mode in ("L", "P")],
]


@pytest.mark.parametrize(("kind", "mode"), LOSSLESS)
@settings(max_examples=6, deadline=None)
@given(width=st.integers(4, 40), height=st.integers(4, 40), seed=st.integers(0, 99))
def test_lossless_outside(kind, mode, width, height, seed):
    data = saved(drawn(mode, (width, height), seed), kind)
    before, after = opened(data), opened(through(data))
    assert (after.format, after.mode, after.size) == (before.format, before.mode, before.size)
    if mode == "P":
        # Entries that no pixel uses could hold anything, and are emptied.
        used = np.unique(after)
        old, new = (np.reshape(image.getpalette(), (-1, 3)) for image in (before, after))
        assert np.array_equal(old[used], new[used]) and len(old) == len(new)
        assert not np.delete(new, used, axis=0).any()
    assert after.info.get("transparency") == before.info.get("transparency")
    old, new = np.array(before), np.array(after)
    mask = region(height, width)
    assert np.array_equal(old[~mask], new[~mask])
    if mode in ("LA", "RGBA") and kind != "BMP":
        assert (new[mask][..., -1] == 255).all() or not old[mask][..., -1].any()


@pytest.mark.parametrize(("kind", "mode"), [pair for pair in LOSSLESS if pair[1] not in ("1", "P")])
def test_new_pixels_are_what_was_given(kind, mode):
    data = saved(drawn(mode), kind)
    (before,), (after,) = frames(data), frames(through(data))
    wanted, mask = negative(before)
    assert np.abs(after.pixels[mask].astype(int) - wanted.pixels[mask]).max() <= (2 if mode == "CMYK" else 1)


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_png_of_sixteen_bits(channels):
    data = sixteen_bits(channels)
    out = through(data)
    assert out[24:26] == data[24:26]
    old, new = (list(native_of(item))[0].data for item in (data, out))
    mask = region(*old.shape[:2])
    assert old.dtype == np.uint16
    assert np.array_equal(old[~mask], new[~mask])
    assert not np.array_equal(old[mask], new[mask])
    if channels != 3:
        assert (new[mask][..., -1] == 65535).all()


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("compression", [1, 5, 8])
def test_tiff_of_sixteen_bits(channels, compression):
    pixels = noise((30, 40, channels), 3, 65536, np.uint16)
    data = cv2.imencode(".tiff", pixels, [cv2.IMWRITE_TIFF_COMPRESSION, compression])[1].tobytes()
    new = cv2.imdecode(np.frombuffer(through(data), np.uint8), cv2.IMREAD_UNCHANGED)
    mask = region(30, 40)
    assert new.dtype == np.uint16
    assert np.array_equal(pixels[~mask], new[~mask])
    assert not np.array_equal(pixels[mask][:, :3], new[mask][:, :3])


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_png_keeps_few_bits(bits):
    for mode in ("P", "L"):
        image = drawn("L").point(lambda value: value % (1 << bits))
        if mode == "P":
            image = image.convert("P")
            image.putpalette(noise(3 << bits).tobytes())
        else:
            image = image.point(lambda value: value * 255 // ((1 << bits) - 1))
        data = saved(image, "PNG", bits=bits) if mode == "P" or bits > 1 else saved(image.convert("1"), "PNG")
        out = through(data)
        assert out[24:26] == data[24:26]
        mask = region(*np.array(opened(data)).shape)
        assert np.array_equal(np.array(opened(data))[~mask], np.array(opened(out))[~mask])


def test_colour_under_transparent_pixels_stays():
    pixels = np.dstack([smooth(), np.zeros((48, 64), np.uint8)])
    for kind, extra in (("PNG", {}), ("WEBP", {"lossless": True, "exact": True}), ("TIFF", {})):
        from PIL import Image

        new = np.array(opened(through(saved(Image.fromarray(pixels), kind, **extra))))
        mask = region(48, 64)
        assert np.array_equal(new[~mask], pixels[~mask]), kind


def test_palette_with_a_transparent_entry():
    image = drawn("P")
    for kind in ("PNG", "GIF"):
        data = saved(image, kind, transparency=7)
        out = opened(through(data))
        assert out.info["transparency"] == 7
        mask = region(image.height, image.width)
        old, new = np.array(opened(data)), np.array(out)
        assert np.array_equal(old[~mask], new[~mask])
        assert not (new[mask] == 7).any()


@pytest.mark.parametrize("mode", ["L", "RGB", "I;16"])
def test_transparent_colour_stays_transparent_but_for_new_pixels(mode):
    image = drawn(mode)
    image.paste(*((0, 0, 0),) if mode == "RGB" else (0,), (0, 0, 20, 20))
    data = saved(image, "PNG", transparency=(0, 0, 0) if mode == "RGB" else 0)
    out = through(data)
    old, new = (np.atleast_3d(np.array(opened(item))).any(axis=2) for item in (data, out))
    mask = region(29, 37)
    assert np.array_equal(old[~mask], new[~mask]) and new[mask].all()


def test_interlaced_png():
    pixels = noise((33, 21, 3))
    data = interlaced(pixels)
    new = np.array(opened(through(data)))
    mask = region(33, 21)
    assert np.array_equal(new[~mask], pixels[~mask])
    assert np.array_equal(new[mask], 255 - pixels[mask])


def native_of(data):
    from deidcli.media.image.png import Png

    return Png(data, "drawn").natives()


def sixteen_bits(channels):
    from deidcli.media.image import Native
    from deidcli.media.image.png_chunks import coded, written

    mode = {2: "LA;16", 3: "RGB;16", 4: "RGBA;16"}[channels]
    return written(coded(Native(mode, noise((29, 37, channels), 5, 65536, np.uint16)), 16))


def interlaced(pixels):
    """An Adam7 PNG of 8-bit RGB, without filters."""
    import struct
    import zlib

    from deidcli.media.image.png_chunks import Chunk, written

    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    rows = b"".join(b"\0" + row.tobytes() for y, x, dy, dx in passes for row in pixels[y::dy, x::dx] if row.size)
    head = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 8, 2, 0, 0, 1)
    return written([Chunk(b"IHDR", head), Chunk(b"IDAT", zlib.compress(rows)), Chunk(b"IEND", b"")])
