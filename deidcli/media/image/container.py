"""What `image` needs of a picture format: a parsed file that can be decoded, scrubbed, and written anew.

One file a format (`jpeg`, `png`, ...). A new file is made of the source's own kept blocks and the encoder's image data,
so that what a format can say about a picture survives without this code having to know it.
"""

from __future__ import annotations

import lzma
import struct
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from importlib import import_module
from io import BytesIO
from itertools import accumulate

import numpy as np
from PIL import Image

from deidcli.errors import DeidError, MediaError
from deidcli.media.image.modes import Native, from_pillow

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
