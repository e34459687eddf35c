"""A marker planted in every place of a picture file where bytes can stand that nothing shows: none is written.

Each plant is a file that decoders open. It must be refused as damaged, or come out without the marker, raw or packed,
under the policies "safe" and "none", scrubbed and written anew, and still show the same pixels.
"""

import io
import struct
import zlib
from dataclasses import replace

import numpy as np
import pytest
from mozjpeg_lossless_optimization import optimize
from PIL import Image

from deidcli.media.image import gif, jpeg, jpeg_tables, webp
from deidcli.media.image import png_chunks as png
from deidcli.media.image.ifd import Entry, number
from deidcli.media.image.tiff_pages import Page, file_of, pages
from deidcli.media.open import open_reader
from deidcli.media.stream import WriteOptions

from . import marked
from .carriers import SECRET, refusals, shown
from .drawn import drawn, noise, saved, smooth, through


def png_parts(mode="RGB", **settings):
    image = drawn(mode, (24, 18)) if mode != "smooth" else Image.fromarray(smooth())
    return png.chunks(saved(image, "PNG", **settings))


def put(parts, at, *more):
    return png.written([*parts[:at], *more, *parts[at:]])


def png_tail(parts, tail, inside):
    """The same picture with `tail` behind its rows: within the compressed data, or behind its end."""
    rows = zlib.decompress(b"".join(part.payload for part in parts if part.kind == b"IDAT"))
    packed = zlib.compress(rows + tail) if inside else zlib.compress(rows) + tail
    rest = [part for part in parts if part.kind != b"IDAT"]
    return [*rest[:-1], png.Chunk(b"IDAT", packed), rest[-1]]


def png_plants():
    parts, palette, grey = png_parts(), png_parts("P"), png_parts("L")
    deep = png.chunks(sixteen_bits())
    plants = {}
    sizes = {
        b"bKGD": 6,
        b"cHRM": 32,
        b"gAMA": 4,
        b"sRGB": 1,
        b"cICP": 4,
        b"sBIT": 3,
        b"mDCV": 24,
        b"cLLI": 8,
        b"pHYs": 9,
    }
    for kind, size in sizes.items():
        plants[f"long {kind}"] = put(parts, 1, png.Chunk(kind, bytes(size) + SECRET))
        plants[f"text {kind}"] = put(parts, 1, png.Chunk(kind, SECRET))
    plants["exact cHRM"] = put(parts, 1, png.Chunk(b"cHRM", SECRET.ljust(32, b"\0")))
    plants["exact mDCV"] = put(parts, 1, png.Chunk(b"mDCV", SECRET.ljust(24, b"\0")))
    plants["second gAMA"] = put(parts, 1, png.Chunk(b"gAMA", struct.pack(">I", 45455)), png.Chunk(b"gAMA", SECRET))
    for kind in (b"hIST", b"sPLT", b"tIME", b"tEXt", b"zTXt", b"iTXt", b"oFFs", b"pCAL", b"sCAL", b"gIFg", b"gIFx"):
        plants[f"{kind}"] = put(parts, 1, png.Chunk(kind, SECRET))
    for kind in (b"sTER", b"dSIG", b"fRAc", b"prVt", b"caBX", b"vpAg", b"iDOT", b"meTa", b"exIf", b"CgBI", b"gdAT"):
        plants[f"{kind}"] = put(parts, len(parts) - 1, png.Chunk(kind, SECRET))
    packed = zlib.compress(SECRET * 3)
    plants["zTXt packed"] = put(parts, 1, png.Chunk(b"zTXt", b"k\0\0" + packed))
    plants["iTXt packed"] = put(parts, 1, png.Chunk(b"iTXt", b"k\0\1\0\0\0" + packed))
    plants["PLTE of RGB"] = put(parts, 1, png.Chunk(b"PLTE", SECRET))
    plants["PLTE long"] = png.written(
        [png.Chunk(p.kind, p.payload[:741] + SECRET + p.payload[756:]) if p.kind == b"PLTE" else p for p in palette]
    )
    plants["PLTE second"] = put(palette, 2, png.Chunk(b"PLTE", SECRET))
    plants["tRNS unused"] = put(palette, 2, png.Chunk(b"tRNS", b"\xff" * 240 + SECRET))
    plants["tRNS long"] = put(parts, 1, png.Chunk(b"tRNS", bytes(6) + SECRET))
    plants["tRNS of grey"] = put(grey, 1, png.Chunk(b"tRNS", bytes(2) + SECRET))
    plants["hIST of palette"] = put(palette, 2, png.Chunk(b"hIST", (SECRET + b"\0") * 32))
    for name, base in (("rgb", parts), ("palette", palette), ("sixteen", deep), ("grey", grey)):
        plants[f"rows {name}"] = png.written(png_tail(base, SECRET, True))
        plants[f"behind zlib {name}"] = png.written(png_tail(base, SECRET, False))
        plants[f"behind IEND {name}"] = png.written(base) + SECRET
        plants[f"IEND long {name}"] = png.written([*base[:-1], png.Chunk(b"IEND", SECRET)])
    plants["IDAT later"] = put(parts, len(parts) - 1, png.Chunk(b"tEXt", b"k\0v"), png.Chunk(b"IDAT", SECRET))
    plants["IDAT more"] = put(parts, len(parts) - 1, png.Chunk(b"IDAT", SECRET))
    plants["fdAT alone"] = put(parts, len(parts) - 1, png.Chunk(b"fdAT", bytes(4) + SECRET))
    plants["fcTL alone"] = put(parts, len(parts) - 1, png.Chunk(b"fcTL", SECRET.ljust(26, b"\0")))
    plants["acTL long"] = put(parts, 1, png.Chunk(b"acTL", struct.pack(">II", 1, 0) + SECRET))
    plants["acTL late"] = put(parts, len(parts) - 1, png.Chunk(b"acTL", struct.pack(">II", 1, 0) + SECRET))
    profile = marked.profile(SECRET)
    plants["iCCP name"] = put(parts, 1, png.Chunk(b"iCCP", SECRET + b"\0\0" + zlib.compress(profile)))
    plants["iCCP tail"] = put(parts, 1, png.Chunk(b"iCCP", b"n\0\0" + zlib.compress(profile) + SECRET))
    plants["eXIf"] = put(parts, 1, png.Chunk(b"eXIf", marked.exif().replace(marked.TELL, SECRET[:13]) + SECRET))
    return plants | apng_plants()


