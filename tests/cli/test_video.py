"""`deid anonymize` over videos, from file to file: portraits that move over a background, drawn here."""

import json
import os
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from av.video.frame import VideoFrame
from PIL import Image

from tests.conftest import found, rows, save
from tests.media.filmed import _speak, _voice, copied, film_of, planes, psnr

QUICK = ("--method", "blur", "--no-track", "--no-verify", "--progress", "plain")
STAMPS = [0, 40, 80, 120, 200, 240, 280, 320, 330, 400]  # milliseconds; nobody is there in the last three


def shot(portrait, nobody, index):
    """A frame of 352 x 240 pixels: a portrait that walks to the right, or nobody."""
    pixels = cv2.resize(nobody, (352, 240))
    if index < 7:
        pixels[8 : 8 + 224, 10 + 12 * index : 234 + 12 * index] = portrait
    return pixels


def walk(path, portrait, nobody, codec="libx264", indices=range(10), sound=True, pixels="yuv420p"):
    """Write a walk to `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=25, options={"crf": "12"} if codec == "libx264" else {})
        stream.width, stream.height, stream.pix_fmt = 352, 240, pixels
        stream.codec_context.time_base = Fraction(1, 1000)
        voice = _voice(out, "aac", "eng") if sound else None
        for index in indices:
            frame = VideoFrame.from_ndarray(shot(portrait, nobody, index), "rgb24").reformat(format=pixels)
            frame.pts, frame.time_base = STAMPS[index], Fraction(1, 1000)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
        if voice:
            _speak(out, voice, 0, len(STAMPS))
    return path


@pytest.fixture
def video(tmp_path, portrait, nobody):
    return walk(tmp_path / "in" / "walk.mp4", portrait, nobody)


def rgb(frame):
    return frame.to_ndarray(format="rgb24")


def test_a_video_from_end_to_end(deid, video, tmp_path):
    before = video.read_bytes()
    done = deid("anonymize", *QUICK, video, tmp_path / "out" / "walk.mp4", "--manifest", tmp_path / "m.jsonl")
    assert (done.status, done.out) == (0, b"") and "1 of 1 files written; 7 faces replaced" in done.err
    assert video.read_bytes() == before
    row = rows(tmp_path / "m.jsonl")["walk.mp4"]
    assert (row["frames"], row["format"], row["size"], row["notes"]) == (len(STAMPS), "mp4", [352, 240], [])
    assert [face["frame"] for face in row["faces"]] == list(range(7))
    old, new = film_of(video), film_of(tmp_path / "out" / "walk.mp4")
    assert new.times == old.times == [Fraction(stamp, 1000) for stamp in STAMPS]
    assert new.packets[1] == old.packets[1] and new.picture.name == "h264"
    for index, (one, other) in enumerate(zip(map(rgb, old.frames), map(rgb, new.frames), strict=True)):
        if index < 7:
            left, top, right, bottom = (round(side) for side in row["faces"][index]["box"])
            face = np.s_[max(top, 0) : bottom, left:right]
            assert psnr(one[face], other[face]) < 25
            one[face] = other[face] = 0
        assert psnr(one[:, :4], other[:, :4]) > 38 and psnr(one[:, -60:], other[:, -60:]) > 36


def test_a_file_begins_with_its_index(deid, video, nobody, portrait, tmp_path):
    """So that it plays while it is loaded, encoded or copied; standard output cannot be gone back in."""
    copied = walk(video.parent / "nobody.mov", portrait, nobody, indices=range(7, 10))
    assert deid("anonymize", *QUICK, video, copied, tmp_path / "out").status == 0
    for name in (video.name, copied.name):
        data = (tmp_path / "out" / name).read_bytes()
        assert 0 < data.index(b"moov") < data.index(b"mdat"), name
        assert film_of(tmp_path / "out" / name).times
    piped = deid("anonymize", *QUICK, "-", "-", stdin=video.read_bytes()).out
    assert piped.index(b"mdat") < piped.index(b"moov")


@pytest.mark.skipif(Path("/dev/nvidia0").exists(), reason="this machine may have it")
def test_an_encoder_that_the_machine_lacks(deid, video, tmp_path):
    done = deid("anonymize", *QUICK, "--codec", "h264_nvenc", video, tmp_path / "out")
    said = [line for line in done.err.splitlines() if "h264_nvenc" in line]
    assert done.status != 0 and len(said) == 1 and "choose another --codec" in said[0]
    assert not (tmp_path / "out" / video.name).exists()


def test_faces_are_covered_in_every_frame(deid, video, tmp_path):
    out = tmp_path / "walk.mp4"
    assert deid("anonymize", "--method", "solid", *QUICK[2:], video, out).status == 0
    assert not any(found(rgb(frame)) for frame in film_of(out).frames)


def test_pictures_and_videos_in_one_folder(deid, video, portrait, nobody, tmp_path):
    save(portrait, video.parent / "one.png")
    walk(video.parent / "sub" / "nobody.mkv", portrait, nobody, indices=range(7, 10), sound=False)
    (video.parent / "words.txt").write_text("no picture")
    out = tmp_path / "out"
    assert deid("anonymize", *QUICK, video.parent, out).status == 0
    said = rows(out)
    assert sorted(said) == ["one.png", "sub/nobody.mkv", "walk.mp4"]
    source = film_of(video.parent / "sub" / "nobody.mkv")
    assert copied(source, film_of(out / "sub" / "nobody.mkv")) and said["sub/nobody.mkv"]["faces"] == []
    again = deid("anonymize", *QUICK, "--resume", video.parent, out)
    assert again.status == 0 and "3 of 3 files are done already" in again.err


def test_standard_input_and_output(deid, video):
    done = deid("anonymize", *QUICK, "-", "-", stdin=video.read_bytes())
    assert done.status == 0
    assert film_of(done.out).times == film_of(video).times


def test_detected_faces_are_given_back(deid, video, tmp_path):
    listed = deid("detect", "--detector", "hog", video)
    lines = [json.loads(line) for line in listed.out.splitlines()]
    assert [(line["frame"], len(line["faces"])) for line in lines] == [(n, int(n < 7)) for n in range(10)]
    (tmp_path / "faces.jsonl").write_bytes(listed.out)
    options = ("--method", "solid", "--no-verify", "--faces", tmp_path / "faces.jsonl")
    assert deid("anonymize", *options, video, tmp_path / "out.mp4").status == 0
    assert deid("anonymize", "--method", "solid", "--no-verify", video, tmp_path / "searched.mp4").status == 0
    given, searched = film_of(tmp_path / "out.mp4"), film_of(tmp_path / "searched.mp4")
    for one, other in zip(given.frames, searched.frames, strict=True):
        assert psnr(planes(one)[0], planes(other)[0]) > 40


def test_a_video_that_was_cut_off(deid, video, portrait, tmp_path):
    walk(video, portrait, np.zeros((9, 9, 3), np.uint8), codec="mjpeg", pixels="yuvj420p", sound=False)
    whole = video.with_suffix(".avi")
    with av.open(str(video)) as source, av.open(str(whole), "w") as out:
        track = out.add_stream_from_template(source.streams.video[0], opaque=True)
        for packet in source.demux():
            if packet.size:
                packet.stream = track
                out.mux(packet)
    video.unlink()
    os.truncate(whole, whole.stat().st_size * 6 // 10)
    refused = deid("anonymize", *QUICK, whole.parent, tmp_path / "out")
    assert refused.status == 3 and "walk.avi" in refused.err and "--salvage" in refused.err
    assert not (tmp_path / "out" / "walk.avi").exists()
    done = deid("anonymize", *QUICK, "--salvage", "--overwrite", whole.parent, tmp_path / "out")
    row = rows(tmp_path / "out")["walk.avi"]
    assert done.status == 1 and row["status"] == "salvaged" and "cut off" in row["notes"][0]
    assert "1 of 1 files written" in done.err and "1 salvaged" in done.err and "cut off" in done.err
    assert 2 < len(film_of(tmp_path / "out" / "walk.avi").times) < 10
    again = deid("anonymize", *QUICK, "--salvage", "--resume", whole.parent, tmp_path / "out")
    assert again.status == 1, "what is not whole stays told"


def test_frames_out_and_back_in(deid, video, tmp_path):
    out = tmp_path / "out"
    assert deid("anonymize", *QUICK, "--frames", "png", video, out).status == 0
    pictures = sorted(path.name for path in (out / "walk.mp4").iterdir())
    assert pictures == [f"{number:06d}.png" for number in range(10)]
    assert rows(out)["walk.mp4"]["output_sha256"]
    again = deid("anonymize", *QUICK, "--frames", "png", "--resume", video, out)
    assert "1 of 1 files are done already" in again.err
    os.remove(out / "walk.mp4" / "000003.png")
    assert deid("anonymize", *QUICK, "--frames", "png", "--resume", video, out).status == 0
    assert (out / "walk.mp4" / "000003.png").exists()
    (out / "walk.mp4" / "mine.txt").write_text("kept")
    refused = deid("anonymize", *QUICK, "--frames", "png", "--overwrite", video, out)
    assert refused.status == 3 and "mine.txt" in refused.err and (out / "walk.mp4" / "mine.txt").exists()
    assert not list(out.rglob("*.deid-part"))


def test_a_folder_as_a_sequence(deid, portrait, nobody, tmp_path):
    for index in range(5, 9):
        save(shot(portrait, nobody, index), tmp_path / "in" / "take" / f"f{index}.png")
    one = deid("anonymize", *QUICK, "--sequence", "--fps", 10, tmp_path / "in", tmp_path / "out")
    assert one.status == 0, one.err
    row = rows(tmp_path / "out")["take"]
    assert (row["format"], row["frames"], [face["frame"] for face in row["faces"]]) == ("sequence", 4, [0, 1])
    assert sorted(path.name for path in (tmp_path / "out" / "take").iterdir()) == [f"f{n}.png" for n in range(5, 9)]
    many = deid("anonymize", *QUICK, tmp_path / "in", tmp_path / "each")
    assert many.status == 0 and len(rows(tmp_path / "each")) == 4
    for path in (tmp_path / "out" / "take").iterdir():
        assert np.array_equal(np.array(Image.open(path)), np.array(Image.open(tmp_path / "each" / "take" / path.name)))
    alone = deid("anonymize", *QUICK, "--sequence", tmp_path / "in" / "take", tmp_path / "straight")
    assert alone.status == 0 and (tmp_path / "straight" / "f5.png").exists()


def test_progress_in_frames(monkeypatch, capsys):
    from deidcli.cli import progress

    clock = iter(range(0, 1000, 5))
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(clock)))
    for style in ("plain", "json", "none"):
        meter = progress.FrameMeter(style)
        for done in range(1, 5):
            meter("clip.mp4", done, 40)
        meter.close()
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "clip.mp4: 3 of 40 frames, 0.3 a second, 123 s left"
    assert json.loads(said[1]) == {
        "done": 2, "total": 40, "unit": "frame", "seconds": 5.0, "rate": 0.4, "input": "clip.mp4", "left": 95.0,
    }  # fmt: skip
    assert len(said) == 4


def test_progress_past_the_stated_length(monkeypatch, capsys):
    from deidcli.cli import progress

    clock = iter(range(0, 1000, 15))
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(clock)))
    meter = progress.FrameMeter("plain")
    for done in range(1, 4):
        meter("clip.mp4", done, 2)
    assert capsys.readouterr().err.splitlines() == [
        "clip.mp4: 2 of 2 frames, 0.1 a second, 0 s left", "clip.mp4: 3 frames, 0.1 a second",
    ]  # fmt: skip


def test_slow_progress_is_told_in_seconds_for_each_file(monkeypatch, capsys):
    from deidcli.cli import progress

    clock = iter(range(0, 1000, 25))
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(clock)))
    assert list(progress.shown("abcdef", 6, "plain")) == list("abcdef")
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "1 of 6 files"  # the first of many that are under way at once say nothing of the pace
    assert said[4] == "5 of 6 files, 25 s each, 25 s left"


def test_frames_are_told_while_a_video_runs(deid, video, tmp_path):
    from deidcli.cli import progress

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(progress, "STEP", 0.0)
        done = deid("anonymize", *QUICK[:-1], "json", video, tmp_path / "out.mp4")
    steps = [json.loads(line) for line in done.err.splitlines() if line.startswith("{")]
    assert [step["done"] for step in steps if step["unit"] == "frame"] == list(range(1, 11))
    assert {step["total"] for step in steps if step["unit"] == "frame"} == {10}
    assert steps[-1]["unit"] == "file"


def test_options_change_the_fingerprint(deid, video, tmp_path):
    out = tmp_path / "out"
    deid("anonymize", *QUICK, video, out)
    again = deid("anonymize", *QUICK, "--crf", 30, "--resume", video, out)
    assert "0 of 1 files are done already" in again.err and again.status == 0


@pytest.mark.skipif("DEID_DATA" not in os.environ, reason="DEID_DATA does not say where the research data lie")
@pytest.mark.parametrize("name", ["stage_and_audience.mp4", "crowd.mp4"])
def test_real_footage_plays_as_before(deid, tmp_path, name):
    """One face is given for each frame, so that no search takes its time."""
    source = Path(os.environ["DEID_DATA"]) / "video" / name
    with av.open(str(source)) as container:
        count = sum(1 for _ in container.decode(video=0))
    lines = [json.dumps({"input": name, "frame": n, "faces": [{"box": [90, 60, 150, 130]}]}) for n in range(count)]
    (tmp_path / "faces.jsonl").write_text("\n".join(lines))
    out = tmp_path / "out" / name
    options = ("--method", "blur", "--no-verify", "--faces", tmp_path / "faces.jsonl", "--encoder-preset", "veryfast")
    assert deid("anonymize", *options, source, out).status == 0
    old, new = film_of(source), film_of(out)
    assert new.times == old.times and len(new.times) == count
    assert (new.picture.width, new.picture.height) == (old.picture.width, old.picture.height)
    assert {k: v for k, v in new.packets.items() if k} == {k: v for k, v in old.packets.items() if k}


def test_what_else_tells_who_it_is_is_named(deid, video, tmp_path):
    """A voice is kept unless it is muted, and the last line says which; never without a word."""
    done = deid("anonymize", *QUICK, video.parent, tmp_path / "out")
    assert "1 video has an audio track: voices are not changed (--streams none leaves it out)" in done.err
    assert rows(tmp_path / "out")["walk.mp4"]["sound"] == ["audio"]
    done = deid("anonymize", *QUICK, "--metadata", "all", video.parent, tmp_path / "told")
    assert "captions and names in them stay" in done.err
    done = deid("anonymize", *QUICK, "--streams", "none", video.parent, tmp_path / "mute")
    assert "audio" not in done.err and rows(tmp_path / "mute")["walk.mp4"]["sound"] == []
    with av.open(str(tmp_path / "mute/walk.mp4")) as made:
        assert not made.streams.audio
