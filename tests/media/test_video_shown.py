"""What of a video is shown: crops, turns that a container cannot say, alpha, and what is lost and told."""

import struct
from fractions import Fraction

import av
import numpy as np
import pytest

from deidcli.media.open import open_reader
from deidcli.media.stream import CROPPED, VideoOptions, WriteOptions
from deidcli.media.video.pixels import Pixels
from deidcli.media.video.source import display_matrix

from .filmed import COUNT, SIZE, copied, film, film_of, psnr, scene, through

TURNS = {
    6: (0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30),
    8: (0, -65536, 0, 65536, 0, 0, 0, 0, 1 << 30),
    3: (-65536, 0, 0, 0, -65536, 0, 0, 0, 1 << 30),
    2: (-65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30),
}


@pytest.mark.parametrize("change", [True, False])
@pytest.mark.parametrize("orientation", TURNS)
def test_where_a_turn_cannot_be_said_it_is_done(tmp_path, orientation, change):
    path = film(tmp_path / "in.mp4", "mpeg4", clock=Fraction(1, 25), matrix=TURNS[orientation])
    with open_reader(path) as reader:
        before = [frame.pixels for frame in reader.frames()]
    out = tmp_path / "out.avi"
    through(path, out, lambda index: change and index > 5)
    with open_reader(out) as reader:
        after = [frame.pixels for frame in reader.frames()]
    assert len(after) == COUNT and after[0].shape == before[0].shape
    assert (after[0].shape == (96, 64, 3)) == (orientation in (6, 8))
    assert all(psnr(a, b) > 25 for a, b in zip(before[:5], after[:5], strict=True))


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("change", [True, False])
def test_a_turn_is_said_in_numbers_of_our_own(tmp_path, orientation, change):
    """A matrix holds nine numbers, and a place or a text in them changes nothing that players show."""
    a, b, _, c, d, *_ = TURNS[orientation]
    odd = (a * 3, b * 3 + 52, 13, c * 3 + 9, d * 3, 7, 0x47454F53, 0x45435245, 1 << 30)
    path, out = film(tmp_path / "in.mp4", "mpeg4", clock=Fraction(1, 25), matrix=odd), tmp_path / "out.mp4"
    through(path, out, lambda index: change)
    frame = film_of(out).frames[0]
    # What would be shown left of the picture or above it is shifted back into it.
    shift = (max(0, -a * SIZE[0], -c * SIZE[1]), max(0, -b * SIZE[0], -d * SIZE[1]))
    assert display_matrix(frame) == (a, b, 0, c, d, 0, *shift, 1 << 30)
    said = np.frombuffer(memoryview(frame.side_data.get("DISPLAYMATRIX")), np.int32)
    assert tuple(said) == display_matrix(frame)


CROPS = [(8, 4, 16, 10), (0, 0, 20, 0), (6, 0, 0, 0)]


@pytest.mark.parametrize("crop", CROPS)
def test_the_clean_aperture_of_mp4(tmp_path, crop):
    left, top, right, bottom = crop
    path = film(tmp_path / "in.mp4", "mpeg4", clock=Fraction(1, 25))
    wide, high = SIZE[0] - left - right, SIZE[1] - top - bottom
    fractions = (wide, 1, high, 1, left - right, 2, top - bottom, 2)
    clap = struct.pack(">I4s8i", 40, b"clap", *fractions)
    data = bytearray(path.read_bytes())
    entry = data.index(b"mp4v") - 4
    end = entry + int.from_bytes(data[entry : entry + 4], "big")
    for kind in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"mp4v"):
        at = data.index(kind) - 4
        data[at : at + 4] = (int.from_bytes(data[at : at + 4], "big") + len(clap)).to_bytes(4, "big")
    data[end:end] = clap
    path.write_bytes(bytes(data))
    expected = [scene(n)[top : SIZE[1] - bottom, left : SIZE[0] - right] for n in range(COUNT)]
    with open_reader(path) as reader:
        shown = [frame.pixels for frame in reader.frames()]
        assert reader.info.size == (wide, high)
    assert all(psnr(a, b) > 25 for a, b in zip(shown, expected, strict=True))
    for change in (False, True):
        out = tmp_path / f"out{change}.mp4"
        notes = through(path, out, lambda index, change=change: change)
        after = film_of(out)
        # What was cut away is neither shown nor in the file, and that is said.
        assert notes.count(CROPPED) == 1
        assert (after.picture.width, after.picture.height) == (wide, high) and len(after.frames) == COUNT
        assert b"clap" not in out.read_bytes()