def sixteen_bits():
    from .test_modes import sixteen_bits as made

    return made(3)


def apng_plants():
    more = {"save_all": True, "append_images": [drawn("RGB", (24, 18), 2)], "duration": 100}
    parts = png_parts(**more)
    kinds = [part.kind for part in parts]
    plants = {}
    for place in range(1, len(parts)):
        plants[f"fdAT at {place}"] = put(parts, place, png.Chunk(b"fdAT", bytes(4) + SECRET))
        plants[f"tEXt at {place}"] = put(parts, place, png.Chunk(b"tEXt", b"k\0" + SECRET))
    frame = kinds.index(b"fdAT")
    rows = zlib.decompress(b"".join(part.payload[4:] for part in parts if part.kind == b"fdAT"))
    packed = {"rows": zlib.compress(rows + SECRET), "behind": zlib.compress(rows) + SECRET}
    for name, data in packed.items():
        plants[f"fdAT {name}"] = png.written(
            [*parts[:frame], png.Chunk(b"fdAT", parts[frame].payload[:4] + data), parts[-1]]
        )
    control = kinds.index(b"fcTL")
    longer = png.Chunk(b"fcTL", parts[control].payload + SECRET)
    plants["fcTL long"] = png.written([*parts[:control], longer, *parts[control + 1 :]])
    extra = [png.Chunk(b"fcTL", parts[control].payload), png.Chunk(b"fdAT", bytes(4) + zlib.compress(rows + SECRET))]
    plants["frame beyond the count"] = put(parts, len(parts) - 1, *extra)
    first = png_parts(default_image=True, **more)
    plants["behind a default picture"] = png.written(png_tail(first, SECRET, False))
    return plants


def test_png():
    refusals(png_plants())


def gif_base(animated=False):
    more = {"save_all": True, "append_images": [drawn("P", (24, 18), 5)], "duration": 90, "loop": 2} if animated else {}
    return gif.parse(saved(drawn("P", (24, 18)), "GIF", **more))


def gif_file(base, before=b"", between=b"", behind=b"", parts=None, table=None, screen=None):
    """The GIF with bytes in front of its first block, in front of the last image, and in front of the end."""
    parts = [part.written() for part in (base.parts if parts is None else parts)]
    body = b"".join(parts[:-1]) + between + parts[-1]
    return (screen or base.screen) + (base.table if table is None else table) + before + body + behind + b";"


