"""Videos through reader and writer: what was not changed is as it was, in time, in size, in colour and in sound."""

import os
import re
import threading
from fractions import Fraction
from unittest.mock import patch

import numpy as np
import pytest

from deidcli.media.open import open_reader
from deidcli.media.stream import ReadOptions, VideoOptions, WriteOptions
from deidcli.media.video.codec import encoding, giving_way

from .drawn import region
from .filmed import COUNT, SIZE, copied, film, film_of, planes, psnr, scene, through

JUMPY = [0, 40, 55, 140, 141, 300, 420, 421, 500, 900]
QUARTER = (0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30)  # a telephone held upright
AAC = ("aac", "deu")
# What is drawn, and how close what was not changed has to be: "exact", or decibels.
CASES = {
    "ffv1.mkv": ({}, "exact"),
    "vfr.mkv": ({"stamps": JUMPY}, "exact"),
    "vfr.mp4": ({"codec": "libx264", "stamps": JUMPY, "clock": Fraction(1, 90000), "sound": [AAC]}, 36),
    "late.mp4": ({"codec": "libx264", "stamps": [700 + 40 * n for n in range(9)], "sound": [AAC]}, 36),
    "ten.mkv": ({"pixels": "yuv422p10le"}, "exact"),
    "ten.mp4": ({"codec": "libx264", "pixels": "yuv420p10le"}, 36),
    "order.mkv": ({"codec": "libx264", "sound": [AAC]}, 36),
    "few.mkv": ({"codec": "libx264", "stamps": [320, 330, 400]}, 36),
    "hevc.mp4": ({"codec": "libx265", "settings": {"x265-params": "log-level=none"}}, 36),
    "rgb.mkv": ({"pixels": "bgr0"}, "exact"),
    "grey.mkv": ({"pixels": "gray"}, "exact"),
    "full.mkv": ({"pixels": "yuv444p", "colours": (2, 1, 1, 1)}, "exact"),
    "wide.mp4": ({"codec": "libx264", "shape": Fraction(4, 3), "colours": (1, 9, 14, 9)}, 36),
    "odd.mkv": ({"size": (61, 43)}, "exact"),
    "odd.webm": ({"codec": "libvpx-vp9", "size": (61, 43), "sound": [("libopus", "eng")]}, 34),
    "turned.mov": ({"codec": "prores_ks", "pixels": "yuv422p10le", "matrix": QUARTER}, 36),
    "turned.mp4": ({"codec": "libx264", "matrix": QUARTER, "sound": [AAC]}, 36),
    "laced.ts": ({"codec": "mpeg2video", "clock": Fraction(1, 25), "settings": {"flags": "+ildct+ilme"}}, 32),
    "two.mp4": ({"codec": "libx264", "sound": [AAC, ("aac", "fra")]}, 36),
    "mjpeg.avi": ({"codec": "mjpeg", "pixels": "yuvj420p", "sound": [("pcm_s16le", "eng")]}, 36),
    "mpeg4.avi": ({"codec": "mpeg4", "clock": Fraction(1, 25)}, 32),
    "mpeg4.mp4": ({"codec": "mpeg4", "clock": Fraction(1, 25), "sound": [AAC]}, 32),
    "mpeg2.ts": ({"codec": "mpeg2video", "clock": Fraction(1, 25), "sound": [("mp2", "eng")]}, 32),
    "h264.ts": ({"codec": "libx264", "settings": {"bf": "0"}, "sound": [AAC]}, 36),
    "flash.flv": ({"codec": "libx264", "settings": {"bf": "0"}}, 36),
    "vp8.webm": ({"codec": "libvpx", "sound": [("libopus", "eng")]}, 32),
    "raw.y4m": ({"codec": "wrapped_avframe", "clock": Fraction(1, 25)}, "exact"),
    "utvideo.avi": ({"codec": "utvideo", "pixels": "yuv422p"}, "exact"),
    "cover.mp4": ({"codec": "libx264", "sound": [AAC], "cover": True}, 36),
}


@pytest.fixture(scope="module")
def filmed(tmp_path_factory):
    """A case's file, drawn once."""
    folder, made = tmp_path_factory.mktemp("filmed"), {}

    def give(name):
        if name not in made:
            made[name] = film(folder / name, **CASES[name][0])
        return made[name]

    return give


def stored(size, matrix):
    """The mask of what `through` changes, as the file stores the picture."""
    return region(size[1], size[0]) if matrix is None else np.rot90(region(size[0], size[1]))


