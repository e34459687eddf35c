"""Pixels of a video's own format, to upright RGB, and changed pixels back into the frame they came from.

A pixel that was not changed never goes through RGB: the decoder's own frame is kept, in its own depth, chroma and
range, and only what was changed is written into it. A chroma sample belongs to a block of pixels, and is new where any
of them is.
"""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import av
import av.filter
import numpy as np
from av.codec.codec import find_best_pix_fmt_of_list
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter

from deidcli.media.image import turn, turn_back
from deidcli.media.image.windows import narrow_window, to_eight_bits
from deidcli.media.looks import LOW_IN_FILMS, stretched

# FFmpeg numbers the matrices of frames and those of its scaler differently. What is not stated is read as BT.601 on the
# way to RGB and on the way back, so that the two cancel out.
_MATRICES = {1: 1, 4: 4, 7: 7, 9: 9, 10: 9}
_BT601 = 5
_FULL = 2
_PLANAR = tuple(
    name
    for name in (
        *(f"{kind}{depth}" for kind in ("yuv420p", "yuv422p", "yuv444p") for depth in ("", "10le", "12le", "16le")),
        *(f"{kind}{depth}" for kind in ("yuva420p", "yuva422p", "yuva444p") for depth in ("", "10le", "16le")),
        *("yuv410p", "yuv411p", "yuv440p", "gray", "gray10le", "gray12le", "gray16le"),
        *("gbrp", "gbrp10le", "gbrp12le", "gbrp16le", "gbrap", "gbrap10le", "gbrap12le", "gbrap16le"),
    )
)
_DEEP = 12  # bits from which numbers may lie in a range that eight bits do not show
_BLOCK = 16  # pixels; a multiple of every chroma block there is
_MARGIN = 16  # pixels around what was changed, so that the filter that makes chroma has its neighbours