def gif_plants():
    def blocks(label, *pieces):
        return gif.Extension(label, pieces).written()

    extensions = {
        "comment": blocks(0xFE, SECRET),
        "plain text": blocks(0x01, bytes(12), SECRET),
        "application": blocks(0xFF, b"PRIVATEdata", SECRET),
        "loops and more": blocks(0xFF, b"NETSCAPE2.0", b"\1\0\0", SECRET),
        "loops first": blocks(0xFF, b"NETSCAPE2.0", SECRET),
        "loops buffer": blocks(0xFF, b"NETSCAPE2.0", b"\1\2\0", b"\2" + SECRET),
        "loops long": blocks(0xFF, b"ANIMEXTS1.0", b"\1\0\0" + SECRET),
        "unknown label": blocks(0x77, SECRET),
        "ICC": blocks(0xFF, b"ICCRGBG1012", SECRET),
        "ICC tags": blocks(0xFF, b"ICCRGBG1012", *(marked.profile(SECRET)[i : i + 255] for i in range(0, 1200, 255))),
        "XMP": b"\x21\xff\x0bXMP DataXMP" + SECRET + bytes([1, *range(255, -1, -1), 0]),
        "control long": b"\x21\xf9" + bytes([19]) + bytes(4) + SECRET + b"\0",
        "control blocks": blocks(0xF9, bytes(4), SECRET),
        "no block": SECRET.replace(b",", b"").replace(b"!", b""),
    }
    plants = {}
    for animated in (False, True):
        base = gif_base(animated)
        for name, data in extensions.items():
            for place in ("before", "behind", "between")[: 2 + animated]:
                plants[f"{name} {place} {animated}"] = gif_file(base, **{place: data})
        plants[f"trailer {animated}"] = gif_file(base) + SECRET
        longer = (base.table + bytes(768))[:753] + SECRET
        for index, part in enumerate(base.parts):
            if isinstance(part, gif.Image):
                changed = {
                    "LZW": replace(part, coded=part.coded[:-1] + bytes([len(SECRET)]) + SECRET + b"\0"),
                    "local table": replace(part, head=part.head[:8] + b"\x87", table=longer),
                }
                for name, other in changed.items():
                    parts = [*base.parts[:index], other, *base.parts[index + 1 :]]
                    plants[f"{name} {index} {animated}"] = gif_file(base, parts=parts)
        flags = bytes([base.screen[10] | 7])
        screen = base.screen[:10] + flags + base.screen[11:]
        plants[f"global table {animated}"] = gif_file(
            base, screen=screen, table=(base.table + bytes(768))[:753] + SECRET
        )
    outside = replace(gif_base().parts[-1], head=struct.pack("<4HB", 40, 30, 24, 18, 0))
    base = gif_base(True)
    plants["outside the screen"] = gif_file(base, parts=[*base.parts, outside], behind=blocks(0xFE, SECRET))
    return plants


def test_gif():
    refusals(gif_plants())


def jpeg_base(**settings):
    return jpeg.segments(saved(Image.fromarray(smooth(40, 56)), "JPEG", quality=80, **settings))


def jpeg_at(parts, place, *more):
    return jpeg.written([*parts[:place], *more, *parts[place:]])


def jpeg_rows(height, hidden):
    """A picture of 40 rows, those from 32 on as `hidden` says, and fewer of them by its header."""
    pixels = smooth(40, 56)
    pixels[32:] = hidden
    parts = jpeg.segments(saved(Image.fromarray(pixels), "JPEG", quality=80))
    size = struct.pack(">H", height)
    cut = (replace(p, payload=p.payload[:1] + size + p.payload[3:]) if p.marker == 0xC0 else p for p in parts)
    return jpeg.written(list(cut))


def codes(table, symbols):
    """A Huffman table that gives each of 15 symbols a code of eight bits."""
    return bytes([table, *[0] * 7, 15, *[0] * 8]) + symbols


def stepped(data, number, at, wide=False):
    """The JPEG with a text for the steps of a quantisation table, in zigzag order from `at` on."""

    def changed(part):
        if part.marker != 0xDB:
            return part
        tables = jpeg_tables.read([part.payload])
        for key in {number} & set(tables):
            tables[key][at : at + len(SECRET)] = list(SECRET)
        payload = jpeg_tables.segment(tables)
        if wide and number in tables:
            payload = b"".join(
                bytes([16 | key]) + np.array(steps, ">u2").tobytes() for key, steps in sorted(tables.items())
            )
        return replace(part, payload=payload)

    return jpeg.written([changed(part) for part in jpeg.segments(data)])


