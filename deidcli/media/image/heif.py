"""AVIF and HEIC: pixels by Pillow and pillow-heif, a file without a changed frame laid out anew from its own items.

A changed picture is encoded again: HEIC with its depth, its colours (nclx) and its chroma, AVIF with 8 bits a channel.
So is one without a changed frame that cannot be laid out anew: a sequence, a cropped picture, one of rare parts. What
is lost on the way is noted.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from io import BytesIO
from itertools import zip_longest
from types import ModuleType
from typing import Any

import numpy as np
from PIL import AvifImagePlugin, Image

from deidcli.errors import MediaError, MissingDependency
from deidcli.media.image import (
    ENCODED_AGAIN,
    Container,
    Native,
    Rewriter,
    check_size,
    decoded,
    encoded,
    exif,
    explained,
    from_pillow,
    icc,
    least,
    to_pillow,
    to_rgba,
    turned,
    upright,
)
from deidcli.media.image.bmff import structure
from deidcli.media.image.heif_items import (
    CODED,
    Part,
    exif_block,
    is_trimmed,
    parts,
    shortened,
    stored,
    top_level,
    window,
)
from deidcli.media.stream import CROPPED

QUALITY = 90
"""Quality of a picture that is written anew, of 100; these formats do not say with which they were made."""


# Colour primaries and transfer characteristics of BT.709 with sRGB's, BT.709's or no curve: what readers take as sRGB.
_SRGB = {(1, 13), (1, 1), (2, 2), (1, 2), (2, 13), (1, 6)}
_SLACK = 8
"""A decoder may look this many bytes beyond what it needs; fewer hidden bytes behind a picture are not looked for."""


class _Boxed(Container):
    """What HEIC and AVIF share: the boxes, and a rewriter that hands all frames to one encoder."""

    def __init__(self, data: bytes, name: str, salvage: bool = False):
        self.structure = structure(data)
        super().__init__(data[: self.structure.end], name, salvage)
        self.sequence = any(box.kind == b"moov" for box in self.structure.top)
        self.notes = self.dropped()
        if not self.sequence and not is_trimmed(self.data, self.structure, self.structure.primary):
            self.notes += (CROPPED,)

    def dropped(self) -> tuple[str, ...]:
        """A note for each kind of auxiliary picture that no policy keeps."""
        items = {reference.source for reference in self.structure.references if reference.kind == b"auxl"}
        boxes = [box for item in items for box in self.structure.properties(item, b"auxC")]
        said = [self.data[box.body + 4 : box.end].lower() for box in boxes]
        words = {b"depth": "its depth map", b"auxid:2": "its depth map", b"hdrgainmap": "its gain map"}
        found = dict.fromkeys(word for text in said for key, word in words.items() if key in text)
        return tuple(f"{word} was left out: it shows the faces" for word in found)

    def lost(self) -> tuple[str, ...]:
        """A note for each thing that encoding the picture again loses."""
        return ()

    def scrubbed(self, metadata: str) -> bytes:
        fresh = b"" if self.sequence else self._laid_out(metadata)
        if fresh and self._shows_the_same(fresh):
            return fresh
        self.changes = (ENCODED_AGAIN,)
        writer = self.rewriter(metadata)
        for native in self.natives():
            writer.add(native, None)
        return writer.finish()

    def _laid_out(self, metadata: str) -> bytes:
        """The file from its own compressed pictures; empty where something of it has to be encoded anew."""
        at = self.structure
        shown = self.shown()
        kind = next(box for box in at.top if box.kind == b"ftyp")
        known = brands(self.data[kind.body : kind.end])
        try:
            found = parts(self.data, at, shown, metadata) if at.primary in shown and known else None
        except (MediaError, struct.error, IndexError):
            # Decoders may forgive more damage than can be followed here.
            found = None
        return b"" if found is None else written([self._cut(part, known) for part in found], at.primary, known)

    def _cut(self, part: Part, known: tuple[bytes, ...]) -> Part:
        """A coded picture without bytes that its decoder does not read: some can stand behind the last block."""
        whole = self._alone(part, known) if part.kind in CODED else None
        start = len(part.data) - _SLACK
        if whole is None:
            return part

        def same(length: int) -> bool:
            cut = self._alone(shortened(part, length), known)
            return cut is not None and np.array_equal(whole, cut)

        return shortened(part, min(least(start, same) + 2, start)) if start > 0 and same(start) else part

    def _alone(self, part: Part, known: tuple[bytes, ...]) -> np.ndarray | None:
        """The pixels of one item as if it were the file's only picture; None where it cannot be decoded."""
        file = written([replace(part, links=(), hidden=False)], part.key, known)
        try:
            with explained(self.name):
                return next(type(self)(file, self.name).natives()).data
        except MediaError:
            return None

    def _shows_the_same(self, fresh: bytes) -> bool:
        """Whether decoders make the same frames of another file."""
        other = type(self)(fresh, self.name)
        pairs = zip_longest(self.natives(), other.natives())
        return all(a and b and np.array_equal(a.data, b.data) for a, b in pairs)

    def shown(self) -> list[int]:
        """The items that the frames are."""
        return top_level(self.structure)

    def rewriter(self, metadata: str) -> Rewriter:
        return _BoxedRewriter(self, metadata)

    def encode(self, frames: list[Native], side_data: dict[str, bytes]) -> bytes:
        """The file of these frames. side_data: `icc_profile`, `exif` and `xmp`, those that the policy keeps."""
        raise NotImplementedError

    def profile(self) -> bytes:
        """The ICC profile of the primary picture, or nothing."""
        raise NotImplementedError

    def side_data(self, metadata: str) -> dict[str, bytes]:
        """What an encoder is given beside the pixels."""
        side_data = {"icc_profile": icc.scrubbed(self.profile(), metadata)}
        if metadata == "all":
            side_data["exif"] = exif.scrubbed_exif(exif_block(self._item(b"Exif")), self.size, oriented=False) or b""
            side_data["xmp"] = exif.scrubbed_xmp(self._item(b"mime")) or b""
        return {key: value for key, value in side_data.items() if value}

    def _item(self, kind: bytes) -> bytes:
        keys = [key for key, item in self.structure.items.items() if item.kind == kind]
        return stored(self.data, self.structure, keys[0]) if keys else b""


