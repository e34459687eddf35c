"""Compressed video packets and codec headers without what is no part of the picture: lists of what may stay.

A copied packet keeps the units that a decoder needs to show it. Comments, application segments, user data, unknown and
reserved units, second views and layers (which were not searched) are left out, whatever `--metadata` says.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from deidcli.errors import MediaError
from deidcli.media.image import av1
from deidcli.media.image.bmff import Bits
from deidcli.media.video import mjpeg, units

Scrub = Callable[[bytes], bytes]

# Codecs whose packets hold nothing but coded pictures.
_PLAIN = (
    *("vp8", "ffv1", "huffyuv", "ffvhuff", "utvideo", "magicyuv", "rawvideo", "v210", "v308", "v408", "r210"),
    *("dnxhd", "theora", "flv1", "h263", "h263p", "msmpeg4v1", "msmpeg4v2", "msmpeg4v3", "wmv1", "wmv2"),
    *("wmv3", "cinepak", "qtrle", "cljr", "snow", "asv1", "asv2", "wrapped_avframe"),
)


def packet_scrubber(codec: str, extradata: bytes) -> Scrub | None:
    """A function that scrubs a packet of a codec (FFmpeg's name); None where such packets may not be copied.

    extradata: the stream's own codec header, which says how units are told apart. The scrubber raises ValueError for a
    packet that is not what its codec says.
    """
    if codec in _PLAIN:
        return bytes
    if codec in ("h264", "hevc"):
        return units.scrubber(codec, extradata)
    return {
        "mjpeg": mjpeg.scrubbed,
        "mpeg1video": _mpeg2,
        "mpeg2video": _mpeg2,
        "mpeg4": _mpeg4,
        "vc1": _vc1,
        "av1": _av1(),
        "vp9": _vp9,
        "prores": _prores,
    }.get(codec)


def header_scrubbed(codec: str, data: bytes) -> bytes:
    """The codec header of a stream of pictures or sound, as far as it is known to be needed.

    Raises ValueError where it is not what its codec says.
    """
    if not data:
        return data
    if codec in ("h264", "hevc"):
        return units.header(codec, data)
    if codec in ("vorbis", "theora"):
        return _xiph(data)
    if codec == "flac":
        return _flac(data)
    if codec == "opus":
        return data[: 19 if data[18:19] in (b"\0", b"") else 21 + data[9]]
    if codec == "av1":
        return data[:4] + _av1()(data[4:]) if data[0] & 0x80 else _av1()(data)
    if codec in ("mpeg1video", "mpeg2video", "mpeg4", "vc1", "mjpeg"):
        scrub = packet_scrubber(codec, b"")
        return scrub(data) if scrub and codec != "mjpeg" else b""
    if codec == "aac":
        return _aac(data)
    return b"" if codec.startswith("pcm_") else data[: _LENGTHS.get(codec, len(data))]


# The most bytes that the headers of other codecs have. Those that are not named here stay as they are.
_LENGTHS = {
    **dict.fromkeys(("mp1", "mp2", "mp3", "ac3", "eac3", "dts", "truehd", "amr_nb", "amr_wb", "vp8", "vp9"), 0),
    **dict.fromkeys(("prores", "dnxhd", "flv1", "h263", "h263p", "msmpeg4v1", "msmpeg4v2", "msmpeg4v3", "v210"), 0),
    **{"alac": 36, "wmav1": 4, "wmav2": 10, "wmapro": 18, "adpcm_ms": 32, "adpcm_ima_wav": 2, "wmv1": 4, "wmv2": 4},
    **{"utvideo": 16, "asv1": 8, "asv2": 8, "cljr": 0},
}


# MPEG ----------------------------------------------------------------------------------------------------------------

# What some decoders go by to mend the bugs of these encoders; nothing else may stand there.
_ENCODERS = re.compile(rb"(DivX\d{1,4}([bB]|Build)\d{1,6}p?|XviD\d{1,4}|Lavc(\d{1,3}(\.\d{1,3}){0,3}))\0?")


def _started(data: bytes, kept: Callable[[int, bytes], bytes | None]) -> bytes:
    """The units of a stream with start codes, each by what `kept` makes of its code and its body; None is left out."""
    starts = [found.start() for found in units.START.finditer(data)]
    if not starts:
        raise ValueError("no start code")
    out = []
    for begin, end in zip(starts, [*starts[1:], len(data)], strict=True):
        unit = data[begin:end]
        try:
            fresh = kept(unit[3], unit[4:]) if len(unit) > 3 else None
        except MediaError as error:
            raise ValueError(error.message) from error
        out.append(b"" if fresh is None else unit[:4] + fresh)
    return b"".join(out)


def _mpeg2(data: bytes) -> bytes:
    """ISO/IEC 13818-2, section 6.2: headers of the length they state; of user data only closed captions stay."""
    return _started(data, _mpeg2_unit)


def _mpeg2_unit(code: int, body: bytes) -> bytes | None:
    if 0 < code <= 0xAF:
        # Behind the quantiser there may be information of any length, of which the first nine bits are known.
        if len(body) > 1 and body[0] & 4 and body[1] & 2:
            raise ValueError("a slice with other information")
        return body
    if code == 0xB2:
        captions = body[:5] == b"GA94\3" and units.caption_triples(body[7:].rstrip(b"\0")[:-1])
        return body if captions and len(body.rstrip(b"\0")) <= 8 + 3 * (body[5] & 31 if body[5:6] else 0) else None
    if code == 0xB3:
        own = 1 if len(body) > 7 and body[7] & 2 else 0
        other = len(body) > 7 + 64 * own and body[7 + 64 * own] & 1
        return body[: 8 + 64 * (own + other)]
    if code == 0xB8:
        return body[:4]
    if code == 0xB7:
        return b""
    if code == 0xB5:
        return _mpeg2_extension(body)
    if code:
        return None
    if len(body) < 4:
        raise ValueError("a header is cut off")
    # The type of the picture; 29 bits, and how far its vectors reach. Then no more information.
    bits = 29 + {2: 4, 3: 8}.get(body[1] >> 3 & 7, 0)
    return _first(body, bits)


def _mpeg2_extension(body: bytes) -> bytes | None:
    """The extensions of sequences and pictures. Not those of copyrights and of further layers."""
    kind = body[0] >> 4 if body else 0
    if kind == 1:
        return body[:6]
    if kind == 2:
        return _first(body, 61 if body[0] & 1 else 37)
    if kind == 3:
        bits = Bits(body)
        bits.take(4)
        for _ in range(4):
            if bits.flag():
                bits.take(512)
        return _first(body, bits.at)
    if kind == 7:
        return body[:14]
    if kind == 8:
        return _first(body, 54 if len(body) > 4 and body[4] & 0x40 else 34)
    return None


def _first(body: bytes, bits: int) -> bytes:
    """The first bits of a header, zeros behind them up to a whole byte."""
    if 8 * len(body) < bits:
        raise ValueError("a header is cut off")
    whole = int.from_bytes(body[: (bits + 7) // 8], "big") >> (-bits % 8) << (-bits % 8)
    return whole.to_bytes((bits + 7) // 8, "big")


def _mpeg4(data: bytes) -> bytes:
    """ISO/IEC 14496-2, section 6.2: headers of the length they state; of user data only the encoder's version stays."""
    return _started(data, _mpeg4_unit)


def _mpeg4_unit(code: int, body: bytes) -> bytes | None:
    if code == 0xB2:
        return body if _ENCODERS.fullmatch(body) else None
    if code <= 0x1F or code == 0xB1:
        return b""
    if code <= 0x2F:
        return _layer(body)
    if code == 0xB5:
        return _stuffed(body, 42 if body and body[0] < 0x80 and body[0] & 4 else 6) if len(body) > 5 else body
    return body if code == 0xB6 else body[:1] if code == 0xB0 else body[:3] if code == 0xB3 else None


def _layer(body: bytes) -> bytes:
    """The header of a video object layer. Raises ValueError for parts that are not followed."""
    bits = Bits(body)
    bits.take(9)
    version = 1
    if bits.flag():
        version = bits.take(4)
        bits.take(3)
    if bits.take(4) == 15:
        bits.take(16)
    if bits.flag():
        bits.take(3)
        bits.take(79 if bits.flag() else 0)
    if bits.take(2):
        raise ValueError("a layer that is no rectangle")
    bits.take(1)
    steps = bits.take(16)
    bits.take(1)
    if bits.flag():
        bits.take(max(1, (steps - 1).bit_length()))
    bits.take(31)
    sprite = bits.take(1 if version == 1 else 2)
    if sprite == 1:
        raise ValueError("a layer that is a sprite")
    bits.take(9 if sprite else 0)
    bits.take(8 if bits.flag() else 0)
    if bits.flag():
        for _ in range(2):
            if bits.flag():
                _read_matrix(bits)
    bits.take(0 if version == 1 else 1)
    if not bits.flag():
        raise ValueError("a layer with an estimate of its complexity")
    bits.take(1)
    bits.take(1 if bits.flag() else 0)
    if version != 1:
        bits.take(3 if bits.flag() else 0)
        bits.take(1)
    if bits.flag():
        raise ValueError("a layer upon another")
    return _stuffed(body, bits.at)


def _read_matrix(bits: Bits) -> None:
    for _ in range(64):
        if not bits.take(8):
            return


def _stuffed(body: bytes, count: int) -> bytes:
    """The first bits of a header, ended as MPEG-4 ends it: a bit 0, and 1 up to a whole byte."""
    length = count // 8 + 1
    whole = int.from_bytes(body[:length].ljust(length, b"\0"), "big")
    left = 8 * length - count
    return (whole >> left << left | (1 << left - 1) - 1).to_bytes(length, "big")


def _vc1(data: bytes) -> bytes:
    """SMPTE 421M, annex E: frames, fields, slices and headers."""
    return (
        _started(data, lambda code, body: body if 0x0A <= code <= 0x0F else None) if units.START.match(data) else data
    )


def _av1() -> Scrub:
    """AV1 specification, 5.3: sequence and frame headers, tiles, delimiters, and metadata of light."""
    point = [0]  # the layers that are shown, by the last sequence header

    def scrub(data: bytes) -> bytes:
        try:
            found = av1.units(data)
            return b"".join(unit.written() for each in found if (unit := _av1_unit(each, point)))
        except MediaError as error:
            raise ValueError(error.message) from error

    return scrub


def _av1_unit(unit: av1.Unit, point: list[int]) -> av1.Unit | None:
    if unit.kind == av1.SEQUENCE:
        payload, point[0] = av1.sequence(unit.payload)
        if (point[0] >> 8).bit_count() > 1:
            raise ValueError("several layers, of which one is shown")
        return replace(unit, payload=payload)
    if unit.kind == 2:
        return replace(unit, payload=b"")
    if unit.layer is not None and point[0]:
        # Layers that belong to another operating point were not decoded.
        temporal, spatial = unit.layer >> 5, unit.layer >> 3 & 3
        if not (point[0] >> temporal & 1 and point[0] >> 8 + spatial & 1):
            return None
    payload = unit.payload.rstrip(b"\0")
    light = (
        unit.kind == 5
        and payload[-1:] == b"\x80"
        and ((payload[:1] == b"\1" and len(payload) == 6) or (payload[:1] == b"\2" and _av1_display(payload[1:-1])))
    )
    return unit if unit.kind in (3, 4, 6, 7) or light else None


def _av1_display(data: bytes) -> bool:
    """As `units.display`, for the numbers of AV1: 16 bits after the point, and of light 8 and 14."""
    if len(data) != 24:
        return False
    points = [round(int.from_bytes(data[at : at + 2], "big") * 50_000 / 65_536) for at in range(0, 16, 2)]
    light = int.from_bytes(data[16:20], "big") * 10_000 // 256, int.from_bytes(data[20:], "big") * 10_000 // 16_384
    if any(each >> 32 for each in light):
        return False
    return units.display(
        b"".join(each.to_bytes(2, "big") for each in points) + b"".join(each.to_bytes(4, "big") for each in light)
    )


def _vp9(data: bytes) -> bytes:
    """Frames of the lengths that their index says, and nothing between them and it (VP9 specification, annex B)."""
    last = data[-1] if data else 0
    count, wide = (last & 7) + 1, (last >> 3 & 3) + 1
    size = 2 + count * wide
    if last & 0xE0 != 0xC0 or len(data) < size or data[-size] != last:
        return data
    index = data[-size:]
    whole = sum(int.from_bytes(index[1 + at * wide :][:wide], "little") for at in range(count))
    if whole > len(data) - size:
        raise ValueError("frames are longer than their packet")
    return data[:whole] + index


def _prores(data: bytes) -> bytes:
    """A frame of one or two pictures of the lengths that they state (SMPTE RDD 36), and nothing behind them."""
    if data[4:8] != b"icpf" or len(data) < 28:
        raise ValueError("no frame")
    end = 8 + int.from_bytes(data[8:10], "big")
    for _ in range(2 if data[20] & 0x0C else 1):
        end += int.from_bytes(data[end + 1 : end + 5], "big")
    if end > len(data):
        raise ValueError("a picture is longer than its packet")
    return end.to_bytes(4, "big") + data[4:end]


# Sound ---------------------------------------------------------------------------------------------------------------


def _xiph(data: bytes) -> bytes:
    """The three headers of Vorbis and Theora, the comments emptied."""
    headers = _unlaced(data)
    if len(headers) != 3:
        raise ValueError("not three headers")
    mark = b"\3vorbis" if headers[1].startswith(b"\3vorbis") else b"\x81theora"
    comment = mark + bytes(8) + (b"\1" if mark == b"\3vorbis" else b"")
    parts = [headers[0][: 30 if mark == b"\3vorbis" else 42], comment, headers[2]]
    return b"\2" + b"".join(units.as_sum(len(part)) for part in parts[:2]) + b"".join(parts)


def _unlaced(data: bytes) -> list[bytes]:
    """Headers that lie one after the other, with their lengths in front in one of two ways."""
    if data[0] == 2:
        first, at = units.sum_at(data, 1)
        second, at = units.sum_at(data, at)
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


def _aac(data: bytes) -> bytes:
    """ISO/IEC 14496-3, 1.6.2.1, for the usual kinds of AAC; others, and those with an own layout of channels, as is."""
    bits = Bits(data)
    try:
        kind = bits.take(5)
        bits.take(24 if bits.take(4) == 15 else 0)
        channels = bits.take(4)
        if kind in (5, 29):
            bits.take(24 if bits.take(4) == 15 else 0)
            kind = bits.take(5)
        if kind not in (1, 2, 3, 4) or not channels:
            return data
        bits.take(1)
        bits.take(14 if bits.flag() else 0)
        bits.take(1)
    except MediaError as error:
        raise ValueError(error.message) from error
    end = bits.at
    with suppress(MediaError):
        # Replicated bands, and parametric stereo, told behind what old decoders read.
        if bits.take(11) == 0x2B7 and bits.take(5) == 5:
            bits.take(24 if bits.flag() and bits.take(4) == 15 else 0)
            end = bits.at
            end = bits.at + 1 if bits.take(11) == 0x548 else end
    return _first(data, min(end, 8 * len(data)))