def step_plants():
    """A text in steps at which the picture has no coefficient."""
    pixels = smooth(40, 56)
    colours, grey = Image.fromarray(pixels), Image.fromarray(pixels).convert("L")
    plants = {}
    for name, picture, settings in (
        ("colours", colours, {}),
        ("colours, progressive", colours, {"progressive": True}),
        ("colours, full chroma", colours, {"subsampling": 0}),
        ("colours, no whole blocks", colours.crop((0, 0, 51, 37)), {}),
        ("RGB", colours, {"keep_rgb": True}),
        ("grey", grey, {}),
        ("grey as colours", grey.convert("RGB"), {}),
        ("ink", colours.convert("CMYK"), {}),
    ):
        data = saved(picture, "JPEG", quality=70, **settings)
        plants |= {f"luma of {name}": stepped(data, 0, 48), f"chroma of {name}": stepped(data, 1, 48)}
    grey_chroma = saved(grey.convert("RGB"), "JPEG", quality=70)
    plants["all of an empty chroma"] = stepped(grey_chroma, 1, 2)
    plants["the first of an empty chroma"] = stepped(grey_chroma, 1, 1)
    plants["steps of 16 bits"] = stepped(grey_chroma, 1, 20, wide=True)
    plants["a table a component"] = stepped(
        saved(colours, "JPEG", qtables=[[8] * 64, [9] * 64, [10] * 64], subsampling=0), 2, 48
    )
    return {name: data for name, data in plants.items() if SECRET in data.replace(b"\0", b"")}


def test_steps_that_no_coefficient_needs(same_process):
    plants = step_plants()
    assert len(plants) >= 14
    assert not any(jpeg_tables.is_standard(list(SECRET.ljust(64, bytes([step])))) for step in range(256))
    refusals({name: data for name, data in plants.items() if "16 bits" not in name})
    for name, data in plants.items():
        for change in (True, False):
            assert SECRET not in through(data, change).replace(b"\0", b""), name


def test_steps_that_are_needed_stay(same_process):
    """Noise needs all of them: nothing is changed, and the picture is coded with the same."""
    data = saved(Image.fromarray(noise((48, 64, 3))), "JPEG", quality=60)
    tables = [part.payload for part in jpeg.segments(data) if part.marker == 0xDB]
    for change in (True, False):
        written = [part.payload for part in jpeg.segments(through(data, change)) if part.marker == 0xDB]
        assert jpeg_tables.read(written) == jpeg_tables.read(tables)


