"""What must not come out of a video beside its pixels, and what becomes of one that is damaged."""

from fractions import Fraction

import av
import numpy as np
import pytest

from deidcli.errors import MediaError
from deidcli.media.open import is_media, open_reader
from deidcli.media.stream import ReadOptions, SoundOnly, VideoOptions, WriteOptions

from .filmed import COUNT, SECRET, film, film_of, planes, through

TAGS = {
    "title": SECRET,
    "comment": SECRET,
    "artist": SECRET,
    "location": "+52.5200+013.4050/",
    "creation_time": "2001-02-03T04:05:06.000000Z",
    "encoder": SECRET,
}
AAC = [("aac", "eng")]
CHAPTERS = [
    {"id": n, "start": n * 200, "end": n * 200 + 200, "time_base": Fraction(1, 1000), "metadata": {"title": SECRET}}
    for n in range(2)
]


def told(path):
    """All that a file says of itself, and its bytes."""
    with av.open(str(path)) as container:
        tags = [container.metadata, *(stream.metadata for stream in container.streams)]
        chapters = container.chapters()
    return [f"{key}={value}" for each in tags for key, value in each.items()], chapters, path.read_bytes()


@pytest.mark.parametrize("change", [True, False])
@pytest.mark.parametrize("policy", ["none", "safe", "all"])
@pytest.mark.parametrize("name", ["in.mp4", "in.mov", "in.mkv"])
def test_metadata(tmp_path, name, policy, change):
    path = film(tmp_path / name, "libx264", sound=AAC, tags=TAGS, chapters=CHAPTERS)
    out = tmp_path / f"out{path.suffix}"
    through(path, out, lambda index: change, WriteOptions(policy))
    tags, chapters, data = told(out)
    assert SECRET.encode() in path.read_bytes()
    assert len(chapters) == (0 if policy == "none" else 2)
    if policy == "all":
        assert any(SECRET in tag for tag in tags) and data.count(SECRET.encode()) > 1
        assert chapters[0]["metadata"]["title"] == SECRET
        return
    assert SECRET.encode() not in data and b"13.4050" not in data and b"2001" not in data
    assert not any(tag.startswith(("creation_time", "location", "title", "comment")) for tag in tags)
    assert ("language=eng" in tags) == (policy == "safe")


@pytest.mark.parametrize("change", [True, False])
@pytest.mark.parametrize("streams", ["audio", "all"])
def test_cover_art_is_never_copied(tmp_path, change, streams):
    path = film(tmp_path / "in.mp4", "libx264", cover=True, sound=AAC)
    assert len(film_of(path).container.streams.video) == 2
    options = WriteOptions("all", VideoOptions(streams=streams))
    notes = through(path, tmp_path / "out.mp4", lambda index: change, options)
    after = film_of(tmp_path / "out.mp4").container.streams
    assert [stream.type for stream in after] == ["video", "audio"] and notes == ()


def test_a_picture_on_a_recording_is_no_video(tmp_path):
    path = tmp_path / "song.m4a"
    with av.open(str(path), "w", format="mp4") as out:
        voice = out.add_stream("aac", rate=48000)
        from .filmed import _cover, _speak

        cover = _cover(out)
        _speak(out, voice, 0, COUNT)
        out.mux(cover)
    with pytest.raises(SoundOnly, match="no moving picture"):
        open_reader(path)
    assert not is_media(path)


def test_a_second_picture_track_is_left_out_and_told(tmp_path):
    path = tmp_path / "in.mkv"
    with av.open(str(path), "w") as out:
        tracks = [out.add_stream("ffv1", rate=25, width=64, height=48) for _ in range(2)]
        for number in range(3):
            for track in tracks:
                frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 90, np.uint8), "rgb24").reformat(
                    format="yuv420p"
                )
                frame.pts, frame.time_base = number, Fraction(1, 25)
                out.mux(track.encode(frame))
        for track in tracks:
            out.mux(track.encode(None))
    notes = through(path, tmp_path / "out.mkv", lambda index: False, WriteOptions(video=VideoOptions("all")))
    assert len(film_of(tmp_path / "out.mkv").container.streams.video) == 1 and "1 more track" in notes[0]


