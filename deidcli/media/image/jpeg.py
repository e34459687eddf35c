"""JPEG: segments kept by the policy, and pixels encoded with the source's own tables and subsampling."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from io import BytesIO

import cv2
import numpy as np
from PIL import JpegImagePlugin

from deidcli.errors import MediaError
from deidcli.media.image import (
    ENCODED_AGAIN,
    SALVAGE,
    Container,
    Native,
    Rewriter,
    check_size,
    decoded,
    encoded,
    exif,
    icc,
    jpeg_tables,
    to_pillow,
    turned,
    upright,
)
from deidcli.media.image.exif import completed
from deidcli.media.image.jpeg_segments import APP0, APP14, CODED, COM, DQT, SOF, SOS, Segment, parsed, segments, written
from deidcli.media.metadata import holds_picture

_EXIF, _XMP, _ICC, _IPTC = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0", b"ICC_PROFILE\0", b"Photoshop 3.0\0"
_PILLOW_SAMPLING = {(1, 1): 0, (2, 1): 1, (2, 2): 2}
_OPENCV_SAMPLING = {(4, 1): cv2.IMWRITE_JPEG_SAMPLING_FACTOR_411, (1, 2): cv2.IMWRITE_JPEG_SAMPLING_FACTOR_440}
# Each scan of a progressive picture goes over all of it: usual ones have some ten, libjpeg's own tests stop at 500.
_USUAL_SCANS, _MOST_SCANS = 16, 500
_LARGEST_PAYLOAD = 65533
_SECONDS = 120
# The folder in which the command runs is no place to import from.
_PROGRAM = """
import sys
del sys.path[0]
from mozjpeg_lossless_optimization import optimize
sys.stdout.buffer.write(optimize(sys.stdin.buffer.read()))
"""
_PADDING = b"\x55" * 64


class Jpeg(Container):
    """JPEG, with its own quantisation tables and subsampling."""

    format = "JPEG"

    def __init__(self, data: bytes, name: str, salvage: bool = False):
        super().__init__(data, name, salvage)
        found, self.ended = parsed(data)
        self.segments = _known(found)
        frame = next((part for part in self.segments if part.marker in SOF), None)
        if frame is None or not any(part.marker == SOS for part in self.segments):
            raise MediaError("the JPEG holds no picture", "get a whole copy of the file")
        self.progressive = frame.marker in (0xC2, 0xC6, 0xCA, 0xCE)
        height, width = struct.unpack_from(">HH", frame.payload, 1)
        self.components = _components(frame)
        self.block = completed(self._block(0xE1, _EXIF), self._block(0xE1, _XMP))
        self.exif = exif.read_exif(self.block)
        self.size = turned(check_size((width, height)), self.exif.orientation)
        self.times = (None,)
        scans = sum(part.marker == SOS for part in self.segments)
        if scans > _MOST_SCANS:
            said = f"the JPEG has {scans} scans, where {_MOST_SCANS} are the limit: a decompression bomb"
            raise MediaError(said, "save it anew with another program")
        self.passes = max(1, scans // _USUAL_SCANS)

    def natives(self) -> Iterator[Native]:
        native = decoded(self.opened())
        if not self.ended:
            self._check_last_scan(native)
        yield upright(native, self.exif.orientation)

    def opened(self, padding: bytes = b"") -> JpegImagePlugin.JpegImageFile:
        """Pillow's view of the bare picture, not yet decoded. padding: put behind the last scan."""
        return JpegImagePlugin.JpegImageFile(BytesIO(self.bare()[:-2] + padding + b"\xff\xd9"))

    def bare(self) -> bytes:
        """The picture alone, with what says how its colours are stored."""
        return written([part for part in self.segments if not part.describes or part.marker == APP14])

    def _check_last_scan(self, native: Native) -> None:
        """Whether a file without an end still holds all of its pixels. Raises MediaError where some are missing.

        libjpeg fills missing pixels without saying so. What stands behind a complete scan changes no pixel; where the
        scan was cut off, the padding is taken for pixels.
        """
        if np.array_equal(native.data, decoded(self.opened(_PADDING)).data):
            return
        if not self.salvage:
            raise MediaError("the JPEG is truncated: it ends within its pixels", SALVAGE)
        self.damage = "the file ends within its pixels; the rest of the picture is missing"

    def scrubbed(self, metadata: str) -> bytes:
        """With the same coefficients, coded anew.

        Bytes can stand behind the last block of a scan, in rows below the stated height, in tables and scans that
        nothing uses and in codes that never occur; none of that survives. What cannot be coded anew is encoded.
        """
        fresh = b"" if self.damage else _optimized(self.bare())
        if fresh:
            shown = decoded(self.opened()).data
            if _shows(fresh, shown):
                plain = _plain_steps(fresh, shown)
                if plain is fresh or _shows(plain, shown):
                    return self._file(plain, metadata, None)
        self.changes = (ENCODED_AGAIN,)
        rewriter = self.rewriter(metadata)
        for native in self.natives():
            rewriter.add(native, None)
        return rewriter.finish()

    def rewriter(self, metadata: str) -> Rewriter:
        return _JpegRewriter(self, metadata)

    def rewritten(self, coded: bytes, metadata: str) -> bytes:
        """A file of the encoder's picture under this file's metadata."""
        return self._file(coded, metadata, self.size)

    def _file(self, coded: bytes, metadata: str, rewritten: tuple[int, int] | None) -> bytes:
        # The coder's own APP14 says which colours it wrote; the source's may say otherwise.
        body = [part for part in segments(coded) if not part.describes or part.marker == APP14]
        return written(self._head(metadata, rewritten) + body)

    def sampling(self) -> tuple[int, int]:
        """How many times finer the first component is than the second, on both axes."""
        factors = [divmod(component[1], 16) for component in self.components]
        if len(factors) != 3 or not all(factors[1]):
            return 1, 1
        return factors[0][0] // factors[1][0], factors[0][1] // factors[1][1]

    def is_rgb(self) -> bool:
        """Whether the components are red, green and blue and not luma and chroma."""
        adobe = self._block(APP14, b"Adobe")
        named = [component[0] for component in self.components] == list(b"RGB")
        return len(self.components) == 3 and (adobe[6:7] == b"\0" if len(adobe) > 6 else named)

    def _block(self, marker: int, signature: bytes) -> bytes:
        found = (part.payload for part in self.segments if part.marker == marker)
        return next((payload[len(signature) :] for payload in found if payload.startswith(signature)), b"")

    def _head(self, metadata: str, rewritten: tuple[int, int] | None) -> list[Segment]:
        """The application segments to write, each in its known form: JFIF, EXIF, profile, and under "all" the rest."""
        head = self._density(metadata)
        if (block := exif.kept_exif(self.block, metadata, rewritten)) is not None:
            head.append(Segment(0xE1, _EXIF + block))
        head += _profile(icc.scrubbed(self._profile(), metadata))
        if metadata == "all":
            head += filter(None, map(_descriptive, self.segments))
        return [part for part in head if len(part.payload) <= _LARGEST_PAYLOAD]

    def _density(self, metadata: str) -> list[Segment]:
        """JFIF with the source's resolution, also one that only EXIF states; none where the source has neither."""
        stored = self._block(APP0, b"JFIF\0")
        if len(stored) >= 7:
            unit, x, y = struct.unpack_from(">BHH", stored, 2)
            return [_jfif(unit, x, y) if metadata != "none" and unit <= 2 else _jfif(0, 1, 1)]
        # Colours other than these may not stand behind JFIF.
        allowed = len(self.components) == 1 or (len(self.components) == 3 and not self.is_rgb())
        return [_jfif(1, *self.exif.dpi)] if metadata != "none" and self.exif.dpi and allowed else []

    def _profile(self) -> bytes:
        """The ICC profile, put together from its numbered pieces."""
        start = len(_ICC) + 2
        pieces = [part.payload for part in self.segments if part.marker == 0xE2 and part.payload.startswith(_ICC)]
        return b"".join(piece[start:] for piece in sorted(pieces, key=lambda piece: piece[len(_ICC) : start]))


