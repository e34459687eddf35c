"""AVIF and HEIC: boxes scrubbed in place, turns, sequences, thumbnails."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from .drawn import drawn, frames, noise, opened, region, saved, smooth, through


@pytest.mark.parametrize("kind", ["AVIF", "HEIF"])
def test_avif_and_heif(kind):
    if kind == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    data = saved(Image.fromarray(smooth(96, 128)), kind, quality=95)
    before, after = opened(data), opened(through(data))
    assert (after.format, after.size) == (before.format, before.size)
    far = ~cv2.dilate(region(96, 128).astype(np.uint8), np.ones((41, 41))).astype(bool)
    assert np.abs(np.array(before).astype(int) - np.array(after))[far].mean() < 4
    copied = opened(through(data, change=False))
    assert np.array_equal(np.array(copied), np.array(before))


@pytest.mark.parametrize("extra", [{"thumbnails": [32]}, {"tile_size": 64}, {}])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
def test_heic_structures_survive_scrubbing(extra, mode):
    from deidcli.media.image.bmff import structure

    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    image = Image.fromarray(noise((192, 256, 4), 3)).convert(mode)
    buffer = io.BytesIO()
    heif.from_pillow(image).save(buffer, quality=80, **extra)
    data = buffer.getvalue()
    out = through(data, change=False)
    assert np.array_equal(np.array(opened(out)), np.array(opened(data)))
    before, after = structure(data), structure(out)
    thumbnails = [key for item in before.references if item.kind == b"thmb" for key in [item.source]]
    assert bool(thumbnails) == ("thumbnails" in extra)
    assert not any(item.kind == b"thmb" for item in after.references)
    # A thumbnail may have an alpha of its own, which goes with it.
    assert len(before.items) - 2 * len(thumbnails) <= len(after.items) <= len(before.items) - len(thumbnails)
    for key in thumbnails:
        assert not any(data[start:end] in out for start, end in before.items[key].spans)
    assert opened(through(data)).mode == opened(data).mode


def test_heic_of_several_pictures():
    heif = pytest.importorskip("pillow_heif")
    file = heif.from_pillow(drawn("RGB", (64, 48)))
    file.add_from_pillow(drawn("RGB", (64, 48), 4))
    buffer = io.BytesIO()
    file.save(buffer, quality=90)
    data = buffer.getvalue()
    assert len(frames(data)) == len(frames(through(data))) == len(frames(through(data, change=False))) == 2


def test_avif_sequence():
    more = [drawn("RGB", (64, 48), seed) for seed in (2, 3)]
    data = saved(drawn("RGB", (64, 48)), "AVIF", save_all=True, append_images=more, duration=[100, 200, 300])
    for change in (True, False):
        assert [float(frame.time) for frame in frames(through(data, change))] == [0.0, 0.1, 0.3]


@pytest.mark.parametrize("turn", range(1, 9))
def test_avif_turned_by_its_boxes(turn):
    exif = Image.Exif()
    exif[274] = turn
    data = saved(Image.fromarray(smooth(96, 128)), "AVIF", exif=exif, quality=95)
    (frame,) = frames(data)
    wanted = ImageOps.exif_transpose(opened(data))
    assert np.array_equal(frame.pixels, np.array(wanted))
    copied, changed = opened(through(data, change=False)), opened(through(data))
    assert copied.getexif()[274] == turn if turn > 1 else not copied.getexif()
    assert changed.size == wanted.size and not changed.getexif()