def jpeg_plants():
    plants = {}
    segment = jpeg.Segment
    payloads = {
        **{f"APP{index}": (0xE0 + index, SECRET) for index in range(16)},
        "comment": (0xFE, SECRET),
        "JFXX": (0xE0, b"JFXX\0\x10" + SECRET),
        "JFIF thumbnail": (0xE0, b"JFIF\0\1\1\0\0\1\0\1\1\5" + SECRET),
        "Exif": (0xE1, b"Exif\0\0" + marked.exif().replace(marked.TELL, SECRET[:13]) + SECRET),
        "Exif damaged": (0xE1, b"Exif\0\0" + SECRET),
        "XMP": (0xE1, b"http://ns.adobe.com/xap/1.0/\0" + marked.XMP.replace(marked.TELL, SECRET)),
        "XMP extension": (0xE1, b"http://ns.adobe.com/xmp/extension/\0" + SECRET),
        "profile": (0xE2, b"ICC_PROFILE\0\1\1" + marked.profile(SECRET)),
        "profile damaged": (0xE2, b"ICC_PROFILE\0\1\1" + SECRET),
        "profile piece": (0xE2, b"ICC_PROFILE\0\x09\1" + SECRET),
        "multi-picture": (0xE2, b"MPF\0II*\0" + SECRET),
        "FlashPix": (0xE2, b"FPXR\0" + SECRET),
        "JUMBF": (0xEB, b"JP" + SECRET),
        "Ducky": (0xEC, b"Ducky" + SECRET),
        "Photoshop": (0xED, b"Photoshop 3.0\0" + marked.photoshop().replace(marked.TELL, SECRET[:13]) + SECRET),
        "Adobe long": (0xEE, b"Adobe\0\x64\0\0\0\0\1" + SECRET),
        "DQT unused": (0xDB, b"\3" + SECRET.ljust(64, b"\1")),
        "DQT redefined": (0xDB, b"\0" + SECRET.ljust(64, b"\1")),
        "DHT unused": (0xC4, codes(0x13, SECRET)),
        "DHT unused pair": (0xC4, codes(3, bytes(range(15))) + codes(0x13, SECRET)),
        "DNL": (0xDC, SECRET),
        "EXP": (0xDF, SECRET),
        "DHP": (0xDE, SECRET),
        "JPG0": (0xF0, SECRET),
        "JPG13": (0xFD, SECRET),
        "reserved": (0x02, SECRET),
    }
    for progressive in (False, True):
        parts = jpeg_base(progressive=progressive)
        last = len(parts)
        for name, (marker, payload) in payloads.items():
            plants[f"{name} {progressive}"] = jpeg_at(parts, 0, segment(marker, payload))
            if name.startswith(("APP", "comment", "DQT u", "DHT u", "DNL")):
                plants[f"{name} last {progressive}"] = jpeg_at(parts, last, segment(marker, payload))
        whole = jpeg.written(parts)
        plants[f"behind {progressive}"] = whole + SECRET
        plants[f"picture behind {progressive}"] = whole + whole[:-2] + SECRET + b"\xff\xd9"
        plants[f"in the scan {progressive}"] = whole[:-2] + SECRET + b"\xff\xd9"
        plants[f"far in the scan {progressive}"] = whole[:-2] + bytes(99) + SECRET + b"\xff\xd9"
        start = len(b"\xff\xd8" + parts[0].written())
        plants[f"between segments {progressive}"] = whole[:start] + SECRET + whole[start:]
        plants[f"no end {progressive}"] = whole[:-2] + SECRET
    stops = jpeg_base(restart_marker_blocks=4)
    scan = stops[-1].scan
    at = scan.index(b"\xff\xd0")
    plants["before a restart"] = jpeg.written([*stops[:-1], replace(stops[-1], scan=scan[:at] + SECRET + scan[at:])])
    return plants


@pytest.fixture
def same_process(monkeypatch):
    """The coder of JPEGs without a process of its own, which takes longer to start than these pictures to code."""
    monkeypatch.setattr(jpeg, "_optimized", optimize)


def test_jpeg(same_process):
    refusals(jpeg_plants())


@pytest.mark.parametrize("change", [True, False])
def test_rows_below_the_picture_of_a_jpeg(change):
    one, other = (jpeg_rows(24, hidden) for hidden in (0, 255))
    assert one != other
    assert shown(one)[0].shape == (24, 56, 3)
    assert through(one, change) == through(other, change)


@pytest.mark.parametrize("program", ["raise SystemExit(1)", "import os; os.abort()"])
def test_a_jpeg_that_ends_its_coder_is_encoded_again(monkeypatch, program):
    monkeypatch.setattr(jpeg, "_PROGRAM", program)
    data = jpeg.written(jpeg_base())
    with open_reader(data + SECRET, "drawn") as reader:
        target = io.BytesIO()
        writer = reader.writer(target, WriteOptions())
        (frame,) = reader.frames()
        writer.write(frame, None)
        writer.finish()
        assert "encoded again" in writer.notes[0]
    assert SECRET not in target.getvalue()
    assert np.abs(shown(target.getvalue())[0].astype(int) - frame.pixels).mean() < 2


def test_a_scan_that_another_one_covers():
    """A progressive picture whose first scan is drawn over by a second first scan of the same coefficients."""
    parts = jpeg_base(progressive=True)
    other = jpeg.segments(saved(Image.fromarray(255 - smooth(40, 56)), "JPEG", quality=80, progressive=True))
    first = next(index for index, part in enumerate(parts) if part.marker == 0xDA)
    hidden = next(part for part in other if part.marker == 0xDA)
    tables = [part for part in other[:first] if part.marker == 0xC4]
    own = [part for part in parts[:first] if part.marker == 0xC4]
    data = jpeg.written([*parts[:first], *tables, hidden, *own, *parts[first:]])
    assert hidden.scan in data
    assert hidden.scan not in through(data, False)
    assert np.array_equal(shown(data)[0], shown(through(data, False))[0])