@pytest.mark.parametrize(
    ("codec", "suffix", "side", "cut"),
    [
        ("h264", ".mp4", "bottom", 32),
        ("h264", ".mov", "left", 40),
        ("hevc", ".mkv", "right", 64),
        ("h264", ".mkv", "top", 8),
    ],
)
def test_what_the_codec_cuts_off_is_not_copied(tmp_path, codec, suffix, side, cut):
    """A parameter set may say that part of the coded picture is not shown; all of it lies in the packets."""
    path, source = film(tmp_path / "whole.mp4", {"h264": "libx264", "hevc": "libx265"}[codec]), tmp_path / f"in{suffix}"
    with av.open(str(path)) as whole, av.open(str(source), "w") as out:
        track = out.add_stream_from_template(whole.streams.video[0])
        narrow = av.bitstream.BitStreamFilterContext(
            f"{codec}_metadata=crop_{side}={cut}", whole.streams.video[0], track
        )
        for packet in (*whole.demux(video=0), None):
            for each in narrow.filter(packet) if packet is None or packet.size else ():
                each.stream = track
                out.mux(each)
    target = tmp_path / f"out{suffix}"
    notes, after = through(source, target, lambda index: False), film_of(target)
    shown = (after.frames[0].width, after.frames[0].height)
    assert shown == ((SIZE[0] - cut, SIZE[1]) if side in ("left", "right") else (SIZE[0], SIZE[1] - cut))
    assert (CROPPED in notes) == (cut > 16) and len(after.frames) == COUNT
    with av.open(str(target)) as again:
        stream = again.streams.video[0]
        next(again.decode(stream))
        # No more than the rest of a block lies behind the picture's edge.
        rest = stream.codec_context.coded_width - shown[0], stream.codec_context.coded_height - shown[1]
    assert max(rest) < 32 if cut > 16 else copied(film_of(source), after)


def alpha_film(path, alphas):
    """FFV1 with alpha: colours of `scene` and an alpha of its own for each frame."""
    with av.open(str(path), "w") as out:
        track = out.add_stream("ffv1", rate=25, width=SIZE[0], height=SIZE[1], pix_fmt="yuva444p")
        for index, alpha in enumerate(alphas):
            pixels = np.dstack([scene(index), alpha])
            frame = av.VideoFrame.from_ndarray(pixels, "rgba").reformat(format="yuva444p")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            out.mux(track.encode(frame))
        out.mux(track.encode(None))
    return path


def test_alpha_is_looked_at_and_made_opaque(tmp_path):
    """A shape that only alpha shows is a look of its own; what is changed is opaque in the file."""
    alpha = np.zeros((SIZE[1], SIZE[0]), np.uint8)
    alpha[20:40, 30:60] = 200
    path = alpha_film(tmp_path / "in.mkv", [alpha] * 4)
    with open_reader(path) as reader:
        frames = list(reader.frames())
    assert all(len(frame.looks) >= 2 for frame in frames)
    assert any(np.abs(look[..., 0].astype(int) - alpha).max() < 3 for look in frames[0].looks)
    # Over white, as viewers show it.
    assert frames[0].pixels[0, 0].tolist() == [255, 255, 255]
    out = tmp_path / "out.mkv"
    through(path, out, lambda index: True)
    old, new = (Pixels(1).alpha(film_of(each).frames[2]) for each in (path, out))
    changed = new != old
    assert changed.any() and (new[changed] == 255).all() and (new[:20][changed[:20]] == 255).all()


