"""Damaged pictures: what of a JPEG or a PNG can be salvaged, and what is refused."""

import io

import numpy as np
import pytest
from PIL import Image

from deidcli.errors import MediaError
from deidcli.media.open import open_reader
from deidcli.media.stream import ReadOptions, WriteOptions

from .drawn import MARK, drawn, frames, noise, opened, region, saved, smooth, through

KINDS = {
    "baseline": {},
    "progressive": {"progressive": True},
    "restarts": {"restart_marker_blocks": 4},
    "fine": {"subsampling": 0, "quality": 98},
}


def jpeg(kind="baseline", pixels=None):
    settings = {"quality": 90} | KINDS[kind]
    return saved(Image.fromarray(smooth() if pixels is None else pixels), "JPEG", **settings)


def with_junk(data, junk=b"\0\x11\x22 not a marker \xff\0"):
    """`junk` before every segment behind the first."""
    from deidcli.media.image.jpeg import segments

    return (
        b"\xff\xd8"
        + b"".join(part.written() + junk for part in segments(data)[:-1])
        + (segments(data)[-1].written() + b"\xff\xd9")
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("junk", [b"\0\x11\x22", MARK, b"\xff\xff\xff", b"x" * 5000, b"\xff\0"])
def test_junk_between_segments_is_skipped_and_not_written(kind, junk):
    data = jpeg(kind)
    # Between the scans of a progressive picture junk is taken for pixels, by libjpeg too.
    data = data if kind == "progressive" else with_junk(data, junk)
    assert np.array_equal(frames(data)[0].pixels, np.array(opened(jpeg(kind))))
    for change in (True, False):
        assert MARK not in through(data, change)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tail", [b"", b"\0\0\0SEFH" + MARK + b"\0SEFT", b"\xff\xc9\x12\x34" + MARK, b"\xff" * 3000])
def test_a_missing_end_is_no_damage_where_all_pixels_are_there(kind, tail):
    whole = jpeg(kind)
    data = whole[:-2] + tail
    (frame,) = frames(data)
    assert np.array_equal(frame.pixels, np.array(opened(whole)))
    for change in (True, False):
        out = through(data, change)
        assert out.endswith(b"\xff\xd9") and MARK not in out
        assert opened(out).size == (64, 48)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.5, 0.8, 0.95])
def test_missing_pixels_are_refused_and_salvaged(kind, share):
    whole = jpeg(kind, noise((160, 120, 3), 5))
    data = whole[: int(len(whole) * share)]
    with pytest.raises(MediaError, match="truncated.*salvage"):
        frames(data)
    with open_reader(data, "drawn", ReadOptions(salvage=True)) as reader:
        (frame,) = reader.frames()
        assert "missing" in reader.damage
    if kind != "progressive":
        assert np.array_equal(frame.pixels[:56], np.array(opened(whole))[:56])
    with open_reader(whole, "drawn", ReadOptions(salvage=True)) as reader:
        assert list(reader.frames()) and not reader.damage


def test_a_salvaged_picture_is_written_whole():
    whole = jpeg(pixels=noise((160, 120, 3), 6))
    target = io.BytesIO()
    with open_reader(whole[: len(whole) // 2], "drawn", ReadOptions(salvage=True)) as reader:
        from deidcli.media.stream import WriteOptions

        writer = reader.writer(target, WriteOptions())
        for frame in reader.frames():
            pixels = frame.pixels.copy()
            mask = region(*pixels.shape[:2])
            pixels[mask] = 7
            writer.write(frame.with_pixels(pixels), mask)
        writer.finish()
    out = np.array(opened(target.getvalue()))
    assert np.abs(out[50:70, 40:50].astype(int) - 7).max() < 60


def salvaged(data):
    """The first frame, what is missing, and the file that is written."""
    target = io.BytesIO()
    with open_reader(data, "drawn", ReadOptions(salvage=True)) as reader:
        writer = reader.writer(target, WriteOptions())
        (frame,) = reader.frames()
        writer.write(frame, None)
        writer.finish()
        return frame, reader.damage, target.getvalue()


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "I;16"])
@pytest.mark.parametrize("share", [0.4, 0.7, 0.95])
def test_rows_that_are_there_are_kept(mode, share):
    whole = saved(drawn(mode, (90, 120)), "PNG")
    data = whole[: int(len(whole) * share)]
    with pytest.raises(MediaError, match="truncated"):
        frames(data)
    frame, damage, out = salvaged(data)
    wanted = frames(whole)[0].pixels
    rows = int(120 * share) - 20
    assert "missing" in damage and np.array_equal(frame.pixels[:rows], wanted[:rows])
    assert opened(out).size == (90, 120)


def test_a_wrong_checksum_loses_no_pixel():
    whole = bytearray(saved(Image.fromarray(noise((60, 80, 3))), "PNG"))
    at = whole.index(b"IDAT") - 4
    size = int.from_bytes(whole[at : at + 4], "big")
    whole[at + 8 + size] ^= 1
    with pytest.raises(MediaError, match="checksum"):
        frames(bytes(whole))
    frame, damage, _ = salvaged(bytes(whole))
    assert damage and np.array_equal(frame.pixels, noise((60, 80, 3)))


def test_whole_ones_are_not_called_damaged_and_others_are_refused():
    whole = saved(Image.fromarray(noise((60, 80, 3))), "PNG")
    assert salvaged(whole)[1] == ""
    for data in (whole[:20], whole[:33], whole[:43]):
        with pytest.raises(MediaError):
            salvaged(data)
