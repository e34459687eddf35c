"""Planted HEIC and AVIF files (see `test_carriers`): boxes, items, properties, units of the coded picture, crops."""

import io
import struct
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from deidcli.media.image import av1, bmff, heif, heif_items
from deidcli.media.image.reader import open_image
from deidcli.media.open import open_reader
from deidcli.media.sniff import image_kind
from deidcli.media.stream import CROPPED

from . import marked
from .carriers import SECRET, refusals, shown
from .drawn import opened, saved, smooth, through

KINDS = ["AVIF", "HEIF"]


def whole(kind, pixels=None, **settings):
    """A picture of 96 by 64 pixels by the library that writes the format."""
    image = Image.fromarray(smooth(64, 96) if pixels is None else pixels)
    if kind == "AVIF":
        return saved(image, kind, quality=60)
    buffer = io.BytesIO()
    pytest.importorskip("pillow_heif").from_pillow(image).save(buffer, quality=60, **settings)
    return buffer.getvalue()


def items(kind, pixels=None):
    data = whole(kind, pixels)
    at = bmff.structure(data)
    found = heif_items.parts(data, at, [at.primary], "safe")
    assert found is not None and len(found) == 1
    return found[0]


def laid(kind, parts):
    brands = {"AVIF": (b"avif", b"mif1", b"miaf"), "HEIF": (b"heic", b"mif1")}[kind]
    return heif.written(parts, parts[0].key, brands)


def box(kind, body):
    return struct.pack(">I", 8 + len(body)) + kind + body


def edited(data, change=lambda inner: inner, head=None):
    """The file with `change` applied to the boxes within `meta`, and perhaps another first box; offsets move along."""
    first, meta = list(bmff.boxes(data, 0, len(data)))[:2]
    head = data[: first.end] if head is None else head
    inner = [data[item.start : item.end] for item in bmff.boxes(data, meta.body + 4, meta.end)]
    fresh = change(inner)
    shift = sum(map(len, fresh)) - sum(map(len, inner)) + len(head) - first.end
    for index, item in enumerate(fresh):
        if item[4:8] == b"iloc":
            moved = bytearray(item)
            for at in range(16, len(item), 14):
                struct.pack_into(">I", moved, at + 6, struct.unpack_from(">I", item, at + 6)[0] + shift)
            fresh[index] = bytes(moved)
    return head + box(b"meta", bytes(4) + b"".join(fresh)) + data[meta.end :]


def swap(kind, fresh):
    return lambda inner: [fresh(item) if item[4:8] == kind else item for item in inner]


def boxes_planted(data):
    """Boxes around and within `meta` that no reader needs, and needed ones with more in them."""
    (first,) = struct.unpack_from(">I", data)
    for name in (b"free", b"skip", b"uuid", b"mdat", b"mpvd", b"prvt", b"meta"):
        yield f"{name.decode()} behind", data + box(name, SECRET)
    yield "behind", data + SECRET
    yield "brand", edited(data, head=box(b"ftyp", data[8:first] + SECRET + b"\0"))
    yield "box before", moved(data, first)
    for name in (b"uuid", b"free", b"skip", b"xml ", b"bxml", b"idat", b"dinf", b"grpl", b"ipro", b"iref", b"prvt"):
        yield f"{name.decode()} in meta", edited(data, lambda inner, name=name: [*inner, box(name, bytes(4) + SECRET)])
    changes = {
        "handler name": (b"hdlr", lambda b: box(b"hdlr", b[8:-1] + SECRET + b"\0")),
        "handler fields": (b"hdlr", lambda b: box(b"hdlr", b[8:20] + SECRET[:12] + SECRET + b"\0")),
        "primary": (b"pitm", lambda b: box(b"pitm", b[8:] + SECRET)),
        "item name": (b"iinf", lambda b: box(b"iinf", b[8:14] + box(b"infe", b[22:-1] + SECRET + b"\0"))),
        "item entry": (b"iinf", lambda b: box(b"iinf", b[8:14] + box(b"infe", b[22:] + SECRET))),
        "items": (b"iinf", lambda b: box(b"iinf", b[8:] + box(b"free", SECRET))),
        "properties": (b"iprp", lambda b: box(b"iprp", b[8:] + box(b"free", SECRET))),
    }
    for name, (kind, change) in changes.items():
        planted = edited(data, swap(kind, change))
        if SECRET in planted:
            yield f"{name} box", planted


