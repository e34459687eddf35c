"""Damaged PNGs: refused as they are, and with --salvage written with the rows that are there."""

import io

import numpy as np
import pytest
from PIL import Image

from deidcli.errors import MediaError
from deidcli.media.open import open_reader
from deidcli.media.stream import ReadOptions, WriteOptions

from .drawn import drawn, frames, noise, opened, saved


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
