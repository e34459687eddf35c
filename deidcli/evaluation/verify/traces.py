"""Traces: what a written file tells of people beside its pixels.

A file is looked at three times: for what Pillow and FFmpeg name in it (EXIF, XMP, comments, thumbnails, tags and
tracks of videos); for values of the original's metadata, anywhere among its bytes; and for bytes that no viewer shows.
"""

from __future__ import annotations

import io
import logging
import re
import struct
import warnings
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import ExifTags, Image

from deidcli.errors import DeidError
from deidcli.media import sniff
from deidcli.media.metadata import POLICIES
from deidcli.media.open import open_reader
from deidcli.media.stream import WriteOptions

# What says how a picture is shown and identifies nobody. Of EXIF by tag; of files as Pillow and FFmpeg name it.
_SHOWN = {
    "ImageWidth", "ImageLength", "BitsPerSample", "Compression", "PhotometricInterpretation", "Orientation",
    "SamplesPerPixel", "XResolution", "YResolution", "PlanarConfiguration", "ResolutionUnit", "TransferFunction",
    "WhitePoint", "PrimaryChromaticities", "YCbCrCoefficients", "YCbCrSubSampling", "YCbCrPositioning",
    "ReferenceBlackWhite", "ExifOffset", "ColorSpace", "ExifImageWidth", "ExifImageHeight", "ExifVersion",
    "ComponentsConfiguration", "FlashPixVersion", "ExifInteroperabilityOffset", "InteropIndex", "InteropVersion",
    "StripOffsets", "RowsPerStrip", "StripByteCounts", "TileWidth", "TileLength", "TileOffsets", "TileByteCounts",
    "Predictor", "ColorMap", "ExtraSamples", "SampleFormat", "FillOrder", "NewSubfileType", "SubfileType",
    "JPEGTables", "InterColorProfile", "SMinSampleValue", "SMaxSampleValue", "PageNumber", "Group3Options",
    "Group4Options", "Threshholding", "CellWidth", "CellLength", "GrayResponseUnit", "GrayResponseCurve", "Indexed",
    "InkSet", "NumberOfInks", "DotRange", "HalftoneHints",
}  # fmt: skip
_TEXTS = ("comment", "xmp", "XML:com.adobe.xmp", "photoshop", "iptc", "Raw profile type exif", "Description",
          "Author", "Software", "Title", "Copyright", "description")  # fmt: skip
_NAMES = {"comment": "a comment", "xmp": "XMP", "XML:com.adobe.xmp": "XMP", "photoshop": "Photoshop resources"}
_KEPT_TAGS = {"major_brand", "minor_version", "compatible_brands", "encoder", "duration", "vendor_id", "language",
              "rotate", "alpha_mode", "stereo_mode", "bps", "number_of_frames",
              "number_of_bytes", "variant_bitrate", "metadatacreator", "hasmetadata", "haskeyframes", "hasvideo",
              "hasaudio", "canseektoend", "framerate", "videodatarate", "audiodatarate", "timescale",
              "loop", "projection"}  # fmt: skip
_STOCK = {"VideoHandler", "SoundHandler", "DataHandler", "SubtitleHandler", "Core Media Video", "Core Media Audio"}
_PLACE = re.compile(r"location|gps|xyz|geo", re.IGNORECASE)
_SHORTEST, _MOST = 8, 64  # bytes of a value that is looked for in the result, and how many of them
_SLACK = 32  # bytes by which a writer may come out shorter although nothing was hidden: it pads in another way
_HELD = 1 << 28  # bytes of a file that is searched for values


@dataclass(frozen=True)
class Trace:
    """kind: "metadata", "place" (where somebody was), "thumbnail", "track" or "hidden". text: what it is."""

    kind: str
    text: str


def traces(after: Path, before: Path | None, policy: str) -> Iterator[Trace]:
    """What `after` should not hold under a metadata policy. before: its original, where that is at hand.

    A folder of frames is looked at file by file.
    """
    if after.is_dir():
        for path in sorted(path for path in after.iterdir() if path.is_file()):
            twin = before / path.name if before is not None and before.is_dir() else None
            yield from traces(path, twin if twin is not None and twin.is_file() else None, policy)
        return
    assert policy in POLICIES
    with after.open("rb") as file:
        still = sniff.image_kind(file.read(sniff.HEAD)) is not None
    named = _named_still(after) if still else _named_film(after)
    yield from (trace for trace in named if policy != "all" or trace.kind == "thumbnail")
    if policy == "all":
        return
    if before is not None and before.is_file():
        yield from _surviving(after, before)
    if still:
        yield from _hidden(after, policy)


def _named_still(path: Path) -> Iterator[Trace]:
    with _quiet(), Image.open(path) as image:
        yield from _exif(image.getexif())
        yield from _infos(image.info)
        with suppress(Exception):
            image.load()  # text behind the pixels shows when they were read
        yield from _infos(getattr(image, "text", {}) or {})
        if image.format == "MPO" or (image.format == "JPEG" and getattr(image, "n_frames", 1) > 1):
            yield Trace("thumbnail", f"{getattr(image, 'n_frames', 1) - 1} further pictures")


