"""The file that is written: its tracks, what is copied into it bit for bit, and its metadata."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import ExitStack
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import av
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.stream import VideoStream

from deidcli.errors import MediaError
from deidcli.media.metadata import chapters, file_tags, track_tags
from deidcli.media.stream import WriteOptions
from deidcli.media.video.codec import Encoding, giving_way
from deidcli.media.video.container import Clock
from deidcli.media.video.scrub import Scrub, header_scrubbed, packet_scrubber
from deidcli.media.video.source import Facts, Source, reason

_MUXERS = {
    "mp4": "mp4", "m4v": "mp4", "mov": "mov", "qt": "mov", "3gp": "3gp", "3g2": "3g2", "mkv": "matroska",
    "webm": "webm", "avi": "avi", "ts": "mpegts", "m2ts": "mpegts", "mts": "mpegts", "m2t": "mpegts",
    "mpegts": "mpegts", "flv": "flv", "y4m": "yuv4mpegpipe", "ogg": "ogg", "ogv": "ogg", "wmv": "asf", "asf": "asf",
    "mpg": "mpeg", "mpeg": "mpeg", "vob": "vob", "mxf": "mxf", "nut": "nut", "ivf": "ivf", "dv": "dv",
    "h264": "h264", "264": "h264", "avc": "h264", "hevc": "hevc", "h265": "hevc", "265": "hevc", "mjpeg": "mjpeg",
    "mjpg": "mjpeg", "mpjpeg": "mpjpeg", "m2v": "mpeg2video", "mpv": "mpeg2video", "m1v": "mpeg1video", "vc1": "vc1",
    "obu": "obu",
}  # fmt: skip
_TURNING = ("mp4", "mov", "3gp", "3g2", "matroska", "webm")  # those that hold a display matrix
REORDERING = ("mp4", "mov", "3gp", "3g2", "matroska", "webm")  # those that take frames out of order without a delay
_INDEXED = ("mp4", "mov", "3gp", "3g2")  # those whose index can stand in front, so that a player need not wait for it
_EARLY = 16  # frames that may come before the first that says when to decode it
_BESIDE = {"palette": 1024, "skip_samples": 10}  # what may lie beside the data of a packet, and its bytes
_EXACT = 0x0400  # AVFMT_FLAG_BITEXACT: no program's name, no random identity


# Of streams without a container, by their kind. Some of their suffixes are those of containers, too.
_RAW = {"mpeg4es": "m4v", "av1obu": "obu", "mpegvideo": "mpeg2video", "mjpeg": "mjpeg", "h264": "h264", "hevc": "hevc"}
_SHARED_SUFFIXES = (".m4v", ".mpg", ".mpeg", ".jpg", ".jpeg", ".avc")


def muxer(suffix: str, kind: str) -> str:
    """FFmpeg's name of the container: by the suffix of the file that is written, else as the source."""
    own = _RAW.get(kind) or _MUXERS.get(kind, "matroska")
    if kind in _RAW and suffix.lower() in _SHARED_SUFFIXES:
        return own
    return _MUXERS.get(suffix.lower().lstrip("."), own)