def _optimized(bare: bytes) -> bytes:
    """The picture with its coefficients coded anew; empty for what cannot be (arithmetic coding, lossless JPEG).

    In a process of its own: the library ends its process where a damaged picture has coefficients out of range.
    """
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
    command = [sys.executable, "-c", _PROGRAM]
    try:
        done = subprocess.run(command, input=bare, capture_output=True, timeout=_SECONDS, env=environment)
    except (OSError, subprocess.TimeoutExpired):
        return b""
    return done.stdout if done.returncode == 0 else b""


def _shows(coded: bytes, pixels: np.ndarray) -> bool:
    return np.array_equal(decoded(JpegImagePlugin.JpegImageFile(BytesIO(coded))).data, pixels)


def _plain_steps(coded: bytes, shown: np.ndarray) -> bytes:
    """A file of the coder, its quantisation tables without what no coefficient needs. shown: its decoded pixels.

    Standard tables stay as they are.
    """
    parts = segments(coded)
    frame = next(part for part in parts if part.marker in SOF)
    components = _components(frame)
    tables = jpeg_tables.read([part.payload for part in parts if part.marker == DQT])
    tables = {number: steps for number, steps in tables.items() if number in {each[2] for each in components}}
    if all(map(jpeg_tables.is_standard, tables.values())):
        return coded
    rest = [part for part in parts if part.marker != DQT]

    def file(chosen: jpeg_tables.Tables) -> bytes:
        return written([Segment(DQT, jpeg_tables.segment(chosen)), *rest])

    used = jpeg_tables.likely(coded, components, tables) or {number: np.zeros(64, bool) for number in tables}
    for number, steps in tables.items():
        if jpeg_tables.is_standard(steps):
            continue

        def same(places: list[int], number: int = number, steps: list[int] = steps) -> bool:
            others = jpeg_tables.plain(steps, [place not in places for place in range(64)])
            return _shows(file(tables | {number: others}), shown)

        needed = jpeg_tables.needed(used[number], same)
        tables[number] = jpeg_tables.plain(steps, [bool(each) for each in needed])
    return file(tables)


