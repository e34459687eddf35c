"""A video file that can be opened again and again: to read its frames, to copy its sound, to decode once more."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, cast

import av
import numpy as np
from av.codec.context import Flags
from av.container import InputContainer
from av.sidedata.sidedata import Type
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from deidcli.errors import MediaError
from deidcli.media.stream import SoundOnly
from deidcli.media.video.container import Clock, Window, window
from deidcli.media.video.views import WithoutBeside, WithoutLastMark

# A picture on the sleeve of a recording, or a strip of previews: neither is the video.
_PICTURES = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image

# Side data that PyAV cannot hand to an encoder.
_SIDE = {
    "SPHERICAL": "its spherical mapping is lost",
    "STEREO3D": "its stereo mapping is lost",
    "MASTERING_DISPLAY_METADATA": "the colours of its master display are lost",
    "CONTENT_LIGHT_LEVEL": "its light levels are lost",
    "DYNAMIC_HDR_PLUS": "its HDR10+ data are lost",
    "DOVI_METADATA": "its Dolby Vision data are lost",
    "A53_CC": "captions in its frames are lost",
    "ICC_PROFILE": "its colour profile is lost",
}
RAW = {
    **{kind: kind for kind in ("h264", "hevc", "mjpeg", "mpegvideo", "vc1", "dv", "mpjpeg")},
    **{"mpeg4es": "m4v", "av1obu": "obu"},
}
"""FFmpeg's names of streams without a container, and so without time stamps, by what `sniff.video_kind` says."""
# Frames a second that a file may have, and up to which they come of no broken clock.
_SLOWEST, _FASTEST, _USUAL = Fraction(1, 1000), Fraction(1000), 300


@dataclass(frozen=True)
class Source:
    """data: the file's path, or its bytes. kind: what `sniff.video_kind` said. name: how errors call it."""

    data: Path | bytes
    kind: str
    name: str

    def file(self) -> BinaryIO:
        """The file, opened. FFmpeg gets this and no name: a name like "concat:a" would be an instruction to it."""
        file = BytesIO(self.data) if isinstance(self.data, bytes) else self.data.open("rb")
        view = {"mpjpeg": WithoutLastMark, "mp4": WithoutBeside, "mov": WithoutBeside}.get(self.kind)
        return cast(BinaryIO, view(file)) if view else file

    @contextmanager
    def opened(self) -> Iterator[InputContainer]:
        """The container at its beginning. Raises MediaError where FFmpeg cannot open it."""
        with self.file() as file:
            try:
                # A stream without a container is not recognised by its first bytes.
                form = RAW.get(self.kind)
                container = av.open(file, "r", format=form, metadata_errors="replace", buffer_size=1 << 17)
            except (av.FFmpegError, ValueError) as error:
                hint = "it was cut off or never finished, and no part of it can be decoded; get a whole copy"
                raise MediaError(f"{self.name}: the video cannot be opened: {reason(error)}", hint) from error
            try:
                yield container
            finally:
                container.close()

    def clock(self, container: InputContainer) -> Clock:
        """A clock for the packets of the pictures and of the sound."""
        pictures = self.pictures(container)
        steps = {stream.index: Fraction(1, 40) for stream in container.streams.audio}
        return Clock(self.kind, {pictures.index: usual_step(rate(pictures)), **steps})

    def pictures(self, container: InputContainer) -> VideoStream:
        """The stream that is shown. Raises MediaError where there is only sound, or a codec that cannot be decoded."""
        streams = [stream for stream in container.streams.video if not stream.disposition & _PICTURES]
        if not streams:
            raise SoundOnly(f"{self.name}: not a video: it holds no moving picture", "give a video")
        stream = next((stream for stream in streams if stream.disposition & Disposition.default), streams[0])
        if stream.codec_context is None or not stream.codec_context.pix_fmt:
            raise MediaError(
                f"{self.name}: no frame of the video can be decoded", "get a whole copy, or convert it with ffmpeg"
            )
        # Else what is cropped away on the left stays in the frames, where it makes their rows begin at odd places.
        stream.codec_context.flags |= Flags.unaligned
        return stream


