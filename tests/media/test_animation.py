"""Animations and pages: every frame is a frame, time and loops stay, and only what changed is written anew."""

from fractions import Fraction

import numpy as np
import pytest
from PIL import Image, ImageSequence

from .drawn import drawn, frames, opened, region, saved, smooth, through

DURATIONS = [100, 250, 40, 70]


def walk(transparent=False, mode="RGB", colours=True):
    """Four frames: a square that walks over a picture, or over nothing."""
    made = []
    for step in range(4):
        base = smooth(40, 56) // 64 * 64 if colours else np.zeros((40, 56, 3), np.uint8)
        alpha = np.full((40, 56, 1), 0 if transparent else 255, np.uint8)
        base[10:20, 10 * step : 10 * step + 12] = (200, 30 * step, 90)
        alpha[10:20, 10 * step : 10 * step + 12] = 255
        image = Image.fromarray(np.concatenate([base, alpha], 2))
        made.append(image if transparent else image.convert(mode))
    return made


def moving(kind, transparent=False, **settings):
    first, *rest = walk(transparent)
    return saved(first, kind, save_all=True, append_images=rest, duration=DURATIONS, loop=3, **settings)


def composed(data):
    image = Image.open(__import__("io").BytesIO(data))
    return [np.array(frame.convert("RGBA")) for frame in ImageSequence.Iterator(image)]


CASES = [("GIF", {}), ("PNG", {}), ("WEBP", {"lossless": True})]


@pytest.mark.parametrize(("kind", "settings"), CASES)
@pytest.mark.parametrize("transparent", [False, True])
@pytest.mark.parametrize("which", [{0, 1, 2, 3}, {2}, {3}])
def test_animation(kind, settings, transparent, which):
    if kind == "GIF" and transparent:
        settings = {"disposal": 2}
    data = moving(kind, transparent, **settings)
    out = through(data, which=lambda index: index in which)
    before, after = composed(data), composed(out)
    assert len(before) == len(after) == 4
    mask = region(40, 56)
    for index, (old, new) in enumerate(zip(before, after, strict=True)):
        kept = ~mask if index in which else np.ones_like(mask)
        seen = (old[..., 3] > 0) & kept
        assert np.array_equal(old[..., 3][kept], new[..., 3][kept])
        # Alpha can hold a face as well: where something was seen, the new pixels are opaque.
        assert (new[mask][..., 3] == 255).all() or kept.all() or not (old[mask][..., 3] > 0).any()
        assert np.array_equal(old[seen], new[seen])
        if index in which and (mask & (old[..., 3] > 0)).any():
            assert not np.array_equal(old[mask], new[mask])
    times = [frame.time for frame in frames(data)]
    assert times == [Fraction(ms, 1000) for ms in (0, 100, 350, 390)] == [frame.time for frame in frames(out)]
    assert opened(out).info["loop"] == 3


@pytest.mark.parametrize(("kind", "settings"), [*CASES, ("WEBP", {})])
def test_animation_without_change_is_copied(kind, settings):
    data = moving(kind, **settings)
    out = through(data, change=False)
    assert all(np.array_equal(a, b) for a, b in zip(composed(data), composed(out), strict=True))
    assert abs(len(out) - len(data)) < 64


def test_lossy_webp_animation_stays_lossy():
    out = through(moving("WEBP", quality=80))
    assert b"VP8L" not in out and len(composed(out)) == 4


def test_apng_default_picture_is_a_frame():
    still, *rest = walk()
    data = saved(still, "PNG", save_all=True, append_images=rest, default_image=True, duration=100)
    assert [frame.index for frame in frames(data)] == [0, 1, 2, 3]
    out = through(data, which=lambda index: index == 0)
    before, after = composed(data), composed(out)
    assert not np.array_equal(before[0], after[0])
    assert all(np.array_equal(a, b) for a, b in zip(before[1:], after[1:], strict=True))


def test_gif_of_many_colours_stays_exact_outside():
    made = [drawn("P", (60, 40), seed) for seed in range(3)]
    data = saved(made[0], "GIF", save_all=True, append_images=made[1:], duration=100)
    mask = region(40, 60)
    for old, new in zip(composed(data), composed(through(data)), strict=True):
        wrong = (old[~mask] != new[~mask]).any(axis=1).mean()
        assert wrong < 0.25


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate"])
def test_tiff_pages(compression):
    pages = [drawn(mode, (40, 30), seed) for seed, mode in enumerate(["RGB", "L", "P", "1", "I;16"])]
    data = saved(pages[0], "TIFF", save_all=True, append_images=pages[1:], compression=compression)
    out = through(data, which=lambda index: index in (1, 4))
    before, after = Image.open(bytes_of(data)), Image.open(bytes_of(out))
    assert before.n_frames == after.n_frames == 5
    for index in range(5):
        before.seek(index), after.seek(index)
        old, new = np.array(before), np.array(after)
        kept = ~region(30, 40) if index in (1, 4) else np.ones((30, 40), bool)
        assert before.mode == after.mode
        assert np.array_equal(old[kept], new[kept])
        assert np.array_equal(old, new) == (index not in (1, 4))


def test_writer_far_behind_the_reader():
    from io import BytesIO

    from deidcli.media.open import open_reader
    from deidcli.media.stream import WriteOptions

    from .drawn import negative

    made = [drawn("L", (40, 30), seed) for seed in range(9)]
    data = saved(made[0], "TIFF", save_all=True, append_images=made[1:])
    target = BytesIO()
    with open_reader(data) as reader:
        kept = list(reader.frames())
        writer = reader.writer(target, WriteOptions())
        for frame in kept:
            writer.write(*negative(frame))
        writer.finish()
    assert target.getvalue() == through(data)


def bytes_of(data):
    from io import BytesIO

    return BytesIO(data)