def _components(frame: Segment) -> list[tuple[int, ...]]:
    """Of each component its identity, its sampling factors, and the number of its quantisation table."""
    return [tuple(frame.payload[6 + 3 * i : 9 + 3 * i]) for i in range(frame.payload[5])]


def _known(parts: list[Segment]) -> list[Segment]:
    """The segments that a picture consists of, what describes it, and the last Adobe segment, which decoders go by."""
    adobe = [part.payload for part in parts if part.marker == APP14 and part.payload[:5] == b"Adobe"]
    kept = [part for part in parts if part.marker in CODED or (part.describes and part.marker != APP14)]
    return [Segment(APP14, payload[:12]) for payload in adobe[-1:] if len(payload) > 11] + kept


def _profile(profile: bytes) -> list[Segment]:
    room = _LARGEST_PAYLOAD - len(_ICC) - 2
    pieces = [profile[start : start + room] for start in range(0, len(profile), room)]
    return [Segment(0xE2, _ICC + bytes([i, len(pieces)]) + piece) for i, piece in enumerate(pieces, 1)]


def _descriptive(part: Segment) -> Segment | None:
    """What the policy "all" keeps beside EXIF and the profile."""
    if part.marker == 0xE1 and part.payload.startswith(_XMP):
        packet = exif.scrubbed_xmp(part.payload[len(_XMP) :])
        return None if packet is None else Segment(0xE1, _XMP + packet)
    if part.marker == 0xED and part.payload.startswith(_IPTC):
        return Segment(0xED, _IPTC + exif.scrubbed_photoshop(part.payload[len(_IPTC) :]))
    return part if part.marker == COM and not holds_picture(part.payload) else None