NARROW = {  # pixel format, and numbers of it
    "eight bits in sixteen": ("gray16le", lambda v: v),
    "between bars": ("gray16le", lambda v: np.where(np.arange(len(v))[:, None] < 9, 65535, 30_000 + v)),
    "colours": ("gbrp16le", lambda v: 65_000 + np.dstack([v] * 3)),
    "twelve bits": ("gray12le", lambda v: v // 4),
    "eight bits": ("gray", lambda v: 200 + v // 64),
}


@pytest.mark.parametrize("name", NARROW)
def test_numbers_in_a_narrow_range_are_looked_at(tmp_path, name):
    """They are one level of eight bits, or a few, and one picture in a viewer that raises contrast."""
    kind, numbers = NARROW[name]
    shape = scene(3)[..., 0]
    given = {"gbrp16le": "rgb48le"}.get(kind, kind)
    values = np.ascontiguousarray(numbers(shape.astype(np.uint16)).astype(np.uint8 if kind == "gray" else np.uint16))
    with av.open(str(tmp_path / "in.mkv"), "w") as out:
        track = out.add_stream("ffv1", rate=25, width=SIZE[0], height=SIZE[1], pix_fmt=kind)
        for frame in (av.VideoFrame.from_ndarray(values, given).reformat(format=kind), None):
            out.mux(track.encode(frame))
    with open_reader(tmp_path / "in.mkv") as reader:
        (look,) = next(iter(reader.frames())).looks
    assert np.corrcoef(look[10:, :, 1].ravel(), shape[10:].ravel())[0, 1] > 0.9
    assert np.ptp(look[10:]) > 150


def test_opaque_alpha_has_one_look(tmp_path):
    path = alpha_film(tmp_path / "in.mkv", [np.full((SIZE[1], SIZE[0]), 255, np.uint8)] * 2)
    with open_reader(path) as reader:
        assert all(frame.looks == () for frame in reader.frames())


@pytest.mark.parametrize(
    ("codec", "preset", "known"),
    [
        ("mpeg4", "veryfast", False),
        ("libx264", "nonsense", False),
        ("libx264", "veryfast", True),
        ("libvpx-vp9", "veryfast", False),
        ("libvpx-vp9", "5", True),
        ("ffv1", "slow", False),
    ],
)
def test_a_preset_that_an_encoder_does_not_know(tmp_path, codec, preset, known):
    path = film(tmp_path / "in.mkv")
    options = WriteOptions(video=VideoOptions(codec=codec, encoder_preset=preset))
    notes = through(path, tmp_path / "out.mkv", options=options)
    assert any("has no preset" in note for note in notes) != known
    assert len(film_of(tmp_path / "out.mkv").frames) == COUNT


@pytest.mark.parametrize("change", [True, False])
@pytest.mark.parametrize("suffix", [".3gp", ".mov"])
def test_speech_of_telephones_is_copied(tmp_path, suffix, change):
    """AMR, of which FFmpeg has no decoder of its own in every build."""
    path = film(tmp_path / "silent.mp4", "mpeg4", clock=Fraction(1, 25))
    with av.open(str(path)) as silent, av.open(str(tmp_path / f"in{suffix}"), "w") as out:
        picture = out.add_stream_from_template(silent.streams.video[0])
        try:
            speech = out.add_stream("libopencore_amrnb", rate=8000, layout="mono")
        except ValueError:
            pytest.skip("no encoder of AMR")
        speech.bit_rate = 12200
        for packet in silent.demux(video=0):
            if packet.size:
                packet.stream = picture
                out.mux(packet)
        for start in range(0, 3200, 160):
            sound = av.AudioFrame.from_ndarray((np.arange(160, dtype=np.int16) * 50)[None], "s16", "mono")
            sound.sample_rate, sound.pts = 8000, start
            out.mux(speech.encode(sound))
        out.mux(speech.encode(None))
    target = tmp_path / f"out{suffix}"
    through(tmp_path / f"in{suffix}", target, lambda index: change)
    before, after = film_of(tmp_path / f"in{suffix}"), film_of(target)
    assert [data for _, data in before.packets[1]] == [data for _, data in after.packets[1]] != []
    assert after.container.streams.audio[0].codec_context.codec.canonical_name == "amr_nb"
