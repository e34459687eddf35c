"""What hides in a video beside its pictures: a marker is planted in many places, and is nowhere under safe and none."""

import struct
import tempfile
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from deidcli.media.stream import WriteOptions
from deidcli.media.video.scrub import header_scrubbed, packet_scrubber

from .filmed import COUNT, SECRET, film, film_of, through

MARKER = (SECRET + "HIDDEN").encode()
H264 = {"codec": "libx264", "settings": {"bf": "0"}}
HEVC = {"codec": "libx265", "settings": {"x265-params": "log-level=none:bframes=0"}}
MJPEG = {"codec": "mjpeg", "pixels": "yuvj420p"}
VP9 = {"codec": "libvpx-vp9"}
MPEG2 = {"codec": "mpeg2video", "clock": Fraction(1, 25)}
MPEG4 = {"codec": "mpeg4", "clock": Fraction(1, 25)}
PRORES = {"codec": "prores_ks", "pixels": "yuv422p10le"}
UUID = bytes(range(16))
TURNED = (0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30)


def remade(path, target, change, streams=(0,), extradata=None):
    """The packets of a video, each changed, in a new file of the kind that `target` names."""
    with av.open(str(path)) as source, av.open(str(target), "w") as out:
        tracks = {index: out.add_stream_from_template(source.streams[index]) for index in streams}
        if extradata:
            first = tracks[streams[0]]
            first.codec_context.extradata = extradata(first.codec_context.extradata)
        for packet in source.demux():
            if packet.size and packet.stream_index in tracks:
                data = change(bytes(packet)) if packet.stream_index == 0 else bytes(packet)
                new = av.Packet(data)
                new.pts, new.dts, new.duration, new.time_base = (
                    packet.pts,
                    packet.dts,
                    packet.duration,
                    packet.time_base,
                )
                new.is_keyframe, new.stream = packet.is_keyframe, tracks[packet.stream_index]
                out.mux(new)
    return target


def sei(kind, payload):
    """A unit of H.264 with supplemental enhancement information."""
    return b"\6" + bytes([kind, len(payload)]) + payload + b"\x80"


def prefixed(unit):
    """Before what a packet holds, a unit behind its length."""
    return lambda data: len(unit).to_bytes(4, "big") + unit + data


def started(unit):
    return lambda data: b"\0\0\0\1" + unit + data


def segment(code, body):
    return lambda data: data[:2] + bytes([0xFF, code]) + struct.pack(">H", 2 + len(body)) + body + data[2:]


def box(kind, body):
    return struct.pack(">I4s", 8 + len(body), kind) + body


def behind(extra):
    """A file with something at its end."""

    def make(path):
        path.write_bytes(path.read_bytes() + extra)
        return path

    return make


def in_moov(extra):
    """A file with a box more at the end of its index, which comes last."""

    def make(path):
        data = bytearray(path.read_bytes())
        at = data.rindex(b"moov") - 4
        size = int.from_bytes(data[at : at + 4], "big")
        assert at + size == len(data)
        data[at : at + 4] = (size + len(extra)).to_bytes(4, "big")
        path.write_bytes(bytes(data) + extra)
        return path

    return make


def replaced(old, new):
    def make(path):
        data = path.read_bytes()
        assert old in data
        path.write_bytes(data.replace(old, new))
        return path

    return make


def chunk(kind, body):
    return kind + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)


def in_riff(extra):
    """A file with a chunk more at its end."""

    def make(path):
        data = path.read_bytes() + extra
        path.write_bytes(data[:4] + struct.pack("<I", len(data) - 8) + data[8:])
        return path

    return make


def element(identity, body):
    return identity + (len(body) | 1 << 28).to_bytes(4, "big") + body


def elements(data):
    """(identity, body) of the elements of Matroska that lie one behind the other."""
    at = 0
    while at < len(data):
        start, at = at, at + 9 - data[at].bit_length()
        identity, count = data[start:at], 9 - data[at].bit_length()
        size = int.from_bytes(data[at : at + count], "big") & ((1 << 7 * count) - 1)
        yield identity, data[at + count : at + count + size]
        at += count + size


