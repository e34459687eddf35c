"""Changed pixels go into frames of any format, and nothing else does."""

import numpy as np
import pytest
from av.video.frame import VideoFrame
from hypothesis import given
from hypothesis import strategies as st

from deidcli.media.video.pixels import Pixels
from deidcli.media.video.source import orientation

from .filmed import planes

PLANAR = ["yuv420p", "yuvj420p", "yuv422p10le", "yuv444p", "yuv410p", "yuva420p", "gray", "gray10le", "gbrp", "gbrap"]
PACKED = ["nv12", "p010le", "yuyv422", "bgr24", "rgb48le", "bgra"]


def frame(name, height, width, seed):
    drawn = np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)
    return VideoFrame.from_ndarray(drawn, "rgb24").reformat(format=name)


@given(
    name=st.sampled_from(PLANAR),
    size=st.tuples(st.integers(2, 70), st.integers(2, 70)),
    turn=st.integers(1, 8),
    spots=st.lists(st.tuples(st.integers(0, 69), st.integers(0, 69)), min_size=1, max_size=5),
    seed=st.integers(0, 9),
)
def test_a_paste_changes_its_blocks_alone(name, size, turn, spots, seed):
    native, pixels = frame(name, *size, seed), Pixels(turn)
    before = planes(native)
    rgb = pixels.rgb(native).copy()
    changed = np.zeros(rgb.shape[:2], bool)
    for y, x in spots:
        changed[y % changed.shape[0] : y % changed.shape[0] + 3, x % changed.shape[1] : x % changed.shape[1] + 3] = True
    rgb[changed] = 255 - rgb[changed]
    after = planes(pixels.paste(native, rgb, changed))
    stored = stored_as(changed, turn)
    for plane, again in zip(before, after, strict=True):
        high, wide = -(-stored.shape[0] // plane.shape[0]), -(-stored.shape[1] // plane.shape[1])
        rows, columns = np.nonzero(plane != again)
        for row, column in zip(rows, columns, strict=True):
            assert stored[row * high : (row + 1) * high, column * wide : (column + 1) * wide].any()


def stored_as(mask, turn):
    """The mask as it lies in the file, found by asking which of the eight ways gives it back when it is turned."""
    ways = [np.rot90(flipped, quarter) for flipped in (mask, mask[:, ::-1]) for quarter in range(4)]
    marked = np.arange(mask.size).reshape(mask.shape)
    tries = [np.rot90(flipped, quarter) for flipped in (marked, marked[:, ::-1]) for quarter in range(4)]
    for way, shown in zip(ways, tries, strict=True):
        if np.array_equal(seen(shown, turn), marked):
            return way
    raise AssertionError("no way")


def seen(stored, turn):
    """EXIF's own words: which side of the stored picture is the top, and which the left, of the one that is seen."""
    return {
        1: stored,
        2: stored[:, ::-1],
        3: stored[::-1, ::-1],
        4: stored[::-1],
        5: stored.T,
        6: np.rot90(stored, -1),
        7: np.rot90(stored, 2).T,
        8: np.rot90(stored),
    }[turn]


@pytest.mark.parametrize("name", PLANAR + PACKED)
def test_what_is_pasted_is_seen(name):
    pixels, native = Pixels(1), frame(name, 48, 64, 3)
    rgb = pixels.rgb(native).copy()
    changed = np.zeros((48, 64), bool)
    changed[8:40, 16:48] = True
    rgb[changed] = (190, 90, 60)
    seen = pixels.rgb(pixels.paste(native, rgb, changed))[16:32, 24:40].reshape(-1, 3).mean(0)
    wanted = (190, 90, 60) if not name.startswith("gray") else (117, 117, 117)
    assert np.abs(seen - wanted).max() < 3


@pytest.mark.parametrize("name", PACKED)
def test_packed_formats_keep_the_rest(name):
    pixels, native = Pixels(1), frame(name, 48, 64, 3)
    before = planes(pixels.planar(frame(name, 48, 64, 3)))
    rgb, changed = pixels.rgb(native).copy(), np.zeros((48, 64), bool)
    changed[16:32, 16:32] = True
    after = planes(pixels.paste(native, rgb, changed))
    for plane, again in zip(before, after, strict=True):
        high, wide = 48 // plane.shape[0], 64 // plane.shape[1]
        kept = np.ones(plane.shape, bool)
        kept[16 // high : 32 // high, 16 // wide : 32 // wide] = False
        assert np.array_equal(plane[kept], again[kept])


def test_display_matrices():
    """The four quarter turns and their mirrors, and one that is a little askew."""
    one = 65536
    pairs = [(one, 0, 0, one), (-one, 0, 0, one), (-one, 0, 0, -one), (one, 0, 0, -one)]
    pairs += [(0, one, one, 0), (0, one, -one, 0), (0, -one, -one, 0), (0, -one, one, 0), (one - 9, 99, -99, one - 9)]
    matrices = [(a, b, 0, c, d, 0, 0, 0, 1 << 30) for a, b, c, d in pairs]
    assert [orientation(matrix) for matrix in matrices] == [1, 2, 3, 4, 5, 6, 7, 8, 1]
    assert orientation(None) == 1
