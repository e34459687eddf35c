"""Decode a video from its beginning to its end, and report where it is damaged."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import av
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from deidcli.errors import MediaError
from deidcli.media.video.pixels import Filter
from deidcli.media.video.source import Source, facts, missing, reason, usual_step

_SPLIT = "cut it where that happens, with ffmpeg"
_SLACK = Fraction(1, 2)  # seconds by which a whole file may be shorter than it says
_HINT = "get a whole copy of the file, or use --salvage to write what can be decoded"


class Decoder:
    """The frames of a video in its own pixel format. Readers take them, and writers may take them a second time.

    hidden: whether the file holds pictures that are not shown, before the beginning or behind the end of a cut. count:
    how many frames its reader has given. damage: what is wrong with the file, "" for nothing. clock: what is wrong with
    its time stamps. Known when all frames were read are leading: how many packets come before the first that gives a
    picture; packets: how many there are in all; silent: whether others give none.
    Raises MediaError for a file without moving pictures, and for one that was cut off unless it is to be salvaged.
    """

    def __init__(self, source: Source, salvage: bool):
        self.source, self.salvage = source, salvage
        self.hidden, self.count, self.damage, self.clock, self._closed = False, 0, "", "", False
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
            stream.codec_context.thread_count = 1
            stream.codec_context.copy_opaque = True
            for frames in self._steps(container, stream):
                for frame in frames:
                    if self._closed:
                        return
                    if frame.is_corrupt:
                        self._damaged(last, "a frame is damaged")
                    last = frame.pts if frame.pts is not None else last
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
