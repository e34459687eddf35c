"""What is particular to a format: JPEG tables, WebP losslessness, TIFF compression, orientation, HEIC and AVIF."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps, JpegImagePlugin

from deidcli.media.image.jpeg import Jpeg

from .drawn import drawn, frames, noise, opened, region, saved, smooth, through

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def oriented(kind, orientation, **settings):
    exif = Image.Exif()
    exif[274] = orientation
    return saved(Image.fromarray(smooth()), kind, exif=exif, **settings)


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg_keeps_tables_and_sampling(subsampling, progressive):
    data = saved(Image.fromarray(smooth()), "JPEG", quality=61, subsampling=subsampling, progressive=progressive)
    before, after = opened(data), opened(through(data))
    assert after.quantization == before.quantization
    assert JpegImagePlugin.get_sampling(after) == subsampling
    assert bool(after.info.get("progressive")) == progressive


@pytest.mark.parametrize("factor", [cv2.IMWRITE_JPEG_SAMPLING_FACTOR_411, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_440])
def test_jpeg_keeps_rare_samplings(factor):
    settings = [cv2.IMWRITE_JPEG_QUALITY, 83, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, factor]
    data = cv2.imencode(".jpg", smooth(), settings)[1].tobytes()
    out = through(data)
    assert Jpeg(out, "out").components == Jpeg(data, "in").components
    assert opened(out).quantization == opened(data).quantization


@pytest.mark.parametrize("mode", ["L", "CMYK", "RGB"])
def test_jpeg_modes_stay_near(mode):
    image = Image.fromarray(smooth()).convert(mode)
    data = saved(image, "JPEG", quality=95, **({"keep_rgb": True} if mode == "RGB" else {}))
    before, after = opened(data), opened(through(data))
    assert after.mode == mode
    far = np.ones((48, 64), bool)
    far[8:32, 8:40] = False
    assert np.abs(np.array(before).astype(int) - np.array(after))[far].max() <= 3
    assert Jpeg(data, "in").is_rgb() == Jpeg(through(data), "out").is_rgb()


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_jpeg_of_a_picture_without_face_keeps_every_coefficient(mode, progressive):
    data = saved(Image.fromarray(smooth(50, 61)).convert(mode), "JPEG", progressive=progressive, subsampling=2)
    before, after = opened(data), opened(through(data, change=False))
    assert np.array_equal(np.array(before), np.array(after))
    assert after.quantization == before.quantization
    assert JpegImagePlugin.get_sampling(after) == JpegImagePlugin.get_sampling(before)


@pytest.mark.parametrize("lossless", [True, False])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_webp_stays_what_it_was(lossless, mode):
    data = saved(drawn(mode), "WEBP", lossless=lossless, exact=True)
    out = through(data)
    assert (b"VP8L" in out) == lossless
    old, new = np.array(opened(data)), np.array(opened(out))
    mask = region(*old.shape[:2])
    assert old.shape == new.shape
    if lossless:
        assert np.array_equal(old[~mask], new[~mask])
    if mode == "RGBA":
        assert np.array_equal(old[~mask][..., 3], new[~mask][..., 3])
        assert (new[mask][..., 3] == 255).all()


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"])
def test_tiff_keeps_its_compression(compression):
    data = saved(Image.fromarray(smooth()), "TIFF", compression=compression)
    assert opened(through(data)).info["compression"] == compression
    assert opened(through(data, change=False)).info["compression"] == compression


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation(kind, orientation):
    settings = {"quality": 100, "subsampling": 0} if kind == "JPEG" else {}
    settings = {"lossless": True} if kind == "WEBP" else settings
    data = oriented(kind, orientation, **settings)
    (frame,) = frames(data)
    if kind == "TIFF":
        image = Image.fromarray(smooth())
        image.getexif()[274] = orientation
        wanted = ImageOps.exif_transpose(image)
    else:
        wanted = ImageOps.exif_transpose(opened(data))
    assert np.array_equal(frame.pixels, np.array(wanted)) or kind == "JPEG"
    assert (frame.width, frame.height) == wanted.size
    changed = opened(through(data))
    assert changed.size == wanted.size and changed.getexif().get(274, 1) == 1
    copied = opened(through(data, change=False))
    assert np.array_equal(np.array(ImageOps.exif_transpose(copied)), np.array(ImageOps.exif_transpose(opened(data))))
    assert set(copied.getexif()) <= {274} or kind == "TIFF"


@pytest.mark.parametrize(
    ("kind", "mode"), [("JPEG", "RGB"), ("PNG", "RGB"), ("TIFF", "RGB"), ("WEBP", "RGB"), ("PNG", "P"), ("AVIF", "RGB")]
)
@pytest.mark.parametrize("change", [True, False])
def test_profile_and_resolution(kind, mode, change):
    data = saved(drawn(mode), kind, icc_profile=PROFILE, dpi=(300, 300))
    for policy in ("safe", "all"):
        out = opened(through(data, change, policy))
        assert same_colours(out.info["icc_profile"], PROFILE)
        if kind not in ("WEBP", "AVIF"):
            assert [round(float(value)) for value in out.info["dpi"]] == [300, 300]
    bare = opened(through(data, change, "none"))
    assert not bare.info.get("icc_profile")
    assert "dpi" not in bare.info or round(float(bare.info["dpi"][0])) != 300


def same_colours(profile, other):
    """Whether two RGB profiles mean the same by all of 4,096 colours."""
    colours = Image.fromarray(noise((64, 64, 3)))
    lab = ImageCms.createProfile("LAB")
    shown = [ImageCms.profileToProfile(colours, io.BytesIO(each), lab, outputMode="LAB") for each in (profile, other)]
    return np.array_equal(*map(np.array, shown))


def test_resolution_that_only_exif_states_survives():
    exif = Image.Exif()
    exif[282], exif[283], exif[296] = 240.0, 240.0, 2
    image = Image.fromarray(smooth())
    buffer = saved(image, "JPEG", exif=exif)
    without_jfif = buffer[:2] + buffer[20:]
    assert opened(without_jfif).info["dpi"] == (240, 240)
    assert opened(through(without_jfif)).info["dpi"] == (240, 240)
    assert opened(through(without_jfif, change=False)).info["dpi"] == (240, 240)


def test_all_states_the_size_and_orientation_that_are_written():
    exif = Image.Exif()
    exif[274], exif[256], exif[257] = 6, 64, 48
    exif.get_ifd(34665)[40962], exif.get_ifd(34665)[40963] = 64, 48
    data = saved(Image.fromarray(smooth()), "JPEG", exif=exif)
    out = opened(through(data, metadata="all")).getexif()
    assert (out[274], out[256], out[257]) == (1, 48, 64)
    assert (out.get_ifd(34665)[40962], out.get_ifd(34665)[40963]) == (48, 64)
    assert opened(through(data, change=False, metadata="all")).getexif()[274] == 6


@pytest.mark.parametrize("big", [False, True])
def test_bmp_of_sixteen_and_thirty_two_bits(big):
    bits = 32 if big else 16
    data = bitmap(bits)
    out = through(data)
    assert out[:54] == data[:54] and len(out) == len(data)
    old, new = (np.frombuffer(item[54:], f"<u{bits // 8}").reshape(20, 30)[::-1] for item in (data, out))
    mask, used = region(20, 30), 0xFFFFFF if big else 0x7FFF
    assert np.array_equal(old[~mask] & used, new[~mask])
    assert not np.array_equal(old[mask] & used, new[mask])
    # Bits outside of the masks could hold a second picture.
    assert not (new >> (24 if big else 15)).any()
    assert np.array_equal(frames(data)[0].pixels, np.array(opened(data).convert("RGB")))


def test_bmp_with_alpha():
    """A header of version 4 that names alpha: it stays, and what is replaced is opaque."""
    import struct

    pixels = noise((20, 30, 4), 4)
    masks = struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    head = struct.pack("<IiiHHIIiiII", 108, 30, 20, 1, 32, 3, pixels.size, 0, 0, 0, 0) + masks + bytes(52)
    data = b"BM" + struct.pack("<IHHI", 122 + pixels.size, 0, 0, 122) + head + pixels.tobytes()
    mask = region(20, 30)
    for change in (False, True):
        out = np.frombuffer(through(data, change)[122:], np.uint8).reshape(pixels.shape)[::-1]
        kept = ~mask if change else np.ones_like(mask)
        assert np.array_equal(out[kept], pixels[::-1][kept])
        assert change == (out[mask][:, 3] == 255).all()


def test_cmyk_keeps_its_black():
    pixels = np.zeros((48, 64, 4), np.uint8)
    pixels[..., :3], pixels[..., 3] = smooth() // 2, 90
    data = saved(Image.frombytes("CMYK", (64, 48), pixels.tobytes()), "TIFF")
    (frame,) = frames(data)
    from deidcli.media.image import from_pillow
    from deidcli.media.image.conversion import with_rgb

    native = from_pillow(opened(data))
    again = with_rgb(native, frame.pixels, np.ones((48, 64), bool))
    assert np.abs(again.data.astype(int) - pixels).max() <= 1


def test_sixteen_bit_grey_is_shown_at_its_depth():
    values = np.linspace(0, 65535, 256, dtype=np.uint16).reshape(16, 16)
    data = saved(Image.frombytes("I;16", (16, 16), values.tobytes()), "PNG")
    assert np.array_equal(frames(data)[0].pixels[..., 0].ravel(), np.arange(256))


def bitmap(bits):
    """A bottom-up BMP of 30 by 20 pixels of noise without gaps in its rows."""
    import struct

    pixels = noise((20, 30 * bits // 8), 4).tobytes()
    if bits == 16:
        pixels = (np.frombuffer(pixels, "<u2") & 0x7FFF).tobytes()
    head = struct.pack("<IiiHHIIiiII", 40, 30, 20, 1, bits, 0, len(pixels), 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54 + len(pixels), 0, 0, 54) + head + pixels


def test_a_frame_cannot_be_painted_on():
    (frame,) = frames(saved(drawn("RGB"), "PNG"))
    with pytest.raises(ValueError):
        frame.pixels[0, 0] = 0


def test_empty_mask_copies():
    from deidcli.media.open import open_reader
    from deidcli.media.stream import WriteOptions

    data, target = saved(Image.fromarray(smooth()), "JPEG", optimize=True), io.BytesIO()
    with open_reader(data) as reader:
        writer = reader.writer(target, WriteOptions())
        for frame in reader.frames():
            writer.write(frame, np.zeros((frame.height, frame.width), bool))
        writer.finish()
    assert np.array_equal(np.array(opened(target.getvalue())), np.array(opened(data)))