def with_additions(path):
    """Matroska with a text beside the data of every block, where alpha has its place."""
    more = element(b"\x75\xa1", element(b"\xa6", element(b"\xee", b"\1") + element(b"\xa5", MARKER)))

    def within(identity, body):
        inner = {b"\x1f\x43\xb6\x75", b"\x16\x54\xae\x6b", b"\x18\x53\x80\x67"}
        if identity in (b"\x11\x4d\x9b\x74", b"\x1c\x53\xbb\x6b", b"\xec"):
            return b""  # places that do not hold any more
        if identity == b"\xa3":
            return element(b"\xa0", element(b"\xa1", body[:3] + bytes([body[3] & 0x7F]) + body[4:]) + more)
        if identity in inner:
            body = b"".join(within(*each) for each in elements(body))
        body += element(b"\x55\xee", b"\1") if identity == b"\xae" else more if identity == b"\xa0" else b""
        return element(identity, body)

    path.write_bytes(b"".join(within(*each) for each in elements(path.read_bytes())))
    return path


def units_of(data):
    """What follows each start code."""
    return [part for part in data.replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1") if part]


def tailed(kind, mask=31):
    """A packet between start codes in which the first unit of a kind has something behind its end."""

    def change(data):
        return b"".join(b"\0\0\0\1" + unit + (MARKER if unit[0] & mask == kind else b"") for unit in units_of(data))

    return change


def parameter_sets(folder):
    """The sequence and the picture parameter set of a film."""
    with av.open(str(film(folder / "sets.mp4", **H264))) as container:
        sets = container.streams.video[0].codec_context.extradata
    count = int.from_bytes(sets[6:8], "big")
    second = sets[8 + count + 1 :]
    return sets[8 : 8 + count], second[2 : 2 + int.from_bytes(second[:2], "big")]


def prefixed_set(kind):
    """Before what a packet holds, the parameter set of the film once more, with something behind its end."""
    made = []

    def change(data):
        if not made:
            made.append(dict(zip((7, 8), parameter_sets(Path(tempfile.mkdtemp())), strict=True))[kind] + MARKER)
        return prefixed(made[0])(data)

    return change


def captioned(text):
    """ATSC captions that are three letters each."""
    text = text.ljust(-(-len(text) // 3) * 3)
    return b"\xb5\0\x31GA94\3" + bytes([0xC0 | len(text) // 3]) + b"\xff" + text + b"\xff"


def within(code):
    """Something behind the header of a kind, before the next start code."""

    def change(data):
        parts = data.split(b"\0\0\1")
        return b"\0\0\1".join(part + (MARKER if part[:1] == bytes([code]) else b"") for part in parts)

    return change


def before(code, unit):
    """A unit before each that begins with a code."""
    return lambda data: data.replace(b"\0\0\1" + bytes([code]), unit + b"\0\0\1" + bytes([code]))


def indexed(data):
    """A frame of VP9 as one of several, with something between it and the index."""
    if data[-1] & 0xE0 == 0xC0:
        size = 2 + ((data[-1] & 7) + 1) * ((data[-1] >> 3 & 3) + 1)
        return data[:-size] + MARKER + data[-size:]
    return data + MARKER + b"\xd8" + len(data).to_bytes(4, "little") + b"\xd8"


# What is drawn, the file it becomes, how packets are changed, and how the file is.
PLACES = {
    "SEI, user data": (H264, "mp4", prefixed(sei(5, UUID + MARKER)), None),
    "SEI, registered": (H264, "mp4", prefixed(sei(4, b"\xb5\0\x31GPS1" + MARKER)), None),
    "SEI, captions too long": (H264, "mkv", prefixed(sei(4, b"\xb5\0\x31GA94\3\xc1\xff" + MARKER)), None),
    "SEI, unknown": (H264, "mov", prefixed(sei(200, MARKER)), None),
    "SEI, timing too long": (H264, "mkv", prefixed(sei(1, MARKER * 5)), None),
    "H.264 filler": (H264, "mp4", prefixed(b"\x0c" + MARKER + b"\x80"), None),
    "H.264 unspecified unit": (H264, "mkv", prefixed(b"\x1e" + MARKER), None),
    "H.264 second view": (H264, "mkv", prefixed(b"\x74\x40\0\0" + MARKER), None),
    "H.264 delimiter with more": (H264, "mp4", prefixed(b"\x09\xf0" + MARKER), None),
    "H.264 in a transport stream": (H264, "ts", started(sei(5, UUID + MARKER)), None),
    "H.264 in flash": (H264, "flv", prefixed(sei(5, UUID + MARKER)), None),
    "HEVC user data": (HEVC, "mp4", prefixed(b"\x4e\1\5" + bytes([16 + len(MARKER)]) + UUID + MARKER + b"\x80"), None),
    "HEVC suffix": (HEVC, "mkv", prefixed(b"\x50\1\5" + bytes([16 + len(MARKER)]) + UUID + MARKER + b"\x80"), None),
    "HEVC unspecified unit": (HEVC, "mkv", prefixed(b"\x7c\1" + MARKER), None),
    "HEVC second layer": (HEVC, "mp4", prefixed(b"\x02\x09" + MARKER), None),
    "H.264 behind a sequence set": (H264, "ts", tailed(7), None),
    "H.264 behind a picture set": (H264, "mkv", prefixed_set(8), None),
    "H.264 behind a picture set in band": (H264, "ts", tailed(8), None),
    "HEVC behind the video set": (HEVC, "ts", tailed(64, 0x7E), None),
    "HEVC behind the sequence set": (HEVC, "ts", tailed(66, 0x7E), None),
    "HEVC behind the picture set": (HEVC, "ts", tailed(68, 0x7E), None),
    "SEI, a time as long as may be": (H264, "mp4", prefixed(sei(1, MARKER)), None),
    "SEI, buffering": (H264, "mkv", prefixed(sei(0, MARKER)), None),
    "SEI, recovery": (H264, "mkv", prefixed(sei(6, b"\x84" + MARKER)), None),
    "SEI, two views in one": (H264, "mp4", prefixed(sei(45, b"\x83\x87" + MARKER)), None),
    "SEI, display": (H264, "mp4", prefixed(sei(137, MARKER.ljust(24, b"\1"))), None),
    "SEI, captions of text": (H264, "mp4", prefixed(sei(4, captioned(MARKER))), None),
    "HEVC hash": (HEVC, "mp4", prefixed(b"\x50\1\x84" + bytes([1 + 48]) + b"\0" + MARKER.ljust(48) + b"\x80"), None),
    "HEVC active sets": (HEVC, "mp4", prefixed(b"\x4e\1\x81" + bytes([len(MARKER)]) + MARKER + b"\x80"), None),
    "HEVC decoding unit": (HEVC, "mkv", prefixed(b"\x4e\1\x82" + bytes([len(MARKER)]) + MARKER + b"\x80"), None),
    "HEVC filler": (HEVC, "mkv", prefixed(b"\x4c\1" + MARKER + b"\x80"), None),
    "VP9 before its index": (VP9, "webm", indexed, None),
    "VP9 before its index, Matroska": (VP9, "mkv", indexed, None),
    "MPEG-2 behind the sequence": (MPEG2, "ts", within(0xB3), None),
    "MPEG-2 behind the extension": (MPEG2, "ts", within(0xB5), None),
    "MPEG-2 behind the picture": (MPEG2, "ts", within(0), None),
    "MPEG-2 behind the group": (MPEG2, "ts", within(0xB8), None),
    "MPEG-2 copyright": (MPEG2, "ts", before(0, b"\0\0\1\xb5\x40" + MARKER), None),
    "MPEG-2 captions of text": (MPEG2, "ts", before(0, b"\0\0\1\xb2" + captioned(MARKER)[3:]), None),
    "MPEG-4 behind the layer": ({**MPEG4, "settings": {"flags": "-global_header"}}, "avi", within(0x20), None),
    "MPEG-4 behind the sequence": (MPEG4, "avi", before(0xB6, b"\0\0\1\xb0\1" + MARKER), None),
    "MPEG-4 behind the group": (MPEG4, "avi", before(0xB6, b"\0\0\1\xb3\0\x10\x07" + MARKER), None),
    "ProRes behind the frame": (PRORES, "mov", lambda data: data + MARKER, None),
    "ProRes behind the frame, Matroska": (PRORES, "mkv", lambda data: data + MARKER, None),
    "MJPEG behind the scan": (MJPEG, "avi", lambda data: data[:-2] + MARKER + data[-2:], None),
    "MJPEG far behind the scan": (MJPEG, "mkv", lambda data: data[:-2] + bytes(99) + MARKER + data[-2:], None),
    "MJPEG steps of no component": (MJPEG, "mov", segment(0xDB, b"\3" + MARKER.ljust(64, b"\1")), None),
    "MJPEG codes of no scan": (
        MJPEG,
        "avi",
        segment(0xC4, b"\x13" + bytes(7) + bytes([len(MARKER)]) + bytes(8) + MARKER),
        None,
    ),
    "MJPEG comment": (MJPEG, "avi", segment(0xFE, MARKER), None),
    "MJPEG EXIF": (MJPEG, "avi", segment(0xE1, b"Exif\0\0" + MARKER), None),
    "MJPEG unknown segment": (MJPEG, "mkv", segment(0xE9, MARKER), None),
    "MJPEG JFIF thumbnail": (MJPEG, "mov", segment(0xE0, b"JFIF\0\1\1\0\0\1\0\1\4\4" + MARKER), None),
    "MJPEG behind the end": (MJPEG, "avi", lambda data: data + MARKER, None),
    "MPEG-2 user data": ({"codec": "mpeg2video", "clock": Fraction(1, 25)}, "ts", None, None),
    "MPEG-4 user data": ({"codec": "mpeg4", "clock": Fraction(1, 25)}, "avi", None, None),
    "MP4 behind the end": (H264, "mp4", None, behind(MARKER)),
    "MP4 free": (H264, "mp4", None, behind(box(b"free", MARKER))),
    "MP4 uuid": (H264, "mp4", None, behind(box(b"uuid", UUID + MARKER))),
    "MP4 udta": (
        H264,
        "mp4",
        None,
        in_moov(box(b"udta", box(b"\xa9xyz", struct.pack(">HH", len(MARKER), 0) + MARKER))),
    ),
    "MP4 meta": (H264, "mp4", None, in_moov(box(b"meta", bytes(4) + MARKER))),
    "MP4 handler's name": (H264, "mp4", None, replaced(b"VideoHandler", b"GEOSECRET52N")),
    "MP4 display matrix": (
        {**H264, "matrix": TURNED},
        "mp4",
        None,
        replaced(struct.pack(">9i", *TURNED), MARKER.ljust(36)),
    ),
    "MP4 colour profile": (H264, "mp4", None, in_moov(box(b"colr", b"prof" + bytes(128) + MARKER))),
    "MP4 keys": (H264, "mp4", None, in_moov(box(b"pssh", bytes(20) + struct.pack(">I", len(MARKER)) + MARKER))),
    "MP4 display": (MPEG4, "mov", None, in_moov(box(b"mdcv", MARKER[:24]))),
    "Matroska beside blocks": (H264, "mkv", None, with_additions),
    "Matroska beside blocks of sound": ({**MPEG4, "sound": [("ac3", "eng")]}, "mkv", None, with_additions),
    "WebM beside blocks": ({"codec": "libvpx"}, "webm", None, with_additions),
    "MOV uuid in the index": (H264, "mov", None, in_moov(box(b"uuid", UUID + MARKER))),
    "AVI INFO": (MJPEG, "avi", None, in_riff(chunk(b"LIST", b"INFO" + chunk(b"ICMT", MARKER)))),
    "AVI JUNK": (MJPEG, "avi", None, in_riff(chunk(b"JUNK", MARKER))),
    "AVI unknown chunk": (MJPEG, "avi", None, in_riff(chunk(b"GPS0", MARKER))),
    "Matroska Void": (H264, "mkv", None, behind(element(b"\xec", MARKER))),
    "Matroska behind the end": (H264, "mkv", None, behind(element(b"\x1a\x45\xdf\xa5", MARKER))),
    "Matroska tags": ({**H264, "tags": {"comment": MARKER.decode(), "LOCATION": MARKER.decode()}}, "mkv", None, None),
    "Matroska chapters": (
        {
            **H264,
            "chapters": [
                {"id": 1, "start": 0, "end": 9, "time_base": Fraction(1, 10), "metadata": {"title": MARKER.decode()}}
            ],
        },
        "mkv",
        None,
        None,
    ),
    "track title": (H264, "mkv", None, None),
    "track language": ({**MPEG4, "sound": [("ac3", MARKER.decode())]}, "mkv", None, None),
}


@pytest.mark.parametrize("policy", ["safe", "none"])
@pytest.mark.parametrize("place", PLACES)
def test_a_marker_goes(tmp_path, place, policy):
    made, suffix, change, finish = PLACES[place]
    if place.startswith("MPEG-"):
        change = lambda data: data[:0] + b"\0\0\1\xb2" + MARKER + data  # noqa: E731
    path = film(tmp_path / ("a.mkv" if change else f"in.{suffix}"), **made)
    if change:
        lengths = suffix != "ts" or "codec" not in made or made["codec"] not in ("libx264", "libx265")
        source = path if lengths else film(tmp_path / "a.ts", **made)
        path = remade(source, tmp_path / f"in.{suffix}", change)
    if finish:
        path = finish(path)
    marker = {
        "MP4 handler's name": b"GEOSECRET52N", "track title": SECRET.encode(), "MP4 display": MARKER[:16],
    }.get(place, MARKER)  # fmt: skip
    assert marker in path.read_bytes(), "nothing was planted"
    out = tmp_path / f"out.{suffix}"
    through(path, out, lambda index: False, WriteOptions(policy))
    assert marker not in out.read_bytes()
    before, after = film_of(path), film_of(out)
    assert len(after.frames) == COUNT
    for one, other in zip(before.frames, after.frames, strict=True):
        assert np.array_equal(one.to_ndarray(format="rgb24"), other.to_ndarray(format="rgb24"))


AV1_UNITS = {
    "padding": lambda data: data + b"\x7a" + bytes([len(MARKER)]) + MARKER,
    "padding without a length": lambda data: data + b"\x78" + MARKER,
    "metadata": lambda data: data + b"\x2a" + bytes([len(MARKER) + 1]) + b"\4" + MARKER,
    "display": lambda data: data + b"\x2a\x1a\2" + MARKER[:24] + b"\x80",
    "reserved": lambda data: data + b"\x4a" + bytes([len(MARKER)]) + MARKER,
    "list of tiles": lambda data: data + b"\x42" + bytes([len(MARKER)]) + MARKER,
    "delimiter": lambda data: data[:1] + bytes([len(MARKER)]) + MARKER + data[2:],
    "sequence": lambda data: (
        data[:3] + bytes([data[3] + len(MARKER)]) + data[4 : 4 + data[3]] + MARKER + data[4 + data[3] :]
    ),
}


@pytest.mark.parametrize("place", AV1_UNITS)
def test_units_of_av1(tmp_path, place):
    with av.open(str(film(tmp_path / "a.mkv", codec="libsvtav1"))) as container:
        header = container.streams.video[0].codec_context.extradata[4:]
        frame = next(bytes(packet) for packet in container.demux() if packet.size)
    assert header[0] == 0x0A
    # The muxer leaves delimiters out.
    whole = b"\x12\0" + header + frame
    changed = AV1_UNITS[place](whole)
    assert MARKER[:24] in changed
    scrub = packet_scrubber("av1", b"")
    assert scrub(whole) == whole and scrub(changed) == whole


def test_other_layers_of_av1_are_not_copied(tmp_path):
    """Units of a layer that the first operating point leaves out are not decoded, and so were not searched."""
    with av.open(str(film(tmp_path / "a.mkv", codec="libsvtav1"))) as container:
        header = bytearray(container.streams.video[0].codec_context.extradata[4:])
    assert header[0] == 0x0A and not header[2] >> 3 & 1, "not a reduced header"
    hidden = b"\x36\x08" + bytes([len(MARKER)]) + MARKER  # a frame of spatial layer 1
    # Profile, still, reduced; no timing, no delays, one point: of temporal layer 0 and spatial layer 0.
    bits = f"{int.from_bytes(header[2:], 'big'):0{8 * (len(header) - 2)}b}"
    assert bits[5:7] == "00" and bits[7:12] == "00000"
    bits = bits[:12] + f"{0x101:012b}" + bits[24:]
    point = bytes(header[:2]) + int(bits, 2).to_bytes(len(header) - 2, "big")
    scrub = packet_scrubber("av1", b"")
    assert scrub(point + hidden) == point


@pytest.mark.parametrize("codec", ["aac", "mp2", "pcm_s16le", "alac", "vp9", "prores"])
def test_bytes_behind_the_header_of_a_codec_go(tmp_path, codec):
    header = b"\x11\x90" if codec == "aac" else bytes(36) if codec == "alac" else b""
    assert header_scrubbed(codec, header + MARKER) == header


@pytest.mark.parametrize(
    ("codec", "suffix"), [("flac", "mkv"), ("libopus", "mkv"), ("libopus", "webm"), ("aac", "mp4"), ("mp2", "ts")]
)
def test_comments_in_headers_of_sound_go(tmp_path, codec, suffix):
    video = {"codec": "libvpx"} if suffix == "webm" else {"codec": "mpeg2video" if suffix == "ts" else "mpeg4"}
    path = film(tmp_path / f"in.{suffix}", **video, clock=Fraction(1, 25), sound=[(codec, "eng")])
    out = tmp_path / f"out.{suffix}"
    through(path, out, lambda index: False)
    before, after = film_of(path), film_of(out)
    assert [data for _, data in before.packets[1]] == [data for _, data in after.packets[1]]
    assert SECRET.encode() not in out.read_bytes()
    with av.open(str(out)) as container:
        assert sum(frame.samples for frame in container.decode(audio=0)) >= 48000 * COUNT // 25 - 2048


def laced(*headers):
    sizes = b"".join(b"\xff" * (len(each) // 255) + bytes([len(each) % 255]) for each in headers[:-1])
    return bytes([len(headers) - 1]) + sizes + b"".join(headers)


@pytest.mark.parametrize("size", [10, 255, 5000])
def test_a_vorbis_comment_with_a_picture(size):
    first, last = b"\1vorbis" + bytes(23), b"\5vorbis" + bytes(300)
    comment = b"\3vorbis" + MARKER + bytes(size) + b"\1"
    header = header_scrubbed("vorbis", laced(first, comment, last))
    assert header == laced(first, b"\3vorbis" + bytes(8) + b"\1", last)


def test_what_is_needed_stays(tmp_path):
    """Captions, light of the master display, recovery points and parameter sets."""
    captions = b"\xb5\0\x31GA94\3\xc1\xff" + b"\xfc\x94\x20" + b"\xff"
    units = [
        sei(4, captions),
        sei(137, struct.pack(">8H2I", 13250, 34500, 7500, 3000, 34000, 16000, 15635, 16450, 10_000_000, 0x10203)),
        sei(144, b"\1\2\3\4"),
        sei(6, b"\x84"),
        *parameter_sets(tmp_path),
        b"\x65xyz",
    ]
    packet = b"".join(b"\0\0\0\1" + unit for unit in units)
    scrub = packet_scrubber("h264", b"")
    assert scrub is not None
    # A zero byte pair before a small one is escaped as the standard wants it.
    assert (
        scrub(packet).count(b"\0\0\0\1") == len(units)
        and b"GA94" in scrub(packet)
        and scrub(scrub(packet)) == scrub(packet)
    )


@pytest.mark.parametrize("codec", ["png", "tiff", "dvvideo", "jpeg2000", "unheard of"])
def test_what_is_not_known_is_not_copied(codec):
    assert packet_scrubber(codec, b"") is None


@pytest.mark.parametrize("codec", ["h264", "hevc", "mpeg2video", "mpeg4", "av1", "mjpeg", "vc1"])
def test_nonsense_is_told(codec):
    rng = np.random.default_rng(1)
    for length in (0, 1, 2, 5, 60):
        try:
            made = packet_scrubber(codec, b"")(rng.bytes(length))
        except (ValueError, IndexError):
            continue
        assert isinstance(made, bytes)