def webp_base(mode="RGBA", **settings):
    image = drawn(mode, (24, 18))
    if "quality" in settings:
        colours = Image.fromarray(smooth(18, 24))
        image = colours if mode == "RGB" else Image.merge("RGBA", [*colours.split(), image.getchannel("A")])
    data = saved(image, "WEBP", **settings)
    return webp.chunks(data, 12, len(data))


def webp_file(parts, behind=b""):
    body = b"WEBP" + b"".join(part.written() for part in parts)
    return b"RIFF" + struct.pack("<I", len(body)) + body + behind


def webp_longer(parts, kind, tail=SECRET):
    """The same chunks with bytes behind what the decoder reads of the first chunk of a kind."""
    index = next(index for index, part in enumerate(parts) if part.kind == kind)
    return [*parts[:index], replace(parts[index], payload=parts[index].payload + tail), *parts[index + 1 :]]


def webp_first_partition(part):
    """A lossy chunk with bytes behind the modes."""
    tag = int.from_bytes(part.payload[:3], "little")
    at, fresh = 10 + (tag >> 5), tag + (len(SECRET) << 5)
    return replace(part, payload=struct.pack("<I", fresh)[:3] + part.payload[3:at] + SECRET + part.payload[at:])


def webp_frames(part):
    """A frame of an animation, with the marker in each place of it."""
    inner = webp.chunks(part.payload, 16, len(part.payload))
    planted = {
        "chunk in": [webp.Chunk(b"UNKN", SECRET), *inner],
        "chunk at the end of": [*inner, webp.Chunk(b"UNKN", SECRET)],
        "second picture in": [*inner, replace(inner[-1], payload=inner[-1].payload + SECRET)],
        "tail of": webp_longer(inner, inner[-1].kind),
    }
    for place, pieces in planted.items():
        yield place, webp.Chunk(b"ANMF", part.payload[:16] + b"".join(piece.written() for piece in pieces))