class Output:
    """A video file in the making. Everything but the pictures is copied from a source that is opened for it."""

    def __init__(self, target: BinaryIO, source: Source, facts: Facts, options: WriteOptions, suffix: str):
        self.source, self.facts, self.options = source, facts, options
        self.muxer = muxer(suffix, source.kind)
        self.notes: list[str] = []
        self._held = ExitStack()
        self._from = self._held.enter_context(source.opened())
        self._out = self._opened(target)
        self._copies: dict[int, Stream] = {}
        self.beside: set[str] = set()
        self._ahead: Iterator[Packet] | None = None
        self._next: Packet | None = None
        self._pictures, self._wanted = -1, range(0)
        self._scrub: Scrub | None = None
        self._out.metadata.update(file_tags(self._from.metadata, options.metadata))

    def _opened(self, target: BinaryIO) -> OutputContainer:
        # The tracks keep their places on the clock: nothing is moved so that the first begins at zero.
        options = {"avoid_negative_ts": "disabled"}
        name: Any = getattr(target, "name", None)
        if self.muxer in _INDEXED and isinstance(name, (str, Path)):
            options["movflags"] = "+faststart"

        def again(url: str, flags: int, wanted: dict) -> BinaryIO:
            # FFmpeg moves the index to the front when all is written, and reads the file to do so.
            target.flush()
            return Path(name).open("rb")

        out = av.open(target, "w", format=self.muxer, buffer_size=1 << 17, options=options, io_open=again)
        out.flags |= _EXACT
        return out

    def encoded_track(self, encoding: Encoding, shape: Fraction | None) -> VideoStream:
        """The track for frames that are encoded; the encoder is open. Raises MediaError where it cannot be."""
        try:
            stream: Any = self._out.add_stream(encoding.encoder, rate=encoding.rate, options=dict(encoding.options))
        except ValueError as error:
            raise self._unfit(f"no {encoding.codec}") from error
        original = self.source.pictures(self._from)
        context = stream.codec_context
        context.width, context.height = self.size
        context.pix_fmt = encoding.pixels
        context.time_base = 1 / encoding.rate
        context.thread_count = 0
        context.thread_type = "AUTO"
        # A picture that is written upright may have lain on its side.
        lies = not self.turns and self.facts.orientation >= 5
        _like(context, original.codec_context, encoding, 1 / shape if shape and lies else shape)
        if self.muxer not in REORDERING:
            context.max_b_frames = 0
        if self.facts.interlaced:
            context.flags |= av.codec.context.Flags.interlaced_dct | av.codec.context.Flags.interlaced_me
        try:
            with giving_way():
                context.open()
        except (av.FFmpegError, ValueError) as error:
            width, height = self.size
            said = f"{encoding.encoder} cannot encode {width}x{height} {encoding.pixels}: {reason(error)}"
            raise MediaError(f"{self.source.name}: {said}", "choose another --codec") from error
        # Set last: opening the encoder takes these over from it.
        stream.time_base = original.time_base if self.muxer != "avi" else 1 / encoding.rate
        self._dress(stream, original)
        if encoding.codec == "hevc" and self.muxer in ("mp4", "mov"):
            context.codec_tag = "hvc1"  # players of one large maker take no other
        if self.facts.matrix and self.turns:
            stream.set_display_matrix(self.facts.matrix)
        return stream

    def copied_video(self, wanted: range) -> None:
        """A track for the source's own compressed pictures. wanted: the numbers of the packets that were searched."""
        original = self.source.pictures(self._from)
        stream: Any = self._template(original)
        stream.set_display_matrix(self.facts.matrix)
        self._scrub = self.scrubber
        tag = _tag(original)
        if tag == "hvc1" or (tag and self.muxer == muxer("", self.source.kind)):
            # One codec may have several tags, and in some the tag says which of its forms this is.
            stream.codec_context.codec_tag = tag
        self._copies[original.index] = stream
        self._pictures, self._wanted = original.index, wanted

    def copied_rest(self) -> None:
        """Tracks for the sound, and for what else --streams asks for."""
        kinds = {"none": (), "audio": ("audio",), "all": ("audio", "subtitle", "data")}[self.options.video.streams]
        for original in self._from.streams:
            if original.type == "audio" and "audio" in kinds:
                self._copies[original.index] = self._template(original)
                self.beside.add(original.type)
            elif original.type in kinds:
                self._try_template(original)
        if self.options.video.streams == "audio" and any(each.type == "subtitle" for each in self._from.streams):
            self.notes.append("its subtitles are left out (--streams all copies them)")
        self._out.set_chapters(chapters(self._from.chapters(), self.options.metadata))

    def holds(self, codec: str) -> bool:
        """Whether the container takes a codec. Not all of them know, and those that do not say yes."""
        try:
            with av.open(BytesIO(), "w", format=self.muxer) as probe:
                probe.add_mux_stream(codec)
        except ValueError:
            return False
        return True

    @property
    def copies(self) -> bool:
        """Whether compressed pictures can go from the source's container into this one as they are."""
        # Elsewhere the pictures of one container would have to be put in another form first.
        return self.muxer in (muxer("", self.source.kind), "mp4", "mov", "matroska", "mpegts")

    @property
    def turns(self) -> bool:
        """Whether the container can say that a picture is shown turned."""
        return self.muxer in _TURNING

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the frames that are encoded."""
        return self.facts.size if self.turns else self.facts.upright

    @property
    def own_codec(self) -> str:
        """The codec that the container prefers."""
        return self._out.default_video_codec

    def write(self, packet: Packet) -> None:
        """One packet of encoded pictures, after all that is heard before it."""
        self.copy(begins(packet))
        self._out.mux_one(packet)

    def copy(self, until: Fraction | None = None) -> None:
        """Copy packets up to a time in seconds; all that are left without one."""
        if self._ahead is None:
            self._ahead = self._packets()
            self._next = next(self._ahead, None)
        while self._next is not None and (until is None or begins(self._next) <= until):
            packet, self._next = self._next, next(self._ahead, None)
            packet.stream = self._copies[packet.stream.index]
            self._out.mux_one(packet)

    def _packets(self) -> Iterator[Packet]:
        """What is copied, on the clock that the frames have; of the pictures only what was searched."""
        clocked = [stream.index for stream in (self.source.pictures(self._from), *self._from.streams.audio)]
        number = -1
        for packet in packets(self._from, {*self._copies, *clocked}, self.source.clock(self._from)):
            if packet.stream_index == self._pictures:
                number += 1
                if packet.dts is None and packet.pts is None:
                    packet.dts = packet.pts = round(number / self.facts.rate / self.facts.clock)
                if number not in self._wanted:
                    continue
                packet = _bare(packet, self._scrubbed(packet))
            elif packet.stream.type == "audio":
                packet = _bare(packet)
            if packet.stream_index in self._copies:
                yield packet

    @property
    def scrubber(self) -> Scrub | None:
        """What makes packets of the source's pictures fit to be copied; None where they may not be copied."""
        context = self.source.pictures(self._from).codec_context
        try:
            header_scrubbed(context.codec.canonical_name, context.extradata or b"")
            return packet_scrubber(context.codec.canonical_name, context.extradata or b"")
        except (ValueError, IndexError):
            return None  # a header that cannot be followed

    def _scrubbed(self, packet: Packet) -> bytes:
        data = bytes(packet)
        try:
            return self._scrub(data) if self._scrub else data
        except (ValueError, IndexError) as error:
            said = f"{self.source.name}: a packet of its pictures cannot be read: {error}"
            raise MediaError(said, "name a --codec: it is then encoded anew") from error

    def finish(self) -> None:
        """Copy what is left and end the file."""
        self.copy()
        self._out.start_encoding()
        written: Any = next(stream.time_base for stream in self._out.streams if stream.type == "video")
        self._out.close()
        if (self.facts.clock / written).denominator != 1:
            self.notes.append(f"{self.muxer} rounds time stamps to {written} s")

    def close(self) -> None:
        """Let go of the source; what was written stays as it is."""
        self._held.close()

    def _template(self, original: Stream) -> Stream:
        try:
            stream = self._out.add_stream_from_template(original, opaque=True)
        except ValueError as error:
            raise self._unfit(f"no {original.codec_context.name} ({original.type})") from error
        self._dress(stream, original)
        context = original.codec_context
        if original.type in ("video", "audio") and context.extradata:
            try:
                stream.codec_context.extradata = header_scrubbed(context.codec.canonical_name, context.extradata)
            except (ValueError, IndexError) as error:
                said = f"{self.source.name}: the header of its {original.type} cannot be read: {error}"
                raise MediaError(said, "convert it with ffmpeg first") from error
        return stream

    def _try_template(self, original: Stream) -> None:
        """Copy a track if the container takes it; there is no other way to ask."""
        name = original.codec_context.name if original.codec_context else "unknown"
        try:
            with av.open(BytesIO(), "w", format=self.muxer) as probe:
                probe.add_stream_from_template(original, opaque=True)
                probe.start_encoding()
        except (av.FFmpegError, ValueError):
            self.notes.append(f"the {original.type} track ({name}) does not fit into {self.muxer}: left out")
            return
        self._copies[original.index] = self._template(original)
        self.beside.add(original.type)

    def _dress(self, stream: Stream, original: Stream) -> None:
        stream.metadata.clear()
        stream.metadata.update(track_tags(original.metadata, self.options.metadata))
        stream.disposition = original.disposition

    def _unfit(self, what: str) -> MediaError:
        hint = "name the output .mkv, or .mp4; --streams none leaves the sound out"
        return MediaError(f"{self.source.name}: {self.muxer} takes {what}", hint)