@pytest.mark.parametrize("streams", ["audio", "all"])
def test_subtitles_by_request_alone(tmp_path, streams):
    path = film(tmp_path / "in.mkv", "libx264", sound=AAC)
    titled = tmp_path / "titled.mkv"
    with av.open(str(path)) as source, av.open(str(titled), "w") as out:
        tracks = {stream.index: out.add_stream_from_template(stream, opaque=True) for stream in source.streams}
        words = out.add_mux_stream("subrip")
        for packet in source.demux():
            if packet.size:
                packet.stream = tracks[packet.stream.index]
                out.mux(packet)
        line = av.Packet(SECRET.encode())
        line.pts = line.dts = 40
        line.duration, line.time_base, line.stream = 100, Fraction(1, 1000), words
        out.mux(line)
    notes = through(titled, tmp_path / "out.mkv", options=WriteOptions(video=VideoOptions(streams)))
    said = "its subtitles are left out (--streams all copies them)"
    assert notes == ((said,) if streams == "audio" else ())
    data = (tmp_path / "out.mkv").read_bytes()
    assert (SECRET.encode() in data) == (streams == "all")


def test_pictures_behind_a_cut_do_not_come_out(tmp_path):
    """An edit list hides frames that are still in the file; a copy of the packets would hand them on unseen."""
    stamps = [-80, -40, *(40 * n for n in range(8))]
    settings = {"settings": {"bf": "0", "g": "100"}, "container": {"avoid_negative_ts": "disabled"}}
    path = film(tmp_path / "in.mp4", "libx264", stamps=stamps, **settings)
    before = film_of(path)
    assert (len(before.packets[0]), len(before.times)) == (10, 8)
    through(path, tmp_path / "out.mp4", lambda index: False)
    after = film_of(tmp_path / "out.mp4")
    assert len(after.packets[0]) == 8 and after.times == before.times


CUTS = {
    "in.mp4": {"codec": "libx264", "settings": {"g": "1"}, "container": {"movflags": "faststart"}},
    "in.mkv": {"codec": "libx264"},
    "in.webm": {"codec": "libvpx-vp9"},
    "in.avi": {"codec": "mjpeg", "pixels": "yuvj420p"},
    "in.flv": {"codec": "libx264"},
}


@pytest.mark.parametrize("name", CUTS)
@pytest.mark.parametrize("change", [True, False])
def test_a_file_that_was_cut_off(tmp_path, name, change):
    path = film(tmp_path / name, count=40, **CUTS[name])
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    out = tmp_path / f"out{path.suffix}"
    with pytest.raises(MediaError, match="damaged") as caught:
        through(path, out, lambda index: change)
    assert name in caught.value.message and "--salvage" in caught.value.hint
    with open_reader(path, options=ReadOptions(salvage=True)) as reader:
        wanted = [frame.time for frame in reader.frames()]
        assert "damaged" in reader.damage
    through(path, out, lambda index: change, read=ReadOptions(salvage=True))
    after = film_of(out)
    assert 3 < len(after.times) < 40 and after.times == wanted


def test_noise_within_a_file_is_met(tmp_path):
    path = film(tmp_path / "in.avi", "mjpeg", "yuvj420p", count=30)
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 400] = bytes(400)
    path.write_bytes(bytes(data))
    with pytest.raises(MediaError, match=r"damaged after 0\.\d\d s"):
        through(path, tmp_path / "out.avi")
    through(path, tmp_path / "out.avi", read=ReadOptions(salvage=True))
    assert 25 <= len(film_of(tmp_path / "out.avi").times) <= 30


@pytest.mark.parametrize(
    "data", [b"\0\0\0\x18ftypmp42", b"\x1a\x45\xdf\xa3" + bytes(90), b"RIFF\0\0\0\0AVI " + bytes(99)]
)
def test_a_beginning_alone_is_one_error(data):
    with pytest.raises(MediaError, match="drawn: "):
        list(open_reader(data, "drawn").frames())


