"""JPEG 2000: JP2 and bare codestreams, in every mode, without comments and boxes that nothing shows."""

import struct

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms

from deidcli.errors import MediaError
from deidcli.media.image.jpeg2000 import SIGNATURE, Box, boxes
from deidcli.media.open import is_media

from .drawn import MARK, frames, noise, opened, region, saved, smooth, through

MODES = ["L", "LA", "RGB", "RGBA", "I;16", "CMYK"]
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def drawn(mode):
    if mode == "I;16":
        return Image.fromarray(noise((48, 64), 3, 65536, np.uint16))
    return Image.fromarray(np.dstack([smooth(), noise((48, 64), 4)])).convert(mode)


# A bare codestream does not say that it holds inks.
@pytest.mark.parametrize(("mode", "bare"), [(m, b) for m in MODES for b in (False, True) if not (b and m == "CMYK")])
def test_lossless_modes_come_back_whole(mode, bare):
    data = saved(drawn(mode), "JPEG2000", no_jp2=bare)
    before, after, copied = opened(data), opened(through(data)), opened(through(data, change=False))
    mask = region(48, 64)
    assert after.mode == before.mode and after.size == before.size
    assert np.array_equal(np.array(after)[~mask], np.array(before)[~mask])
    assert not np.array_equal(np.array(after)[mask], np.array(before)[mask])
    assert np.array_equal(np.array(copied), np.array(before))


@pytest.mark.parametrize("channels", [3, 4])
def test_sixteen_bits_a_colour(channels):
    pixels = noise((48, 64, channels), 5, 65536, np.uint16)
    data = cv2.imencode(".jp2", pixels, [cv2.IMWRITE_JPEG2000_COMPRESSION_X1000, 1000])[1].tobytes()
    for change in (True, False):
        new = cv2.imdecode(np.frombuffer(through(data, change), np.uint8), cv2.IMREAD_UNCHANGED)
        kept = ~region(48, 64) if change else np.ones((48, 64), bool)
        assert new.dtype == np.uint16 and np.array_equal(new[kept], pixels[kept])


def test_a_lossy_picture_stays_lossy_and_near():
    data = saved(Image.fromarray(smooth(96, 128)), "JPEG2000", irreversible=True, quality_layers=[20])
    out = through(data)
    assert len(out) < 96 * 128
    far = ~cv2.dilate(region(96, 128).astype(np.uint8), np.ones((31, 31))).astype(bool)
    assert np.abs(np.array(opened(out)).astype(int) - np.array(opened(data)))[far].mean() < 2


@pytest.mark.parametrize("tiled", [{}, {"tile_size": (32, 32)}, {"progression": "RPCL", "num_resolutions": 3}])
@pytest.mark.parametrize("metadata", ["none", "safe", "all"])
def test_nothing_that_is_not_shown_survives(tiled, metadata):
    data = saved(Image.fromarray(smooth()), "JPEG2000", comment=MARK.decode(), **tiled)
    parts = boxes(data)
    parts.insert(2, Box(b"xml ", b"<a>" + MARK + b"</a>"))
    parts += [Box(b"uuid", bytes(16) + MARK), Box(b"jp2i", MARK), Box(b"jp2c", MARK)]
    header = next(n for n, box in enumerate(parts) if box.kind == b"jp2h")
    parts[header] = Box(b"jp2h", parts[header].payload + Box(b"test", MARK).written())
    data = b"".join(part.written() for part in parts) + MARK
    assert data.startswith(SIGNATURE) and MARK in data
    for change in (True, False):
        out = through(data, change, metadata)
        assert MARK not in out and opened(out).size == (64, 48)
    assert np.array_equal(np.array(opened(through(data, False, metadata))), smooth())


def test_the_profile_goes_by_the_policy():
    data = saved(Image.fromarray(smooth()), "JPEG2000")
    parts = boxes(data)
    header = next(n for n, box in enumerate(parts) if box.kind == b"jp2h")
    inner = [box for box in boxes(parts[header].payload) if box.kind != b"colr"]
    inner.append(Box(b"colr", b"\2\0\0" + PROFILE))
    parts[header] = Box(b"jp2h", b"".join(box.written() for box in inner))
    data = b"".join(part.written() for part in parts)
    for change in (True, False):
        assert b"\2\0\0" + PROFILE[:4] not in through(data, change, "none")
        assert b"acsp" in through(data, change, "safe") and b"acsp" not in through(data, change, "none")
        assert opened(through(data, change, "none")).mode == "RGB"


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_truncated(share):
    data = saved(Image.fromarray(noise((90, 70, 3))), "JPEG2000")
    with pytest.raises(MediaError, match="drawn: "):
        through(data[: int(len(data) * share)], change=False)


def test_flipped_bytes_give_a_picture_or_one_error():
    data = saved(drawn("RGB"), "JPEG2000")
    for at in range(12, len(data), max(len(data) // 80, 1)):
        damaged = data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :]
        for change in (True, False):
            try:
                through(damaged, change)
            except MediaError as error:
                assert "\n" not in str(error)


def test_a_huge_promise_is_refused():
    data = bytearray(saved(Image.new("L", (16, 16)), "JPEG2000"))
    at = data.index(b"\xff\x4f\xff\x51")
    struct.pack_into(">II", data, at + 8, 60000, 60000)
    with pytest.raises(MediaError, match="limit"):
        frames(bytes(data))


def test_told_by_content(tmp_path):
    for name, bare in (("a.jp2", False), ("b.j2k", True), ("c", False)):
        (tmp_path / name).write_bytes(saved(drawn("RGB"), "JPEG2000", no_jp2=bare))
        assert is_media(tmp_path / name)
