"""Nothing that tells who, and no second copy of the picture, comes out: a marker is planted in every place."""

import io
import re
import struct
import zlib

import pytest
from PIL import Image, ImageCms

from deidcli.errors import UsageError
from deidcli.media.image import exif, jpeg
from deidcli.media.image.ifd import Entry, laid_out, number
from deidcli.media.metadata import POLICIES
from deidcli.media.open import open_reader
from deidcli.media.stream import WriteOptions

from . import marked
from .drawn import drawn, negative, opened, saved, smooth, through
from .marked import COPY, TELL

FILES = {
    "jpeg": marked.jpeg_file,
    "png": marked.png_file,
    "apng": lambda: marked.png_file(True),
    "webp": marked.webp_file,
    "webp-lossless": lambda: marked.webp_file(lossless=True),
    "webp-animated": lambda: marked.webp_file(save_all=True, append_images=[drawn("RGBA", (40, 30), 3)], duration=50),
    "gif": marked.gif_file,
    "gif-animated": lambda: marked.gif_file(True),
    "tiff": marked.tiff_file,
    "tiff-plain": lambda: marked.tiff_file("raw"),
    "tiff-pages": lambda: marked.tiff_file(animated=True),
    "bmp": marked.bmp_file,
    "avif": lambda: marked.boxed_file("AVIF"),
    "heic": lambda: marked.boxed_file("HEIF"),
}


def planted(name):
    if name == "heic":
        pytest.importorskip("pillow_heif")
    data = FILES[name]()
    assert COPY in data
    return data


def everything(data):
    """The bytes and what is packed in them, so that compressed text cannot hide."""
    packed = [data[match.start() :] for match in re.finditer(rb"x[\x01\x5e\x9c\xda]", data)]
    return data + b"".join(filter(None, map(inflated, packed)))


def inflated(data):
    try:
        return zlib.decompressobj().decompress(data, 1 << 16)
    except zlib.error:
        return b""


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("change", [True, False])
@pytest.mark.parametrize("policy", POLICIES)
def test_no_copy_of_the_picture_ever(name, change, policy):
    out = through(planted(name), change, policy)
    assert COPY not in everything(out)
    assert marked.decodes(out)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("change", [True, False])
@pytest.mark.parametrize("policy", ["none", "safe"])
def test_nothing_tells_who(name, change, policy):
    assert TELL not in everything(through(planted(name), change, policy))


@pytest.mark.parametrize("name", [name for name in FILES if name != "bmp"])
@pytest.mark.parametrize("change", [True, False])
def test_all_keeps_what_tells(name, change):
    data = planted(name)
    assert TELL in everything(through(data, change, "all"))


@pytest.mark.parametrize("name", ["jpeg", "png", "webp", "tiff", "heic", "avif"])
@pytest.mark.parametrize("change", [True, False])
def test_all_keeps_exif_readable(name, change):
    data = planted(name)
    found = opened(through(data, change, "all")).getexif()
    assert found.get_ifd(0x8825)[29] == TELL.decode()
    assert found.get_ifd(0x8769)[0xA431] == TELL.decode()
    assert 0x927C not in found.get_ifd(0x8769)
    assert not found.get_ifd(1)


@pytest.mark.parametrize("order", ["<", ">"])
def test_exif_in_both_byte_orders(order):
    block = marked.exif(order, 6)
    assert exif.read_exif(block).orientation == 6
    cut = exif.scrubbed_exif(block, None)
    assert COPY not in cut and cut.count(TELL) == block.count(TELL)


@pytest.mark.parametrize("block", [b"", b"II", b"II*\0\xff\xff\xff\xff", b"MM\0*" + bytes(4), b"nonsense" * 9])
def test_damaged_exif_is_dropped(block):
    assert exif.read_exif(block).orientation == 1
    assert COPY not in (exif.kept_exif(block + COPY, "all", None) or b"")


