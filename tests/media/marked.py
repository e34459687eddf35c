"""Pictures of every format with a marker in each place where a person could be found; `COPY` marks hidden pictures."""

import io
import struct

import numpy as np
from PIL import Image, ImageCms, PngImagePlugin, TiffImagePlugin

from deidcli.media.image import gif, jpeg, webp
from deidcli.media.image import png_chunks as png
from deidcli.media.image.ifd import Entry, laid_out, number

from .drawn import drawn, saved, smooth

TELL = b"TELLTALE-4711"
COPY = b"HIDDENCOPY-4711"
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:g="http://ns.adobe.com/xap/1.0/g/img/" '
    b'xmlns:dc="http://purl.org/dc/elements/1.1/" dc:creator="' + TELL + b'"><xmp:Thumbnails><rdf:Alt>'
    b"<rdf:li><g:image>" + COPY + b"</g:image></rdf:li></rdf:Alt></xmp:Thumbnails>"
    b"</rdf:Description></rdf:RDF></x:xmpmeta>"
)


def text(value):
    return Entry(2, value + b"\0")


def exif(order="<", orientation=1):
    """An EXIF block: names, GPS, camera, serial; a maker note and a thumbnail in IFD1."""
    inner = {0x927C: Entry(7, COPY), 0xA431: text(TELL), 0x9286: Entry(7, b"ASCII\0\0\0" + TELL)}
    directory = {
        271: text(TELL), 274: number(orientation, order), 315: text(TELL), 0x8769: inner,
        0x8825: {29: text(TELL)}, 330: Entry(7, COPY), 0xC4A5: Entry(7, b"PrintIM" + COPY), 0xEA1C: Entry(7, COPY),
    }  # fmt: skip
    if not orientation:
        # Pillow's AVIF writer takes the block apart where it finds an orientation, and stumbles over the rest.
        del directory[274]
    first = laid_out(directory, 8, order)
    at = 8 + len(first)
    second = laid_out({513: number(at + 100, order), 514: number(len(COPY), order)}, at, order)
    first = laid_out(directory, 8, order, at)
    start = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    return (start + first + second).ljust(at + 100, b"\0") + COPY


def photoshop():
    def resource(identity, value):
        return b"8BIM" + struct.pack(">HHI", identity, 0, len(value)) + value + b"\0" * (len(value) % 2)

    iptc = b"".join(b"\x1c" + bytes([2, kind]) + struct.pack(">H", len(v)) + v for kind, v in ((80, TELL), (202, COPY)))
    return resource(1028, iptc) + resource(1033, COPY) + resource(1036, COPY) + resource(1005, TELL + b"\0")


def jpeg_file():
    parts = jpeg.segments(saved(Image.fromarray(smooth()), "JPEG", quality=90))
    jfif = jpeg.Segment(0xE0, parts[0].payload[:12] + b"\x01\x05" + COPY)
    planted = [
        jpeg.Segment(0xE0, b"JFXX\0\x10" + COPY),
        jpeg.Segment(0xE1, b"Exif\0\0" + exif(orientation=6)),
        jpeg.Segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + XMP),
        jpeg.Segment(0xE1, b"http://ns.adobe.com/xmp/extension/\0" + COPY),
        jpeg.Segment(0xE2, b"MPF\0" + COPY),
        jpeg.Segment(0xEB, b"JP" + COPY),
        jpeg.Segment(0xED, b"Photoshop 3.0\0" + photoshop()),
        jpeg.Segment(0xFE, TELL),
        jpeg.Segment(0xEA, COPY),
    ]
    return jpeg.written([jfif, *planted, *parts[1:]]) + b"\xff\xd8" + COPY


def png_file(animated=False):
    if animated:
        more = {"save_all": True, "append_images": [drawn("RGB", seed=2)], "duration": 100}
        parts = png.chunks(saved(drawn("RGB"), "PNG", **more))
    else:
        parts = png.chunks(saved(Image.fromarray(smooth()), "PNG"))
    info = PngImagePlugin.PngInfo()
    info.add_text("Author", TELL.decode())
    info.add_text("Comment", TELL.decode() * 20, zip=True)
    info.add_itxt("XML:com.adobe.xmp", XMP.decode())
    info.add_text("Raw profile type exif", COPY.decode())
    texts = [png.Chunk(item[0], item[1]) for item in info.chunks]
    planted = [png.Chunk(b"eXIf", exif(">")), png.Chunk(b"prVW", COPY), png.Chunk(b"caBX", COPY), *texts]
    return png.written([parts[0], *planted, *parts[1:]]) + COPY