def webp_plants():
    more = {"save_all": True, "append_images": [drawn("RGBA", (24, 18), 3)], "duration": 50}
    bases = {
        "lossy": webp_base("RGB", quality=80),
        "alpha": webp_base(quality=80),
        "lossless": webp_base(lossless=True),
        "moving": webp_base(lossless=True, **more),
        "moving lossy": webp_base(quality=80, **more),
    }
    plants = {}
    for name, parts in bases.items():
        first = [] if parts[0].kind == b"VP8X" else [webp._extended(0x10, (24, 18))]
        parts = [*first, *parts]
        for kind in (b"EXIF", b"XMP ", b"ICCP", b"THMB", b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF"):
            plants[f"{kind} behind {name}"] = webp_file([*parts, webp.Chunk(kind, SECRET)])
        for kind in (b"EXIF", b"XMP ", b"ICCP", b"JUNK"):
            plants[f"{kind} before {name}"] = webp_file([parts[0], webp.Chunk(kind, SECRET), *parts[1:]])
        plants[f"profile {name}"] = webp_file([parts[0], webp.Chunk(b"ICCP", marked.profile(SECRET)), *parts[1:]])
        block = marked.exif().replace(marked.TELL, SECRET[:13]) + SECRET
        plants[f"whole EXIF {name}"] = webp_file([*parts, webp.Chunk(b"EXIF", block)])
        plants[f"VP8X long {name}"] = webp_file([replace(parts[0], payload=parts[0].payload + SECRET), *parts[1:]])
        plants[f"behind {name}"] = webp_file(parts, SECRET)
        for kind in {part.kind for part in parts} & {b"VP8 ", b"VP8L", b"ALPH", b"ANIM"}:
            plants[f"{kind} long {name}"] = webp_file(webp_longer(parts, kind))
        for index, part in enumerate(parts):
            found = webp_frames(part) if part.kind == b"ANMF" else ()
            found = [("modes", webp_first_partition(part))] if part.kind == b"VP8 " else found
            for place, other in found:
                plants[f"{place} {index} {name}"] = webp_file([*parts[:index], other, *parts[index + 1 :]])
    return plants


def test_webp():
    refusals(webp_plants())


def tiff_base(mode="RGB", **settings):
    return pages(saved(drawn(mode, (24, 18)), "TIFF", **settings))[0]


def tiff_tiles():
    """Four tiles of 16 by 16 grey pixels, of which the page of 24 by 18 shows a part."""
    pixels = np.full((32, 32), 7, np.uint8)
    pixels[:18, :24] = np.array(drawn("L", (24, 18)))
    pixels[28, 16:31] = np.frombuffer(SECRET, np.uint8)
    pixels[3, 24:32] = np.frombuffer(SECRET[:8], np.uint8)
    pieces = tuple(pixels[y : y + 16, x : x + 16].tobytes() for y in (0, 16) for x in (0, 16))
    tags = {256: 24, 257: 18, 258: 8, 259: 1, 262: 1, 277: 1, 322: 16, 323: 16}
    return Page({tag: number(value, "<") for tag, value in tags.items()}, pieces, True, "<")


def tiff_plants():
    base = tiff_base()
    plants = {}

    def tag(name, key, *entries, page=base):
        for index, entry in enumerate(entries):
            plants[f"{name} {index}"] = file_of([page.with_tags(page.tags | {key: entry})], "<")

    wide = SECRET + b"\0"
    for key in (269, 270, 271, 272, 285, 305, 306, 315, 316, 333, 337, 700, 33432, 34377, 37724, 50341, 65000, 42112):
        tag(f"text {key}", key, Entry(2, wide), Entry(7, SECRET))
    for key in (255, 263, 280, 281, 290, 291, 301, 321, 336, 340, 341, 342, 347, 512, 519, 520, 521, 330, 34675, 33723):
        tag(f"numbers {key}", key, Entry(3, wide), Entry(1, SECRET))
    for key in (254, 266, 284, 292, 293, 297, 332, 334, 530, 531, 296):
        tag(f"many {key}", key, Entry(3, bytes([1, 0, 1, 0]) + wide))
    for key, count in ((318, 2), (319, 6), (529, 3), (532, 6), (282, 1), (283, 1)):
        tag(f"more fractions {key}", key, Entry(5, bytes([1, 0, 0, 0] * 2 * count) + wide))
        if count > 1:
            tag(f"fractions {key}", key, Entry(5, (wide * 4)[: 8 * count]))
    tag("more bits", 258, Entry(3, struct.pack("<3H", 8, 8, 8) + wide))
    tag("more formats", 339, Entry(3, struct.pack("<3H", 1, 1, 1) + wide))
    tag("profile", 34675, Entry(7, marked.profile(SECRET)))
    tag("EXIF", 34665, {0x927C: Entry(7, SECRET), 0xA431: Entry(2, wide)})
    tag("GPS", 34853, {29: Entry(2, wide)})
    for packing in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "zstd", "lzma"):
        page = tiff_base(compression=packing)
        longer = Page(page.tags, tuple(piece + SECRET for piece in page.pieces), False, "<")
        plants[f"behind a strip {packing}"] = file_of([longer], "<")
        plants[f"more strips {packing}"] = file_of([Page(page.tags, (*page.pieces, SECRET), False, "<")], "<")
        plants[f"between {packing}"] = file_of([page], "<") + SECRET
        plants[f"reduced {packing}"] = file_of(
            [page, Page(page.tags | {254: number(1, "<")}, (SECRET,), False, "<")], "<"
        )
    bilevel = tiff_base("1", compression="group4")
    plants["behind a strip group4"] = file_of([Page(bilevel.tags, (bilevel.pieces[0] + SECRET,), False, "<")], "<")
    rows = np.array(drawn("RGB", (24, 18))).tobytes() + SECRET.ljust(72, b"\0")
    plants["rows"] = file_of([Page(base.tags, (rows,), False, "<")], "<")
    deflated = tiff_base(compression="tiff_adobe_deflate")
    plants["rows packed"] = file_of([Page(deflated.tags, (zlib.compress(rows),), False, "<")], "<")
    plants["tiles"] = file_of([tiff_tiles()], "<")
    palette = tiff_base("P")
    colours = palette.tags[320].raw
    tag("colours", 320, Entry(3, colours[:496] + SECRET + colours[511:]), Entry(3, colours + wide), page=palette)
    jpeg_page = tiff_base(compression="jpeg")
    tables = jpeg_page.tags[347].raw if 347 in jpeg_page.tags else b"\xff\xd8\xff\xd9"
    comment = b"\xff\xfe" + struct.pack(">H", len(SECRET) + 2) + SECRET
    tag("JPEG tables", 347, Entry(7, tables[:2] + comment + tables[2:]), Entry(7, tables + SECRET), page=jpeg_page)
    piece = jpeg_page.pieces[0]
    plants["comment in JPEG"] = file_of([Page(jpeg_page.tags, (piece[:2] + comment + piece[2:],), False, "<")], "<")
    return plants


