"""Looks: every way in which viewers show a picture is searched, and what is drawn into it is opaque in all of them."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from deidcli.media.image import Native
from deidcli.media.image.conversion import opacity, to_rgb, views, with_rgb
from deidcli.media.image.reader import open_image
from deidcli.media.image.windows import from_eight_bits, to_eight_bits, window
from deidcli.media.looks import continued, is_flat, looks, over, stretched

from .drawn import frames, noise, opened, region, saved, smooth, through

SHAPE = smooth(60, 80)
GREY = SHAPE[..., 0].astype(np.int32) // 2 + SHAPE[..., 1] // 2


def rgba(colours, alpha):
    return np.dstack([colours, alpha]).astype(np.uint8)


def colour_to_alpha():
    """As GIMP makes white transparent: over white it is the picture as before."""
    alpha = 255 - SHAPE.min(axis=2)
    safe = np.maximum(alpha, 1)[..., None].astype(np.float64)
    return rgba(np.clip(255 - (255 - SHAPE.astype(np.float64)) * 255 / safe, 0, 255).round(), alpha)


def ink(level, negative=False):
    """One colour whose alpha draws the picture."""
    alpha = 255 - GREY if negative else GREY
    return rgba(np.full_like(SHAPE, level), alpha)


def binary():
    """Dots of one colour, as a GIF or a palette of one transparent entry has them."""
    dots = np.asarray(Image.fromarray(SHAPE).convert("1")).astype(np.uint8) * 255
    return rgba(np.full_like(SHAPE, 30), 255 - dots)


DRAWN = {
    "colour to alpha": colour_to_alpha(),
    "black ink": ink(0, negative=True),
    "white ink": ink(255),
    "grey mask": ink(128),
    "dots": binary(),
    "hidden below": rgba(SHAPE, np.zeros((60, 80))),
    "cut out": rgba(SHAPE, np.where(region(60, 80), 255, 0)),
}


def palette_of(pixels):
    """Pillow quantises alpha as well, as pngquant does."""
    return Image.fromarray(pixels).quantize(64, method=Image.Quantize.FASTOCTREE)


def coded(kind, pixels):
    image = Image.fromarray(pixels)
    if kind == "palette":
        return saved(palette_of(pixels), "PNG")
    if kind == "LA":
        return saved(image.convert("LA"), "PNG")
    if kind == "16 bits":
        from deidcli.media.image.png_chunks import coded as chunks_of
        from deidcli.media.image.png_chunks import written

        return written(chunks_of(Native("RGBA;16", pixels.astype(np.uint16) * 257), 16))
    settings = {"WEBP": {"lossless": True, "exact": True}, "AVIF": {"quality": 100}}.get(kind, {})
    return saved(image, kind, **settings)


def resemblance(a, b, mask):
    values = [pixels[mask].astype(float).mean(axis=1) for pixels in (a, b)]
    if min(value.std() for value in values) < 1:
        return 0.0
    return abs(np.corrcoef(*values)[0, 1])


@pytest.mark.parametrize("name", DRAWN)
@pytest.mark.parametrize("kind", ["PNG", "palette", "LA", "16 bits", "WEBP", "TIFF", "AVIF"])
def test_what_alpha_draws_is_seen_and_covered(kind, name):
    data = coded(kind, DRAWN[name])
    (frame,) = frames(data)
    mask, wanted = region(60, 80), SHAPE
    seen = [resemblance(look, wanted, mask) for look in (frame.pixels, *frame.looks)]
    if not (kind in ("palette", "AVIF", "LA") and name == "hidden below"):  # their encoders drop hidden colours
        assert max(seen) > (0.1 if name == "dots" else 0.6)
    out = covered(data, frame)
    (after,) = frames(out)
    for look in (after.pixels, *after.looks):
        assert resemblance(look, wanted, mask) < (0.2 if kind == "AVIF" else 0.1)
    outside = ~mask
    outside[10:35, 15:45] = False
    if kind not in ("AVIF", "palette"):
        assert np.array_equal(np.array(opened(out))[outside], np.array(opened(data))[outside])


def covered(data, frame):
    """The file with one colour drawn into the region."""
    from deidcli.media.open import open_reader
    from deidcli.media.stream import WriteOptions

    target, mask = io.BytesIO(), region(frame.height, frame.width)
    with open_reader(data, "drawn") as reader:
        writer = reader.writer(target, WriteOptions())
        for each in reader.frames():
            pixels = each.pixels.copy()
            pixels[mask] = (120, 90, 60)
            writer.write(each.with_pixels(pixels), mask)
        (shown,) = writer.preview().frames()
        writer.finish()
    assert np.array_equal(shown.pixels, frames(target.getvalue())[0].pixels)
    return target.getvalue()


@pytest.mark.parametrize("mode", ["L", "RGB", "1"])
def test_a_transparent_colour_draws_nothing_that_stays(mode):
    dots = np.asarray(Image.fromarray(SHAPE).convert("1")).astype(np.uint8) * 255
    image = {"L": Image.fromarray(dots), "RGB": Image.fromarray(np.dstack([dots] * 3)), "1": Image.fromarray(dots)}[
        mode
    ]
    image = image.convert("1") if mode == "1" else image
    data = saved(image, "PNG", transparency=(0, 0, 0) if mode == "RGB" else 0)
    (frame,) = frames(data)
    (after,) = frames(covered(data, frame))
    mask = region(60, 80)
    for look in (after.pixels, *after.looks):
        assert np.ptp(look[mask].astype(int), axis=0).max() <= 1


def test_a_gif_of_dots_is_covered():
    dots = np.asarray(Image.fromarray(SHAPE).convert("1")).astype(np.uint8)
    image = Image.fromarray(dots).convert("P")
    image.putpalette([200, 10, 10, 20, 20, 20])
    data = saved(image, "GIF", transparency=1)
    (frame,) = frames(data)
    assert resemblance(frame.pixels, SHAPE, region(60, 80)) > 0.1
    (after,) = frames(covered(data, frame))
    for look in (after.pixels, *after.looks):
        assert np.ptp(look[region(60, 80)].astype(int), axis=0).max() == 0


def test_a_palette_without_an_opaque_entry_gets_one():
    image = Image.fromarray((GREY // 32).astype(np.uint8)).convert("P")
    image.putpalette(bytes(range(24)))
    data = saved(image, "PNG", transparency=bytes(range(10, 170, 20)))
    (frame,) = frames(data)
    (after,) = frames(covered(data, frame))
    assert np.abs(after.pixels[region(60, 80)].astype(int) - (120, 90, 60)).max() <= 1
    old, new = (np.array(opened(item).convert("RGBA")) for item in (data, covered(data, frame)))
    assert np.array_equal(old[~region(60, 80)], new[~region(60, 80)])


def test_a_hidden_region_stays_hidden():
    data = saved(Image.fromarray(rgba(SHAPE, np.zeros((60, 80)))), "PNG")
    (frame,) = frames(data)
    out = np.array(opened(covered(data, frame)))
    mask = region(60, 80)
    assert not out[..., 3].any() and (out[mask][:, :3] == (120, 90, 60)).all()


def test_opaque_pictures_have_one_look():
    for mode, data in (("RGB", noise((40, 50, 3))), ("L", noise((40, 50))), ("CMYK", noise((40, 50, 4)))):
        pixels, others = views(Native(mode, data))
        assert others == () and np.array_equal(pixels, to_rgb(Native(mode, data)))
    opaque = Native("RGBA", rgba(noise((40, 50, 3)), np.full((40, 50), 255)))
    assert views(opaque)[1] == () and (opacity(opaque) == 255).all()


def test_over_is_what_pillow_composes():
    picture = noise((30, 40, 4), 5)
    for ground in (255, 0):
        base = Image.new("RGBA", (40, 30), (ground, ground, ground, 255))
        base.alpha_composite(Image.fromarray(picture))
        ours = over(picture[..., :3], picture[..., 3], ground)
        assert np.abs(ours.astype(int) - np.array(base)[..., :3]).max() <= 1
    associated = (picture[..., :3].astype(int) * picture[..., 3:] + 127) // 255
    ours = over(associated.astype(np.uint8), picture[..., 3], 255, associated=True)
    assert np.abs(ours.astype(int) - over(picture[..., :3], picture[..., 3], 255)).max() <= 1


def test_the_first_look_is_one_in_which_something_is_seen():
    assert not is_flat(looks(*parts(ink(255)))[0])
    assert not is_flat(looks(*parts(ink(0)))[0])


def parts(pixels):
    return pixels[..., :3], pixels[..., 3]


@pytest.mark.parametrize("low,high", [(0, 30), (120, 150), (230, 255), (100, 103)])
def test_flat_pictures_are_stretched(low, high):
    flat = (low + SHAPE.astype(float) / 255 * (high - low)).round().astype(np.uint8)
    raised = stretched(flat)
    assert raised is not None and np.ptp(raised) > 150
    assert np.corrcoef(raised.ravel(), SHAPE.ravel())[0, 1] > 0.8
    assert stretched(SHAPE) is None


WIDE = {
    "ten bits in sixteen": (SHAPE.astype(np.uint16) * 4, (0, 1023)),
    "eight bits in sixteen": (SHAPE.astype(np.uint16), (0, 255)),
    "twelve bits in sixteen": (SHAPE.astype(np.uint16) * 16, (0, 4095)),
    "sixteen bits": (SHAPE.astype(np.uint16) * 257, (0, 65535)),
    "floats": (SHAPE.astype(np.float32) / 255, (0, 1)),
    "floats of 255": (SHAPE.astype(np.float32), (0, 255)),
    "doubles of 65535": (SHAPE.astype(np.float64) * 257, (0, 65535)),
    "32 bits": (SHAPE.astype(np.uint32) * 16843009, (0, (1 << 32) - 1)),
}


@pytest.mark.parametrize("name", WIDE)
def test_windows_of_known_depths(name):
    data, limits = WIDE[name]
    assert window(data) == limits
    assert np.abs(to_eight_bits(data, limits).astype(int) - SHAPE).max() <= 1
    again = from_eight_bits(to_eight_bits(data, limits), limits, data.dtype)
    assert np.abs(again - data.astype(np.float64)).max() <= (limits[1] - limits[0]) / 255
    native = Native("RGB", data)
    mask = region(60, 80)
    new = with_rgb(native, 255 - SHAPE, mask)
    assert np.array_equal(new.data[~mask], data[~mask])
    assert np.abs(to_rgb(new)[mask].astype(int) - (255 - SHAPE)[mask]).max() <= 1


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32, np.float32, np.float64, np.float16])
@pytest.mark.parametrize("low,high", [(-100, 100), (-90, -30), (20, 60)])
def test_windows_of_signed_numbers(dtype, low, high):
    data = (low + SHAPE[..., 1].astype(float) / 255 * (high - low)).astype(dtype)
    shown = to_rgb(Native("L", data))
    assert np.corrcoef(shown[..., 0].ravel(), SHAPE[..., 1].ravel())[0, 1] > 0.99
    assert np.ptp(shown) > 75
    mask = region(60, 80)
    new = with_rgb(Native("L", data), np.full_like(SHAPE, 200), mask)
    assert np.abs(to_rgb(new)[mask].astype(int) - 200).max() <= 8


@pytest.mark.parametrize("outlier", [1.01, 50.0, 1e30, np.inf, -np.inf, np.nan, -3.0])
def test_one_odd_number_blacks_nothing_out(outlier):
    data = SHAPE.astype(np.float32) / 255
    data[3, 4] = outlier
    shown = to_rgb(Native("RGB", data))
    assert np.abs(shown.astype(int) - SHAPE)[10:].max() <= 1


@pytest.mark.parametrize("top", [60000, 900])
def test_a_bright_spot_leaves_the_dark_visible_and_itself(top):
    """Whatever window is chosen, another look shows what it clips."""
    data = SHAPE.astype(np.uint16) * 2
    data[:4, :4] = top + np.arange(16, dtype=np.uint16).reshape(4, 4, 1) * 300
    pixels, others = views(Native("RGB", data))
    assert max(resemblance(look, SHAPE, region(60, 80)) for look in (pixels, *others)) > 0.95


@pytest.mark.parametrize("dtype", ["u2", "i2", "u4", "f4", "f8"])
@pytest.mark.parametrize("low", [0, 15_000, 30_000])
def test_bars_of_white_and_black_leave_what_lies_between_visible(dtype, low):
    """The numbers of a thermal camera, say, with a bar of its scale."""
    data = (low + SHAPE.astype(dtype) / (2 if dtype[0] == "f" else 1)).astype(dtype)
    data[:10], data[-6:] = 32_767, 0
    pixels, others = views(Native("RGB", data))
    between = np.zeros(SHAPE.shape[:2], bool)
    between[10:-6] = True
    assert max(resemblance(look, SHAPE, between) for look in (pixels, *others)) > 0.95


def test_planes_behind_the_colours_are_looked_at_and_covered():
    data = np.dstack([np.full_like(SHAPE, 90), SHAPE[..., 0], SHAPE[..., 1]])
    native = Native("RGB", data)
    _, others = views(native)
    mask = region(60, 80)
    assert max(resemblance(look, np.dstack([SHAPE[..., 0]] * 3), mask) for look in others) > 0.99
    new = with_rgb(native, np.full_like(SHAPE, 60), mask).data
    assert all(np.ptp(new[mask][:, plane]) == 0 for plane in range(5))
    assert np.array_equal(new[~mask], data[~mask])


def test_dimmed_sixteen_bit_grey_comes_back_exact_outside():
    values = (GREY * 3).astype(np.uint16)
    data = saved(Image.fromarray(values), "PNG")
    new = np.array(opened(through(data)))
    mask = region(60, 80)
    assert np.array_equal(new[~mask], values[~mask]) and not np.array_equal(new[mask], values[mask])
    (frame,) = frames(data)
    assert np.corrcoef(frame.pixels[..., 0].ravel(), GREY.ravel())[0, 1] > 0.999 and np.ptp(frame.pixels) > 150


def test_a_missing_lower_part_is_continued_by_its_mirror_image():
    random = np.random.default_rng(3)
    whole = random.integers(0, 256, (20, 8, 3), dtype=np.uint8)
    cut = whole.copy()
    cut[12:] = 128
    assert np.array_equal(continued(cut), np.concatenate([whole[:12], whole[4:12][::-1]]))
    assert continued(whole) is None and continued(np.full((9, 9, 3), 7, np.uint8)) is None


def test_a_salvaged_picture_is_searched_with_what_is_missing_continued():
    pixels = cv2.resize(np.random.default_rng(3).integers(0, 256, (9, 9, 3), dtype=np.uint8), (96, 96))
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=95)
    frame = next(
        open_image(buffer.getvalue()[: len(buffer.getvalue()) // 2], "half.jpg", "jpeg", salvage=True).frames()
    )
    assert len(frame.looks) == 1 and np.ptp(frame.looks[0][-8:]) > 50 > np.ptp(frame.pixels[-8:])