def untouched(mask, plane):
    """Which samples of a plane are away from what was changed, lossy filters and all."""
    high, wide = -(-mask.shape[0] // plane.shape[0]), -(-mask.shape[1] // plane.shape[1])
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    kept = np.ones(plane.shape, bool)
    kept[rows[0] // high : rows[-1] // high + 1, columns[0] // wide : columns[-1] // wide + 1] = False
    return kept


@pytest.mark.parametrize("name", CASES)
def test_what_was_not_changed_is_as_it_was(filmed, tmp_path, name):
    made, close = CASES[name]
    out = tmp_path / name
    assert through(filmed(name), out) == ()
    before, after = film_of(filmed(name)), film_of(out)
    assert after.times == before.times
    old, new = before.picture, after.picture
    assert (new.width, new.height, new.name) == (old.width, old.height, old.name)
    assert (new.pix_fmt, new.sample_aspect_ratio) == (old.pix_fmt, old.sample_aspect_ratio)
    for said in ("color_range", "color_primaries", "color_trc", "colorspace"):
        assert getattr(new.codec_context, said) == getattr(old.codec_context, said), said
    mask = stored(made.get("size", SIZE), made.get("matrix"))
    for one, other in zip(before.frames, after.frames, strict=True):
        assert (one.rotation, one.interlaced_frame) == (other.rotation, other.interlaced_frame)
        if name == "rgb.mkv":
            continue
        for plane, again in zip(planes(one), planes(other), strict=True):
            kept = untouched(mask, plane)
            scale = 1 if plane.dtype == np.uint8 else 4
            if close == "exact":
                assert np.array_equal(plane[kept], again[kept])
            else:
                assert psnr(plane[kept] / scale, again[kept] / scale) > close
        luma, changed = planes(one)[0], planes(other)[0]
        assert np.abs(luma[mask].astype(int) - changed[mask]).mean() > 15


@pytest.mark.parametrize("name", [name for name, (made, _) in CASES.items() if "sound" in made])
@pytest.mark.parametrize("change", [True, False])
def test_sound_is_copied(filmed, tmp_path, name, change):
    out = tmp_path / name
    through(filmed(name), out, lambda index: change)
    before, after = film_of(filmed(name)), film_of(out)
    assert len(before.container.streams.audio) == len(after.container.streams.audio) == len(CASES[name][0]["sound"])
    for old, new in zip(before.container.streams.audio, after.container.streams.audio, strict=True):
        assert before.packets[old.index] == after.packets[new.index]
        assert (old.codec_context.extradata, old.disposition) == (new.codec_context.extradata, new.disposition)
        if not name.endswith(".avi"):  # which has no place for it
            assert new.language == old.language


@pytest.mark.parametrize("name", CASES)
def test_a_video_without_change_is_not_encoded(filmed, tmp_path, name):
    out = tmp_path / name
    through(filmed(name), out, lambda index: False)
    before, after = film_of(filmed(name)), film_of(out)
    old, new = before.picture, after.picture
    assert copied(before, after) and before.times == after.times
    assert [frame.rotation for frame in before.frames] == [frame.rotation for frame in after.frames]
    assert new.sample_aspect_ratio == old.sample_aspect_ratio


@pytest.mark.parametrize("first", [0, 1, 6, COUNT - 1])
def test_the_first_change_may_come_late(filmed, tmp_path, first):
    out = tmp_path / "out.mkv"
    through(filmed("vfr.mkv"), out, lambda index: index >= first)
    before, after = film_of(filmed("vfr.mkv")), film_of(out)
    same = [np.array_equal(planes(a)[0], planes(b)[0]) for a, b in zip(before.frames, after.frames, strict=True)]
    assert same == [index < first for index in range(COUNT)] and before.times == after.times


def test_frames_are_upright(filmed):
    """A display matrix turns the picture a quarter clockwise, as the tag 6 of a photograph does."""
    with open_reader(filmed("turned.mov")) as reader:
        assert reader.info.size == (SIZE[1], SIZE[0])
        frames = list(reader.frames())
    for index, frame in enumerate(frames):
        assert psnr(np.rot90(frame.pixels), scene(index)) > 30
    assert not frames[0].pixels.flags.writeable


def test_facts_and_times(filmed):
    with open_reader(filmed("vfr.mp4")) as reader:
        assert (reader.info.format, reader.info.size, reader.info.frames) == ("mp4", SIZE, COUNT)
        frames = list(reader.frames())
        assert [frame.time for frame in frames] == [Fraction(stamp, 90000) for stamp in JUMPY]
        assert [frame.index for frame in frames] == list(range(COUNT))
        again = list(reader.frames())
    assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(frames, again, strict=True))


def test_bytes_are_as_good_as_a_path(filmed, tmp_path):
    out, again = tmp_path / "a.mkv", tmp_path / "b.mkv"
    through(filmed("vfr.mkv"), out)
    through(filmed("vfr.mkv").read_bytes(), again)
    assert film_of(out).packets == film_of(again).packets


def video(**asked):
    return WriteOptions(video=VideoOptions(**asked))


def test_streams_none(filmed, tmp_path):
    out = tmp_path / "out.mp4"
    through(filmed("two.mp4"), out, options=video(streams="none"))
    assert [stream.type for stream in film_of(out).container.streams] == ["video"]


def test_quality_and_speed(filmed, tmp_path):
    sizes = {}
    for name, asked in {"fine": {"crf": 1}, "plain": {}, "coarse": {"crf": 45, "encoder_preset": "ultrafast"}}.items():
        out = tmp_path / f"{name}.mp4"
        through(filmed("two.mp4"), out, options=video(**asked))
        sizes[name] = sum(len(data) for _, data in film_of(out).packets[0])
    assert sizes["fine"] > sizes["plain"] > sizes["coarse"]


@pytest.mark.parametrize(("codec", "wanted"), [("vp9", "vp9"), ("libx264", "h264"), ("mpeg4", "mpeg4")])
def test_another_codec_is_used_without_a_change_too(filmed, tmp_path, codec, wanted):
    out = tmp_path / "out.mkv"
    notes = through(filmed("ten.mkv"), out, lambda index: False, video(codec=codec))
    after = film_of(out)
    assert (
        after.picture.codec_context.codec.canonical_name == wanted and after.times == film_of(filmed("ten.mkv")).times
    )
    assert len(notes) == (after.picture.pix_fmt != "yuv422p10le")


def test_odd_sizes_are_kept_by_codecs_that_want_even_ones(filmed, tmp_path):
    notes = through(filmed("odd.mkv"), tmp_path / "out.mp4", options=video(codec="h264"))
    after = film_of(tmp_path / "out.mp4")
    assert (after.picture.width, after.picture.height) == (61, 43) and "yuv444p" in notes[0]


def test_the_suffix_chooses_the_container(filmed, tmp_path):
    for name, kind in {"out.mov": "mov", "out.mkv": "matroska", "out.bin": "mov"}.items():
        through(filmed("two.mp4"), tmp_path / name)
        after = film_of(tmp_path / name)
        assert kind in after.container.format.name and len(after.times) == COUNT


def test_clocks_that_are_too_coarse_are_told(tmp_path):
    path = film(tmp_path / "in.mp4", codec="libx264", clock=Fraction(1, 90000), stamps=[0, 3003, 6006, 9009])
    assert "rounds time stamps" in through(path, tmp_path / "out.mkv")[0]
    gap = [abs(a - b) for a, b in zip(film_of(path).times, film_of(tmp_path / "out.mkv").times, strict=True)]
    assert max(gap) <= Fraction(1, 2000)


def test_a_frame_out_of_turn_is_refused(filmed, tmp_path):
    from deidcli.errors import MediaError

    with open_reader(filmed("vfr.mkv"), options=ReadOptions()) as reader, (tmp_path / "out.mkv").open("wb") as file:
        writer = reader.writer(file, WriteOptions(), ".mkv")
        frames = list(reader.frames())
        with pytest.raises(MediaError, match="frame 1 came"):
            writer.write(frames[1], None)
        writer.write(frames[0], None)
        with pytest.raises(MediaError, match="1 of 10 frames"):
            writer.finish()
        writer.close()


@pytest.mark.parametrize("codec", ["h264", "hevc", "vp9"])
def test_an_encoder_holds_few_large_frames(codec):
    """Some look dozens of frames ahead, which at 3840x2160 are more than a gigabyte."""
    pattern = re.compile(r"(?:^|:)(?:rc-lookahead=)?(\d+)$")
    ahead = {}
    for size in ((640, 360), (2560, 1440), (3840, 2160), (7680, 4320)):
        options = encoding(codec, "yuv420p", size, Fraction(25), VideoOptions()).options
        said = [options.get(name, "") for name in ("rc-lookahead", "x265-params", "lag-in-frames")]
        ahead[size[0]] = [int(found[1]) for text in said if (found := pattern.search(text))]
    assert ahead == {640: [], 2560: [13], 3840: [6], 7680: [6]}


on_linux = pytest.mark.skipif(not hasattr(os, "sched_setscheduler"), reason="threads have no schedulers here")


@on_linux
def test_no_thread_has_priority_over_other_programs():
    """As root an encoder gives it to its threads, and to the one that opens it."""
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    try:
        with giving_way():
            for task in (thread.native_id, 0):
                os.sched_setscheduler(task, os.SCHED_FIFO, os.sched_param(1))
        assert os.sched_getscheduler(thread.native_id) == os.sched_getscheduler(0) == os.SCHED_OTHER
    except PermissionError:
        pytest.skip("only root may give a thread priority")
    finally:
        done.set()
        thread.join()


@on_linux
def test_an_encoder_that_cannot_be_opened_gives_way():
    try:
        with pytest.raises(ValueError), giving_way():
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
            raise ValueError
    except PermissionError:
        pytest.skip("only root may give a thread priority")
    assert os.sched_getscheduler(0) == os.SCHED_OTHER


@on_linux
def test_the_encoder_of_av1_gives_way(tmp_path):
    before = os.sched_getscheduler(0)
    through(film(tmp_path / "a.mkv", codec="libsvtav1"), tmp_path / "b.mkv")
    tasks = [int(task) for task in os.listdir("/proc/self/task")]
    assert {os.sched_getscheduler(task) for task in tasks} == {before} == {os.SCHED_OTHER}


@on_linux
def test_what_runs_with_priority_keeps_it():
    asked = patch("os.sched_getscheduler", return_value=os.SCHED_FIFO)
    with asked, patch("os.sched_setscheduler") as changed, giving_way():
        pass
    assert not changed.called