def webp_file(**settings):
    data = saved(drawn("RGBA", (40, 30)), "WEBP", exif=exif(), xmp=XMP, **settings)
    parts = webp.chunks(data, 12, len(data)) + [webp.Chunk(b"THMB", COPY)]
    body = b"WEBP" + b"".join(part.written() for part in parts)
    return b"RIFF" + struct.pack("<I", len(body)) + body + COPY


def gif_file(animated=False):
    more = {"save_all": True, "append_images": [drawn("P", seed=5)], "duration": 90, "loop": 2} if animated else {}
    parsed = gif.parse(saved(drawn("P"), "GIF", comment=TELL, **more))
    planted = [
        gif.Extension(0xFF, (b"PRIVATEdata", COPY)),
        gif.Extension(0x01, (bytes(12), COPY)),
    ]
    xmp = b"\x21\xff\x0bXMP DataXMP" + XMP + gif._XMP_TAIL
    body = b"".join(part.written() for part in [*planted, *parsed.parts])
    return parsed.screen + parsed.table + xmp + body + b";" + COPY


def tiff_file(compression="tiff_lzw", animated=False):
    """A page with names, XMP, IPTC, Photoshop layers and EXIF, a reduced copy as a further page, and a SubIFD."""
    from deidcli.media.image.ifd import swapped
    from deidcli.media.image.tiff_pages import Page, file_of, pages

    full = pages(saved(Image.fromarray(smooth()), "TIFF", compression=compression))[0]
    tags = full.tags | {
        270: text(TELL), 315: text(TELL), 700: Entry(1, XMP), 34377: Entry(7, photoshop()),
        37724: Entry(7, COPY), 330: Entry(7, COPY), 33723: Entry(7, b"\x1c\x02\x50" + struct.pack(">H", 13) + TELL),
        34665: {0x927C: Entry(7, COPY), 0xA431: text(TELL)}, 34853: {29: text(TELL)}, 50740: Entry(1, COPY),
    }  # fmt: skip
    small = pages(saved(drawn("L", (16, 16)), "TIFF"))[0]
    small = Page(small.tags | {254: number(1, "<")}, (COPY.ljust(256, b"."),), False, "<")
    assert swapped(swapped(tags)) == tags
    return file_of([full.with_tags(tags), small] + ([full.with_tags(tags)] if animated else []), "<") + COPY


def bmp_file():
    data = bytearray(saved(drawn("RGB", (33, 20)), "BMP"))
    data[6:10] = TELL[:4]
    return bytes(data) + TELL + COPY


def boxed_file(kind):
    """AVIF or HEIC with EXIF and XMP, a thumbnail item, a gain map, and a motion picture box behind it all."""
    settings = {"exif": b"Exif\0\0" + exif(orientation=0), "xmp": XMP, "quality": 90}
    if kind == "HEIF":
        import pillow_heif

        pillow_heif.register_heif_opener()
    data = saved(Image.fromarray(smooth(96, 128)), kind, **settings)
    return data + struct.pack(">I4s", 8 + len(COPY), b"mpvd") + COPY


def decodes(data):
    image = Image.open(io.BytesIO(data))
    image.load()
    return np.array(image.convert("RGB")).shape


assert TiffImagePlugin.II == b"II"


def profile(secret):
    """An sRGB profile with `secret` in private tags, texts, header fields, and between its tags."""
    base = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    (count,) = struct.unpack_from(">I", base, 128)
    tags = [list(struct.unpack_from(">4sII", base, 132 + 12 * index)) for index in range(count)]
    wide = secret.decode().encode("utf-16-be")
    mluc = b"mluc" + struct.pack(">4xII4sII", 1, 12, b"enUS", len(wide), 28) + wide
    more = [(b"priv", b"text\0\0\0\0" + secret), (b"dmnd", mluc), (b"targ", b"text\0\0\0\0" + secret), (b"cprt", mluc)]
    shift = 12 * len(more)
    body, table = base[132 + 12 * count :] + secret, b""
    for kind, start, size in tags:
        table += struct.pack(">4sII", kind, start + shift, size)
    for kind, value in more:
        table += struct.pack(">4sII", kind, 132 + 12 * count + shift + len(body), len(value))
        body += value + b"\0" * (-len(value) % 4)
    head = base[:100] + secret.ljust(28, b"\0")
    whole = head + struct.pack(">I", count + len(more)) + table + body
    return struct.pack(">I", len(whole)) + whole[4:]
