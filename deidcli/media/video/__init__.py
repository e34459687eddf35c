"""Videos: frames out of whatever FFmpeg decodes, upright and with their exact times, and back into files.

Changed pixels go into the source's own frames, time stamps stay as they were, and sound bit for bit. Nothing is encoded
before the first changed frame. A video in which no frame was changed is copied packet by packet; in another the frames
before the first changed one are decoded a second time, since to keep them until then would take as much memory as the
video is long.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from itertools import islice
from pathlib import Path
from queue import Empty, Queue
from typing import BinaryIO, Generic, TypeVar

import av
import numpy as np
from av.video.frame import VideoFrame
from PIL import Image

from deidcli.errors import MediaError
from deidcli.media import metadata as policies
from deidcli.media.image import check_size
from deidcli.media.looks import looks
from deidcli.media.stream import CROPPED, Reader, ReadOptions, StreamInfo, WriteOptions, Writer
from deidcli.media.video.codec import Decoder, encoding
from deidcli.media.video.output import Output
from deidcli.media.video.pixels import Filter, Pixels
from deidcli.media.video.source import Source, reason
from deidcli.values import Frame

T = TypeVar("T")
_END = object()
_LARGE = 2_000_000  # pixels of a frame from which it takes less to make its colours again than to keep them
_WAITING = 16_000_000  # pixels of frames that wait for the encoder


@dataclass(frozen=True)
class _Change:
    """A frame for the encoder. changed: None where it is the source's own; then its pixels are not needed."""

    native: VideoFrame
    time: Fraction
    pixels: np.ndarray | None = None
    changed: np.ndarray | None = None