def test_tiff():
    plants = tiff_plants()
    lossy = {name: data for name, data in plants.items() if "jpeg" in name.lower()}
    refusals({name: data for name, data in plants.items() if name not in lossy})
    refusals(lossy, lossless=False)


def bmp_file(kind, rows, palette=b"", tail=b"", gap=b"", behind=b"", height=2, **fields):
    """A BMP of 24 pixels a row. kind: size of the header. tail: what fills it. fields: bits, compression, used."""
    bits, compression = fields.get("bits", 24), fields.get("compression", 0)
    if kind == 12:
        head = struct.pack("<I4H", 12, 24, height, 1, bits)
    else:
        numbers = (kind, 24, height, 1, bits, compression, len(rows), *fields.get("density", (0, 0)))
        head = struct.pack("<IiiHHIIiiII", *numbers, fields.get("used", 0), fields.get("important", 0))
    head = (head + tail).ljust(kind, b"\0")
    offset = 14 + len(head) + len(palette) + len(gap)
    file = b"BM" + struct.pack("<I4sI", offset + len(rows), fields.get("reserved", bytes(4)), offset)
    return file + head + palette + gap + rows + behind


def bmp_plants():
    plants = {}
    rows = {bits: noise((2, 3 * bits), bits).tobytes() for bits in (1, 4, 8, 16, 24, 32)}
    rows[1], rows[4] = noise((2, 4), 1).tobytes(), noise((2, 12), 4).tobytes()
    for bits, data in rows.items():
        palette = bytes(4 << bits) if bits <= 8 else b""
        plants[f"gap {bits}"] = bmp_file(40, data, palette, gap=SECRET, bits=bits)
        plants[f"behind {bits}"] = bmp_file(40, data, palette, behind=SECRET, bits=bits)
        for kind in (52, 56, 64, 108, 124):
            if bits in (24, 8):
                plants[f"header {kind} {bits}"] = bmp_file(kind, data, palette, b"\0" * 0 + SECRET, bits=bits)
    masks = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    for kind in (108, 124):
        for at in range(16, kind - 40 - len(SECRET) + 1, 9):
            tail = masks.ljust(at, b"\0") + SECRET
            plants[f"V4 and V5 {kind} {at}"] = bmp_file(kind, rows[32], tail=tail, bits=32, compression=3)
        for at in range(20, kind - 40 - len(SECRET) + 1, 9):
            tail = masks + b"BGRs" + bytes(at - 20) + SECRET
            plants[f"sRGB {kind} {at}"] = bmp_file(kind, rows[32], tail=tail, bits=32, compression=3)
    hidden = np.frombuffer(rows[32], np.uint8).reshape(2, 24, 4).copy()
    hidden[0, :15, 3] = np.frombuffer(SECRET, np.uint8)
    plants["fourth byte"] = bmp_file(40, hidden.tobytes(), bits=32) + SECRET
    unused = bytes(4 * 200) + (SECRET + bytes(1)) * 14
    plants["palette"] = bmp_file(40, bytes(48), unused, bits=8)
    plants["palette short"] = bmp_file(40, bytes(48), bytes(4 * 9) + SECRET + bytes(1), bits=8, used=13)
    plants["palette of colours"] = bmp_file(40, rows[24], SECRET + bytes(1), bits=24, used=4)
    plants["palette OS/2"] = bmp_file(12, bytes(48), bytes(3 * 200) + (SECRET + bytes(1)) * 10 + bytes(8), bits=8)
    plants["row padding"] = bmp_file(40, (bytes(3) + SECRET)[:24] * 2 + SECRET, bits=1, palette=bytes(8), height=6)
    plants["runs"] = bmp_file(40, b"\x18\1\0\0\x18\2\0\1" + SECRET, bytes(1024), bits=8, compression=1)
    profile = marked.profile(SECRET)
    tail = masks + b"DEBM" + bytes(48) + struct.pack("<4I", 4, 124 + len(rows[32]), len(profile), 0)
    plants["profile"] = bmp_file(124, rows[32], tail=tail, behind=profile, bits=32, compression=3)
    tail = masks + b"KNIL" + bytes(48) + struct.pack("<4I", 4, 124 + len(rows[32]), len(SECRET), 0)
    plants["linked profile"] = bmp_file(124, rows[32], tail=tail, behind=SECRET, bits=32, compression=3)
    return plants


def test_bmp():
    refusals(bmp_plants())
