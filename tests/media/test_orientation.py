"""The orientation is obeyed wherever it is stated, and stated where everyone looks when pixels are copied."""

import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from deidcli.media.image.exif import completed, raw_profile
from deidcli.media.image.png_chunks import Chunk, chunks, written

from .drawn import frames, opened, saved, smooth, through

PICTURE = Image.fromarray(smooth())
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" %s</rdf:RDF></x:xmpmeta>'
)
AS_ATTRIBUTE = XMP % b'tiff:Orientation="%d"/>'
AS_ELEMENT = XMP % b"><tiff:Orientation>%d</tiff:Orientation></rdf:Description>"


def exif_of(orientation):
    exif = Image.Exif()
    exif[274] = orientation
    return exif.tobytes()


def raw(block, name=b"exif"):
    text = b"\n" + name + b"\n%8d\n" % len(block)
    digits = block.hex().encode()
    return text + b"\n".join(digits[at : at + 72] for at in range(0, len(digits), 72)) + b"\n"


def png_with(*parts):
    head, *rest = chunks(saved(PICTURE, "PNG"))
    return written([head, *parts, *rest])


def stated(kind, orientation):
    """A picture whose orientation stands in one place alone."""
    packet = (AS_ELEMENT if "element" in kind else AS_ATTRIBUTE) % orientation
    if kind.startswith("PNG raw"):
        block = exif_of(orientation)
        name = b"APP1" if "APP1" in kind else b"exif"
        text = raw(block, name)
        if "zTXt" in kind:
            return png_with(Chunk(b"zTXt", b"Raw profile type " + name + b"\0\0" + zlib.compress(text)))
        return png_with(Chunk(b"tEXt", b"Raw profile type " + name + b"\0" + text))
    if kind.startswith("PNG"):
        return png_with(Chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + packet))
    if kind.startswith("JPEG"):
        return saved(PICTURE, "JPEG", quality=95, xmp=packet)
    return saved(PICTURE, "WEBP", lossless=True, xmp=packet)


KINDS = [
    *["PNG raw zTXt", "PNG raw tEXt", "PNG raw APP1", "PNG raw APP1 zTXt"],
    *["PNG", "PNG element", "JPEG", "JPEG element", "WEBP", "WEBP element"],
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("orientation", [2, 3, 6, 8])
def test_an_orientation_outside_of_exif_is_obeyed(kind, orientation):
    data = stated(kind, orientation)
    (frame,) = frames(data)
    turned = Image.fromarray(smooth())
    turned.getexif()[274] = orientation
    wanted = np.array(ImageOps.exif_transpose(turned))
    assert frame.pixels.shape == wanted.shape
    assert np.abs(frame.pixels.astype(int) - wanted).mean() < 3
    for metadata in ("none", "safe", "all"):
        copied, changed = (opened(through(data, change, metadata)) for change in (False, True))
        assert copied.getexif()[274] == orientation
        assert changed.getexif().get(274, 1) == 1 and changed.size == wanted.shape[1::-1]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_exif_has_the_last_word(kind):
    packet = AS_ATTRIBUTE % 6
    if kind == "PNG":
        block = exif_of(1).removeprefix(b"Exif\0\0")
        data = png_with(Chunk(b"eXIf", block), Chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + packet))
    else:
        data = saved(PICTURE, kind, exif=exif_of(1), xmp=packet)
    assert frames(data)[0].pixels.shape == smooth().shape


@pytest.mark.parametrize(
    "text", [b"", b"\nexif\n", b"\nexif\n 9\nzz", b"\nexif\n 4\n0", b"\n" * 100000, b"exif 1 " * 9999]
)
def test_raw_profiles_that_hold_nothing(text):
    assert raw_profile(text) == (b"", b"")


def test_what_states_nothing_adds_nothing():
    assert completed(b"", b"") == completed(b"", b"<x/>") == b""
    assert completed(b"damaged", AS_ATTRIBUTE % 9) == b"damaged"
