"""Every layout of TIFF samples against a second decoder: formats, depths, planes, tiles, compressions, byte orders."""

import io
import itertools
import struct
from contextlib import suppress

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from deidcli.errors import MediaError
from deidcli.media.image.ifd import SHORT, Entry, number
from deidcli.media.image.tiff import decode
from deidcli.media.image.tiff_data import packed, unpacked
from deidcli.media.image.tiff_pages import Page, file_of, pages

from .drawn import drawn, frames, noise, opened, region, saved, smooth, through

HEIGHT, WIDTH = 37, 50
MASK = region(HEIGHT, WIDTH)
TYPES = ["u1", "u2", "u4", "i1", "i2", "i4", "f2", "f4", "f8"]


def values(dtype, samples, seed=1):
    """(height, width, samples) of noise on a gentle picture, over most of what the type holds."""
    kind = np.dtype(dtype)
    base = np.dstack([smooth(HEIGHT, WIDTH)] * 2)[..., :samples].astype(np.float64) / 255
    base = 0.8 * base + 0.2 * noise((HEIGHT, WIDTH, samples), seed) / 255
    if kind.kind == "f":
        return base.astype(kind)
    info = np.iinfo(kind)
    return (info.min + base * (float(info.max) - info.min)).astype(kind)


def written(data, **settings):
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, data, metadata=None, **settings)
    return buffer.getvalue()


def native_of(data):
    (page,) = pages(data)
    native = decode(page)
    return native, native.data if native.data.ndim == 3 else native.data[..., None]


def rewritten_alike(data, original):
    """The pixels outside a changed region, read by tifffile."""
    out = through(data)
    (page,) = pages(out)
    with tifffile.TiffFile(io.BytesIO(file_of([unpacked(page)], "<"))) as file:
        new = file.pages[0].asarray()
        new = np.moveaxis(new, 0, 2) if file.pages[0].planarconfig == 2 and new.ndim == 3 else new
    new = new if new.ndim == 3 else new[..., None]
    assert new.dtype == original.dtype and np.array_equal(new[~MASK], original[~MASK])
    assert not np.array_equal(new[MASK], original[MASK])
    return page


LAYOUTS = list(itertools.product(TYPES, [1, 3], ["contig", "separate"], [None, (16, 16)]))


@pytest.mark.parametrize(("dtype", "samples", "planar", "tile"), LAYOUTS)
def test_formats_planes_and_tiles(dtype, samples, planar, tile):
    original = values(dtype, samples)
    stored = original[..., 0] if samples == 1 else np.moveaxis(original, 2, 0) if planar == "separate" else original
    settings = {"planarconfig": planar} if samples > 1 else {}
    for order, compression in (("<", None), (">", "zlib"), ("<", "zlib"), (">", None)):
        photometric = "rgb" if samples == 3 else "minisblack"
        data = written(stored, photometric=photometric, byteorder=order, compression=compression, tile=tile, **settings)
        native, read = native_of(data)
        assert np.array_equal(read, original) and native.mode == ("RGB" if samples == 3 else "L")
    page = rewritten_alike(data, original)
    assert page.number(284, 1) == (2 if planar == "separate" and samples > 1 else 1)
    (frame,) = frames(data)
    grey = frame.pixels.astype(float).mean(axis=2).ravel()
    assert np.corrcoef(grey, original.astype(float).mean(axis=2).ravel())[0, 1] > 0.99


@pytest.mark.parametrize("samples", [2, 4, 5])
@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("extra", [0, 1, 2])
@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
def test_further_samples(samples, planar, extra, dtype):
    original = values(dtype, samples)
    stored = np.moveaxis(original, 2, 0) if planar == "separate" else original
    count = samples - (1 if samples == 2 else 3)
    said = [extra, 0][:count]
    photometric = "minisblack" if samples == 2 else "rgb"
    data = written(stored, photometric=photometric, planarconfig=planar, extrasamples=said)
    native, read = native_of(data)
    assert np.array_equal(read, original)
    assert native.associated == (extra == 1) and native.mode.rstrip("A") == ("L" if samples == 2 else "RGB")
    page = rewritten_alike(data, original)
    assert list(page.numbers(338)) == said