def moved(data, first):
    """A box between the first one and `meta`."""
    longer = edited(data, head=data[:first] + bytes(23))
    return longer[:first] + box(b"free", SECRET) + longer[first + 23 :]


def properties_planted(kind, main):
    for name in (b"udes", b"altt", b"uuid", b"crtt", b"rloc", b"lsel", b"free", b"cclv", b"amve", b"prvt", b"mdcv"):
        extra = (box(name, bytes(4) + SECRET), False)
        yield f"property {name.decode()}", laid(kind, [replace(main, properties=(*main.properties, extra))])
    for name in sorted({body[4:8] for body, _ in main.properties}):
        longer = [(box(name, body[8:] + SECRET) if body[4:8] == name else body, must) for body, must in main.properties]
        yield f"long property {name.decode()}", laid(kind, [replace(main, properties=tuple(longer))])
    for name, body in (("profile", marked.profile(SECRET)), ("no profile", SECRET)):
        extra = (box(b"colr", b"prof" + body), False)
        yield name, laid(kind, [replace(main, properties=(*main.properties, extra))])


def items_planted(kind, main):
    for name in (b"Exif", b"mime", b"uri ", b"text", b"free", b"jpeg", b"iden", b"tmap", main.kind):
        for link in (b"", b"cdsc", b"thmb", b"auxl"):
            links = ((link, (main.key,)),) if link else ()
            other = replace(main, key=99, kind=name, data=main.data[:8] + SECRET, links=links, hidden=not link)
            yield f"item {name.decode()} {link.decode()}", laid(kind, [main, other])


def frames_planted(kind, main):
    """Units of the coded picture that show nothing, and bytes behind those that do."""
    if kind == "AVIF":
        units = av1.units(main.data)
        for number in (0, 2, 5, 8, 9, 14, 15):
            unit = av1.Unit(number, None, SECRET)
            for at in (0, 1, len(units)):
                yield f"unit {number} at {at}", b"".join(u.written() for u in (*units[:at], unit, *units[at:]))
        for at, unit in enumerate(units):
            longer = replace(unit, payload=unit.payload + bytes(1) + SECRET)
            yield f"tail of unit {at}", b"".join(u.written() for u in (*units[:at], longer, *units[at + 1 :]))
        return
    for number in (35, 36, 37, 38, 39, 40, 41, 48, 63):
        unit = struct.pack(">I", 2 + len(SECRET)) + bytes([number << 1, 1]) + SECRET
        yield f"unit {number} before", unit + main.data
        yield f"unit {number} behind", main.data + unit
    (size,) = struct.unpack_from(">I", main.data)
    yield "tail of the slice", struct.pack(">I", size + 15) + main.data[4 : 4 + size] + SECRET + main.data[4 + size :]
    yield "behind the slice", main.data + b"\0\0" + SECRET


def configurations_planted(main):
    """HEVC decoder configurations with more parameter sets, and with bytes behind those that are needed."""
    body = next(body for body, _ in main.properties if body[4:8] == b"hvcC")[8:]
    other = [(body_, must) for body_, must in main.properties if body_[4:8] != b"hvcC"]
    for number in (32, 33, 34, 39, 40, 41, 63):
        array = bytes([number]) + struct.pack(">HH", 1, 2 + len(SECRET)) + bytes([number << 1, 1]) + SECRET
        yield f"array {number}", (*other, (box(b"hvcC", body[:22] + bytes([4]) + body[23:] + array), True))
    at = 23
    for index in range(3):
        (size,) = struct.unpack_from(">H", body, at + 3)
        longer = (
            body[: at + 3]
            + struct.pack(">H", size + 15)
            + body[at + 5 : at + 5 + size]
            + SECRET
            + body[at + 5 + size :]
        )
        yield f"tail of parameter set {index}", (*other, (box(b"hvcC", longer), True))
        at += 5 + size


