"""Still pictures and animations: what is needed of a format, a parsed file that is decoded, scrubbed and written anew.

One file a format (`jpeg`, `png`, ...). A new file is made of the source's own kept blocks and the encoder's image data,
so that what a format can say about a picture survives without this code having to know it. Beside it: pixels in a
file's own mode (`Native`), turned upright, and to Pillow and back. No file is touched here.
"""

from __future__ import annotations

import lzma
import struct
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from importlib import import_module
from io import BytesIO
from itertools import accumulate

import numpy as np
from PIL import Image

from deidcli.errors import DeidError, MediaError

MAX_PIXELS = 1 << 28
"""The largest picture that is decoded, in pixels (268 megapixels; a 200 megapixel telephone passes)."""
SALVAGE = "get a whole copy of the file, or use --salvage to write what can be decoded"
"""The hint of an error that `ReadOptions.salvage` would turn into a note."""

ENCODED_AGAIN = "encoded again: it has no new face, but what stands beside its pixels could not be taken out otherwise"
"""What a picture that was to be copied says where that was not possible without a small loss."""


class Container(ABC):
    """A picture file in memory, its structure already read and checked.

    size: (width, height) upright. times: where each frame begins, in seconds, or None for pictures without a clock.
    salvage: whether a damaged file gives what can be decoded of it instead of an error. damage: what is missing of a
    file that was salvaged, "" for a whole one; known once the frames were read. notes: what the user should know.
    passes: how often a decoder goes over all the pixels, more than once only in odd files.
    changes: what writing changed beside faces and metadata, known once the file was written.
    """

    format: str
    size: tuple[int, int]
    times: tuple[Fraction | None, ...]

    damage: str = ""
    notes: tuple[str, ...] = ()
    passes: int = 1
    changes: tuple[str, ...] = ()

    def __init__(self, data: bytes, name: str, salvage: bool = False):
        self.data = data
        self.name = name
        self.salvage = salvage

    @abstractmethod
    def natives(self) -> Iterator[Native]:
        """Every frame, upright, in its own mode. Raises MediaError (or what `explained` turns into one)."""

    @abstractmethod
    def scrubbed(self, metadata: str) -> bytes:
        """The whole file with its compressed pixels as they are and its metadata cut by the policy."""

    @abstractmethod
    def rewriter(self, metadata: str) -> Rewriter:
        """A fresh file of the same kind, upright, that takes this one's frames in order."""


class Rewriter(ABC):
    """Takes every frame once, in order, then gives the file."""

    @abstractmethod
    def add(self, native: Native, changed: np.ndarray | None) -> None:
        """One frame. changed: (height, width) bool, its new pixels; None for a frame that is the source's own."""

    @abstractmethod
    def finish(self) -> bytes:
        """The whole file."""


@contextmanager
def explained(name: str, failure: str = "the picture is damaged") -> Iterator[None]:
    """Turn whatever a codec throws at an odd file into one MediaError that names the file and the failure."""
    try:
        yield
    except MediaError as error:
        message = error.message if error.message.startswith(f"{name}: ") else f"{name}: {error.message}"
        raise MediaError(message, error.hint) from error
    except DeidError:
        raise
    except MemoryError as error:
        raise MediaError(f"{name}: not enough memory to decode the picture", "use fewer workers") from error
    except Image.DecompressionBombError as error:
        raise MediaError(f"{name}: the picture is too large: {error}", "scale it down first") from error
    except (
        OSError,
        SyntaxError,
        ValueError,
        LookupError,
        TypeError,
        EOFError,
        RuntimeError,
        OverflowError,
        AttributeError,
        ZeroDivisionError,
        struct.error,
        zlib.error,
        lzma.LZMAError,
    ) as error:
        detail = " ".join(str(error).split()) or type(error).__name__
        raise MediaError(f"{name}: {failure}: {detail}", "get a whole copy of the file") from error


