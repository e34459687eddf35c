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


def heic(pixels, depth=8, nclx=None, **settings):
    heif = pytest.importorskip("pillow_heif")
    channels = {2: "L", 3: "RGB", 4: "RGBA"}[pixels.ndim if pixels.ndim == 2 else pixels.shape[2]]
    mode = channels if depth == 8 else f"{channels};16"
    file = heif.from_bytes(mode=mode, size=pixels.shape[1::-1], data=pixels.tobytes())
    if nclx is not None:
        names = ("color_primaries", "transfer_characteristics", "matrix_coefficients", "full_range_flag")
        settings |= dict(zip(names, nclx, strict=True)) | {"save_nclx_profile": True}
    buffer = io.BytesIO()
    file.save(buffer, quality=95, **settings)
    return buffer.getvalue()


def described(data):
    image = pytest.importorskip("pillow_heif").open_heif(data, convert_hdr_to_8bit=False)[0]
    nclx = image.info["nclx_profile"]
    said = [nclx[name] for name in ("color_primaries", "transfer_characteristics", "matrix_coefficients")]
    return image, (image.mode, image.info["bit_depth"], image.info["chroma"], *said)


# sRGB, Display P3, BT.2020 with PQ, BT.2020 with HLG.
@pytest.mark.parametrize("nclx", [(1, 13, 6, 1), (12, 13, 6, 1), (9, 16, 9, 1), (9, 18, 9, 0)])
@pytest.mark.parametrize("depth", [8, 10])
@pytest.mark.parametrize(("channels", "chroma"), [(3, 420), (3, 444), (4, 420)])
def test_heic_keeps_depth_colours_and_chroma(nclx, depth, channels, chroma):
    pixels = np.dstack([smooth(96, 128), np.full((96, 128), 255, np.uint8)])[..., :channels]
    pixels = np.ascontiguousarray(pixels if depth == 8 else pixels.astype(np.uint16) * 257)
    data = heic(pixels, depth, nclx, chroma=chroma)
    before, said = described(data)
    for change in (True, False):
        after, again = described(through(data, change))
        assert again == said
        far = ~cv2.dilate(region(96, 128).astype(np.uint8), np.ones((41, 41))).astype(bool)
        difference = np.abs(np.asarray(before).astype(int) - np.asarray(after))[far].mean()
        assert difference < (4 if depth == 8 else 4 * 257)


def test_what_avif_loses_is_said():
    from deidcli.media.open import open_reader
    from deidcli.media.stream import WriteOptions

    from .drawn import negative

    data = saved(Image.fromarray(smooth(96, 128)), "AVIF", quality=95)
    at = data.index(b"nclx") + 4
    for primaries, expected in ((1, ""), (9, "nclx 9/"), (12, "nclx 12/")):
        changed = data[:at] + primaries.to_bytes(2, "big") + data[at + 2 :]
        with open_reader(changed, "drawn") as reader:
            writer = reader.writer(io.BytesIO(), WriteOptions())
            for frame in reader.frames():
                writer.write(*negative(frame))
            writer.finish()
        assert expected in " ".join(writer.notes) and bool(writer.notes) == bool(expected)
