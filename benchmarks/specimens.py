"""Small files of every format with a face in them, and what breaks them: for fuzz.py, kills.py and night.py.

The faces come out of examples/in, which shows nobody. Every file is made from a seed, so that a case can be made again.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path

import av
import cv2
import numpy as np
from av.video.frame import VideoFrame
from PIL import Image

EXAMPLES = Path(__file__).parents[1] / "examples" / "in"
SIDE = 128  # of a face with its surroundings in pixels; the face is about 70 wide
SIZE = (160, 136)  # of a moving picture, width and height
# How much of the face shows in each frame of a moving picture. It comes and goes slowly, so that no cut betrays it: a
# tool that skips frames because of what their clock says leaves it open.
SHOWN = (0, 0, 0.2, 0.4, 0.6, 0.8, 1, 1, 0.8, 0.6, 0.4, 0.2, 0, 0)
FRAMES = len(SHOWN)


@cache
def patches() -> tuple[np.ndarray, ...]:
    """Faces (SIDE, SIDE, 3) uint8 that the HOG detector finds."""
    import dlib

    find, found = dlib.get_frontal_face_detector(), []
    for name in ("badge.gif", "grey.png", "portrait.jpg"):
        with Image.open(EXAMPLES / name) as image:
            pixels = np.asarray(image.convert("RGB"))
        box = max(find(pixels), key=lambda b: b.area())
        scale = 0.5 * SIDE / box.width()
        middle = (box.left() + box.width() / 2, box.top() + box.height() / 2)
        move = np.array([[scale, 0, SIDE / 2 - scale * middle[0]], [0, scale, SIDE * 0.55 - scale * middle[1]]])
        patch = cv2.warpAffine(pixels, move, (SIDE, SIDE), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REFLECT_101)
        if find(patch):
            found.append(patch)
    return tuple(found)


def scene(index: int, patch: np.ndarray, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Frame `index` of a moving picture, (height, width, 3) uint8: soft colours, and the face in some frames."""
    y, x = np.mgrid[: size[1], : size[0]]
    shades = np.stack([x * 60 // size[0] + 90, y * 60 // size[1] + 90, (x + y) // 8 + 90 + index], 2)
    pixels = shades.astype(np.uint8)
    here = pixels[4 : 4 + SIDE, 16 : 16 + SIDE]
    here[:] = cv2.addWeighted(patch, SHOWN[index], here, 1 - SHOWN[index], 0)
    return pixels


def _saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@cache
def stills() -> dict[str, bytes]:
    """A picture of each format and mode, by a name with its suffix."""
    made: dict[str, bytes] = {}
    for number, patch in enumerate(patches()):
        made |= {f"{number}-{name}": data for name, data in _stills(Image.fromarray(patch))}
    return made


def _stills(face: Image.Image) -> Iterator[tuple[str, bytes]]:
    exif = Image.Exif()
    exif[0x0112] = 1
    clear = face.copy()
    clear.putalpha(Image.linear_gradient("L").resize(face.size).point(lambda v: 120 + v // 2))
    deep = (np.asarray(face).astype(np.uint16) * 257)[:, :, ::-1]
    yield "rgb.jpg", _saved(face, "jpeg", quality=92)
    yield "progressive.jpg", _saved(face, "jpeg", progressive=True, exif=exif)
    yield "grey.jpg", _saved(face.convert("L"), "jpeg")
    yield "cmyk.jpg", _saved(face.convert("CMYK"), "jpeg", quality=92)
    yield "rgb.png", _saved(face, "png")
    yield "alpha.png", _saved(clear, "png")
    yield "palette.png", _saved(face.quantize(200), "png")
    yield "grey.png", _saved(face.convert("L"), "png")
    yield "deep.png", cv2.imencode(".png", deep)[1].tobytes()
    yield "lossy.webp", _saved(face, "webp", quality=90)
    yield "alpha.webp", _saved(clear, "webp", lossless=True)
    yield "still.gif", _saved(face.quantize(200), "gif")
    yield "rgb.bmp", _saved(face, "bmp")
    yield "raw.tif", _saved(face, "tiff")
    yield "lzw.tif", _saved(face, "tiff", compression="tiff_lzw")
    yield "jpeg.tif", _saved(face, "tiff", compression="jpeg", quality=92)
    yield "deep.tif", cv2.imencode(".tif", deep)[1].tobytes()
    yield "still.avif", _saved(face, "avif", quality=80, speed=9)
    try:
        import pillow_heif
    except ImportError:
        return
    buffer = io.BytesIO()
    pillow_heif.from_pillow(face).save(buffer, quality=80)
    yield "still.heic", buffer.getvalue()


_FILMS = {  # suffix: the container and codec, the pixel format
    "h264.mp4": ("mp4", "libx264", "yuv420p"), "mpeg4.mov": ("mov", "mpeg4", "yuv420p"),
    "h264.mkv": ("matroska", "libx264", "yuv420p"), "vp8.webm": ("webm", "libvpx", "yuv420p"),
    "mjpeg.avi": ("avi", "mjpeg", "yuvj420p"), "h264.ts": ("mpegts", "libx264", "yuv420p"),
    "mpeg2.mpg": ("vob", "mpeg2video", "yuv420p"), "flv1.flv": ("flv", "flv", "yuv420p"),
}  # fmt: skip


@cache
def moving() -> dict[str, bytes]:
    """An animation or a video of each container, by a name with its suffix."""
    patch = patches()[0]
    frames = [Image.fromarray(scene(index, patch)) for index in range(FRAMES)]
    rest = {"save_all": True, "append_images": frames[1:], "duration": 40, "loop": 0}
    small = [frame.quantize(160) for frame in frames]
    made = {
        "moving.gif": _saved(small[0], "gif", **rest | {"append_images": small[1:]}),
        "moving.webp": _saved(frames[0], "webp", quality=90, **rest),
        "moving_apng.png": _saved(frames[0], "png", **rest),
    }
    return made | {name: _film(*kind, [np.asarray(frame) for frame in frames]) for name, kind in _FILMS.items()}


def _film(container: str, codec: str, pixels: str, frames: Sequence[np.ndarray]) -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as out:
        stream = out.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = *SIZE, pixels
        stream.bit_rate = 4_000_000
        if codec == "libx264":
            stream.options = {"crf": "18", "preset": "veryfast"}
        for index, shown in enumerate(frames):
            frame = VideoFrame.from_ndarray(np.ascontiguousarray(shown), "rgb24").reformat(format=pixels)
            frame.pts = index
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return buffer.getvalue()


# What is done to any file


def broken(data: bytes, other: bytes, rng: np.random.Generator) -> tuple[str, bytes]:
    """`data` after one to three mutations, and their names. other: a file that parts are taken from.

    Half of the mutated PNGs get true checksums, or no decoder would look at what is in them.
    """
    names = []
    for _ in range(int(rng.choice([1, 1, 1, 2, 3]))):
        change = _BREAKS[int(rng.integers(len(_BREAKS)))]
        data = change(data, other, rng) or data
        names.append(change.__name__.lstrip("_"))
    if data.startswith(b"\x89PNG") and rng.integers(2):
        names.append("checked")
        data = _checked(data)
    return "+".join(names), data


def _checked(data: bytes) -> bytes:
    made, at = bytearray(data), 8
    while at + 12 <= len(made):
        end = at + 8 + int.from_bytes(made[at : at + 4], "big")
        if end + 4 > len(made):
            break
        made[end : end + 4] = zlib.crc32(made[at + 4 : end]).to_bytes(4, "big")
        at = end + 4
    return bytes(made)


def _place(data: bytes, rng: np.random.Generator) -> int:
    """Headers and tables lie at the beginning and at the end: half of the changes go there."""
    size = len(data)
    near, where = min(size, 600), rng.integers(4)
    if where > 1:
        return int(rng.integers(size))
    return int(rng.integers(near)) if where == 0 else size - 1 - int(rng.integers(near))


def _flipped(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    made = bytearray(data)
    for _ in range(int(rng.integers(1, 12))):
        made[_place(data, rng)] ^= 1 << int(rng.integers(8))
    return bytes(made)


def _filled(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    at, size = _place(data, rng), int(rng.integers(1, 64))
    value = (b"\0", b"\xff", b"\x7f", rng.bytes(1))[int(rng.integers(4))]
    return data[:at] + value * len(data[at : at + size]) + data[at + size :]


def _number(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """A length, an offset or a size that is another one."""
    at, order = _place(data, rng), "<>"[int(rng.integers(2))]
    value = (0, 1, 0x7FFFFFFF, 0xFFFFFFFF, 0x10000, int(rng.integers(1 << 32)))[int(rng.integers(6))]
    whole = struct.pack(order + "I", value)
    whole = whole if rng.integers(2) else whole[:2]
    return (data[:at] + whole + data[at + len(whole) :])[: max(len(data), at)]


def _cut(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    return data[: max(16, int(rng.integers(len(data))))]


def _dropped(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    at = _place(data, rng)
    return data[:at] + data[at + int(rng.integers(1, 400)) :]


def _twice(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    at, size = _place(data, rng), int(rng.integers(1, 2000))
    return data[: at + size] + data[at : at + size] + data[at + size :]


def _moved(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    at, to, size = _place(data, rng), _place(data, rng), int(rng.integers(1, 1000))
    rest = data[:at] + data[at + size :]
    return rest[:to] + data[at : at + size] + rest[to:]


def _spliced(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    at, start, size = _place(data, rng), _place(other, rng), int(rng.integers(1, 3000))
    return data[:at] + other[start : start + size] + data[at + (size if rng.integers(2) else 0) :]


def _appended(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    return data + (other if rng.integers(2) else rng.bytes(int(rng.integers(1, 500))))


_BREAKS: tuple[Callable[[bytes, bytes, np.random.Generator], bytes], ...] = (
    _flipped, _filled, _number, _cut, _dropped, _twice, _moved, _spliced, _appended,
)  # fmt: skip


# What is done to clocks


def damaged_clock(name: str, data: bytes, rng: np.random.Generator) -> tuple[str, bytes]:
    """A moving picture whose frames say other times, and what was done. name: tells its container."""
    made = bytearray(data)
    fields = list(_FIELDS[name.rsplit(".", 1)[1]](data))
    kind = ("still", "jump", "back", "random", "zero", "reversed", "stray", "tiny", "huge")[int(rng.integers(9))]
    old = [field.read(data) for field in fields]
    for field, value in zip(fields, _times(kind, old, rng), strict=True):
        field.write(made, value)
    if name.endswith(".png"):
        for field in fields:  # the length of this chunk is 26, and its checksum stands behind it
            made[field.at + 6 : field.at + 10] = zlib.crc32(made[field.at - 24 : field.at + 6]).to_bytes(4, "big")
    return f"{kind}({len(fields)})", bytes(made)


def _times(kind: str, old: list[int], rng: np.random.Generator) -> list[int]:
    if not old:
        return old
    at, far = int(rng.integers(len(old))), int(rng.integers(1, 1 << int(rng.integers(4, 33))))
    return {
        "still": [old[0]] * len(old),
        "jump": [value + far * (index >= at) for index, value in enumerate(old)],
        "back": [max(0, value - far * (index >= at)) for index, value in enumerate(old)],
        "random": [int(rng.integers(0, far)) if far > 1 else 0 for _ in old],
        "zero": [0] * len(old),
        "reversed": old[::-1],
        "stray": [far if index == at else value for index, value in enumerate(old)],
        "tiny": [index % 2 for index in range(len(old))],
        "huge": [(1 << 33) - 1 - index for index in range(len(old))],
    }[kind]


class Field:
    """A whole number of `size` bytes at `at`; too large values keep their low bytes. order: "big" or "little"."""

    def __init__(self, at: int, size: int, order: str = "big"):
        self.at, self.size, self.order = at, size, order

    def read(self, data: bytes) -> int:
        return int.from_bytes(data[self.at : self.at + self.size], self.order)

    def write(self, data: bytearray, value: int) -> None:
        data[self.at : self.at + self.size] = (value % (1 << 8 * self.size)).to_bytes(self.size, self.order)


class Stamp(Field):
    """The 33 bits of a time of MPEG, in five bytes with markers between."""

    def read(self, data: bytes) -> int:
        a, b, c, d, e = data[self.at : self.at + 5]
        return (a >> 1 & 7) << 30 | b << 22 | (c >> 1) << 15 | d << 7 | e >> 1

    def write(self, data: bytearray, value: int) -> None:
        v, top = value % (1 << 33), data[self.at] & 0xF1
        parts = (top | v >> 30 << 1, v >> 22 & 255, v >> 14 & 254 | 1, v >> 7 & 255, v << 1 & 254 | 1)
        data[self.at : self.at + 5] = bytes(parts)


def _gif(data: bytes) -> Iterator[Field]:
    at = data.find(b"\x21\xf9\x04")
    while at >= 0:
        yield Field(at + 4, 2, "little")
        at = data.find(b"\x21\xf9\x04", at + 8)


def _webp(data: bytes) -> Iterator[Field]:
    at = data.find(b"ANMF")
    while at >= 0:
        yield Field(at + 20, 3, "little")
        at = data.find(b"ANMF", at + 24)


def _apng(data: bytes) -> Iterator[Field]:
    at = data.find(b"fcTL")
    while at >= 0:
        yield Field(at + 24, 2)
        at = data.find(b"fcTL", at + 30)


def _mp4(data: bytes) -> Iterator[Field]:
    for box, first, step in ((b"stts", 12, 8), (b"ctts", 12, 8)):
        at = data.find(box)
        if at >= 0:
            count = int.from_bytes(data[at + 8 : at + 12], "big")
            yield from (Field(at + first + step * index + offset, 4) for index in range(count) for offset in (0, 4))
    for box, offset in ((b"mdhd", 16), (b"mvhd", 16), (b"elst", 16)):
        at = data.find(box)
        if at >= 0:
            yield Field(at + offset, 4)


def _mkv(data: bytes) -> Iterator[Field]:
    at = data.find(b"\x1f\x43\xb6\x75")
    while at >= 0:
        inside = at + 5
        clock = data.find(b"\xe7", at, at + 20)
        if clock >= 0:
            yield Field(clock + 2, data[clock + 1] & 0x7F)
            inside = clock
        end = data.find(b"\x1f\x43\xb6\x75", at + 4)
        block = data.find(b"\xa3", inside)
        while 0 <= block < (end if end > 0 else len(data)):
            width = 9 - data[block + 1].bit_length()
            size = int.from_bytes(data[block + 1 : block + 1 + width], "big") & ((1 << 7 * width) - 1)
            if data[block + 1 + width] != 0x81 or block + size > len(data):
                break
            yield Field(block + 2 + width, 2)
            block = data.find(b"\xa3", block + 1 + width + size)
        at = end


def _pes(data: bytes) -> Iterator[Field]:
    at = data.find(b"\0\0\1\xe0")
    while at >= 0:
        for number in range(data[at + 7] >> 6 & 3 and (data[at + 7] >> 6) - 1):
            yield Stamp(at + 9 + 5 * number, 5)
        at = data.find(b"\0\0\1\xe0", at + 4)


def _flv(data: bytes) -> Iterator[Field]:
    at = 13
    while at + 11 < len(data):
        yield Field(at + 4, 3)
        at += 15 + int.from_bytes(data[at + 1 : at + 4], "big")


def _avi(data: bytes) -> Iterator[Field]:
    yield Field(data.find(b"avih") + 8, 4, "little")
    at = data.find(b"strh") + 28
    yield from (Field(at + offset, 4, "little") for offset in (0, 4, 8))
    index = data.find(b"idx1")
    yield from (Field(place + 8, 4, "little") for place in range(index + 8, len(data) - 15, 16) if index > 0)


_FIELDS: dict[str, Callable[[bytes], Iterator[Field]]] = {
    "gif": _gif, "webp": _webp, "png": _apng, "mp4": _mp4, "mov": _mp4, "mkv": _mkv, "webm": _mkv, "ts": _pes,
    "mpg": _pes, "flv": _flv, "avi": _avi,
}  # fmt: skip
