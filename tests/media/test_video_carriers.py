"""What hides in a video beside its pictures: a marker is planted in many places, and is nowhere under safe and none."""

import struct
from fractions import Fraction

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
    marker = b"GEOSECRET52N" if "handler" in place else SECRET.encode() if place == "track title" else MARKER
    assert marker in path.read_bytes(), "nothing was planted"
    out = tmp_path / f"out.{suffix}"
    through(path, out, lambda index: False, WriteOptions(policy))
    assert marker not in out.read_bytes()
    before, after = film_of(path), film_of(out)
    assert len(after.frames) == COUNT
    for one, other in zip(before.frames, after.frames, strict=True):
        assert np.array_equal(one.to_ndarray(format="rgb24"), other.to_ndarray(format="rgb24"))


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


def test_what_is_needed_stays():
    """Captions, light of the master display, recovery points and parameter sets."""
    captions = b"\xb5\0\x31GA94\3\xc1\xff" + b"\xfc\x94\x20" + b"\xff"
    units = [
        sei(4, captions),
        sei(137, bytes(24)),
        sei(144, b"\1\2\3\4"),
        sei(6, b"\x84"),
        b"\x67abc",
        b"\x68ab",
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