class Avif(_Boxed):
    """AVIF, by Pillow."""

    format = "AVIF"

    def __init__(self, data: bytes, name: str, salvage: bool = False):
        super().__init__(data, name, salvage)
        image = self._opened()
        check_size(image.size)
        # Pillow shows what is coded, and not what the file crops it to.
        self.window = None if self.sequence else window(self.data, self.structure, self.structure.primary)
        left, top, right, bottom = self.window or (0, 0, *image.size)
        self.size = turned((right - left, bottom - top), self._orientation(image))
        self.times = (None,) * image.n_frames
        self._durations = [0] * image.n_frames

    def shown(self) -> list[int]:
        # The decoder shows one picture, whatever else the file holds.
        return [self.structure.primary]

    def natives(self) -> Iterator[Native]:
        image = self._opened()
        for index in range(image.n_frames):
            image.seek(index)
            native = decoded(image)
            if self.window is not None:
                left, top, right, bottom = self.window
                native = replace(native, data=native.data[top:bottom, left:right])
            if image.n_frames > 1:
                # Only the decoder knows the clock, and only of frames that it has decoded.
                known = self.times[:index] + (Fraction(image.info["timestamp"], 1000),)
                self.times = known + self.times[index + 1 :]
                self._durations[index] = image.info["duration"]
            yield upright(native, self._orientation(image))

    def encode(self, frames: list[Native], side_data: dict[str, bytes]) -> bytes:
        first, *rest = [to_pillow(frame) for frame in frames]
        moving = {"save_all": True, "append_images": rest, "duration": self._durations} if rest else {}
        return encoded(first, "AVIF", quality=QUALITY, **moving, **side_data)

    def lost(self) -> tuple[str, ...]:
        primary, notes = self.structure.primary, []
        depths = [max(self.data[box.body + 5 : box.end]) for box in self.structure.properties(primary, b"pixi")]
        if depths and max(depths) > 8:
            notes.append(f"{max(depths)} bits a channel were written as 8")
        for box in self.structure.properties(primary, b"colr"):
            said = self.data[box.body : box.end]
            primaries, curve = struct.unpack_from(">HH", said, 4) if said[:4] == b"nclx" else (1, 13)
            if (primaries, curve) not in _SRGB:
                notes.append(f"its colours (nclx {primaries}/{curve}) were written as sRGB")
        return tuple(notes)

    def profile(self) -> bytes:
        return self._opened().info.get("icc_profile") or b""

    def _opened(self) -> AvifImagePlugin.AvifImageFile:
        return AvifImagePlugin.AvifImageFile(BytesIO(self.data))

    @staticmethod
    def _orientation(image: Image.Image) -> int:
        # Pillow states the turns and mirrors of the boxes in this way.
        return exif.read_exif(image.info.get("exif", b"").removeprefix(b"Exif\0\0")).orientation


