"""Codecs: a video decoded from beginning to end, and where it is damaged; and which encoder writes one, and how.

A video is written by its own codec, in its own pixel format, wherever there is an encoder.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
from av.codec import Codec
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from deidcli.errors import MediaError
from deidcli.media.stream import VideoOptions
from deidcli.media.video.pixels import Filter, encodable, nearest
from deidcli.media.video.source import Source, facts, missing, reason, usual_step

_SPLIT = "cut it where that happens, with ffmpeg"
_SLACK = Fraction(1, 2)  # seconds by which a whole file may be shorter than it says
_PADDED = {"h264": 32}  # pixels by which the last block may exceed the picture: two blocks of 16 where fields alternate
_MOST_PADDED = 64  # of other codecs
_HINT = "get a whole copy of the file, or use --salvage to write what can be decoded"


class Decoder:
    """The frames of a video in its own pixel format. Readers take them, and writers may take them a second time.

    hidden: whether the file holds pictures that are not shown, before the beginning or behind the end of a cut.
    cropped: whether its codec cuts off more of a picture than the rest of a block. count: how many frames its reader
    has given. damage: what is wrong with the file, "" for nothing. clock: what is wrong with its time stamps. Known
    when all frames were read are leading: how many packets come before the first that gives a picture; packets: how
    many there are in all; silent: whether others give none.
    Raises MediaError for a file without moving pictures, and for one that was cut off unless it is to be salvaged.
    """

    def __init__(self, source: Source, salvage: bool):
        self.source, self.salvage = source, salvage
        self.hidden, self.count, self.damage, self.clock, self._closed = False, 0, "", "", False
        self.cropped = False
        self.leading, self.packets, self.silent = 0, 0, False
        self._lacking()
        self.facts = facts(source)

    def close(self) -> None:
        """Stop: a pass that goes on ends with its next frame."""
        self._closed = True

    def frames(self) -> Iterator[tuple[VideoFrame, Fraction]]:
        """Every frame as the decoder gives it, and its time in seconds.

        Times go up: a frame without a stamp follows the one before it at the average rate, and so do frames whose
        stamps do not advance. Raises MediaError where the file is damaged, or its picture changes in size.
        """
        clock = self.facts.clock
        step = max(1, round(usual_step(self.facts.rate) / clock))
        last: int | None = None
        stuck = 0
        shown = self.facts.window
        crop = Filter.crop(*shown) if shown else None
        for native in self._decoded():
            if (native.width, native.height) != (self.facts.stored):
                said = f"its picture becomes {native.width}x{native.height} after {float(last or 0) * clock:.2f} s"
                raise MediaError(f"{self.source.name}: {said}", _SPLIT)
            stamp = native.pts
            if stamp is None:
                stamp = 0 if last is None else last + step
            elif last is not None and stamp <= last:
                # One that comes twice hardly delays what follows; a clock that does not advance is replaced.
                stuck += 1
                stamp = last + (step if stuck > 1 else max(1, step // 4))
                if stuck > 1:
                    self._misses_the_clock(last * clock)
            else:
                stuck = 0
            last = stamp
            yield (crop(native) if crop else native), stamp * clock

    def _misses_the_clock(self, when: Fraction) -> None:
        said = f"its time stamps jump or stand still after {float(when):.2f} s: frames follow at the average rate there"
        self.clock = self.clock or said

    def _decoded(self) -> Iterator[VideoFrame]:
        last: int | None = None
        with self.source.opened() as container:
            stream = self.source.pictures(container)
            # Each frame says which packet it came from. With threads of its own a decoder that is closed then waits for
            # Python's lock for ever; and frames are searched more slowly than one thread decodes them.
            context = stream.codec_context
            context.thread_count = 1
            context.copy_opaque = True
            for frames in self._steps(container, stream):
                for frame in frames:
                    if self._closed:
                        return
                    if frame.is_corrupt:
                        self._damaged(last, "a frame is damaged")
                    last = frame.pts if frame.pts is not None else last
                    outside = max(context.coded_width - frame.width, context.coded_height - frame.height)
                    self.cropped = self.cropped or outside >= _PADDED.get(self.facts.codec, _MOST_PADDED)
                    yield frame

    def _steps(self, container: InputContainer, stream: VideoStream) -> Iterator[list[VideoFrame]]:
        """What each packet gives. After an error of the file itself there is only what the decoder still holds."""
        clock = self.source.clock(container)
        # The sound is looked at for where it ends, and not decoded.
        packets, last, end = clock(container.demux(stream, *container.streams.audio)), None, Fraction(0)
        seen = _SeenPackets()
        while True:
            try:
                packet = next(packets, None)
            except av.FFmpegError as error:
                self._damaged(last, reason(error))
                packet = None
            if packet is None or (packet.stream is stream and not packet.size):
                break
            end = max(end, _end(packet))
            if packet.stream is stream:
                if packet.is_corrupt and last is not None:
                    self._damaged(last, "a packet is damaged")
                seen.sent(packet)
                frames = self._given(stream, packet, last)
                seen.came(frames)
                yield frames
                self.hidden = self.hidden or packet.is_discard
                last = frames[-1].pts if frames else last
        frames = self._given(stream, None, last)
        seen.came(frames)
        yield frames
        self.leading, self.packets, self.silent = seen.leading, seen.count, seen.silent
        if clock.first is not None:
            self._misses_the_clock(clock.first)
        else:
            self._ended(container, last, end)

    def _given(self, stream: VideoStream, packet: av.Packet | None, last: int | None) -> list[VideoFrame]:
        try:
            return stream.decode(packet)
        except av.FFmpegError as error:
            # What comes before the first whole picture belongs to what was recorded before the file began.
            if last is not None:
                self._damaged(last, reason(error))
            return []

    def _ended(self, container: InputContainer, last: int | None, end: Fraction) -> None:
        """Whether the file ends where it says. Raises MediaError, or notes the damage, where it does not."""
        said = Fraction(container.duration or 0, av.time_base)
        # Of other kinds FFmpeg guesses the length.
        if self.source.kind in ("mp4", "mov", "mkv", "webm", "flv") and end < said - _SLACK:
            self._damaged(last, f"it ends {float(said - end):.2f} s before its time")

    def _lacking(self) -> None:
        """Look whether the file is as long as it says. Raises MediaError, or notes the damage."""
        try:
            with self.source.file() as file:
                short = missing(file, self.source.kind)
        except OSError as error:
            raise MediaError(f"{self.source.name}: cannot be read: {error.strerror}", "check the disk") from error
        if short:
            self._damaged(None, f"it was cut off: its last {short} bytes are missing")

    def _damaged(self, stamp: int | None, what: str) -> None:
        """Note what is wrong, the first time. Raises MediaError where nothing is to be salvaged."""
        said = self._at(stamp, what)
        if not self.salvage:
            raise MediaError(f"{self.source.name}: {said}", _HINT)
        self.damage = self.damage or said

    def _at(self, stamp: int | None, what: str) -> str:
        where = "" if stamp is None else f" after {float(stamp * self.facts.clock):.2f} s"
        return f"the video is damaged{where}: {what}"


def _end(packet: av.Packet) -> Fraction:
    """Until when a packet is shown or heard, in seconds."""
    begin = packet.pts if packet.pts is not None else packet.dts
    return Fraction(0) if begin is None else (begin + (packet.duration or 0)) * Fraction(packet.time_base or 0)


class _SeenPackets:
    """Which packets of the pictures have given a frame. Each is numbered, and each frame has the number of its own.

    count: how many were sent. leading: how many came before the first that gave a frame.
    """

    def __init__(self) -> None:
        self.count, self.leading = 0, 0
        self._first = True
        self._without: set[int] = set()

    @property
    def silent(self) -> bool:
        """Whether a packet behind the first that gave a frame has given none."""
        return any(number >= self.leading for number in self._without)

    def sent(self, packet: av.Packet) -> None:
        """A packet goes to the decoder."""
        packet.opaque = self.count
        self._without.add(self.count)
        self.count += 1

    def came(self, frames: list[VideoFrame]) -> None:
        """Frames came out of it."""
        for frame in frames:
            number = frame.opaque if isinstance(frame.opaque, int) else -1
            # An encoder's threads could not release it.
            frame.opaque = None
            self._without.discard(number)
            # The first frame that is shown may not be the first that is stored.
            if self._first or number < self.leading:
                self.leading = max(0, number)
            self._first = False


_ENCODERS = {
    "h264": "libx264",
    "hevc": "libx265",
    "vp8": "libvpx",
    "vp9": "libvpx-vp9",
    "av1": "libsvtav1",
    "prores": "prores_ks",
    "msmpeg4v3": "msmpeg4",
    "flv1": "flv",
    "theora": "libtheora",
}
# What is visually lossless without being huge: the first word is the option that --crf sets, then come the defaults.
_QUALITY: dict[str, tuple[str, dict[str, str]]] = {
    "libx264": ("crf", {"crf": "18"}),
    "libx265": ("crf", {"crf": "20", "x265-params": "log-level=none"}),
    "libvpx-vp9": ("crf", {"crf": "22", "b": "0", "row-mt": "1", "cpu-used": "3", "deadline": "good"}),
    "libvpx": ("crf", {"crf": "6", "qmin": "2", "qmax": "24", "cpu-used": "3", "deadline": "good"}),
    "libsvtav1": ("crf", {"crf": "22", "preset": "8"}),
    "dnxhd": ("", {"profile": "dnxhr_hq"}),
}
# Encoders that look ahead: how many frames unless told otherwise, and the option that says so. A frame that waits takes
# x264 about three bytes a pixel, and at 3840x2160 its 40 frames are more than a gigabyte.
_AHEAD = {"libx264": ("rc-lookahead", 40), "libx265": ("x265-params", 20), "libvpx-vp9": ("lag-in-frames", 25)}
_AHEAD_PIXELS, _LEAST_AHEAD = 50_000_000, 6
_SCALED = ("mpeg4", "msmpeg4", "msmpeg4v2", "mpeg1video", "mpeg2video", "mjpeg", "flv", "wmv1", "wmv2", "h263", "h263p")
_SCALE, _LAMBDA = 2.0, 118  # quality of the encoders that have one scale, 1 (best) to 31; FFmpeg's unit of it
_PRESETS = {"libvpx": "cpu-used", "libvpx-vp9": "cpu-used"}
_SPEEDS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow", "placebo")
# What each encoder takes for a preset; those of graphics cards take their own words, all others none.
_WORDS = {"libx264": _SPEEDS, "libx265": _SPEEDS}
_NUMBERS = {"libvpx": range(-16, 17), "libvpx-vp9": range(-8, 9), "libsvtav1": range(-2, 14)}
_CARDS = ("nvenc", "qsv", "amf", "vaapi", "videotoolbox")
_EVEN = ("264", "265", "hevc", "svtav1")
_FEW_SIZES = "scale it first, or choose another --codec"


@dataclass(frozen=True)
class Encoding:
    """encoder: FFmpeg's name. codec: of what it writes. rate: frames a second, of those that the codec can say.

    options: for the encoder. notes: what is not as in the source.
    """

    encoder: str
    codec: str
    pixels: str
    rate: Fraction
    options: dict[str, str]
    notes: tuple[str, ...]


def encoding(
    codec: str, native: str, size: tuple[int, int], rate: Fraction, options: VideoOptions, fallback: str = "h264"
) -> Encoding:
    """How to write a video of this codec, pixel format and size (width, height). Raises MediaError.

    fallback: the codec for one that has no encoder here; asking for one that has none by --codec is an error.
    """
    notes = []
    chosen = _encoder(options.codec or codec)
    if chosen is None and options.codec:
        raise MediaError(f"there is no encoder {options.codec!r}", "see `ffmpeg -encoders` for the names")
    if chosen is None:
        chosen = _encoder(fallback)
        notes.append(f"there is no encoder for {codec}: written as {fallback}")
    assert chosen is not None
    if options.encoder_preset and not _knows(chosen.name, options.encoder_preset):
        notes.append(f"{chosen.name} has no preset {options.encoder_preset!r}: its default is taken")
        options = replace(options, encoder_preset="")
    names = [kind.name for kind in chosen.video_formats or [] if _software(kind.name)] or [native]
    fitting = [name for name in names if encodable(name, *size, any(word in chosen.name for word in _EVEN))]
    if not fitting:
        raise MediaError(f"{chosen.name} cannot hold {size[0]}x{size[1]} pixels", _FEW_SIZES)
    pixels, lossy = nearest(fitting, native)
    if lossy or pixels.replace("yuvj", "yuv") != native.replace("yuvj", "yuv"):
        notes.append(f"{chosen.name} has no pixel format {native} at this size: written as {pixels}")
    return Encoding(
        chosen.name,
        chosen.canonical_name,
        pixels,
        _rate(chosen, rate),
        _options(chosen.name, options, size),
        tuple(notes),
    )


def _encoder(name: str) -> Codec | None:
    for candidate in (_ENCODERS.get(name, name), name):
        try:
            codec = Codec(candidate, "w")
        except (av.codec.codec.UnknownCodecError, ValueError):
            continue
        return codec if codec.type == "video" else None
    return None


def _knows(encoder: str, preset: str) -> bool:
    """Whether an encoder has a preset of this name."""
    if encoder in _NUMBERS:
        return preset.lstrip("-").isdigit() and int(preset) in _NUMBERS[encoder]
    return preset in _WORDS.get(encoder, ()) or any(card in encoder for card in _CARDS)


def _software(name: str) -> bool:
    return name not in (
        "cuda",
        "vaapi",
        "qsv",
        "videotoolbox_vld",
        "d3d11",
        "vulkan",
        "drm_prime",
        "mediacodec",
        "d3d12",
    )


@contextmanager
def giving_way() -> Iterator[None]:
    """While an encoder is opened: no thread of this process has real-time priority afterwards that had none (Linux).

    As root SVT-AV1 gives it to its own threads and to the one that opens it, and all other programs wait for them.
    """
    tasks = Path("/proc/self/task")
    ordinary = tasks.is_dir() and os.sched_getscheduler(0) == os.SCHED_OTHER
    try:
        yield
    finally:  # an encoder that could not be opened may have changed it, too
        for task in tasks.iterdir() if ordinary else ():
            with suppress(ProcessLookupError, PermissionError):  # it has ended
                if os.sched_getscheduler(int(task.name)) == os.SCHED_FIFO:
                    os.sched_setscheduler(int(task.name), os.SCHED_OTHER, os.sched_param(0))


def _options(encoder: str, asked: VideoOptions, size: tuple[int, int]) -> dict[str, str]:
    if encoder == "libsvtav1":
        os.environ.setdefault("SVT_LOG", "1")  # the only way to keep its log lines off standard error
    flag, options = _QUALITY.get(encoder, ("", {}))
    options = dict(options)
    if encoder in _SCALED:
        scale = _SCALE if asked.crf is None else asked.crf
        options |= {"flags": "+qscale", "global_quality": str(round(max(1.0, scale) * _LAMBDA))}
    elif asked.crf is not None:
        flag = flag or ("cq" if "nvenc" in encoder else "global_quality" if "qsv" in encoder else "")
        # A lossless encoder has no quality to set.
        options |= {flag: f"{asked.crf:g}"} if flag else {}
    name, frames = _AHEAD.get(encoder, ("", 0))
    room = max(_AHEAD_PIXELS // (size[0] * size[1]), _LEAST_AHEAD)
    if room < frames:
        options[name] = f"{options[name]}:rc-lookahead={room}" if name in options else str(room)
    if asked.encoder_preset:
        options[_PRESETS.get(encoder, "preset")] = asked.encoder_preset
    return options


def _rate(encoder: Codec, rate: Fraction) -> Fraction:
    """A frame rate that the codec can say. Frames keep their own time stamps whatever it is."""
    rate = min(max(Fraction(rate), Fraction(1, 10)), Fraction(1000))
    if encoder.frame_rates:
        return min((Fraction(r.num, r.den) for r in encoder.frame_rates), key=lambda known: abs(known - rate))
    # MPEG-4 counts in at most 65535 parts of a second.
    return rate.limit_denominator(min(1001, max(1, int(65535 / rate))))