@dataclass(frozen=True)
class Facts:
    """What is known of a video after one frame.

    size: (width, height) as stored, without what is cropped away. stored: with it. orientation: 1 to 8, as the EXIF
    tag numbers them. matrix: the nine numbers of its display matrix, None without one. codec: FFmpeg's name. rate:
    frames a second on average. frames: about how many, None where nothing says so. others: how many more streams of
    moving pictures there are. clock: seconds that one step of its time stamps lasts. shape: of a pixel, width by
    height, None where it is not stated. pixels: FFmpeg's name of the pixel format. window: what of a stored frame
    is shown, None for all of it. alpha: whether there is an alpha channel that is not decoded. profile: whether
    there is a colour profile. side: what else frames say that is lost when they are encoded anew, a note each.
    """

    size: tuple[int, int]
    stored: tuple[int, int]
    orientation: int
    matrix: tuple[int, ...] | None
    codec: str
    rate: Fraction
    frames: int | None
    others: int
    interlaced: bool
    clock: Fraction
    shape: Fraction | None
    pixels: str
    window: Window | None = None
    alpha: bool = False
    profile: bool = False
    side: tuple[str, ...] = ()

    @property
    def upright(self) -> tuple[int, int]:
        """(width, height) as it is shown."""
        return self.size[::-1] if self.orientation >= 5 else self.size


def facts(source: Source) -> Facts:
    """Open a video and decode its first frame. Raises MediaError where there is none."""
    with source.opened() as container:
        stream = source.pictures(container)
        frame = _first(container, stream)
        if frame is None:
            raise MediaError(f"{source.name}: no frame of the video can be decoded", "get a whole copy of the file")
        matrix = display_matrix(frame)
        with source.file() as file:
            shown = window(file, source.kind, (frame.width, frame.height))
            profile = isinstance(file, WithoutBeside) and file.profile
        return Facts(
            size=(shown[2] - shown[0], shown[3] - shown[1]) if shown else (frame.width, frame.height),
            stored=(frame.width, frame.height),
            orientation=orientation(matrix),
            matrix=matrix,
            codec=stream.codec_context.codec.canonical_name,
            rate=rate(stream),
            frames=stream.frames or _estimate(container, stream, rate(stream)),
            others=sum(not other.disposition & _PICTURES for other in container.streams.video) - 1,
            interlaced=frame.interlaced_frame,
            clock=stream.time_base or Fraction(1, 1000),
            shape=stream.sample_aspect_ratio or None,
            pixels=frame.format.name,
            window=shown,
            profile=profile,
            alpha=stream.metadata.get("alpha_mode") == "1",
            side=tuple(said for kind, said in _SIDE.items() if Type[kind] in frame.side_data),
        )


def rate(stream: VideoStream) -> Fraction:
    """Frames a second on average. A value from a broken clock is ignored."""
    known = [each for each in (stream.average_rate, stream.guessed_rate) if each]
    return next((each for each in known if _SLOWEST <= each <= _FASTEST), Fraction(25))


def usual_step(rate: Fraction) -> Fraction:
    """Seconds from frame to frame where there are no usable stamps; a clock that stops makes the rate too high."""
    return 1 / (rate if rate <= _USUAL else Fraction(25))


def _first(container: InputContainer, stream: VideoStream) -> VideoFrame | None:
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
            frames = stream.decode(packet) if packet is not None else []
        except av.FFmpegError:
            continue  # a stream that was joined late begins with what cannot be decoded
        if frames or packet is None:
            return frames[0] if frames else None


def _estimate(container: InputContainer, stream: VideoStream, rate: Fraction) -> int | None:
    if stream.duration and stream.time_base:
        return round(stream.duration * stream.time_base * rate)
    return round(container.duration * rate / av.time_base) if container.duration else None


def _unknown_side_data(kind: type[Type], value: object) -> Type:
    """A member for side data that FFmpeg knows and PyAV does not: without it none of such a frame can be read."""
    member: Any = object.__new__(kind)
    member._name_, member._value_ = f"UNKNOWN_{value}", value
    return member


Type._missing_ = classmethod(_unknown_side_data)  # type: ignore[assignment]


