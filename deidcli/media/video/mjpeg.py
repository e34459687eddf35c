"""JPEGs as frames of a video: tables, frame and scans; JFIF, AVI1 and Adobe segments as they are defined.

Codes of a Huffman table that never occur, and steps of a quantisation table that no coefficient needs, stay.
"""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np

from deidcli.media.image import jpeg_tables, least
from deidcli.media.image.jpeg_segments import APP0, APP14, DQT, SOF, SOS, Segment, written
from deidcli.media.image.jpeg_tables import planes

_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")


def scrubbed(data: bytes) -> bytes:
    """One picture, or two fields of one: tables, frame, scans; JFIF, AVI1 and Adobe segments as they are defined."""
    first, end = _picture(data, 0)
    second = data.find(b"\xff\xd8", end)
    if second < 0 or b"AVI1" not in data[second : second + 16]:
        return first
    return first + _picture(data, second)[0]


def _picture(data: bytes, at: int) -> tuple[bytes, int]:
    """A picture without what is no part of it, and where it ends.

    Tables that no component and no scan names go, and so do bytes behind the last block of a scan (rows below the
    stated height, too): the decoder gives the same picture without them.
    """
    if data[at : at + 2] != b"\xff\xd8":
        raise ValueError("no JPEG")
    found, at, end = [], at + 2, len(data)
    while (match := _MARKER.search(data, at)) is not None:
        at = match.start()
        code = data[at + 1]
        if code == 0xD9:
            end = at + 2
            break
        size = int.from_bytes(data[at + 2 : at + 4], "big")
        payload, at = data[at + 4 : at + 2 + size], at + 2 + size
        scan = b""
        if code == 0xDA:
            rest = _MARKER.search(data, at)
            scan = data[at : rest.start() if rest else len(data)]
            at += len(scan)
        if (known := _segment(code, payload)) is not None:
            found.append(Segment(code, known, scan))
    scans = [place for place, part in enumerate(found) if part.marker == SOS]
    if not scans:
        raise ValueError("a picture without a scan")
    kept = [*found[: scans[-1]], _cut_scan(found, scans[-1])]
    return written([fresh for part in kept if (fresh := _named(part, found)).payload]), end


def _segment(code: int, payload: bytes) -> bytes | None:
    if 0xC0 <= code <= 0xCF or code in (DQT, SOS, 0xDD):
        return payload
    if code == APP0 and payload[:5] == b"JFIF\0" and len(payload) >= 14:
        return payload[:12] + b"\0\0"
    if code == APP0 and payload[:4] == b"AVI1":
        return payload[:5].ljust(14, b"\0")
    return payload[:12] if code == APP14 and payload[:5] == b"Adobe" and len(payload) >= 12 else None


def _cut_scan(parts: list[Segment], place: int) -> Segment:
    """The last scan as far as the decoder reads it."""
    last = parts[place]

    def of(length: int) -> Segment:
        return replace(last, scan=last.scan[:length])

    def shown(length: int) -> list[np.ndarray] | None:
        return planes(written([*parts[:place], of(length)]))

    whole = shown(len(last.scan))
    if whole is None:
        raise ValueError("a picture that cannot be decoded")

    def same(length: int) -> bool:
        other = shown(length)
        return other is not None and all(map(np.array_equal, whole, other))

    return of(least(len(last.scan), same))


def _named(part: Segment, parts: list[Segment]) -> Segment:
    """Of a segment of tables those that the frame or a scan names."""
    if part.marker == DQT:
        named = {each for frame in parts if frame.marker in SOF for each in frame.payload[8::3]}
        tables = jpeg_tables.read([part.payload])
        return replace(part, payload=jpeg_tables.segment({key: tables[key] for key in named & set(tables)}))
    if part.marker != 0xC4:
        return part
    pairs = [pair for scan in parts if scan.marker == SOS for pair in scan.payload[2 : 1 + 2 * scan.payload[0] : 2]]
    named = {pair >> 4 for pair in pairs} | {0x10 | pair & 15 for pair in pairs}
    out, at = b"", 0
    while at < len(part.payload):
        table = part.payload[at : at + 17 + sum(part.payload[at + 1 : at + 17])]
        out += table if table[0] in named else b""
        at += len(table)
    return replace(part, payload=out)