def check_size(size: tuple[int, int]) -> tuple[int, int]:
    """Give `size` back. Raises MediaError for an empty picture or one too large to decode safely."""
    width, height = size
    if width <= 0 or height <= 0:
        raise MediaError(f"the picture is empty: {width}x{height} pixels", "get a whole copy of the file")
    if width * height > MAX_PIXELS:
        raise MediaError(
            f"{width}x{height} pixels are more than the limit of {MAX_PIXELS}: a decompression bomb, or too large",
            "scale it down first",
        )
    return size


def turned(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    """(width, height) after the orientation is applied."""
    return (size[1], size[0]) if orientation >= 5 else size


def decoded(image: Image.Image) -> Native:
    """Load the current frame of an opened Pillow image. Raises what Pillow raises for damaged data."""
    check_size(image.size)
    image.load()
    return from_pillow(image)


def encoded(image: Image.Image, kind: str, **settings: object) -> bytes:
    """The bytes of a file that Pillow writes, metadata left out where Pillow would carry it over from `info`."""
    image.info = {}
    buffer = BytesIO()
    image.save(buffer, kind, **settings)
    return buffer.getvalue()


def starts(durations: Iterable[Fraction]) -> tuple[Fraction, ...]:
    """When each frame begins: the running sum of the durations before it, in seconds.

    Viewers show a frame of 10 ms and less for 100 ms, and so it is counted here.
    """
    shown = (Fraction(1, 10) if duration <= Fraction(1, 100) else duration for duration in durations)
    return tuple(accumulate(shown, initial=Fraction(0)))[:-1]


def differing(data: np.ndarray, shown: np.ndarray) -> tuple[int, int, int, int]:
    """left, top, right, bottom of the pixels that differ; one pixel where none does, for a frame cannot be empty."""
    other = data != shown
    other = other.any(axis=2) if other.ndim == 3 else other
    rows, columns = np.flatnonzero(other.any(axis=1)), np.flatnonzero(other.any(axis=0))
    if not len(rows):
        return 0, 0, 1, 1
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def least(length: int, same: Callable[[int], bool]) -> int:
    """The least length for which `same` holds; it holds for `length` and for all between."""
    # A clean piece is settled by a step or two, a long tail by the logarithm of its length.
    step = 1
    while length and same(max(length - step, 0)):
        length, step = max(length - step, 0), 2 * step
    low = max(length - step, 0)
    while length - low > 1:
        middle = (low + length) // 2
        low, length = (low, middle) if same(middle) else (middle, length)
    return length


_CONTAINERS = {
    "jpeg": ("deidcli.media.image.jpeg", "Jpeg"),
    "png": ("deidcli.media.image.png", "Png"),
    "webp": ("deidcli.media.image.webp", "Webp"),
    "gif": ("deidcli.media.image.gif", "Gif"),
    "bmp": ("deidcli.media.image.bmp", "Bmp"),
    "tiff": ("deidcli.media.image.tiff", "Tiff"),
    "jpeg2000": ("deidcli.media.image.jpeg2000", "Jpeg2000"),
    "avif": ("deidcli.media.image.heif", "Avif"),
    "heif": ("deidcli.media.image.heif", "Heif"),
}


def container_of(data: bytes, name: str, kind: str, salvage: bool = False) -> Container:
    """The parsed file. Raises MediaError, or what `explained` turns into one."""
    module, container = _CONTAINERS[kind]
    return getattr(import_module(module), container)(data, name, salvage)


@dataclass(frozen=True)
class Native:
    """One picture as its file holds it.

    mode: Pillow's name of the mode, or "LA;16", "RGB;16", "RGBA;16" for the depths that Pillow does not hold. L, LA,
    RGB, RGBA and CMYK may hold any type of number; channels behind those that the mode names are further planes.
    data: (height, width) or (height, width, channels); mode "1" holds 0 and 255.
    palette: (entries, 3) uint8 for P and PA. alphas: (entries,) uint8, how opaque each is; None where all are wholly.
    inverted: greater values are darker. key: (channels,) the one value that is transparent, as PNG may name it.
    associated: the colours are multiplied by alpha. room: how many entries a palette can grow to. step: what one level
    is worth where few bits were spread to eight.
    """

    mode: str
    data: np.ndarray
    palette: np.ndarray | None = None
    alphas: np.ndarray | None = None
    inverted: bool = False
    key: np.ndarray | None = None
    room: int = 0
    associated: bool = False
    step: int = 1

    @property
    def size(self) -> tuple[int, int]:
        return self.data.shape[1], self.data.shape[0]


def upright(native: Native, orientation: int) -> Native:
    """The picture as it is meant to be seen. orientation: 1 to 8, as the EXIF tag 274 numbers them."""
    return replace(native, data=np.ascontiguousarray(turn(native.data, orientation)))


def turn(data: np.ndarray, orientation: int) -> np.ndarray:
    """(height, width, ...) as it is stored, turned as it is meant to be seen; a view."""
    if orientation >= 5:
        data = data.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        data = data[::-1]
    if orientation in (2, 3, 6, 7):
        data = data[:, ::-1]
    return data


def turn_back(data: np.ndarray, orientation: int) -> np.ndarray:
    """The opposite of `turn`; a view."""
    # Only the two quarter turns are not their own opposite.
    return turn(data, {6: 8, 8: 6}.get(orientation, orientation))


def luma(rgb: np.ndarray) -> np.ndarray:
    """ITU-R 601-2 luma of (..., 3) uint8, rounded as Pillow does."""
    return ((rgb.astype(np.uint32) @ np.array([19595, 38470, 7471], np.uint32) + 0x8000) >> 16).astype(np.uint8)


def nearest(rgb: np.ndarray, palette: np.ndarray, entries: np.ndarray | None = None) -> np.ndarray:
    """(n,) uint8: for each of (n, 3) colours the palette entry (of `entries`, their indices) at the least distance."""
    entries = np.arange(len(palette)) if entries is None else entries
    packed = rgb.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    colours, place = np.unique(packed, return_inverse=True)
    points = np.stack([colours >> 16, colours >> 8 & 255, colours & 255], 1).astype(np.float32)
    targets = palette[entries].astype(np.float32)
    scores = (targets**2).sum(1) - 2 * points @ targets.T
    return entries[scores.argmin(1)].astype(np.uint8)[place.reshape(-1)]


def from_pillow(image: Image.Image) -> Native:
    """The loaded pixels of a Pillow image. Raises MediaError for a mode that has no way to RGB and back."""
    mode = image.mode
    if mode in ("P", "PA"):
        palette = np.frombuffer(bytes(image.getpalette("RGB") or [0, 0, 0]), np.uint8).reshape(-1, 3)
        return Native(mode, np.array(image), palette, alphas(image, len(palette)))
    if mode == "1":
        return Native("1", np.array(image).astype(np.uint8) * 255)
    if mode.startswith("I;16"):
        return Native("I;16", np.array(image).astype(np.uint16))
    if mode not in ("L", "LA", "RGB", "RGBA", "CMYK", "YCbCr", "I", "F"):
        raise MediaError(f"pictures of mode {mode} are not supported", "convert it to RGB first")
    return Native(mode, np.array(image))


def to_pillow(native: Native) -> Image.Image:
    """A Pillow image of the same mode and palette. The modes with 16 bits a channel have none."""
    if native.mode == "1":
        return Image.fromarray(native.data).convert("1", dither=Image.Dither.NONE)
    data = native.data.astype("<u2") if native.mode == "I;16" else native.data
    image = Image.frombytes(native.mode, native.size, data.tobytes())
    if native.palette is not None:
        image.putpalette(native.palette.tobytes())
    return image


def to_rgba(native: Native) -> np.ndarray:
    """(height, width, 4) uint8 of a mode that Pillow holds, the alpha of a palette included."""
    image = to_pillow(native)
    if native.alphas is not None:
        image.info["transparency"] = native.alphas.tobytes()
    return np.array(image.convert("RGBA"))


def alphas(image: Image.Image, entries: int) -> np.ndarray | None:
    """(entries,) uint8: how opaque each palette entry of a Pillow image is; None where all are wholly."""
    clear = image.info.get("transparency")
    if clear is None:
        return None
    alpha = np.full(max(entries, 256), 255, np.uint8)
    if isinstance(clear, bytes):
        alpha[: len(clear)] = np.frombuffer(clear, np.uint8)
    else:
        alpha[clear] = 0
    return alpha[:entries]
