"""What a container says of a video beside its packets: their times, put on one clock, and the crop of its frames.

Clock: recordings are joined, restarted and damaged, and their time stamps then repeat, jump or go back. A stream whose
stamps do that goes on at its average rate; a pause that the sound shares is kept as it is.

Crop: what is cut off every frame before it is shown, Matroska's PixelCrop and the clean aperture of MP4. Neither
FFmpeg's decoders nor PyAV apply these; a program that ignores them shows, and keeps, what the author cut away.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import BinaryIO

from av.error import FFmpegError
from av.packet import Packet

BACK = Fraction(1, 10)  # seconds by which a decoding time may go back and is still taken for imprecise
REORDERED = Fraction(2)  # the same where only presentation times are stored: frames are stored out of their order
STRAY = Fraction(1)  # seconds by which a stamp has to lie ahead to be ignored when later ones go back behind it
PAUSE = Fraction(60)  # seconds from which on a pause is no pause but another clock
RESTART = Fraction(10)  # the same in transport and program streams, whose clocks may begin anew at any time
SHOWN_LATE = Fraction(10)  # seconds by which a frame may be shown after it is decoded
AHEAD = 16  # packets that are looked at to tell a stray stamp from a pause
_RESTARTING = ("mpegts", "mpeg")


@dataclass
class _Stream:
    """raw: decoding time of the last packet as stored. time: as repaired. length: of a packet. All in seconds.

    shift: what is added to stored times. late: from decoding to presentation of the last packet. ticks: the last
    decoding time that was given out, in the stream's own units. passed: times between the last packets as stored.
    decoded: whether the last packet had a decoding time.
    still: for how many packets the stamps have not gone up.
    """

    raw: Fraction
    time: Fraction
    length: Fraction
    passed: deque[Fraction]
    shift: Fraction = Fraction(0)
    late: Fraction = Fraction(0)
    ticks: int | None = None
    decoded: bool = True
    still: int = 0


class Clock:
    """Repairs the time stamps of packets as they are read, of all streams of pictures and sound of one file together.

    kind: what `sniff.video_kind` said. steps: the average length of a packet of each stream in seconds, by its number;
    it is used where there are no usable stamps.
    first: time of the first packet whose stamps were changed, in seconds, None where all are as stored.
    """

    def __init__(self, kind: str, steps: dict[int, Fraction]):
        self.limit = RESTART if kind in _RESTARTING else PAUSE
        self.steps = steps
        self.first: Fraction | None = None
        self._streams: dict[int, _Stream] = {}
        self._shift = Fraction(0)  # of the stream that jumped last: others of the same file jump by as much

    def __call__(self, packets: Iterable[Packet]) -> Iterator[Packet]:
        """The same packets, changed in place."""
        waiting: deque[Packet] = deque()
        try:
            for packet in packets:
                waiting.append(packet)
                if len(waiting) > AHEAD:
                    yield self._next(waiting)
        except FFmpegError:
            # What was read before the error is sound.
            while waiting:
                yield self._next(waiting)
            raise
        while waiting:
            yield self._next(waiting)

    def _next(self, waiting: deque[Packet]) -> Packet:
        packet = waiting.popleft()
        raw = _stored(packet)
        if packet.size and raw is not None and packet.stream_index in self.steps:
            same = [other for other in waiting if other.stream_index == packet.stream_index and _alike(packet, other)]
            self._repair(packet, raw, [time for time in map(_stored, same) if time is not None])
        return packet

    def _repair(self, packet: Packet, raw: Fraction, later: list[Fraction]) -> None:
        stream = self._streams.get(packet.stream_index)
        if stream is None:
            length = self._length(packet, [b - a for a, b in pairwise(sorted([raw, *later]))])
            stream = self._streams[packet.stream_index] = _Stream(raw, raw, length, deque(maxlen=AHEAD))
        elif stream.decoded != (packet.dts is not None):
            # Decoding times begin late in some containers; they say nothing of the presentation times before.
            stream.raw, stream.time = raw, raw + stream.shift
        else:
            self._advance(packet, stream, raw, later)
        stream.decoded = packet.dts is not None
        self._stamp(packet, stream, raw)

    def _advance(self, packet: Packet, stream: _Stream, raw: Fraction, later: list[Fraction]) -> None:
        """Set when a packet is decoded, on the repaired clock."""
        passed, follows = raw - stream.raw, stream.time + stream.length
        if passed > max(STRAY, 8 * stream.length) and any(stream.raw - BACK <= time < raw for time in later):
            # Those after it go on from before: this stamp alone is wrong.
            stream.raw, stream.time = stream.raw + stream.length, follows
            return
        back = BACK if packet.dts is not None else max(REORDERED, 16 * stream.length)
        far = passed > max(self.limit, 20 * stream.length) and not self._shared(packet, raw + stream.shift)
        if passed < -back or far:
            if not stream.time < raw + self._shift <= follows + RESTART:
                self._shift = follows - raw
            stream.shift = self._shift
        elif passed >= 0:
            stream.passed.append(passed)
            stream.length = self._length(packet, stream.passed)
        time = raw + stream.shift
        if packet.dts is None or time > stream.time:
            stream.still = 0
        else:
            # A stamp that comes twice hardly delays what follows; a clock that does not advance is replaced.
            stream.still += 1
            time = stream.time + (stream.length if stream.still > 1 else stream.length / 4)
        stream.raw, stream.time = raw, time

    def _shared(self, packet: Packet, time: Fraction) -> bool:
        """Whether another stream has come to about this time without a jump: then the pause is real."""
        others = [stream for index, stream in self._streams.items() if index != packet.stream_index]
        return any(abs(other.time - time) < RESTART for other in others)

    def _stamp(self, packet: Packet, stream: _Stream, raw: Fraction) -> None:
        """Move the stamps of a packet to the time of its stream."""
        base = Fraction(packet.time_base or 1)
        before = packet.dts, packet.pts
        shift = round((stream.time - raw) / base)
        late = None if packet.dts is None or packet.pts is None else (packet.pts - packet.dts) * base
        if packet.dts is not None:
            packet.dts += shift
            if stream.ticks is not None and packet.dts <= stream.ticks:
                packet.dts = stream.ticks + 1
            stream.ticks = packet.dts
        if late is not None and not -SHOWN_LATE <= late <= max(SHOWN_LATE, 32 * stream.length):
            packet.pts = (packet.dts or 0) + round(stream.late / base)
        elif packet.pts is not None:
            packet.pts += shift
            stream.late = stream.late if late is None else late
        if (packet.dts, packet.pts) != before:
            self.first = stream.time if self.first is None else self.first

    def _length(self, packet: Packet, passed: Iterable[Fraction]) -> Fraction:
        """Of a packet in seconds: the median of the last ones, the average where they do not advance or are few."""
        times = sorted(passed)
        middle = times[len(times) // 2] if len(times) > 3 else Fraction(0)
        return middle or self.steps[packet.stream_index]


def _alike(one: Packet, other: Packet) -> bool:
    """Whether both have decoding times, or neither."""
    return (one.dts is None) == (other.dts is None)


def _stored(packet: Packet) -> Fraction | None:
    """When a packet is decoded, in seconds, as far as its stamps tell."""
    stamp = packet.dts if packet.dts is not None else packet.pts
    return None if stamp is None else stamp * Fraction(packet.time_base or 1)


Window = tuple[int, int, int, int]
"""Left, top, right and bottom of what is shown, in pixels of the stored frame."""

_MOST = 1 << 24  # bytes of an index that are looked at
_PARENTS = (b"\x18\x53\x80\x67", b"\x16\x54\xae\x6b")  # segment, tracks
_TRACK, _VIDEO = b"\xae", b"\xe0"
_BOTTOM, _TOP, _LEFT, _RIGHT = b"\x54\xaa", b"\x54\xbb", b"\x54\xcc", b"\x54\xdd"
_BOXES = (b"trak", b"mdia", b"minf", b"stbl")


def window(file: BinaryIO, kind: str, size: tuple[int, int]) -> Window | None:
    """What is shown of frames of `size` (width, height) in a file of this kind; None for all of them.

    Where tracks differ the first that is cropped counts. A crop that leaves nothing is none.
    """
    if kind in ("mkv", "webm"):
        left, top, right, bottom = _matroska(file)
    elif kind in ("mp4", "mov"):
        left, top, right, bottom = _clean_aperture(file, size)
    else:
        return None
    # Inwards to whole samples of halved chroma: what is cut away must not come back.
    shown = left + left % 2, top + top % 2, size[0] - right, size[1] - bottom
    nothing = shown[2] - shown[0] < 2 or shown[3] - shown[1] < 2 or min(left, top, right, bottom) < 0
    return None if nothing or shown == (0, 0, *size) else shown


def _matroska(file: BinaryIO) -> tuple[int, int, int, int]:
    """Pixels cut off on the left, at the top, on the right and at the bottom (RFC 9559, 5.1.4.1.28.8 and following)."""
    file.seek(0)
    data = file.read(_MOST)
    sides = dict.fromkeys((_LEFT, _TOP, _RIGHT, _BOTTOM), 0)
    waiting = [(0, len(data))]
    while waiting:
        at, end = waiting.pop()
        while at + 2 <= end:
            identity, at = _number(data, at, mask=False)
            length, at = _number(data, at, mask=True)
            if not identity:
                break
            stop = min(end, at + length)
            if identity in (*_PARENTS, _TRACK, _VIDEO):
                waiting.append((at, stop))
            elif identity in sides:
                sides[identity] = int.from_bytes(data[at:stop], "big")
            at = stop
    return sides[_LEFT], sides[_TOP], sides[_RIGHT], sides[_BOTTOM]


def _number(data: bytes, at: int, mask: bool) -> tuple:
    """A number of variable length: its bytes, or its value with `mask`, and where it ends."""
    if at >= len(data) or not data[at]:
        return (0 if mask else b""), len(data)
    count = 9 - data[at].bit_length()
    raw = data[at : at + count]
    if not mask:
        return raw, at + count
    value = int.from_bytes(raw, "big") & ((1 << 7 * count) - 1)
    # All ones is a length that was left open.
    return (len(data) if value == (1 << 7 * count) - 1 else value), at + count


def _clean_aperture(file: BinaryIO, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """As `_matroska`, by the box "clap" of ISO/IEC 14496-12, 12.1.4.1."""
    found = _clap(_index(file))
    if found is None or any(bottom == 0 for _, bottom in found):
        return 0, 0, 0, 0
    wide, high, right, down = (Fraction(top, bottom) for top, bottom in found)
    left = (size[0] - wide) / 2 + right
    top = (size[1] - high) / 2 + down
    sides = left, top, size[0] - wide - left, size[1] - high - top
    return tuple(max(0, -int(-side // 1)) for side in sides)  # type: ignore[return-value]


def _index(file: BinaryIO) -> bytes:
    """What the box "moov" holds, b"" where there is none."""
    end, at = file.seek(0, 2), 0
    while at + 8 <= end:
        file.seek(at)
        head = file.read(16)
        length, start = int.from_bytes(head[:4], "big"), 8
        if length == 1:
            length, start = int.from_bytes(head[8:16], "big"), 16
        if head[4:8] == b"moov":
            file.seek(at + start)
            return file.read(min(length - start if length else end, _MOST))
        if length < 8:
            break
        at += length
    return b""


def _clap(data: bytes) -> list[tuple[int, int]] | None:
    """The four fractions of the first clean aperture below these boxes: width, height, and how far off the middle."""
    at = 0
    while at + 8 <= len(data):
        length, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        if length < 8:
            return None
        body = data[at + 8 : at + length]
        found = None
        if kind in _BOXES:
            found = _clap(body)
        elif kind == b"stsd" and len(body) > 16:
            # A description of pictures has 78 bytes before its own boxes.
            found = _clap(body[16 + 78 :]) if body[12:16] != b"mp4a" else None
        elif kind == b"clap" and len(body) >= 32:
            words = [int.from_bytes(body[n : n + 4], "big", signed=True) for n in range(0, 32, 4)]
            return list(zip(words[::2], words[1::2], strict=True))
        if found is not None:
            return found
        at += length
    return None