class _JpegRewriter(Rewriter):
    def __init__(self, source: Jpeg, metadata: str):
        self.source, self.metadata, self.coded = source, metadata, b""

    def add(self, native: Native, changed: np.ndarray | None) -> None:
        coarse = _OPENCV_SAMPLING.get(self.source.sampling()) if native.mode == "RGB" else None
        self.coded = _with_opencv(self.source, native, coarse) if coarse else _with_pillow(self.source, native)

    def finish(self) -> bytes:
        return self.source.rewritten(self.coded, self.metadata)


def _tables(source: Jpeg) -> list[list[int]]:
    """The quantisation table of each component, as Pillow's encoder wants them: luma, then chroma.

    The finest step alone for a lossless JPEG, which has none, and where it cannot be told which steps a source uses.
    """
    stated = _steps(source)
    if not all(stated):
        return [[1] * 64]
    tables = {stated.index(steps): steps for steps in stated}
    components = [(0, 0, stated.index(steps)) for steps in stated]
    # What no coefficient of the source needs may not steer how new ones are coded.
    odd = not all(map(jpeg_tables.is_standard, tables.values()))
    used = jpeg_tables.likely(source.bare(), components, tables) if odd else {}
    if used is None:
        tables = {number: [min(steps)] * 64 for number, steps in tables.items()}
    else:
        tables = {
            number: steps if jpeg_tables.is_standard(steps) else jpeg_tables.plain(steps, used[number])
            for number, steps in tables.items()
        }
    each = [jpeg_tables.by_rows(tables[number]) for *_, number in components]
    if len(each) != 3:
        return each[:1]
    return each[:2] if each[1] == each[2] else each


def _steps(source: Jpeg) -> list[list[int]]:
    """The steps by which each component is decoded, in zigzag order; none for one that has no table.

    A table that is defined anew counts from the first scan of a component on.
    """
    found: dict[int, list[int]] = {}
    now: jpeg_tables.Tables = {}
    for part in source.segments:
        if part.marker == DQT:
            now |= jpeg_tables.read([part.payload])
        elif part.marker == SOS:
            for identity in part.payload[1 : 1 + 2 * part.payload[0] : 2]:
                table = next((each[2] for each in source.components if each[0] == identity), -1)
                found.setdefault(identity, now.get(table, []))
    return [found.get(component[0], []) for component in source.components]


def _with_pillow(source: Jpeg, native: Native) -> bytes:
    return encoded(
        to_pillow(native),
        "JPEG",
        qtables=_tables(source),
        subsampling=_PILLOW_SAMPLING.get(source.sampling(), 0),
        progressive=source.progressive,
        optimize=True,
        keep_rgb=source.is_rgb(),
    )


def _with_opencv(source: Jpeg, native: Native, sampling: int) -> bytes:
    """For the subsamplings that Pillow cannot write; the tables are the standard ones nearest to the source's."""
    quality = _quality(_tables(source)[0])
    settings = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling]
    settings += [cv2.IMWRITE_JPEG_OPTIMIZE, 1, cv2.IMWRITE_JPEG_PROGRESSIVE, int(source.progressive)]
    done, coded = cv2.imencode(".jpg", np.ascontiguousarray(native.data[..., ::-1]), settings)
    if not done:
        raise MediaError("the JPEG could not be encoded", "convert it to 4:2:0 first")
    return coded.tobytes()


def _quality(table: list[int]) -> int:
    """The quality of the IJG scale whose mean luma step is this table's (57.625 is the mean of the standard table)."""
    percent = 100 * (sum(table) / len(table)) / 57.625
    quality = (200 - percent) / 2 if percent <= 100 else 5000 / percent
    return int(min(max(round(quality), 1), 100))


def _jfif(unit: int, x: float, y: float) -> Segment:
    density = [min(round(value), 65535) for value in (x, y)]
    return Segment(APP0, b"JFIF\0" + struct.pack(">BBBHHBB", 1, 1, unit, *density, 0, 0))