@pytest.mark.parametrize(("name", "codec", "problem"), [
    ("out.webm", "", "webm takes no aac"),
    ("out.mp4", "nonsense", "no encoder 'nonsense'"),
    ("out.mp4", "aac", "no encoder 'aac'"),
    ("out.webm", "h264", "webm takes no h264"),
    ("out.mp4", "h264_nvenc", "cannot encode"),
])  # fmt: skip
def test_what_cannot_be_written_is_said(tmp_path, name, codec, problem):
    sound = AAC if not codec else []
    path = film(tmp_path / "in.mp4", "libx264", sound=sound)
    if codec == "h264_nvenc" and _has_nvenc():
        pytest.skip("this machine has such an encoder")
    with pytest.raises(MediaError, match=problem) as caught:
        through(path, tmp_path / name, options=WriteOptions(video=VideoOptions(codec=codec)))
    assert "in.mp4" in caught.value.message and caught.value.hint


def _has_nvenc():
    try:
        context = av.CodecContext.create("h264_nvenc", "w")
        context.width, context.height, context.pix_fmt, context.time_base = 256, 256, "yuv420p", Fraction(1, 25)
        context.open()
    except av.FFmpegError:
        return False
    return True


def test_a_target_that_cannot_hold_it_takes_what_it_can(tmp_path):
    """A container without the source's codec gets its own, and that is said."""
    path = film(tmp_path / "in.mkv", "ffv1")
    notes = through(path, tmp_path / "out.webm")
    assert "written as vp9" in " ".join(notes)
    assert film_of(tmp_path / "out.webm").picture.name == "vp9"


def test_a_size_that_changes_is_an_error(tmp_path):
    parts = [
        film(tmp_path / f"{width}.mpg", "mpeg2video", size=(width, 64), clock=Fraction(1, 25)) for width in (96, 128)
    ]
    (tmp_path / "in.mpg").write_bytes(b"".join(part.read_bytes() for part in parts))
    with pytest.raises(MediaError, match="becomes 128x64"):
        through(tmp_path / "in.mpg", tmp_path / "out.mpg")


def test_a_writer_that_is_dropped_lets_go(tmp_path):
    import threading

    path = film(tmp_path / "in.mkv", "ffv1", count=40)
    with open_reader(path) as reader, (tmp_path / "out.mkv").open("wb") as file:
        writer = reader.writer(file, WriteOptions(), ".mkv")
        for frame in reader.frames():
            changed = np.ones(frame.pixels.shape[:2], bool)
            writer.write(frame.with_pixels(255 - frame.pixels), changed)
            if frame.index == 20:
                break
        writer.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "deid-encode"]


def test_a_reader_that_is_closed_stops(tmp_path):
    with open_reader(film(tmp_path / "in.mkv", "ffv1", count=40)) as reader:
        frames = reader.frames()
        next(frames)
    assert len(list(frames)) < 5


def test_an_error_of_the_encoder_is_not_lost(tmp_path):
    path = film(tmp_path / "in.mkv", "ffv1", count=40)

    class Full:
        def write(self, data):
            raise OSError(28, "No space left on device")

        def seek(self, *_):
            return 0

        def tell(self):
            return 0

    with open_reader(path) as reader:
        writer = reader.writer(Full(), WriteOptions(), ".mkv")
        with pytest.raises(MediaError, match="cannot be written"):
            for frame in reader.frames():
                writer.write(frame.with_pixels(255 - frame.pixels), np.ones(frame.pixels.shape[:2], bool))
            writer.finish()
        writer.close()


def test_unchanged_planes_survive_a_change_elsewhere(tmp_path):
    path = film(tmp_path / "in.mkv", pixels="yuv444p10le")
    through(path, tmp_path / "out.mkv", lambda index: index == 4)
    for index, (one, other) in enumerate(zip(film_of(path).frames, film_of(tmp_path / "out.mkv").frames, strict=True)):
        same = all(np.array_equal(a, b) for a, b in zip(planes(one), planes(other), strict=True))
        assert same == (index != 4)