def _exif(exif: Image.Exif) -> Iterator[Trace]:
    directories = [("", dict(exif))]
    for which in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo, ExifTags.IFD.Interop):
        with suppress(Exception):
            directories.append((which.name, exif.get_ifd(which)))
    for place, tags in directories:
        if place == "GPSInfo" and tags:
            yield Trace("place", f"GPS in EXIF ({len(tags)} tags)")
            continue
        for tag, value in tags.items():
            name = _tag(place, tag)
            if name not in _SHOWN and name != "GPSInfo" and value not in ("", b"", None):
                yield Trace("metadata", f"EXIF {name}: {_short(value)}")
    with suppress(Exception):
        if exif.get_ifd(ExifTags.IFD.IFD1):
            yield Trace("thumbnail", "a thumbnail in EXIF")


def _tag(place: str, tag: int) -> str:
    if place == "Interop":
        return {1: "InteropIndex", 2: "InteropVersion"}.get(tag, f"Interop {tag:#x}")
    return ExifTags.TAGS.get(tag, f"tag {tag:#06x}")


def _infos(infos: Mapping[Any, Any]) -> Iterator[Trace]:
    for key, value in infos.items():
        if key in _TEXTS or (isinstance(value, str) and key not in ("jfif_unit", "compression", "srgb", "photoshop")):
            if value in ("", b"", None):
                continue
            yield Trace("metadata", f"{_NAMES.get(str(key), str(key))}: {_short(value)}")


def _named_film(path: Path) -> Iterator[Trace]:
    import av

    with av.open(str(path), metadata_errors="replace") as container:
        yield from _tags("file", container.metadata)
        for stream in container.streams:
            yield from _tags(f"track {stream.index}", stream.metadata)
            if stream.type == "video" and stream.disposition & av.stream.Disposition.attached_pic:
                yield Trace("thumbnail", f"a cover picture (track {stream.index})")
            elif stream.type in ("data", "subtitle", "attachment"):
                yield Trace("track", f"a track of {stream.type}")
        for chapter in container.chapters():
            yield from _tags("chapter", chapter.get("metadata") or {})


def _tags(where: str, tags: dict[str, str]) -> Iterator[Trace]:
    for key, value in tags.items():
        if not value or value in _STOCK or key.lower() in _KEPT_TAGS or key.lower().startswith("_statistics"):
            continue
        yield Trace("place" if _PLACE.search(key) else "metadata", f"{key} of the {where}: {_short(value)}")


def _surviving(after: Path, before: Path) -> Iterator[Trace]:
    """Values of the original's metadata that are found somewhere in the result."""
    with suppress(Exception):
        if after.stat().st_size > _HELD:
            return
        whole = after.read_bytes()
        for name, value in _values(before):
            if value in whole:
                yield Trace("metadata", f"{name} of the original is still in the file: {_short(value)}")


def _values(path: Path) -> list[tuple[str, bytes]]:
    """What the metadata of a file say, as the bytes in it: texts, thumbnails and coordinates."""
    with path.open("rb") as file:
        still = sniff.image_kind(file.read(sniff.HEAD)) is not None
    found: list[tuple[str, Any]] = []
    with _quiet():
        if still:
            with Image.open(path) as image:
                found = list(_still_values(image))
        else:
            import av

            with av.open(str(path), metadata_errors="replace") as container:
                tags = [container.metadata, *(stream.metadata for stream in container.streams)]
                found = [(key, value) for each in tags for key, value in each.items()
                         if key.lower() not in _KEPT_TAGS and value not in _STOCK]  # fmt: skip
    as_bytes = [(name, value.encode() if isinstance(value, str) else value) for name, value in found]
    telling = [(name, value) for name, value in as_bytes if isinstance(value, bytes) and _tells(value)]
    return telling[:_MOST]


def _still_values(image: Image.Image) -> Iterator[tuple[str, Any]]:
    exif = image.getexif()
    for which in (None, ExifTags.IFD.Exif, ExifTags.IFD.IFD1):
        with suppress(Exception):
            tags = dict(exif) if which is None else exif.get_ifd(which)
            yield from ((f"EXIF {ExifTags.TAGS.get(tag, tag)}", value) for tag, value in tags.items())
    with suppress(Exception):
        gps = exif.get_ifd(ExifTags.IFD.GPSInfo)
        for tag in (2, 4):
            for order in "<>":
                pairs = [(int(v.numerator), int(v.denominator)) for v in gps[tag]]
                yield "GPS", b"".join(struct.pack(f"{order}II", *pair) for pair in pairs)
    for key, value in image.info.items():
        if key not in ("icc_profile", "exif", "adobe", "jfif", "transparency", "background"):
            yield from _pieces(key, value)


def _pieces(key: object, value: Any) -> Iterator[tuple[str, Any]]:
    """A long text in its words: another order of them is a trace as well."""
    text = value.encode() if isinstance(value, str) else value
    if not isinstance(text, bytes):
        return
    yield str(key), text
    if len(text) > _MOST:
        values = re.findall(rb'[>"]([^<>"\0]{8,200})[<"]', text)
        yield from ((str(key), one) for one in values if not one.startswith((b"http", b"adobe:", b"uuid")))