def _tag(stream: Stream) -> str:
    try:
        return stream.codec_context.codec_tag
    except UnicodeDecodeError:
        return ""  # a number that no muxer made of letters takes


def _like(context, original, encoding: Encoding, shape: Fraction | None) -> None:
    """The colours and the shape of the source's pixels."""
    full = original.color_range == 2 or (original.pix_fmt or "").startswith("yuvj")
    context.color_range = 2 if full else original.color_range
    context.color_primaries, context.color_trc = original.color_primaries, original.color_trc
    # A matrix belongs to luma and chroma; where one of the two is RGB there is none.
    rgb, unstated = av.VideoFormat(encoding.pixels, 16, 16).is_rgb, 2
    context.colorspace = (
        (0 if original.colorspace != unstated else unstated) if rgb else original.colorspace or unstated
    )
    if shape:
        context.sample_aspect_ratio = shape


def packets(container: InputContainer, streams: Collection[int], clock: Clock) -> Iterator[Packet]:
    """The packets of some streams, by their numbers, up to the end or to where the file is damaged.

    Whoever reads the frames of a damaged file has met that, and decided to go on.
    """
    found = clock(container.demux([container.streams[index] for index in streams]))
    early: dict[int, list[Packet]] = {}
    while True:
        try:
            packet = next(found, None)
        except av.FFmpegError:
            packet = None
        if packet is None:
            break
        if packet.size:
            waiting = early.setdefault(packet.stream.index, [])
            waiting.append(packet)
            if packet.dts is not None or len(waiting) > _EARLY:
                yield from _ordered(waiting)
                waiting.clear()
    for waiting in early.values():
        yield from _ordered(waiting)


