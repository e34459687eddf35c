"""Videos that are drawn here with PyAV, and a run of one of them through reader and writer."""

from dataclasses import dataclass
from fractions import Fraction
from io import BytesIO

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.stream import Disposition
from av.video.frame import VideoFrame

from deidcli.media.open import open_reader
from deidcli.media.stream import ReadOptions, WriteOptions
from deidcli.media.video.codec import giving_way

from .drawn import MARK, negative, smooth

SIZE, COUNT, RATE = (96, 64), 10, 25
SECRET = MARK.decode()


def scene(index, size=SIZE):
    """(height, width, 3) uint8: soft colours under a square that moves."""
    pixels = smooth(size[1], size[0])
    left = 2 + 3 * index % (size[0] - 20)
    pixels[5:15, left : left + 12] = (200, 60, 40)
    return pixels


def film(
    path,
    codec="ffv1",
    pixels="yuv420p",
    size=SIZE,
    count=COUNT,
    stamps=None,
    clock=Fraction(1, 1000),
    sound=(),
    matrix=None,
    cover=False,
    tags=None,
    shape=None,
    colours=None,
    settings=None,
    chapters=(),
    container=None,
):
    """Write a video of `scene` to `path`. stamps: when each frame is shown, in steps of `clock`.

    sound: (codec, language) of each track. colours: (range, primaries, transfer, matrix) by FFmpeg's numbers.
    """
    stamps = [index * round(1 / (RATE * clock)) for index in range(count)] if stamps is None else stamps
    with av.open(str(path), "w", options=dict(container or {})) as out:
        out.set_chapters(list(chapters))
        out.metadata.update(tags or {})
        stream = out.add_stream(codec, rate=RATE, options=dict(settings or {}))
        stream.width, stream.height, stream.pix_fmt = *size, pixels
        stream.codec_context.time_base = clock
        if shape:
            stream.codec_context.sample_aspect_ratio = shape
        for name, value in zip(
            ("color_range", "color_primaries", "color_trc", "colorspace"), colours or (), strict=False
        ):
            setattr(stream.codec_context, name, value)
        if matrix:
            stream.set_display_matrix(matrix)
        stream.metadata["title"] = SECRET
        voices = [_voice(out, *each) for each in sound]
        picture = _cover(out) if cover else None
        with giving_way():
            stream.codec_context.open()
        for index, stamp in enumerate(stamps):
            frame = VideoFrame.from_ndarray(scene(index, size), "rgb24").reformat(format=pixels)
            frame.pts, frame.time_base = stamp, clock
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
        for number, voice in enumerate(voices):
            _speak(out, voice, number, len(stamps))
        if picture is not None:
            out.mux(picture)
    return path


def _voice(out, codec, language):
    stream = out.add_stream(codec, rate=48000)
    stream.metadata.update({"language": language, "title": SECRET})
    return stream


def _speak(out, stream, number, frames):
    samples = 48000 * frames // RATE
    tone = np.sin(np.arange(samples) * (0.05 + 0.01 * number)) * 8000
    frame = AudioFrame.from_ndarray(np.stack([tone, tone]).T.reshape(1, -1).astype(np.int16), "s16", "stereo")
    frame.sample_rate, frame.pts = 48000, 0
    out.mux(stream.encode(frame))
    out.mux(stream.encode(None))


def _cover(out):
    """A track with one picture, as it lies in files of music and of films."""
    stream = out.add_stream("mjpeg", rate=1)
    stream.width, stream.height, stream.pix_fmt = 32, 32, "yuvj420p"
    stream.disposition = Disposition.attached_pic
    frame = VideoFrame.from_ndarray(np.full((32, 32, 3), 90, np.uint8), "rgb24").reformat(format="yuvj420p")
    frame.pts = 0
    return stream.encode(frame) + stream.encode(None)


@dataclass(frozen=True)
class Film:
    """All that FFmpeg reads in a file. packets: (time, bytes) of each, by stream. times, frames: of the picture."""

    container: av.container.InputContainer
    packets: dict
    times: list
    frames: list

    @property
    def picture(self):
        return self.container.streams.video[0]


def film_of(data):
    """Take a file apart. data: a path, or bytes."""
    source = (lambda: BytesIO(data)) if isinstance(data, bytes) else (lambda: str(data))
    packets = {}
    with av.open(source()) as container:
        for packet in container.demux():
            if packet.size:
                when = None if packet.pts is None else packet.pts * packet.time_base
                packets.setdefault(packet.stream.index, []).append((when, bytes(packet)))
    with av.open(source()) as container:
        frames = list(container.decode(video=0))
    container = av.open(source())
    return Film(container, packets, [frame.pts * frame.time_base for frame in frames], frames)


def copied(before, after):
    """Whether the pictures of one film are those of another, not encoded again; they may lack what is no picture."""
    old, new = before.packets[before.picture.index], after.packets[after.picture.index]
    # The last bytes of a picture may be filling.
    alike = len(old) == len(new) and all(
        when == then and one[-32:-8] in other for (when, one), (then, other) in zip(old, new, strict=True)
    )
    smaller = all(len(b) <= len(a) for (_, a), (_, b) in zip(old, new, strict=True))
    shown = all(
        np.array_equal(one, other)
        for a, b in zip(before.frames, after.frames, strict=True)
        if a.format.name.startswith(("yuv", "gray"))
        for one, other in zip(planes(a), planes(b), strict=True)
    )
    return alike and smaller and shown


def planes(frame):
    """Every plane of a frame as it is stored, (height, width) each; formats with a plane for each component."""
    shown = []
    for plane, component in zip(frame.planes, frame.format.components, strict=True):
        kind = np.uint8 if component.bits <= 8 else np.uint16
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, -1)
        shown.append(rows.view(kind)[:, : plane.width].copy())
    return shown


def through(path, target, which=lambda index: True, options=None, read=None):
    """Write a video to `target`, a quarter of each frame inverted where `which(index)` holds; what is said of it."""
    with open_reader(path, options=read or ReadOptions()) as reader, target.open("wb") as file:
        writer = reader.writer(file, options or WriteOptions(), target.suffix)
        try:
            for frame in reader.frames():
                writer.write(*(negative(frame) if which(frame.index) else (frame, None)))
            writer.finish()
        finally:
            writer.close()
        return (*reader.notes, *writer.notes)


def psnr(one, other):
    error = np.mean((one.astype(np.float64) - other) ** 2)
    return 99.0 if not error else 10 * np.log10(255**2 / error)