_TURNS = {
    2: (-1, 0, 0, 1), 3: (-1, 0, 0, -1), 4: (1, 0, 0, -1),
    5: (0, 1, 1, 0), 6: (0, 1, -1, 0), 7: (0, -1, -1, 0), 8: (0, -1, 1, 0),
}  # fmt: skip
"""The numbers a, b, c and d of `orientation`, by what it gives."""


def display_matrix(frame: VideoFrame) -> tuple[int, ...] | None:
    """The nine 32-bit numbers that say how a frame is shown; None where it is shown as it is stored.

    Made anew for the nearest of the eight ways to turn and mirror: the file's own numbers may be text.
    """
    side: Any = frame.side_data.get("DISPLAYMATRIX")
    turned = orientation(None if side is None else tuple(np.frombuffer(memoryview(side), np.int32).tolist()))
    if turned == 1:
        return None
    a, b, c, d = (number << 16 for number in _TURNS[turned])
    # What would lie left of or above the picture is shifted back into it.
    left, top = min(0, a * frame.width + c * frame.height), min(0, b * frame.width + d * frame.height)
    return a, b, 0, c, d, 0, -left, -top, 1 << 30


def orientation(matrix: tuple[int, ...] | None) -> int:
    """The EXIF orientation, 1 to 8, that is nearest to a display matrix.

    A stored point (p, q) is shown at (a p + c q, b p + d q), with a, b, c, d the numbers 0, 1, 3 and 4.
    """
    if matrix is None:
        return 1
    a, b, c, d = (matrix[place] for place in (0, 1, 3, 4))
    if abs(a) >= abs(c):
        return {(1, 1): 1, (-1, 1): 2, (-1, -1): 3, (1, -1): 4}[_sign(a), _sign(d)]
    return {(1, 1): 5, (-1, 1): 6, (-1, -1): 7, (1, -1): 8}[_sign(c), _sign(b)]


def _sign(number: int) -> int:
    return -1 if number < 0 else 1


def reason(error: BaseException) -> str:
    """What FFmpeg says, in its own words without numbers and names."""
    text = getattr(error, "strerror", None) or str(error)
    return " ".join(text.split()).rstrip(".")


def missing(file: BinaryIO, kind: str) -> int:
    """How many bytes a file lacks at its end by its own account; 0 for a whole one, or a kind that does not say."""
    size = file.seek(0, 2)
    file.seek(0)
    measure = {"mp4": _boxes, "mov": _boxes, "mkv": _segment, "webm": _segment, "avi": _chunks}.get(kind)
    return max(0, measure(file, size) - size) if measure else 0


def _boxes(file: BinaryIO, size: int) -> int:
    """Where the last box ends. ISO/IEC 14496-12, 4.2: a size, a kind, and the real size where the first is 1."""
    at = 0
    while at + 8 <= size:
        file.seek(at)
        head = file.read(16)
        length = int.from_bytes(head[:4], "big")
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        # 0 is a box up to the end of the file; less than its own head is none, as the bytes behind some cameras' files.
        if length < 8 or not head[4:8].isalnum():
            return size
        at += length
    return at


def _segment(file: BinaryIO, size: int) -> int:
    """Where the segment ends. RFC 8794: an identity, a length of 1 to 8 bytes, then so many bytes."""
    _, header = _number(file, identity=True), _number(file)
    file.seek(header or 0, 1)
    _, length = _number(file, identity=True), _number(file)
    return size if length is None else file.tell() + length


def _number(file: BinaryIO, identity: bool = False) -> int | None:
    """A number of variable length; None for one that is left open, as in a live recording, or that is torn."""
    first = file.read(1)
    if not first or not first[0]:
        return None
    count = 9 - first[0].bit_length()
    whole = int.from_bytes(first + file.read(count - 1), "big")
    if identity:
        return whole
    value = whole & ((1 << 7 * count) - 1)
    return None if value == (1 << 7 * count) - 1 else value


def _chunks(file: BinaryIO, size: int) -> int:
    """Where the last RIFF chunk ends; long files have several."""
    at = 0
    while at + 12 <= size:
        file.seek(at)
        head = file.read(8)
        if head[:4] != b"RIFF":
            return size
        at += 8 + int.from_bytes(head[4:], "little")
        at += at % 2
    # An encoder that was stopped leaves a length of 0.
    return at if at > 8 else size