@pytest.mark.parametrize("packet", [b"", b"<a", b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', b"\xff\xfe"])
def test_unreadable_xmp_is_dropped(packet):
    assert exif.scrubbed_xmp(packet) is None


def test_pictures_in_text_are_noticed():
    info = __import__("PIL.PngImagePlugin", fromlist=["PngInfo"]).PngInfo()
    info.add_text("preview", "data:image/jpeg;base64,/9j/4AAQSkZJRg")
    data = saved(drawn("RGB"), "PNG", pnginfo=info)
    assert b"JRg" not in through(data, False, "all")


@pytest.mark.parametrize(
    "picture", [b"/9j/4AAQSkZJRgABAQAAAQABAAD", b"iVBORw0KGgoAAAANSUhEUg", b"R0lGODlhAQABAIAAAAUEBA", b"QUJD" * 300]
)
def test_pictures_in_xmp_and_comments_go(picture):
    names = b'<x:x xmlns:x="adobe:ns:meta/" xmlns:my="http://example.org/"><my:a my:b="%s" my:c="kept">%s</my:a></x:x>'
    packets = [names % (b"short", picture), names % (picture, b"short"), b"<x>%s<y>kept</y>%s</x>" % (picture, picture)]
    for packet in packets:
        cut = exif.scrubbed_xmp(packet)
        assert picture not in cut
    assert b"kept" in exif.scrubbed_xmp(packets[1]) and b"kept" in exif.scrubbed_xmp(packets[2])
    parts = [*jpeg.segments(saved(Image.fromarray(smooth()), "JPEG")), jpeg.Segment(0xFE, b"look: " + picture)]
    out = through(jpeg.written(parts), False, "all")
    assert picture not in out and b"look" not in out


def test_colour_space_and_interoperability_stay():
    parts = jpeg.segments(saved(Image.fromarray(smooth()), "JPEG"))
    inner = {0xA001: number(0xFFFF, "<"), 0xA005: {1: Entry(2, b"R03\0")}, 0xA431: Entry(2, TELL)}
    block = b"II*\0" + struct.pack("<I", 8) + laid_out({271: Entry(2, TELL), 0x8769: inner}, 8, "<")
    data = jpeg.written([jpeg.Segment(0xE1, b"Exif\0\0" + block), *parts])
    for change in (True, False):
        found = opened(through(data, change)).getexif()
        assert set(found.get_ifd(0x8769)) == {0xA001, 0xA005}
        assert found.get_ifd(0x8769)[0xA001] == 0xFFFF
        assert dict(found.get_ifd(0xA005)) == {1: "R03"}
        assert set(found) == {0x8769}
        assert not opened(through(data, change, "none")).getexif()


def test_orientation_alone_stays_where_pixels_are_copied():
    out = opened(through(planted("jpeg"), False, "none")).getexif()
    assert dict(out) == {274: 6}


def test_unknown_policy():
    with pytest.raises(UsageError, match="some"):
        through(saved(drawn("L"), "PNG"), metadata="some")


def test_gap_and_linked_profile_of_bmp():
    import struct

    pixels = bytes(3 * 4 * 4)
    head = struct.pack("<IiiHHIIiiII", 124, 4, 4, 1, 24, 0, len(pixels), 0, 0, 0, 0).ljust(124, b"\0")
    path = b"C:\\Users\\" + TELL
    head = head[:56] + b"KNIL" + head[60:112] + struct.pack("<III", 124 + 30 + len(pixels), len(path), 0)
    data = b"BM" + struct.pack("<IHHI", 0, 0, 0, 168) + head + TELL.ljust(30, b"\0") + pixels + path
    for change in (True, False):
        out = through(data, change)
        assert TELL not in out and opened(out).size == (4, 4)


def test_multi_picture_jpeg_is_one_picture():
    other = drawn("RGB", (64, 48), 7)
    data = saved(drawn("RGB", (64, 48)), "MPO", save_all=True, append_images=[other])
    for change in (True, False):
        out = through(data, change, "all")
        assert Image.open(__import__("io").BytesIO(out)).format == "JPEG"
        assert out.count(b"\xff\xd8\xff") == 1


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("change", [True, False])
def test_a_profile_that_cannot_be_kept_is_told(kind, change):
    whole = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for profile, lost in ((whole, False), (whole[:12] + b"link" + whole[16:], True), (whole[:150], True), (b"", False)):
        settings = {"icc_profile": profile} if profile else {}
        with open_reader(saved(Image.fromarray(smooth()), kind, **settings), "drawn") as reader:
            writer = reader.writer(io.BytesIO(), WriteOptions())
            for frame in reader.frames():
                writer.write(*(negative(frame) if change else (frame, None)))
            writer.finish()
        assert any("colour profile is lost" in note for note in writer.notes) == lost