class Pixels:
    """The way to RGB and back for one video. Not for two threads at once: a scaler remembers what it did last."""

    def __init__(self, orientation: int):
        self.orientation = orientation
        self._to, self._back, self._other = VideoReformatter(), VideoReformatter(), VideoReformatter()
        self._alpha, self._wide = VideoReformatter(), VideoReformatter()

    def rgb(self, native: VideoFrame) -> np.ndarray:
        """(height, width, 3) uint8, upright and read-only."""
        shown = self._to.reformat(
            native,
            format="rgb24",
            src_colorspace=_matrix(native),
            src_color_range=_range(native),
            dst_colorspace=_matrix(native),
            dst_color_range=ColorRange.JPEG,
            # Every frame takes this way, and the exact one takes four times as long for a difference of one or two.
            interpolation=Interpolation.BILINEAR,
            threads=1,
        )
        rows = np.frombuffer(memoryview(shown.planes[0]), np.uint8).reshape(shown.height, -1)
        pixels = rows[:, : shown.width * 3].reshape(shown.height, shown.width, 3)
        pixels = np.ascontiguousarray(turn(pixels, self.orientation))
        pixels.flags.writeable = False
        return pixels

    def alpha(self, native: VideoFrame) -> np.ndarray | None:
        """(height, width) uint8, upright: how opaque each pixel is; None for a frame without alpha."""
        if not _has_alpha(native.format):
            return None
        # The scaler drops alpha on the way to RGB alone.
        shown = self._alpha.reformat(native, format="rgba", threads=1)
        rows = np.frombuffer(memoryview(shown.planes[0]), np.uint8).reshape(shown.height, -1)
        plane = rows[:, : shown.width * 4].reshape(shown.height, shown.width, 4)[..., 3]
        return np.ascontiguousarray(turn(plane, self.orientation))

    def raised(self, native: VideoFrame, shown: np.ndarray) -> np.ndarray | None:
        """What a frame shows once its contrast is raised, (height, width, 3) uint8; None where it has enough.

        shown: the frame as RGB. Wide numbers may lie in a range that is one level of eight bits, as those of a thermal
        camera do.
        """
        bits = max(component.bits for component in native.format.components)
        if bits <= 8:
            return stretched(shown, LOW_IN_FILMS)
        grey = native.format.name.startswith(("gray", "ya"))
        if not (grey or bits >= _DEEP) and stretched(shown, LOW_IN_FILMS) is None:
            return None
        wide = self._wide.reformat(
            native,
            format="gray16le" if grey else "rgb48le",
            src_colorspace=_matrix(native),
            src_color_range=_range(native),
            dst_colorspace=_matrix(native),
            dst_color_range=ColorRange.JPEG,
            threads=1,
        )
        channels = 1 if grey else 3
        rows = np.frombuffer(memoryview(wide.planes[0]), np.uint16).reshape(wide.height, -1)
        values = rows[:, : wide.width * channels].reshape(wide.height, wide.width, channels)
        limits = narrow_window(values, LOW_IN_FILMS / 256)
        if limits is None:
            return None
        look = to_eight_bits(turn(values, self.orientation), limits)
        return np.repeat(look, 3, axis=2) if grey else np.ascontiguousarray(look)

    def paste(self, native: VideoFrame, rgb: np.ndarray, changed: np.ndarray) -> VideoFrame:
        """The frame with the pixels of `changed` taken from `rgb`, and opaque; both upright. `native` is used up.

        rgb: (height, width, 3) uint8. changed: (height, width) bool, true somewhere.
        """
        rgb, changed = turn_back(rgb, self.orientation), turn_back(changed, self.orientation)
        frame = self.planar(native)
        frame.make_writable()
        rows, columns = _window(changed)
        new = self._stored(np.ascontiguousarray(rgb[rows, columns]), frame)
        for component, source in zip(frame.format.components, new.format.components, strict=True):
            if component.is_alpha:
                _plane(frame, component)[rows, columns][changed[rows, columns]] = (1 << component.bits) - 1
            else:
                high, wide = _steps(frame.format.name) if component.is_chroma else (1, 1)
                mask = _blocks(changed[rows, columns], high, wide)
                part = _plane(frame, component)[rows.start // high :, columns.start // wide :]
                np.copyto(part[: mask.shape[0], : mask.shape[1]], _plane(new, source), where=mask)
        return frame

    def planar(self, native: VideoFrame) -> VideoFrame:
        """The frame with a plane for each component, where it has not; without loss for all but palettes and bits."""
        kind = native.format
        if _is_planar(kind):
            return native
        best, _ = find_best_pix_fmt_of_list(_PLANAR, kind, has_alpha=_has_alpha(kind))
        return self.converted(native, best.name if best else "gbrp")

    def converted(self, frame: VideoFrame, name: str) -> VideoFrame:
        """The frame in another pixel format, in the same range and matrix; itself where it has it already."""
        if frame.format.name == name:
            return frame
        full = ColorRange.JPEG if name.startswith(("gbr", "rgb", "bgr", "yuvj")) else _range(frame)
        return self._other.reformat(
            frame,
            format=name,
            src_colorspace=_matrix(frame),
            src_color_range=_range(frame),
            dst_colorspace=_matrix(frame),
            dst_color_range=full,
            interpolation=Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INP,
            threads=1,
        )

    def _stored(self, rgb: np.ndarray, like: VideoFrame) -> VideoFrame:
        """(h, w, 3) uint8 RGB in the pixel format, range and matrix of another frame."""
        return self._back.reformat(
            VideoFrame.from_ndarray(rgb, "rgb24"),
            format=like.format.name,
            src_colorspace=_matrix(like),
            src_color_range=ColorRange.JPEG,
            dst_colorspace=_matrix(like),
            dst_color_range=_range(like),
            interpolation=Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INP,
            threads=1,
        )


# What brings a stored picture upright, by its EXIF orientation: FFmpeg's filters and their settings.
_UPRIGHT: dict[int, list[tuple[str, str]]] = {
    1: [],
    2: [("hflip", "")],
    3: [("hflip", ""), ("vflip", "")],
    4: [("vflip", "")],
    5: [("transpose", "0")],
    6: [("transpose", "1")],
    7: [("transpose", "3")],
    8: [("transpose", "2")],
}


class Filter:
    """FFmpeg's filters for the frames of one video, one frame in and one out."""

    def __init__(self, steps: list[tuple[str, str]]):
        self.steps = steps
        self._graph: av.filter.Graph | None = None

    @classmethod
    def upright(cls, orientation: int) -> Filter:
        """Turns and mirrors stored frames, by the EXIF orientation."""
        return cls(_UPRIGHT[orientation])

    @classmethod
    def crop(cls, left: int, top: int, right: int, bottom: int) -> Filter:
        """Cuts frames to this part."""
        return cls([("crop", f"{right - left}:{bottom - top}:{left}:{top}:exact=1")])

    def __call__(self, frame: VideoFrame) -> VideoFrame:
        if not self.steps:
            return frame
        base, stamp, length = frame.time_base, frame.pts, frame.duration
        # Stamps may be missing; the filters of one frame need none of the file's.
        frame.pts, frame.time_base = 0, Fraction(1, 1000)
        if self._graph is None:
            self._graph = self._made(frame)
        self._graph.push(frame)
        new = self._graph.pull()
        assert isinstance(new, VideoFrame)
        new.pts, new.time_base, new.duration = stamp, base, length
        return new

    def _made(self, frame: VideoFrame) -> av.filter.Graph:
        graph = av.filter.Graph()
        nodes = [
            graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base),
            *(graph.add(name, settings) for name, settings in self.steps),
            graph.add("buffersink"),
        ]
        for one, other in pairwise(nodes):
            one.link_to(other)
        graph.configure()
        return graph