def plants(kind):
    main = items(kind)
    found = dict(boxes_planted(laid(kind, [main])))
    found |= dict(properties_planted(kind, main)) | dict(items_planted(kind, main))
    found |= {name: laid(kind, [replace(main, data=data)]) for name, data in frames_planted(kind, main)}
    if kind == "HEIF":
        for name, properties in configurations_planted(main):
            found[name] = laid(kind, [replace(main, properties=properties)])
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_boxes(kind):
    # What cannot be laid out anew is encoded anew, with loss.
    refusals(plants(kind), lossless=False)


@pytest.mark.parametrize("kind", KINDS)
def test_an_untouched_picture_keeps_its_compressed_data(kind):
    data = whole(kind)
    out = through(data, False)
    assert items(kind).data in out
    assert np.array_equal(shown(out)[0], shown(data)[0])


def coded_size(data):
    at = bmff.structure(data)
    return heif_items._extent(data, at, at.primary)


@pytest.mark.parametrize("change", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_cropped_away_is_neither_shown_nor_kept(kind, change):
    main = items(kind, smooth(64, 192))
    # The left half: 96 of 192 columns, whose middle lies 48 to the left.
    aperture = struct.pack(">iIiIiIiI", 96, 1, 64, 1, -48, 1, 0, 1)
    data = laid(kind, [replace(main, properties=(*main.properties, (box(b"clap", aperture), True)))])
    (before,) = shown(data)
    assert before.shape == (64, 96, 3)
    assert np.abs(before.astype(int) - smooth(64, 192)[:, :96]).mean() < 4
    out = through(data, change)
    assert coded_size(out) == (96, 64) and b"clap" not in out
    assert shown(out)[0].shape == (64, 96, 3)
    assert [CROPPED in open_image(each, "a", image_kind(each)).notes for each in (data, out)] == [True, False]


@pytest.mark.parametrize(("width", "height"), [(95, 64), (96, 63), (91, 61)])
def test_odd_sizes_keep_their_compressed_data(width, height):
    data = whole("HEIF", smooth(height, width))
    out = through(data, False)
    assert shown(out)[0].shape == (height, width, 3)
    at = bmff.structure(data)
    assert heif_items.parts(data, at, [at.primary], "safe")[0].data in out


@pytest.mark.parametrize(("width", "kept"), [(128, True), (100, True), (70, False), (64, False)])
def test_tiles_outside_of_a_grid(width, kept):
    data = whole("HEIF", smooth(64, 128), tile_size=64)
    at = bmff.structure(data)
    assert [item.kind for item in at.items.values()].count(b"hvc1") == 2
    parts = heif_items.parts(data, at, [at.primary], "safe")
    grid = next(part for part in parts if part.kind == b"grid")
    extent = box(b"ispe", struct.pack(">III", 0, width, 64))
    properties = tuple((extent if body[4:8] == b"ispe" else body, must) for body, must in grid.properties)
    cut = replace(grid, data=grid.data[:4] + struct.pack(">HH", width, 64), properties=properties)
    brands = (b"heic", b"mif1")
    narrow = heif.written([cut if part is grid else part for part in parts], grid.key, brands)
    assert shown(narrow)[0].shape == (64, width, 3)
    out = through(narrow, False)
    assert shown(out)[0].shape == (64, width, 3)
    last = max((part for part in parts if part.kind == b"hvc1"), key=lambda part: part.key)
    assert (last.data in out) == kept


@pytest.mark.parametrize("policy", ["safe", "none", "all"])
def test_a_second_picture(policy):
    main, other = items("AVIF"), items("AVIF")
    data = laid("AVIF", [main, replace(other, key=99)])
    assert len(data) > 2 * len(main.data)
    out = through(data, False, policy)
    assert len(bmff.structure(out).items) == 1 and len(out) < 2 * len(main.data) + 200


def test_text_behind_the_last_box():
    data = whole("AVIF")
    with open_reader(data + b"a note that somebody put here", "drawn") as reader:
        assert reader.info.size == (96, 64)
    assert opened(through(data + SECRET, False)).size == (96, 64)