@pytest.mark.parametrize("name", ["planar16_rgb", "planar16_rgba"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_planar_sixteen_bits_as_in_the_cases(name, order):
    """OpenCV puts the planes of sixteen bits side by side; whoever relies on it sees garbage."""
    original = values("u2", 4 if name.endswith("a") else 3)
    data = written(np.moveaxis(original, 2, 0), photometric="rgb", planarconfig="separate", byteorder=order)
    assert np.array_equal(native_of(data)[1], original)
    rewritten_alike(data, original)


PACKINGS = ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "zstd", "lzma", "tiff_deflate"]


@pytest.mark.parametrize("compression", PACKINGS)
@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "CMYK", "P", "I;16", "F"])
def test_compressions_against_pillow(compression, mode):
    original = values({"I;16": "u2", "F": "f4"}.get(mode, "u1"), {"LA": 2, "RGB": 3, "RGBA": 4, "CMYK": 4}.get(mode, 1))
    image = Image.frombytes(mode, (WIDTH, HEIGHT), original.tobytes())
    if mode == "P":
        image.putpalette(noise(768).tobytes())
    for predictor in (1, 2, 3):
        if predictor == 3 and mode != "F" or predictor == 2 and mode == "F" or compression in ("raw", "packbits"):
            continue
        data = saved(image, "TIFF", compression=compression, tiffinfo={317: predictor})
        assert np.array_equal(native_of(data)[1], original)
    data = saved(image, "TIFF", compression=compression)
    assert np.array_equal(native_of(data)[1], np.array(opened(data)).reshape(original.shape))
    out = through(data)
    assert pages(out)[0].number(259, 1) == pages(data)[0].number(259, 1)
    assert np.array_equal(np.array(opened(out)).reshape(original.shape)[~MASK], original[~MASK])