class Heif(_Boxed):
    """HEIC, by pillow-heif."""

    format = "HEIC"

    def __init__(self, data: bytes, name: str, salvage: bool = False):
        super().__init__(data, name, salvage)
        self.library = _pillow_heif()
        images = list(self.library.open_heif(BytesIO(self.data)))
        for image in images:
            check_size(image.size)
        self.size = images[0].size
        self.times: tuple[None, ...] = (None,) * len(images)

    def natives(self) -> Iterator[Native]:
        # The library applies the turns and mirrors of the boxes; EXIF has no say in this format.
        for image in self._images():
            if not image.mode.endswith(";16"):
                yield from_pillow(image.to_pillow())
                continue
            mode = "I;16" if image.mode == "L;16" else image.mode
            yield Native(mode, np.ascontiguousarray(np.asarray(image)))

    def encode(self, frames: list[Native], side_data: dict[str, bytes]) -> bytes:
        file = self.library.HeifFile()
        sources = list(self._images())
        for number, frame in enumerate(frames):
            mode = "L;16" if frame.mode == "I;16" else frame.mode
            if mode not in ("L", "LA", "RGB", "RGBA") and not mode.endswith(";16"):
                frame, mode = Native("RGBA", to_rgba(frame)), "RGBA"
            added = file.add_frombytes(mode, frame.size, np.ascontiguousarray(frame.data).tobytes())
            source = sources[min(number, len(sources) - 1)].info
            if source.get("nclx_profile"):
                added.info["nclx_profile"] = source["nclx_profile"]
            if "icc_profile" in side_data:
                added.info["icc_profile"] = side_data["icc_profile"]
        buffer = BytesIO()
        extra: dict[str, Any] = {key: side_data[key] for key in ("exif", "xmp") if key in side_data}
        extra["chroma"] = sources[0].info.get("chroma") or 420
        file.save(buffer, quality=QUALITY, save_all=True, **extra)
        return buffer.getvalue()

    def _images(self) -> list[Any]:
        return list(self.library.open_heif(BytesIO(self.data), convert_hdr_to_8bit=False))

    def profile(self) -> bytes:
        return self.library.open_heif(BytesIO(self.data)).info.get("icc_profile") or b""


class _BoxedRewriter(Rewriter):
    def __init__(self, source: _Boxed, metadata: str):
        self.source, self.metadata = source, metadata
        self.frames: list[Native] = []

    def add(self, native: Native, changed: np.ndarray | None) -> None:
        self.frames.append(native)

    def finish(self) -> bytes:
        self.source.changes = (*self.source.changes, *self.source.lost())
        return self.source.encode(self.frames, self.source.side_data(self.metadata))


