"""Compressed video packets and codec headers without what is no part of the picture: lists of what may stay.

A copied packet keeps the units that a decoder needs to show it. Comments, application segments, user data, unknown and
reserved units, second views and layers (which were not searched) are left out, whatever `--metadata` says.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

Scrub = Callable[[bytes], bytes]

# Codecs whose packets hold nothing but coded pictures.
_PLAIN = (
    *("vp8", "vp9", "ffv1", "huffyuv", "ffvhuff", "utvideo", "magicyuv", "rawvideo", "v210", "v308", "v408", "r210"),
    *("prores", "dnxhd", "theora", "flv1", "h263", "h263p", "msmpeg4v1", "msmpeg4v2", "msmpeg4v3", "wmv1", "wmv2"),
    *("wmv3", "cinepak", "qtrle", "cljr", "snow", "asv1", "asv2", "wrapped_avframe"),
)
_START = re.compile(rb"\x00\x00\x01")


def packet_scrubber(codec: str, extradata: bytes) -> Scrub | None:
    """A function that scrubs a packet of a codec (FFmpeg's name); None where such packets may not be copied.

    extradata: the stream's own codec header, which says how units are told apart. The scrubber raises ValueError for a
    packet that is not what its codec says.
    """
    if codec in _PLAIN:
        return bytes
    if codec == "h264":
        return lambda data: _units(data, _avc_length(extradata), _h264_unit)
    if codec == "hevc":
        return lambda data: _units(data, _hevc_length(extradata), _hevc_unit)
    return {
        "mjpeg": _jpeg,
        "mpeg1video": _mpeg2,
        "mpeg2video": _mpeg2,
        "mpeg4": _mpeg4,
        "vc1": _vc1,
        "av1": _av1,
    }.get(codec)


def header_scrubbed(codec: str, data: bytes) -> bytes:
    """The codec header of a stream of pictures or sound, as far as it is known to be needed.

    Raises ValueError where it is not what its codec says.
    """
    if not data:
        return data
    if codec == "h264":
        return _avc_header(data) if data[0] == 1 else _units(data, 0, _h264_unit)
    if codec == "hevc":
        return _hevc_header(data) if data[0] == 1 else _units(data, 0, _hevc_unit)
    if codec in ("vorbis", "theora"):
        return _xiph(data)
    if codec == "flac":
        return _flac(data)
    if codec == "opus":
        return data[: 19 if data[18:19] in (b"\0", b"") else 21 + data[9]]
    if codec == "av1":
        return data[:4] + _av1(data[4:]) if data[0] & 0x80 else _av1(data)
    if codec in ("mpeg1video", "mpeg2video", "mpeg4", "vc1", "mjpeg"):
        scrub = packet_scrubber(codec, b"")
        return scrub(data) if scrub and codec != "mjpeg" else b""
    return data


# H.264 and HEVC ------------------------------------------------------------------------------------------------------

# Payloads of supplemental enhancement information that decoders and displays need, and the most bytes they have.
# ITU-T H.264 D.1 and H.265 D.2: buffering, timing, recovery, frame packing, orientation, colours of the master display,
# light levels, transfer, ambient light; in HEVC also active parameter sets, decoding units and the picture's hash.
_SEI = {0: 64, 1: 64, 6: 8, 45: 16, 47: 8, 137: 24, 144: 4, 147: 1, 148: 8}
_SEI_HEVC = {**_SEI, 129: 24, 130: 24, 132: 64}


def _units(data: bytes, length: int, kept: Callable[[bytes], bytes]) -> bytes:
    """Network abstraction layer units, each behind its length, or behind start codes where that is 0."""
    if length:
        parts = []
        at = 0
        while at < len(data):
            size = int.from_bytes(data[at : at + length], "big")
            unit = data[at + length : at + length + size]
            if len(unit) != size or at + length > len(data):
                raise ValueError("a unit is longer than its packet")
            if unit and (unit := kept(unit)):
                parts.append(len(unit).to_bytes(length, "big") + unit)
            at += length + size
        return b"".join(parts)
    return b"".join(b"\0\0\0\1" + unit for each in _between_starts(data) if each and (unit := kept(each)))


def _between_starts(data: bytes) -> Iterator[bytes]:
    """The units between start codes, without the zeros that may stand behind them."""
    starts = [found.start() for found in _START.finditer(data)]
    if not starts:
        raise ValueError("no start code")
    for begin, end in zip(starts, [*starts[1:], len(data)], strict=True):
        yield data[begin + 3 : end].rstrip(b"\0")


def _h264_unit(unit: bytes) -> bytes:
    kind = unit[0] & 31
    if kind == 6:
        return _sei(unit, 1, _SEI)
    # Slices and parameter sets; delimiters have two bytes, ends one. 14, 15 and 20 are second views and layers.
    return unit if kind in (1, 2, 3, 4, 5, 7, 8) else unit[:2] if kind == 9 else unit[:1] if kind in (10, 11) else b""


def _hevc_unit(unit: bytes) -> bytes:
    if len(unit) < 2 or (unit[0] & 1) << 5 | unit[1] >> 3:
        return b""  # another layer: a second view, or more detail
    kind = unit[0] >> 1 & 63
    if kind in (39, 40):
        return _sei(unit, 2, _SEI_HEVC)
    if kind == 35:
        return unit[:3]
    return unit if kind <= 9 or 16 <= kind <= 21 or kind in (32, 33, 34) else unit[:2] if kind in (36, 37) else b""


def _sei(unit: bytes, head: int, known: dict[int, int]) -> bytes:
    """Supplemental enhancement information with its known payloads alone."""
    data = unit[head:].replace(b"\0\0\3", b"\0\0")
    out, at = b"", 0
    while at + 2 <= len(data) and data[at:] not in (b"\x80", b""):
        kind, at = _sum(data, at)
        size, at = _sum(data, at)
        payload = data[at : at + size]
        at += size
        if len(payload) == size and (size <= known.get(kind, -1) or _captions(kind, payload)):
            out += _as_sum(kind) + _as_sum(size) + payload
    if not out:
        return b""
    return unit[:head] + re.sub(rb"\x00\x00(?=[\x00-\x03])", b"\0\0\3", out) + b"\x80"


def _captions(kind: int, payload: bytes) -> bool:
    """Whether a payload is closed captions (ATSC A/53) and nothing besides."""
    if kind != 4 or payload[:8] != b"\xb5\x00\x31GA94\x03" or len(payload) < 11:
        return False
    return len(payload) == 10 + 3 * (payload[8] & 31) + 1


def _sum(data: bytes, at: int) -> tuple[int, int]:
    """A number that is the sum of its bytes, of which all but the last are 255, and where it ends."""
    total = 0
    while at < len(data) and data[at] == 255:
        total, at = total + 255, at + 1
    return (total + data[at], at + 1) if at < len(data) else (total, at)


def _as_sum(number: int) -> bytes:
    return b"\xff" * (number // 255) + bytes([number % 255])


def _avc_length(header: bytes) -> int:
    return (header[4] & 3) + 1 if len(header) > 6 and header[0] == 1 else 0


def _hevc_length(header: bytes) -> int:
    return (header[21] & 3) + 1 if len(header) > 22 and header[0] == 1 else 0


def _avc_header(data: bytes) -> bytes:
    """ISO/IEC 14496-15, 5.3.3.1: six bytes, sequence and picture parameter sets, four bytes in high profiles."""
    out, at = data[:5], 5
    for mask, kind in ((31, 7), (255, 8)):
        count, at = data[at] & mask, at + 1
        sets = []
        for _ in range(count):
            size = int.from_bytes(data[at : at + 2], "big")
            unit = data[at + 2 : at + 2 + size]
            if len(unit) != size:
                raise ValueError("a parameter set is longer than its header")
            sets += [unit] if unit and unit[0] & 31 == kind else []
            at += 2 + size
        out += bytes([len(sets) | (0xE0 if mask == 31 else 0)])
        out += b"".join(len(unit).to_bytes(2, "big") + unit for unit in sets)
    high = data[1] in (100, 110, 122, 144) and len(data) >= at + 4
    return out + (data[at : at + 3] + b"\0" if high else b"")


def _hevc_header(data: bytes) -> bytes:
    """ISO/IEC 14496-15, 8.3.3.1: 22 bytes, then arrays of parameter sets."""
    arrays, at = [], 23
    for _ in range(data[22]):
        kind, count = data[at] & 63, int.from_bytes(data[at + 1 : at + 3], "big")
        head, at, units = data[at : at + 1], at + 3, []
        for _ in range(count):
            size = int.from_bytes(data[at : at + 2], "big")
            unit = data[at + 2 : at + 2 + size]
            if len(unit) != size:
                raise ValueError("a parameter set is longer than its header")
            at += 2 + size
            unit = _hevc_unit(unit) if kind in (32, 33, 34, 39, 40) else b""
            units += [unit] if unit else []
        if units:
            body = b"".join(len(unit).to_bytes(2, "big") + unit for unit in units)
            arrays.append(head + len(units).to_bytes(2, "big") + body)
    return data[:22] + bytes([len(arrays)]) + b"".join(arrays)


# MPEG ----------------------------------------------------------------------------------------------------------------

# What some decoders go by to mend the bugs of these encoders; nothing else may stand there.
_ENCODERS = re.compile(rb"(DivX\d{1,4}([bB]|Build)\d{1,6}p?|XviD\d{1,4}|Lavc(\d{1,3}(\.\d{1,3}){0,3}))\0?")


def _started(data: bytes, kept: Callable[[int, bytes], bool]) -> bytes:
    """The units of a stream with start codes for which `kept` holds, by their code and what follows it."""
    starts = [found.start() for found in _START.finditer(data)]
    if not starts:
        raise ValueError("no start code")
    out = []
    for begin, end in zip(starts, [*starts[1:], len(data)], strict=True):
        unit = data[begin:end]
        if len(unit) > 3 and kept(unit[3], unit[4:]):
            out.append(unit)
    return b"".join(out)


def _mpeg2(data: bytes) -> bytes:
    """ISO/IEC 13818-2, table 6-1; of user data only closed captions stay."""

    def kept(code: int, body: bytes) -> bool:
        if code == 0xB2:
            return body[:5] == b"GA94\x03" and len(body.rstrip(b"\0")) <= 8 + 3 * (body[5] & 31 if body[5:6] else 0)
        return code <= 0xAF or code in (0xB3, 0xB5, 0xB7, 0xB8)

    return _started(data, kept)


def _mpeg4(data: bytes) -> bytes:
    """ISO/IEC 14496-2, table 6-3; of user data only the encoder's version stays."""

    def kept(code: int, body: bytes) -> bool:
        if code == 0xB2:
            return _ENCODERS.fullmatch(body) is not None
        return code <= 0x2F or code in (0xB0, 0xB1, 0xB3, 0xB5, 0xB6)

    return _started(data, kept)


def _vc1(data: bytes) -> bytes:
    """SMPTE 421M, annex E: frames, fields, slices and headers."""
    return _started(data, lambda code, body: 0x0A <= code <= 0x0F) if _START.match(data) else data


def _av1(data: bytes) -> bytes:
    """AV1 specification, 5.3: sequence and frame headers, tiles, delimiters, and metadata of light."""
    out, at = b"", 0
    while at < len(data):
        head = data[at]
        kind, extended, sized = head >> 3 & 15, head >> 2 & 1, head >> 1 & 1
        body = at + 1 + extended
        size, body = _leb128(data, body) if sized else (len(data) - body, body)
        if body + size > len(data):
            raise ValueError("a unit is longer than its packet")
        light = kind == 5 and (data[body : body + 1], size) in ((b"\1", 6), (b"\2", 26))
        if kind in (1, 2, 3, 4, 6, 7) or light:
            out += data[at : body + size]
        at = body + size
    return out


def _leb128(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for place in range(8):
        if at >= len(data):
            raise ValueError("a number is cut off")
        value |= (data[at] & 127) << 7 * place
        at += 1
        if not data[at - 1] & 128:
            break
    return value, at


# JPEG ----------------------------------------------------------------------------------------------------------------

_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")


def _jpeg(data: bytes) -> bytes:
    """One picture, or two fields of one: tables, frame, scans; JFIF, AVI1 and Adobe segments as they are defined."""
    first, end = _jpeg_picture(data, 0)
    second = data.find(b"\xff\xd8", end)
    if second < 0 or b"AVI1" not in data[second : second + 16]:
        return first
    return first + _jpeg_picture(data, second)[0]


def _jpeg_picture(data: bytes, at: int) -> tuple[bytes, int]:
    """A picture without what is no part of it, and where it ends."""
    if data[at : at + 2] != b"\xff\xd8":
        raise ValueError("no JPEG")
    out, at = [b"\xff\xd8"], at + 2
    while (found := _MARKER.search(data, at)) is not None:
        at = found.start()
        code = data[at + 1]
        if code == 0xD9:
            return b"".join([*out, b"\xff\xd9"]), at + 2
        size = int.from_bytes(data[at + 2 : at + 4], "big")
        segment, at = data[at : at + 2 + size], at + 2 + size
        if code == 0xDA:
            rest = _MARKER.search(data, at)
            end = rest.start() if rest else len(data)
            out += [segment, data[at:end]]
            at = end
        elif 0xC0 <= code <= 0xCF or code in (0xDB, 0xDD):
            out.append(segment)
        elif code == 0xE0 and segment[4:9] == b"JFIF\0" and size >= 16:
            out.append(b"\xff\xe0\0\x10" + segment[4:16] + b"\0\0")
        elif code == 0xE0 and segment[4:8] == b"AVI1":
            out.append(b"\xff\xe0\0\x10" + segment[4:9].ljust(14, b"\0"))
        elif code == 0xEE and segment[4:9] == b"Adobe" and size >= 14:
            out.append(b"\xff\xee\0\x0e" + segment[4:16])
    return b"".join(out), len(data)


# Sound ---------------------------------------------------------------------------------------------------------------


def _xiph(data: bytes) -> bytes:
    """The three headers of Vorbis and Theora, the comments emptied."""
    headers = _unlaced(data)
    if len(headers) != 3:
        raise ValueError("not three headers")
    mark = b"\3vorbis" if headers[1].startswith(b"\3vorbis") else b"\x81theora"
    comment = mark + bytes(8) + (b"\1" if mark == b"\3vorbis" else b"")
    parts = [headers[0][: 30 if mark == b"\3vorbis" else 42], comment, headers[2]]
    return b"\2" + b"".join(_as_sum(len(part)) for part in parts[:2]) + b"".join(parts)


def _unlaced(data: bytes) -> list[bytes]:
    """Headers that lie one after the other, with their lengths in front in one of two ways."""
    if data[0] == 2:
        first, at = _sum(data, 1)
        second, at = _sum(data, at)
        return [data[at : at + first], data[at + first : at + first + second], data[at + first + second :]]
    parts, at = [], 0
    while at + 2 <= len(data):
        size = int.from_bytes(data[at : at + 2], "big")
        parts.append(data[at + 2 : at + 2 + size])
        at += 2 + size
    return parts


def _flac(data: bytes) -> bytes:
    """STREAMINFO alone, with or without what stands before it."""
    return data[8:42] if data[:4] == b"fLaC" else data[:34]