class VideoWriter(Writer):
    """Takes the frames of a video back; the encoder works in a thread of its own."""

    def __init__(self, decoder: Decoder, target: BinaryIO, options: WriteOptions, suffix: str):
        self.decoder, self.options = decoder, options
        self._taken = 0
        self._behind: OrderedThread[_Change] | None = None
        self._track: _Track | None = None
        with _explained(decoder.source.name):
            self._out = Output(target, decoder.source, decoder.facts, options, suffix)

    def write(self, frame: Frame, changed: np.ndarray | None) -> None:
        """As `Writer.write`. Raises MediaError for a frame out of turn, or what the encoder said of an earlier one."""
        self._check(frame, changed)
        with _explained(self.decoder.source.name):
            native, when = frame.native, frame.time or Fraction(0)
            assert isinstance(native, VideoFrame)
            if changed is not None and changed.any():
                self._begin().put(_Change(native, when, frame.pixels, changed))
            elif self._behind is not None:
                self._behind.put(_Change(native, when))
        self._taken += 1

    def finish(self) -> None:
        name, wanted = self.decoder.source.name, self.decoder.count
        if self._taken != wanted:
            raise MediaError(f"{name}: {self._taken} of {wanted} frames were written", "write every frame")
        with _explained(name):
            if self._behind is None and self._same():
                self._out.copied_video(range(self.decoder.leading, self.decoder.packets))
                self._out.copied_rest()
            else:
                self._begin().finish()
                if self._track is not None:
                    self._track.finish()
            self._out.finish()

    def close(self) -> None:
        if self._behind is not None:
            self._behind.stop()
        self._out.close()

    @property
    def notes(self) -> tuple[str, ...]:  # type: ignore[override]
        own = self._track.notes if self._track else ()
        return (*own, *self._out.notes)

    @property
    def beside(self) -> tuple[str, ...]:  # type: ignore[override]
        return tuple(sorted(self._out.beside))

    def _same(self) -> bool:
        """Whether the compressed pictures may be copied as they are.

        Not where some are hidden by an edit list, cropped, gave no picture, or were too damaged to be seen: they were
        not searched for faces, or not in whole. Nor where the time stamps are broken.
        """
        facts, asked = self.decoder.facts, self.options.video
        source = self.decoder
        seen = not (source.hidden or source.damage or source.silent or source.clock or source.facts.window)
        seen = seen and not source.cropped
        wanted = asked.codec and encoding(asked.codec, "yuv420p", (64, 64), facts.rate, asked).codec
        seen = seen and self._out.scrubber is not None and (self._out.turns or source.facts.matrix is None)
        return seen and wanted in ("", facts.codec) and self._out.copies and self._out.holds(facts.codec)

    def _begin(self) -> OrderedThread[_Change]:
        """The encoder in its thread; when it starts it gets the frames that were taken before."""
        if self._behind is not None:
            return self._behind
        self._track = _Track(self.decoder, self._out, self.options)
        self._out.copied_rest()
        width, height = self.decoder.facts.size
        room = min(max(_WAITING // (width * height), 2), 16)
        self._behind = OrderedThread(self._track.add, room, "deid-encode")
        again = 0
        for native, time in islice(self.decoder.frames(), self._taken):
            self._behind.put(_Change(native, time))
            again += 1
        if again != self._taken:
            raise MediaError(f"its first {self._taken} frames were {again} when they were read again", "copy it anew")
        return self._behind

    def _check(self, frame: Frame, changed: np.ndarray | None) -> None:
        if frame.index != self._taken:
            raise MediaError(f"frame {frame.index} came where {self._taken} was due", "write the frames in order")
        if changed is not None and changed.shape != frame.pixels.shape[:2]:
            raise MediaError(f"a mask of {changed.shape} came for {frame.pixels.shape}", "give one of the frame's size")
        if not isinstance(frame.native, VideoFrame):
            raise MediaError(f"frame {frame.index} lost its native frame", "change a frame with Frame.with_pixels")


class _Track:
    """The encoded pictures of one file.

    The encoder counts frames, and every packet gets the source's time stamp back by its number: codecs that can say few
    clocks keep the exact times too. Decoding times are those of the frames that come in their place.
    """

    def __init__(self, decoder: Decoder, out: Output, options: WriteOptions):
        facts = decoder.facts
        self.pixels, self.out = Pixels(facts.orientation), out
        fallback = out.own_codec
        codec = facts.codec if options.video.codec or out.holds(facts.codec) else fallback
        how = encoding(codec, facts.pixels, out.size, facts.rate, options.video, fallback)
        self.notes = (*how.notes, *facts.side)
        # A container that cannot say how a picture is turned gets it upright.
        self.upright = Filter.upright(1 if out.turns else facts.orientation)
        if codec != facts.codec:
            self.notes += (f"{out.muxer} takes no {facts.codec}: written as {codec}",)
        if facts.window or decoder.cropped:
            self.notes += (CROPPED,)
        self.encoding, self.clock = how, facts.clock
        self.stream = out.encoded_track(how, facts.shape)
        self._stamps: dict[int, int] = {}
        self._lengths: dict[int, int] = {}
        self._count = 0
        self._step = max(1, round(1 / (facts.rate * facts.clock)))

    def add(self, change: _Change) -> None:
        """Encode a frame and write what comes out."""
        frame = change.native
        length = frame.duration
        if change.changed is not None and change.pixels is not None:
            frame = self.pixels.paste(frame, change.pixels, change.changed)
        frame = self.pixels.converted(self.upright(frame), self.encoding.pixels)
        self._stamps[self._count] = round(change.time / self.clock)
        self._lengths[self._count] = length or self._step
        frame.pts, frame.time_base = self._count, 1 / self.encoding.rate
        # A decoder says what kind of frame it was, and an encoder would take that for an order.
        frame.pict_type = 0
        self._count += 1
        self._write(self.stream.encode(frame))

    def finish(self) -> None:
        """Write what the encoder still holds."""
        self._write(self.stream.encode(None))

    def _write(self, packets: list[av.Packet]) -> None:
        for packet in packets:
            number = int(packet.pts or 0)
            order = number if packet.dts is None else packet.dts
            packet.time_base = self.clock
            packet.pts, packet.duration = self._stamps[number], self._lengths.pop(number)
            packet.dts = self._stamps[order] if order >= 0 else self._stamps[0] + order * self._step
            self._forget(order)
            self.out.write(packet)

    def _forget(self, order: int) -> None:
        # The first stamp stands for the times before it.
        for number in [number for number in self._stamps if 0 < number < order - 1 and number not in self._lengths]:
            del self._stamps[number]


class _explained:
    """Turns what FFmpeg throws into one MediaError that names the file."""

    def __init__(self, name: str):
        self.name = name

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, MediaError) and not error.message.startswith(f"{self.name}: "):
            raise MediaError(f"{self.name}: {error.message}", error.hint) from error
        if isinstance(error, (av.FFmpegError, OSError, MemoryError)):
            said = f"{self.name}: the video cannot be written: {reason(error)}"
            raise MediaError(said, "see whether the disk is full, or choose another --codec or suffix") from error


_SETTINGS: dict[str, dict] = {"png": {"compress_level": 3}, "jpg": {"quality": 95, "subsampling": 0}}


class FolderWriter(Writer):
    """Writes 000000.png, 000001.png and so on: the number of the frame in the manifest and in lists of faces.

    The pictures have eight bits, are upright and carry no metadata. Sound and time stamps have no place in them.
    """

    def __init__(self, decoder: Decoder, folder: Path, kind: str):
        self.decoder, self.folder, self.kind = decoder, folder, kind
        self._taken = 0

    def write(self, frame: Frame, changed: np.ndarray | None) -> None:
        path = self.folder / f"{frame.index:06d}.{self.kind}"
        try:
            Image.fromarray(frame.pixels).save(path, **_SETTINGS[self.kind])
        except OSError as error:
            said = f"{self.decoder.source.name}: frame {frame.index} cannot be written: {error.strerror or error}"
            raise MediaError(said, "check the disk") from error
        self._taken += 1

    def finish(self) -> None:
        if self._taken != self.decoder.count:
            name = self.decoder.source.name
            raise MediaError(f"{name}: {self._taken} of {self.decoder.count} frames were written", "write every frame")


class OrderedThread(Generic[T]):
    """Calls `work` with each item in turn, in a thread of its own; no error is lost.

    room: how many items may wait; `put` waits for a place.
    """

    def __init__(self, work: Callable[[T], None], room: int, name: str):
        self._work = work
        self._queue: Queue = Queue(room)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, item: T) -> None:
        """Hand over an item. Raises what an earlier item raised."""
        self._raise()
        self._queue.put(item)

    def finish(self) -> None:
        """Wait until all is done. Raises what an item raised."""
        self._queue.put(_END)
        self._thread.join()
        self._raise()

    def stop(self) -> None:
        """Drop what waits, and wait for what has begun."""
        while self._thread.is_alive():
            try:
                self._queue.get_nowait()
            except Empty:
                self._queue.put(_END)
                self._thread.join()

    def _run(self) -> None:
        while (item := self._queue.get()) is not _END:
            # After an error the queue is emptied all the same: a thread that waits for a place has to see the error.
            if self._error is None:
                try:
                    self._work(item)
                except BaseException as error:
                    self._error = error

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error