def _pillow_heif() -> ModuleType:
    try:
        import pillow_heif
    except ImportError as error:
        raise MissingDependency("reading HEIC needs pillow-heif", "pip install 'deidcli[heif]'") from error
    if not hasattr(pillow_heif, "open_heif"):
        raise MediaError("this pillow-heif is too old", "pip install --upgrade pillow-heif")
    return pillow_heif


# --- A file laid out from its items: it holds nothing but what is given here


_BRANDS = {
    *(b"mif1", b"mif2", b"miaf", b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"MiHB", b"MiHE", b"MiHA"),
    *(b"avif", b"avis", b"MA1A", b"MA1B", b"MiPr"),
}


def brands(file_type: bytes) -> tuple[bytes, ...]:
    """The known brands of an `ftyp` box's body, the major one first."""
    each = [file_type[:4], *(file_type[at : at + 4] for at in range(8, len(file_type), 4))]
    return tuple(dict.fromkeys(brand for brand in each if brand in _BRANDS))


def written(parts: list[Part], primary: int, known: tuple[bytes, ...]) -> bytes:
    """The file. primary: the key of the first picture. known: brands, the major one first."""
    numbers = {part.key: number for number, part in enumerate(parts, 1)}
    kind = _box(b"ftyp", known[0] + bytes(4) + b"".join(known))
    inner = [
        _full(b"hdlr", bytes(4) + b"pict" + bytes(13)),
        _full(b"pitm", struct.pack(">H", numbers[primary])),
        _information(parts),
        _references(parts, numbers),
        _properties(parts),
    ]
    room = 12 + sum(map(len, inner)) + 12 + 4 + 14 * len(parts)
    locations, at = b"", len(kind) + room + 8
    for number, part in enumerate(parts, 1):
        locations += struct.pack(">HHHII", number, 0, 1, at, len(part.data))
        at += len(part.data)
    table = _full(b"iloc", b"\x44\0" + struct.pack(">H", len(parts)) + locations)
    meta = _full(b"meta", b"".join([*inner[:2], table, *inner[2:]]))
    return kind + meta + _box(b"mdat", b"".join(part.data for part in parts))


def _box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", 8 + len(body)) + kind + body


def _full(kind: bytes, body: bytes, version: int = 0, flags: int = 0) -> bytes:
    return _box(kind, struct.pack(">I", version << 24 | flags) + body)


def _information(parts: list[Part]) -> bytes:
    entries = b""
    for number, part in enumerate(parts, 1):
        # An empty name, and for "mime" what the item holds.
        names = b"\0" + (part.content + b"\0" if part.kind == b"mime" else b"")
        body = struct.pack(">HH", number, 0) + part.kind + names
        entries += _full(b"infe", body, 2, int(part.hidden))
    return _full(b"iinf", struct.pack(">H", len(parts)) + entries)


def _references(parts: list[Part], numbers: dict[int, int]) -> bytes:
    found = b""
    for part in parts:
        for kind, targets in part.links:
            kept = [numbers[target] for target in targets if target in numbers]
            if kept:
                found += _box(kind, struct.pack(f">HH{len(kept)}H", numbers[part.key], len(kept), *kept))
    return _full(b"iref", found) if found else b""


def _properties(parts: list[Part]) -> bytes:
    """Each property once, and which item has which."""
    each = list(dict.fromkeys(body for part in parts for body, _ in part.properties))
    place = {body: index for index, body in enumerate(each, 1)}
    rows, count = b"", 0
    for number, part in enumerate(parts, 1):
        if part.properties:
            used = b"".join(struct.pack(">H", place[body] | essential << 15) for body, essential in part.properties)
            rows += struct.pack(">HB", number, len(part.properties)) + used
            count += 1
    return _box(b"iprp", _box(b"ipco", b"".join(each)) + _full(b"ipma", struct.pack(">I", count) + rows, flags=1))