def encodable(name: str, width: int, height: int, even: bool) -> bool:
    """Whether an encoder that may want `even` sizes of halved chroma can take this pixel format at this size."""
    kind = VideoFormat(name, 64, 64)
    odd = (width % 2 and kind.chroma_width() < 64) or (height % 2 and kind.chroma_height() < 64)
    return not (even and odd)


def nearest(names: list[str], native: str) -> tuple[str, bool]:
    """The pixel format of `names` that loses least of `native`, and whether it loses anything."""
    if native in names:
        return native, False
    kind = VideoFormat(native, 64, 64)
    twin = native.replace("yuvj", "yuv")
    if twin in names:
        return twin, False
    best, loss = find_best_pix_fmt_of_list(names, kind, has_alpha=_has_alpha(kind))
    return (best.name if best else names[0]), bool(loss)


def _matrix(frame: VideoFrame) -> int:
    return _MATRICES.get(frame.colorspace, _BT601)


def _range(frame: VideoFrame) -> ColorRange:
    name = frame.format.name
    full = frame.color_range == _FULL or frame.format.is_rgb or name.startswith(("yuvj", "pal"))
    return ColorRange.JPEG if full else ColorRange.MPEG


def _has_alpha(kind: VideoFormat) -> bool:
    return any(component.is_alpha for component in kind.components)


def _is_planar(kind: VideoFormat) -> bool:
    planes = {component.plane for component in kind.components}
    alone = len(planes) == len(kind.components)
    return alone and not (kind.has_palette or kind.is_bit_stream or kind.is_bayer)


def _steps(name: str) -> tuple[int, int]:
    """How many pixels one sample of chroma covers, down and across."""
    kind = VideoFormat(name, _BLOCK, _BLOCK)
    return _BLOCK // kind.chroma_height(), _BLOCK // kind.chroma_width()


def _window(changed: np.ndarray) -> tuple[slice, slice]:
    """The rows and columns of what was changed, with room around, beginning where a chroma block begins."""
    sides = []
    for axis in (1, 0):
        places = np.flatnonzero(changed.any(axis=axis))
        start = max(0, int(places[0]) - _MARGIN) // _BLOCK * _BLOCK
        sides.append(slice(start, min(changed.shape[1 - axis], int(places[-1]) + 1 + _MARGIN)))
    return sides[0], sides[1]


def _blocks(changed: np.ndarray, high: int, wide: int) -> np.ndarray:
    """Which blocks of (high, wide) pixels hold a changed one; the last of a side may be cut."""
    if (high, wide) == (1, 1):
        return changed
    rows, columns = -changed.shape[0] % high, -changed.shape[1] % wide
    padded = np.pad(changed, ((0, rows), (0, columns)))
    blocks = padded.reshape(padded.shape[0] // high, high, padded.shape[1] // wide, wide)
    return np.asarray(blocks.any(axis=(1, 3)))


def _plane(frame: VideoFrame, component: av.video.format.VideoFormatComponent) -> np.ndarray:
    """(height, width) of one component, a view of the frame's own memory."""
    plane, depth = frame.planes[component.plane], component.bits
    kind = np.uint8 if depth <= 8 else np.uint16 if depth <= 16 else np.uint32
    rows = np.frombuffer(memoryview(plane), np.uint8)[: abs(plane.line_size) * component.height]
    rows = rows.reshape(component.height, abs(plane.line_size))
    # Some decoders store the picture from the bottom up.
    rows = rows[::-1] if plane.line_size < 0 else rows
    return rows[:, : component.width * np.dtype(kind).itemsize].view(kind)