def _tells(value: bytes) -> bool:
    return len(value) >= _SHORTEST and len(set(value)) > 4


def _hidden(path: Path, policy: str) -> Iterator[Trace]:
    """Bytes that no viewer shows and that nothing above names."""
    data = path.read_bytes()
    kind = sniff.image_kind(data[: sniff.HEAD])
    more = {"jpeg": _unshown_jpeg, "png": _unshown_png, "gif": _unshown_gif}.get(
        str(kind), lambda whole: _left_out(path, policy)
    )(data)
    if more > 0:
        yield Trace("hidden", f"{more} bytes that no viewer shows")


def _unshown_jpeg(data: bytes) -> int:
    """Segments that are needed for nothing, and what lies behind the end of the picture."""
    at, more = 2, 0
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker, size = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        body = data[at + 4 : at + 2 + size]
        if marker == 0xDA:
            # Within a scan 0xFF stands before 0, a restart marker, or the marker that ends it.
            end = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]").search(data, at + 2 + size)
            at = end.start() if end else len(data)
            continue
        if marker == 0xD9:
            return more + len(data) - at - 2
        if marker == 0xFF:
            at += 1
            continue
        named = body.startswith((b"Exif\0", b"http://ns.adobe.com/xap/", b"ICC_PROFILE\0", b"Photoshop 3.0\0"))
        needed = (body[:5] == b"JFIF\0" and size == 16) or (body[:5] == b"Adobe" and size == 14)
        if 0xE0 <= marker <= 0xEF and not named and not needed:
            more += 2 + size
        at += 2 + size
    return more


# Chunks of PNG that say how a picture looks, and the longest that each may be; the pixels themselves are looked into.
_CHUNKS = {
    b"IHDR": 13, b"PLTE": 768, b"IEND": 0, b"tRNS": 256, b"gAMA": 4, b"cHRM": 32, b"sRGB": 1, b"iCCP": 1 << 22,
    b"sBIT": 4, b"bKGD": 6, b"pHYs": 9, b"cICP": 4, b"mDCv": 24, b"cLLi": 8, b"acTL": 8, b"fcTL": 26, b"sPLT": 0,
    b"eXIf": 1 << 20, b"tEXt": 1 << 20, b"zTXt": 1 << 20, b"iTXt": 1 << 20,
}  # fmt: skip


def _unshown_png(data: bytes) -> int:
    """Chunks that are needed for nothing, and what lies behind the end of the pixels or of the picture.

    Text and EXIF are named elsewhere.
    """
    at, more, pixels, animated = 8, 0, b"", False
    while at + 12 <= len(data):
        size, name = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        animated |= name == b"acTL"
        if name == b"IDAT":
            pixels += data[at + 8 : at + 8 + size]
        elif name != b"fdAT" or not animated:
            more += max(0, size - _CHUNKS[name]) if name in _CHUNKS else 12 + size
        at += 12 + size
        if name == b"IEND":
            break
    inflate = zlib.decompressobj()
    with suppress(zlib.error):
        inflate.decompress(pixels, 1 << 28)
    return more + max(0, len(data) - at) + len(inflate.unused_data)


def _unshown_gif(data: bytes) -> int:
    """Extensions that are needed for nothing, and what lies behind the trailer. Comments are named elsewhere."""
    at, more = 13 + (3 << (data[10] & 7) + 1 if data[10] & 0x80 else 0), 0
    while at + 2 <= len(data):
        if data[at] == 0x3B:
            return more + len(data) - at - 1
        begin, head = at, data[at : at + 2]
        if head[0] == 0x2C and at + 10 <= len(data):
            at += 11 + (3 << (data[at + 9] & 7) + 1 if data[at + 9] & 0x80 else 0)
        elif head[0] == 0x21:
            at += 2
        else:
            return more + len(data) - at
        loops = data[at : at + 15].startswith((b"\x0bNETSCAPE2.0\x03\x01", b"\x0bANIMEXTS1.0\x03\x01"))
        while at < len(data) and data[at]:
            at += 1 + data[at]
        at += 1
        if head[0] == 0x21 and head[1] not in (0xF9, 0xFE) and not (loops and at - begin == 19):
            more += at - begin
    return more


def _left_out(path: Path, policy: str) -> int:
    """How much shorter the writer of its format makes the file when it copies the picture."""
    target = io.BytesIO()
    try:
        with open_reader(path) as reader:
            writer = reader.writer(target, WriteOptions(policy), path.suffix)
            for frame in reader.frames():
                writer.write(frame, None)
            writer.finish()
            writer.close()
    except DeidError:
        return 0  # a file that cannot be read again is reported by the look at its pixels
    more = path.stat().st_size - len(target.getvalue())
    return more if more > _SLACK else 0


def _short(value: Any) -> str:
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    text = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    return text if len(text) <= 40 else f"{text[:37]}..."


@contextmanager
def _quiet() -> Iterator[None]:
    """Pillow warns of what is damaged in metadata; here that is no news."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.getLogger("PIL").setLevel(logging.CRITICAL)
        yield
