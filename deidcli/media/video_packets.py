"""Compressed packets as they lie in a file, each with the time at which it has to be decoded."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from fractions import Fraction

import av
from av.container import InputContainer
from av.packet import Packet

_EARLY = 16  # frames that may come before the first that says when to decode it


def packets(container: InputContainer, streams: Collection[int]) -> Iterator[Packet]:
    """The packets of some streams, by their numbers, up to the end or to where the file is damaged.

    Whoever reads the frames of a damaged file has met that, and decided to go on.
    """
    if not streams:
        return  # which FFmpeg would take for all of them
    found = container.demux([container.streams[index] for index in streams])
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
    shown = [(packet.pts, packet) for packet in waiting if packet.pts is not None]
    order = sorted(pts for pts, _ in shown)
    late = max((when - pts for when, (pts, _) in zip(order, shown, strict=True)), default=0)
    for when, (_, packet) in zip(order, shown, strict=True):
        packet.dts = when - late
        yield packet
