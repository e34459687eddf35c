"""Time stamps that stand still, jump or go back, and packets that give no picture: what is read and what is written."""

from fractions import Fraction

import av
import numpy as np
import pytest

from deidcli.media.open import open_reader
from deidcli.media.stream import ReadOptions

from .filmed import COUNT, film, film_of, through

STEP = Fraction(1, 25)
MPEG2 = {"codec": "mpeg2video", "clock": STEP}
H264 = {"codec": "libx264", "settings": {"bf": "0", "g": "5"}}
MP2 = [("mp2", "eng")]


def joined(tmp_path, suffix, **settings):
    """Two recordings in one file: the clock begins anew in its middle."""
    one = film(tmp_path / f"one{suffix}", **settings)
    both = tmp_path / f"both{suffix}"
    both.write_bytes(one.read_bytes() * 2)
    return both


def restamped(path, target, stamps):
    """The packets of a video with other stamps. stamps: (decoding, presentation) of each, in milliseconds."""
    with av.open(str(path)) as source, av.open(str(target), "w") as out:
        track = out.add_stream_from_template(source.streams.video[0])
        track.time_base = Fraction(1, 1000)
        packets = [packet for packet in source.demux(video=0) if packet.size]
        for packet, (decoded, shown) in zip(packets, stamps, strict=True):
            packet.dts, packet.pts, packet.duration = decoded, shown, 40
            packet.time_base, packet.stream = Fraction(1, 1000), track
            out.mux(packet)
    return target


def times(path):
    """When each frame is shown, and what is said of the file."""
    with open_reader(path, options=ReadOptions(salvage=True)) as reader:
        found = [frame.time for frame in reader.frames()]
        return found, reader.notes


def gaps(found):
    return [float(after - before) for before, after in zip(found, found[1:], strict=False)]


@pytest.mark.parametrize("sound", [(), MP2])
@pytest.mark.parametrize(
    ("suffix", "settings"), [(".ts", MPEG2), (".vob", MPEG2), (".mpg", MPEG2), (".ts", H264)], ids=str
)
def test_a_clock_that_begins_anew(tmp_path, suffix, settings, sound):
    path = joined(tmp_path, suffix, **settings, sound=sound)
    found, notes = times(path)
    assert len(found) == 2 * COUNT
    assert np.allclose(gaps(found), 0.04, atol=0.011) and any("average rate" in note for note in notes)
    out = tmp_path / f"out{suffix}"
    through(path, out, lambda index: False, read=ReadOptions(salvage=True))
    after = film_of(out)
    assert len(after.frames) == 2 * COUNT and np.allclose(gaps(after.times), 0.04, atol=0.011)
    for packets in after.packets.values():
        stamps = [when for when, _ in packets if when is not None]
        assert stamps == sorted(stamps)
    if sound:
        before = film_of(path).packets
        assert [data for _, data in before[1]] == [data for _, data in after.packets[1]]


STAMPS = {
    "two stray ones": [(40 * n, 311_000 if n in (3, 4) else 40 * n) for n in range(COUNT)],
    "a stray one": [(40 * n, 90_000 if n == 6 else 40 * n) for n in range(COUNT)],
    "the last one": [(40 * n, 900_000 if n == COUNT - 1 else 40 * n) for n in range(COUNT)],
}


@pytest.mark.parametrize("stamps", STAMPS.values(), ids=STAMPS)
def test_stray_presentation_times(tmp_path, stamps):
    path = restamped(film(tmp_path / "in.mp4", **H264), tmp_path / "stray.mp4", stamps)
    found, notes = times(path)
    assert np.allclose(gaps(found), 0.04, atol=0.002) and notes
    through(path, tmp_path / "out.mp4", lambda index: False)
    after = film_of(tmp_path / "out.mp4")
    assert len(after.frames) == COUNT and np.allclose(gaps(after.times), 0.04, atol=0.002)


JUMPS = {
    "stands still": ([0] * COUNT, 0.04),
    "stands still for a while": ([0, 40, 80, 80, 80, 80, 80, 280, 320, 360], None),
    "jumps far ahead": ([40 * n + 1_000_000 * (n > 4) for n in range(COUNT)], 0.04),
    "jumps ahead and back": ([40 * n + (5_000 if n == 4 else 0) for n in range(COUNT)], None),
}


@pytest.mark.parametrize(("stamps", "step"), JUMPS.values(), ids=JUMPS)
def test_jumps_in_matroska(tmp_path, stamps, step):
    stamps = np.maximum.accumulate(stamps).tolist() if step is None else stamps
    path = restamped(film(tmp_path / "in.mkv", **H264), tmp_path / "out.mkv", [(s, s) for s in stamps])
    found, notes = times(path)
    assert min(gaps(found)) > 0.005 and len(found) == COUNT
    if step:
        assert np.allclose(gaps(found)[1:], step, atol=0.002) and notes


@pytest.mark.parametrize("pause", [2_000, 20_000, 55_000])
def test_a_pause_stays(tmp_path, pause):
    stamps = [40 * n + pause * (n > 4) for n in range(COUNT)]
    path = restamped(film(tmp_path / "in.mkv", **H264), tmp_path / "out.mkv", [(s, s) for s in stamps])
    found, notes = times(path)
    assert [round(1000 * time) for time in found] == stamps and notes == ()


@pytest.mark.parametrize(("first", "codec"), [(3, "libx264"), (12, "libx264"), (2, "mpeg2video")])
def test_packets_before_the_first_picture_are_not_copied(tmp_path, first, codec):
    """A recording that was cut within a group of pictures: what nobody could see is not handed on."""
    path = film(tmp_path / "in.ts", codec, settings={"bf": "0", "g": "9"}, clock=STEP, count=40)
    cut = tmp_path / "cut.ts"
    with av.open(str(path)) as source, av.open(str(cut), "w") as out:
        track = out.add_stream_from_template(source.streams.video[0])
        for number, packet in enumerate(source.demux(video=0)):
            if packet.size and number >= first:
                packet.stream = track
                out.mux(packet)
    with open_reader(cut) as reader:
        shown = len(list(reader.frames()))
    assert 0 < shown < 40 - first
    through(cut, tmp_path / "out.ts", lambda index: False)
    after = film_of(tmp_path / "out.ts")
    assert len(after.packets[0]) == shown == len(after.frames)
    kept = [data for _, data in film_of(cut).packets[0]][-shown:]
    assert [units(data) for _, data in after.packets[0]] == [units(data) for data in kept]


def units(data: bytes) -> list[bytes]:
    """The units between start codes, which may have three bytes or four."""
    return [unit.rstrip(b"\0") for unit in data.split(b"\0\0\1") if unit.rstrip(b"\0")]