def _bare(packet: Packet, data: bytes | None = None) -> Packet:
    """The packet with these data, or its own, and of what lies beside them only what `_BESIDE` names.

    Alpha and texts of Matroska lie there. The packet itself where nothing is to be changed.
    """
    beside = list(packet.iter_sidedata())
    kept = [each for each in beside if each.data_size == _BESIDE.get(each.data_type)]
    if len(kept) == len(beside) and data in (None, bytes(packet)):
        return packet
    new = Packet(bytes(packet) if data is None else data)
    new.pts, new.dts, new.duration, new.time_base = packet.pts, packet.dts, packet.duration, packet.time_base
    new.is_keyframe, new.stream = packet.is_keyframe, packet.stream
    for each in kept:
        new.set_sidedata(each)
    return new


def begins(packet: Packet) -> Fraction:
    """When a packet has to be there, in seconds."""
    return (packet.dts or 0) * Fraction(packet.time_base or 1)


def _ordered(waiting: list[Packet]) -> Iterator[Packet]:
    """Packets with times at which to decode them; those without any time are left out.

    Matroska tells only when a frame is shown. FFmpeg works out the rest, except for the first few frames of a video
    that is not stored in the order it is shown; theirs are counted back from the next. In a file that ends before that,
    frames are decoded in turn, as early as the one that is most out of turn needs it.
    """
    last = waiting[-1].dts if waiting else None
    if last is not None:
        step = max(waiting[-1].duration or 0, 1)
        for back, packet in enumerate(reversed(waiting)):
            packet.dts = last - back * step if packet.dts is None else packet.dts
        yield from waiting
        return
    if all(packet.pts is None for packet in waiting):
        # A stream without a container has no time stamps at all.
        yield from waiting
        return
    shown = [(packet.pts, packet) for packet in waiting if packet.pts is not None]
    order = sorted(pts for pts, _ in shown)
    late = max((when - pts for when, (pts, _) in zip(order, shown, strict=True)), default=0)
    for when, (_, packet) in zip(order, shown, strict=True):
        packet.dts = when - late
        yield packet