def _rgb(native: VideoFrame, orientation: int) -> np.ndarray:
    return Pixels(orientation).rgb(native)


def open_video(data: Path | bytes, name: str, kind: str, options: ReadOptions) -> VideoReader:
    """A reader of a video. kind: what `sniff.video_kind` said.

    Raises MediaError for a file without moving pictures, and for one that was cut off unless it is to be salvaged.
    """
    return VideoReader(Source(data, kind, name), options)


class VideoReader(Reader):
    """Frames of a video as they are asked for; no more of them are held than the decoder needs."""

    streams = True

    def __init__(self, source: Source, options: ReadOptions):
        self.decoder = Decoder(source, options.salvage)
        facts = self.decoder.facts
        check_size(facts.size)
        self.info = StreamInfo(source.kind, facts.upright, facts.frames)

    @property
    def notes(self) -> tuple[str, ...]:  # type: ignore[override]
        """What the user should know of the file, complete when its frames were read."""
        others = self.decoder.facts.others
        # They were not searched, and may show the same people.
        left = (f"it has {others} more tracks of moving pictures: left out",) if others else ()
        alpha = ("its alpha channel is left out",) if self.decoder.facts.alpha else ()
        profile = ("its colour profile is left out",) if self.decoder.facts.profile else ()
        return tuple(note for note in (*left, *alpha, *profile, self.decoder.clock) if note)

    @property
    def damage(self) -> str:  # type: ignore[override]
        """What is missing of a damaged video, known when its frames were read."""
        return self.decoder.damage

    def frames(self) -> Iterator[Frame]:
        """As `Reader.frames`; they are read from the file's beginning each time."""
        orientation = self.decoder.facts.orientation
        pixels = Pixels(orientation)
        for index, (native, time) in enumerate(self.decoder.frames()):
            self.decoder.count = index + 1
            alpha = pixels.alpha(native)
            first, others = looks(pixels.rgb(native), alpha)
            raised = pixels.raised(native, first)
            others += () if raised is None else (raised,)
            large = native.width * native.height >= _LARGE and alpha is None
            yield Frame(first, index, time, native, others, partial(_rgb, native, orientation) if large else None)
        if not self.decoder.count:
            raise MediaError(
                f"{self.decoder.source.name}: no frame of the video can be decoded", "get a whole copy of the file"
            )

    def writer(self, target: BinaryIO | Path, options: WriteOptions, suffix: str = "") -> Writer:
        policies.checked(options.metadata)
        if isinstance(target, Path):
            return FolderWriter(self.decoder, target, options.video.frames)
        return VideoWriter(self.decoder, target, options, suffix)

    def close(self) -> None:
        """Stop: a file that cannot be written is read no further."""
        self.decoder.close()

    def makes_folder(self, options: WriteOptions) -> bool:
        return bool(options.video.frames)
