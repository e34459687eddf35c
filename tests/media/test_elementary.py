"""Streams without a container are read whole, as videos, whatever they are called; photographs stay photographs."""

from fractions import Fraction
from io import BytesIO

import av
import numpy as np
import pytest
from PIL import Image

from deidcli.media.open import is_media, is_stream, open_reader
from deidcli.media.sniff import is_motion_jpeg

from .drawn import smooth
from .filmed import SIZE, film, film_of, psnr, scene, through

CLOCK = Fraction(1, 25)
STREAMS = {
    "a.h264": ("libx264", {"bf": "0"}),
    "b.264": ("libx264", {"bf": "2"}),
    "c.hevc": ("libx265", {"x265-params": "log-level=none"}),
    "d.mjpeg": ("mjpeg", {}),
    "e.m2v": ("mpeg2video", {}),
    "f.ivf": ("libvpx", {}),
    "g.m4v": ("mpeg4", {}),
}
MUXERS = {"264": "h264", "m2v": "mpeg2video", "m4v": "m4v"}


def stream(path, codec, settings, count=12):
    """Frames of `scene`, coded one after the other without a container."""
    kind = path.suffix[1:]
    with av.open(str(path), "w", format=MUXERS.get(kind, kind)) as out:
        track = out.add_stream(codec, rate=25, options=settings)
        track.width, track.height, track.pix_fmt = *SIZE, "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for index in range(count):
            frame = av.VideoFrame.from_ndarray(scene(index), "rgb24").reformat(format=track.pix_fmt)
            frame.pts, frame.time_base = index, CLOCK
            out.mux(track.encode(frame))
        out.mux(track.encode(None))
    return path


@pytest.mark.parametrize("change", [True, False])
@pytest.mark.parametrize("name", STREAMS)
def test_all_frames_come_back(tmp_path, name, change):
    path = stream(tmp_path / name, *STREAMS[name])
    odd = tmp_path / "cam01"
    odd.write_bytes(path.read_bytes())
    assert is_media(odd) and is_stream(odd)
    with open_reader(odd) as reader:
        frames = list(reader.frames())
    assert len(frames) == 12 and all(psnr(frame.pixels, scene(frame.index)) > 25 for frame in frames)
    assert np.allclose(np.diff([float(frame.time) for frame in frames]), 0.04, atol=0.003)
    out = tmp_path / f"out{path.suffix}"
    through(path, out, lambda index: change and index > 5)
    with open_reader(out) as reader:
        again = list(reader.frames())
    assert len(again) == 12
    for old, new in zip(frames, again, strict=True):
        difference = np.abs(old.pixels.astype(int) - new.pixels).mean()
        assert (difference > 3) == (change and old.index > 5) and (change or difference == 0)


def jpeg(index, size=SIZE, **settings):
    buffer = BytesIO()
    Image.fromarray(scene(index, size)).save(buffer, "JPEG", **settings)
    return buffer.getvalue()


@pytest.mark.parametrize("between", [b"", b"\r\n", b"\0" * 7])
def test_pictures_of_a_network_camera(tmp_path, between):
    path = tmp_path / "cam.jpg"
    path.write_bytes(between.join(jpeg(index) for index in range(5)))
    with open_reader(path) as reader:
        assert len(list(reader.frames())) == 5 and reader.streams


@pytest.mark.parametrize(
    "data",
    [
        jpeg(0),
        jpeg(0) + jpeg(1),
        jpeg(0) + jpeg(1, (32, 32)) + jpeg(2, (16, 16)),
        jpeg(0, exif=b"Exif\0\0" + jpeg(1) * 3),
        b"\xff\xd8\xff\xe2\0\x0aMPF\0abcd" + jpeg(0)[2:] + jpeg(1) + jpeg(2),
        jpeg(0) + b"SEFH" + jpeg(1) + jpeg(2),
    ],
    ids=["one", "two", "smaller ones behind", "thumbnails", "MPO", "a telephone's"],
)
def test_photographs_stay_photographs(data):
    assert not is_motion_jpeg(data)


@pytest.mark.parametrize("end", [b"", b"--ffserver\r\n", b"--ffserver--\r\n", b"\n--ffserver", b"\r\n\r\n"])
def test_parts_of_a_multipart_answer(tmp_path, end):
    path = tmp_path / "stream"
    parts = (jpeg(index) for index in range(6))
    head = b"--ffserver\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n"
    path.write_bytes(b"".join(head % len(part) + part + b"\r\n" for part in parts) + end)
    with open_reader(path) as reader:
        assert len(list(reader.frames())) == 6
    through(path, tmp_path / "out.mjpeg", lambda index: index == 2)
    with open_reader(tmp_path / "out.mjpeg") as reader:
        assert len(list(reader.frames())) == 6


@pytest.mark.parametrize(
    "data", [b"\0\0\1\0\1\0" + bytes(99), b"\0\0\1\xff\xff" * 9, smooth(8, 8).tobytes(), b"--x\r\n"]
)
def test_what_is_none(tmp_path, data):
    path = tmp_path / "x"
    path.write_bytes(data)
    assert not is_media(path)


def test_a_container_keeps_the_frames_of_a_stream(tmp_path):
    path = stream(tmp_path / "a.h264", *STREAMS["a.h264"])
    through(path, tmp_path / "out.mp4", lambda index: False)
    after = film_of(tmp_path / "out.mp4")
    assert len(after.frames) == 12 and np.allclose(np.diff([float(time) for time in after.times]), 0.04, atol=0.002)


def test_film_is_still_a_film(tmp_path):
    assert is_stream(film(tmp_path / "in.mkv"))
