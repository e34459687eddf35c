"""The segments of a JPEG file (ITU-T T.81, annex B)."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

from deidcli.errors import MediaError

SOF = {0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF}
_SEQUENTIAL = {0xC0, 0xC1, 0xC9}
# DHT, DAC, SOS, DQT, DNL, DRI, COM and APPn may stand between scans.
_AFTER_SCAN = {0xC4, 0xCC, 0xDA, 0xDB, 0xDC, 0xDD, 0xFE, *range(0xE0, 0xF0)}
# Frame, DHT, DAC, SOS, DQT, DNL and DRI.
CODED = {*SOF, 0xC4, 0xCC, 0xDA, 0xDB, 0xDC, 0xDD}
DQT, SOS, EOI, APP0, APP14, COM = 0xDB, 0xDA, 0xD9, 0xE0, 0xEE, 0xFE
# One byte of 0xFF each: a quantifier would try every length of a run of them, which takes quadratic time.
_MARKER = re.compile(rb"\xff[^\x00\xff]")
_MARKER_IN_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_ALONE = {0x01, *range(0xD0, 0xD9)}  # TEM, RSTn and SOI have no length


@dataclass(frozen=True)
class Segment:
    """marker: its second byte. payload: without the length. scan: the entropy-coded data behind a start of scan."""

    marker: int
    payload: bytes
    scan: bytes = b""

    def written(self) -> bytes:
        return struct.pack(">BBH", 255, self.marker, len(self.payload) + 2) + self.payload + self.scan

    @property
    def describes(self) -> bool:
        """Whether the picture is the same without it (an application segment or a comment)."""
        return 0xE0 <= self.marker <= 0xEF or self.marker == COM


def segments(data: bytes) -> list[Segment]:
    """The segments of the first picture in `data`; what stands behind its end is left out. Raises MediaError."""
    return parsed(data)[0]


def parsed(data: bytes) -> tuple[list[Segment], bool]:
    """The segments of the first picture, and whether an end-of-image marker closes it.

    Resynchronises as libjpeg does: bytes between segments that begin no marker are skipped, and so are fill bytes.
    What cannot follow a scan, like a maker's trailer, ends the picture as the end of the file does. Raises MediaError
    where the file ends before the pixels of a first scan begin.
    """
    found: list[Segment] = []
    at = 2
    while (match := _MARKER.search(data, at)) is not None:
        marker, at = match.group()[1], match.end()
        if marker == EOI:
            return found, True
        if marker in _ALONE:
            continue
        size = int.from_bytes(data[at : at + 2], "big")
        if size < 2 or at + size > len(data) or (marker not in _AFTER_SCAN and _scanned(found)):
            break
        payload, at = data[at + 2 : at + size], at + size
        end = _scan_end(data, at) if marker == SOS else at
        # Fill bytes before the next marker belong to no scan.
        found.append(Segment(marker, payload, data[at:end].rstrip(b"\xff")))
        at = end
    if not _scanned(found):
        raise MediaError("the JPEG is truncated: it ends before its pixels", "get a whole copy of the file")
    return _to_last_needed(found), False


def _scanned(found: list[Segment]) -> bool:
    return any(part.marker == SOS for part in found)


def _to_last_needed(found: list[Segment]) -> list[Segment]:
    """Without what stands behind the scan after which a sequential picture is complete."""
    frame = next((part for part in found if part.marker in SOF), None)
    if frame is None or frame.marker not in _SEQUENTIAL or len(frame.payload) < 6:
        return found
    missing = set(frame.payload[6::3][: frame.payload[5]])
    for place, part in enumerate(found):
        if part.marker == SOS and part.payload:
            missing -= set(part.payload[1 : 1 + 2 * part.payload[0] : 2])
            if not missing:
                return found[: place + 1]
    return found


def _scan_end(data: bytes, at: int) -> int:
    match = _MARKER_IN_SCAN.search(data, at)
    return len(data) if match is None else match.start()


def written(parts: list[Segment]) -> bytes:
    """The file of these segments."""
    return b"\xff\xd8" + b"".join(part.written() for part in parts) + b"\xff\xd9"