@pytest.mark.parametrize("compression", [1, 5, 8, 32773, 32946])
@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_compressions_against_opencv(compression, dtype, channels):
    original = values(dtype, channels)
    order = {1: [0], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[channels]
    settings = [cv2.IMWRITE_TIFF_COMPRESSION, compression, cv2.IMWRITE_TIFF_PREDICTOR, 1]
    done, data = cv2.imencode(".tiff", np.ascontiguousarray(original[..., order]), settings)
    assert done and np.array_equal(native_of(data.tobytes())[1], original)
    again = cv2.imdecode(np.frombuffer(through(data.tobytes()), np.uint8), cv2.IMREAD_UNCHANGED)
    again = again.reshape(HEIGHT, WIDTH, -1)[..., order]
    assert again.dtype == original.dtype and np.array_equal(again[~MASK], original[~MASK])


@pytest.mark.parametrize("compression", [5, 8, 32773, 32946, 34925, 50000])
@pytest.mark.parametrize("length", [1, 7, 300])
def test_packing_has_a_way_back(compression, length):
    rows = noise(length * 20, 3, 9).tobytes()
    tags = {256: length, 257: 20, 258: 8, 259: compression, 262: 1, 277: 1, 278: 20}
    page = Page({t: number(v, "<") for t, v in tags.items()}, (packed(rows, length, compression),), False, "<")
    assert unpacked(page).pieces == (rows,)


@pytest.mark.parametrize("bits", [2, 4, 10, 12, 14])
@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("compression", [1, 5, 8])
def test_odd_depths(bits, samples, compression):
    original = noise((HEIGHT, WIDTH, samples), 2, 1 << bits, np.uint16)
    fields = (original[..., None] >> np.arange(bits)[::-1] & 1).astype(np.uint8).reshape(HEIGHT, -1)
    rows = np.packbits(fields, axis=1)
    tags = {256: WIDTH, 257: HEIGHT, 259: compression, 262: 2 if samples == 3 else 1, 277: samples, 278: HEIGHT}
    laid = {tag: number(value, "<") for tag, value in tags.items()}
    laid[258] = Entry(SHORT, np.full(samples, bits, "<u2").tobytes())
    piece = packed(rows.tobytes(), rows.shape[1], compression)
    _, read = native_of(file_of([Page(laid, (piece,), False, "<")], "<"))
    top = 255 if bits < 8 else 65535
    assert np.abs(read.astype(float) - original * (top / ((1 << bits) - 1))).max() <= 1


@pytest.mark.parametrize("photometric", ["miniswhite", "minisblack"])
@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
def test_white_is_zero(photometric, dtype):
    original = values(dtype, 1)
    data = written(original[..., 0], photometric=photometric)
    (frame,) = frames(data)
    sign = np.corrcoef(frame.pixels[..., 0].ravel(), original.ravel().astype(float))[0, 1]
    assert sign > 0.99 if photometric == "minisblack" else sign < -0.99
    page = rewritten_alike(data, original)
    assert page.number(262, 9) == (0 if photometric == "miniswhite" else 1)
    (after,) = frames(through(data))
    assert np.abs(after.pixels[MASK].astype(int) - (255 - frame.pixels)[MASK]).max() <= 1


@pytest.mark.parametrize("photometric", ["cielab", "icclab"])
@pytest.mark.parametrize("dtype", ["u1", "u2"])
def test_lab(photometric, dtype):
    rgb = smooth(HEIGHT, WIDTH)
    lab = cv2.cvtColor(rgb, cv2.COLOR_RGB2LAB)
    stored = lab.copy() if dtype == "u1" else lab.astype(np.uint16) * 257
    if photometric == "cielab":
        stored[..., 1:] ^= 128 if dtype == "u1" else 32768
    data = written(stored, photometric=photometric)
    (frame,) = frames(data)
    assert np.abs(frame.pixels.astype(int) - rgb).mean() < 2
    rewritten_alike(data, stored)
    (after,) = frames(through(data))
    assert np.abs(after.pixels[MASK].astype(int) - (255 - frame.pixels)[MASK]).mean() < 3


@pytest.mark.parametrize("dtype", ["u1", "u2"])
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_inks(dtype, planar):
    original = values(dtype, 4)
    stored = np.moveaxis(original, 2, 0) if planar == "separate" else original
    data = written(stored, photometric="separated", planarconfig=planar)
    native, read = native_of(data)
    assert native.mode == "CMYK" and np.array_equal(read, original)
    wanted = np.array(
        Image.frombytes("CMYK", (WIDTH, HEIGHT), (original >> 8 * (dtype == "u2")).astype("u1").tobytes())
    )
    (frame,) = frames(data)
    ours = (255 - wanted[..., :3].astype(int)) * (255 - wanted[..., 3:].astype(int)) // 255
    assert np.abs(frame.pixels.astype(int) - ours).max() <= 2
    rewritten_alike(data, original)


@pytest.mark.parametrize("sampling", [(1, 1), (2, 1), (2, 2), (4, 2)])
@pytest.mark.parametrize("compression", [1, 8])
def test_luma_and_chroma(sampling, compression):
    across, down = sampling
    height, width = 36, 48
    image = Image.fromarray(smooth(height, width)).convert("YCbCr")
    planes = np.array(image)
    blocks = planes[..., 0].reshape(height // down, down, width // across, across).transpose(0, 2, 1, 3)
    blocks = blocks.reshape(height // down, width // across, -1)
    rows = np.concatenate([blocks, planes[::down, ::across, 1:]], axis=2)
    rows = rows.reshape(height // down, -1)
    tags = {256: width, 257: height, 259: compression, 262: 6, 277: 3, 278: height}
    laid = {tag: number(value, "<") for tag, value in tags.items()}
    laid |= {258: Entry(SHORT, np.full(3, 8, "<u2").tobytes()), 530: Entry(SHORT, np.array(sampling, "<u2").tobytes())}
    data = file_of([Page(laid, (packed(rows.tobytes(), rows.shape[1], compression),), False, "<")], "<")
    (frame,) = frames(data)
    assert np.abs(frame.pixels.astype(int) - smooth(height, width)).mean() < (2 if sampling == (1, 1) else 8)
    (after,) = frames(through(data))
    mask = region(height, width)
    assert np.abs(after.pixels.astype(int) - frame.pixels)[~mask].max() <= 1
    assert np.abs(after.pixels.astype(int) - (255 - frame.pixels))[mask].mean() < 4


@pytest.mark.parametrize("bits", [8, 16])
def test_palettes(bits):
    colours = noise((3, 1 << bits), 4, 65536, np.uint16)
    index = noise((HEIGHT, WIDTH), 5, 1 << bits, f"u{bits // 8}")
    data = written(index, photometric="palette", colormap=colours)
    (frame,) = frames(data)
    assert np.abs(frame.pixels.astype(int) - colours.T[index] / 257).max() <= 1
    assert np.array_equal(frames(through(data))[0].pixels[~MASK], frame.pixels[~MASK])


def test_associated_alpha_is_not_multiplied_twice():
    alpha = np.full((HEIGHT, WIDTH, 1), 128, np.uint8)
    colours = smooth(HEIGHT, WIDTH)
    for extra, stored in ((1, (colours * 0.5).round().astype(np.uint8)), (2, colours)):
        data = written(np.concatenate([stored, alpha], 2), photometric="rgb", extrasamples=[extra])
        (frame,) = frames(data)
        assert np.abs(frame.pixels.astype(int) - (colours * 0.5 + 127)).max() <= 2


@pytest.mark.parametrize("what", ["complex", "depths", "predictor", "photometric", "cut"])
def test_what_cannot_be_read_right_is_refused(what):
    if what == "complex":
        data = written(np.ones((8, 8), np.complex64))
    else:
        page = pages(written(values("u2", 3), photometric="rgb", compression="zlib"))[0]
        tags = {"depths": {258: Entry(SHORT, b"\x10\0\x08\0\x10\0")}, "predictor": {317: number(7, "<")}}
        tags |= {"photometric": {262: number(32803, "<")}, "cut": {257: number(90, "<"), 278: number(90, "<")}}
        data = file_of([page.with_tags(page.tags | tags[what])], "<")
    with pytest.raises(MediaError) as caught:
        frames(data)
    assert "\n" not in str(caught.value) and caught.value.hint


def in_big_endian(data):
    """The same file in the other byte order; its samples have to be 8 bits or fewer."""
    return file_of(pages(data), ">")


@pytest.mark.parametrize("mode", ["L", "RGB", "P", "1", "CMYK"])
def test_big_endian(mode):
    data = in_big_endian(saved(drawn(mode), "TIFF", dpi=(300, 300)))
    assert data[:2] == b"MM"
    mask = region(29, 37)
    for change in (True, False):
        out = opened(through(data, change))
        kept = ~mask if change else np.ones_like(mask)
        assert np.array_equal(np.array(out)[kept], np.array(opened(data))[kept])
        assert round(float(out.info["dpi"][0])) == 300


def test_big_endian_of_sixteen_bits_with_an_unchanged_page():
    pair = [Image.frombytes("I;16B", (20, 10), np.arange(n, n + 200, dtype=">u2").tobytes()) for n in (0, 9000)]
    data = saved(pair[0], "TIFF", save_all=True, append_images=pair[1:])
    assert data[:2] == b"MM"
    out = Image.open(__import__("io").BytesIO(through(data, which=lambda index: index == 0)))
    out.seek(1)
    assert np.array_equal(np.array(out).astype(int), np.arange(9000, 9200).reshape(10, 20))
    assert np.array_equal(np.array(opened(through(data, False))), np.array(opened(data)))


@pytest.mark.parametrize("change", [True, False])
def test_big_tiff(change):
    data = saved(drawn("RGB"), "TIFF", big_tiff=True)
    assert data[2] == 43
    out = np.array(opened(through(data, change)))
    kept = ~region(29, 37) if change else np.ones((29, 37), bool)
    assert np.array_equal(out[kept], np.array(opened(data))[kept])


@pytest.mark.parametrize("change", [True, False])
def test_tiles(change):
    pixels = smooth(32, 48)
    pieces = tuple(pixels[y : y + 16, x : x + 16].tobytes() for y in (0, 16) for x in (0, 16, 32))
    tags = {256: number(48, "<"), 257: number(32, "<"), 258: Entry(SHORT, struct.pack("<3H", 8, 8, 8))}
    tags |= {259: number(1, "<"), 262: number(2, "<"), 277: number(3, "<"), 322: number(16, "<"), 323: number(16, "<")}
    data = file_of([Page(tags, pieces, True, "<")], "<")
    assert np.array_equal(frames(data)[0].pixels, pixels)
    out = np.array(opened(through(data, change)))
    kept = ~region(32, 48) if change else np.ones((32, 48), bool)
    assert np.array_equal(out[kept], pixels[kept])


def test_only_previews_are_no_picture():
    page = pages(saved(drawn("L"), "TIFF"))[0]
    with pytest.raises(MediaError, match="previews"):
        frames(file_of([page.with_tags(page.tags | {254: number(1, "<")})], "<"))


@pytest.mark.parametrize("tags", [{277: 60_000}, {258: 0}, {277: 60_000, 258: 0}])
def test_a_layout_that_promises_too_much_or_nothing_is_refused(tags):
    page = pages(saved(drawn("RGB"), "TIFF"))[0]
    odd = page.with_tags(page.tags | {tag: number(value, "<") for tag, value in tags.items()})
    with pytest.raises(MediaError, match="samples of . bits is not supported"):
        frames(file_of([odd], "<"))


@pytest.mark.parametrize("compression", ["group3", "group4", "tiff_ccitt", "jpeg", "lzma", "tiff_lzw", "tiff_deflate"])
def test_libtiff_says_nothing_of_its_own(capfd, compression):
    """A damaged file is one line, which the caller prints: a batch of a thousand must stay readable."""
    mode = "1" if compression in ("group3", "group4", "tiff_ccitt") else "L"
    data = bytearray(saved(drawn(mode, (64, 64)), "TIFF", compression=compression))
    (page,) = pages(bytes(data))
    at = bytes(data).index(page.pieces[0])
    data[at + 20 : at + 400 : 7] = bytes(byte ^ 0x55 for byte in data[at + 20 : at + 400 : 7])
    with suppress(MediaError):
        frames(bytes(data))
    said = capfd.readouterr()
    assert said.err == said.out == ""
