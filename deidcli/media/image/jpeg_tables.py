"""The steps of a JPEG's quantisation tables that no coefficient of the picture needs.

Such a step can have any value from 1 to 255 and shows nowhere. It is given the value of the step before it in the order
of the file (zigzag), so that a table holds nothing but what the picture was made with. A table of the standard, scaled
to one of the hundred qualities of libjpeg, says no more than that, and stays.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np

from deidcli.errors import MediaError

# ITU-T T.81, figure A.6: the place in a block, row by row, of each entry of a table.
ZIGZAG = (
    *(0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21),
    *(28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61),
    *(54, 47, 55, 62, 63),
)
# Annex K, tables 1 and 2, in zigzag order.
_LUMA = (
    *(16, 11, 12, 14, 12, 10, 16, 14, 13, 14, 18, 17, 16, 19, 24, 40, 26, 24, 22, 22, 24, 49, 35, 37, 29, 40, 58, 51),
    *(61, 60, 57, 51, 56, 55, 64, 72, 92, 78, 64, 68, 87, 69, 55, 56, 80, 109, 81, 87, 95, 98, 103, 104, 103, 62, 77),
    *(113, 121, 112, 100, 120, 92, 101, 103, 99),
)
_CHROMA = (17, 18, 18, 24, 21, 24, 47, 26, 26, 47, 99, 66, 56, 66, *[99] * 50)
_ROWS = 32  # rows of blocks that are transformed at a time
# What rounding to whole levels adds to a coefficient at most, but for one in a billion.
_ROUNDING = 1.8
_COSINES = np.array(
    [[np.cos((2 * x + 1) * u * np.pi / 16) * (0.5 if u else 0.125**0.5) for x in range(8)] for u in range(8)],
    np.float32,
)

Tables = dict[int, list[int]]  # the 64 steps of each table, in zigzag order, by its number


@cache
def _standard() -> frozenset[tuple[int, ...]]:
    scales = [5000 // quality if quality < 50 else 200 - 2 * quality for quality in range(1, 101)]
    return frozenset(
        tuple(min(max((step * scale + 50) // 100, 1), most) for step in table)
        for table in (_LUMA, _CHROMA)
        for scale in scales
        for most in (255, 32767)
    )


def is_standard(steps: Sequence[int]) -> bool:
    """Whether a table is the standard's at some quality."""
    return tuple(steps) in _standard()


def read(payloads: Sequence[bytes]) -> Tables:
    """The tables that DQT segments define; of a number that is defined twice the last. Raises MediaError."""
    found: Tables = {}
    for payload in payloads:
        at = 0
        while at < len(payload):
            wide, number = divmod(payload[at], 16)
            size = 128 if wide else 64
            steps = payload[at + 1 : at + 1 + size]
            if len(steps) != size or wide > 1:
                raise MediaError("a quantisation table of the JPEG is cut off", "get a whole copy of the file")
            found[number] = np.frombuffer(steps, ">u2" if wide else np.uint8).tolist()
            at += 1 + size
    return found


def segment(tables: Tables) -> bytes:
    """The payload of one DQT segment with all the tables."""
    wide = {number: max(steps) > 255 for number, steps in tables.items()}
    return b"".join(
        bytes([wide[number] << 4 | number]) + np.array(steps, ">u2" if wide[number] else np.uint8).tobytes()
        for number, steps in sorted(tables.items())
    )


def plain(steps: Sequence[int], used: Sequence[bool] | np.ndarray) -> list[int]:
    """The steps, each that is not used as the last one before it that is; the first is always taken as it is."""
    done = [steps[0]]
    for step, needed in zip(steps[1:], used[1:], strict=True):
        done.append(step if needed else done[-1])
    return done


def by_rows(steps: Sequence[int]) -> list[int]:
    """The steps of a table in zigzag order, row by row of a block."""
    done = [0] * 64
    for place, step in zip(ZIGZAG, steps, strict=True):
        done[place] = step
    return done


def likely(coded: bytes, components: Sequence[Sequence[int]], tables: Tables) -> dict[int, np.ndarray] | None:
    """For each table (64) bool in zigzag order: whether some block seems to have a coefficient there.

    Told from the decoded samples, so that a step of 3 and less may be taken for used. components: (identity, sampling,
    number of the table) of each. None where FFmpeg decodes no such picture.
    """
    found = planes(coded)
    if found is None or len(found) < len(components):
        return None
    used = {number: np.zeros(64, bool) for number in tables}
    for plane, component in zip(found, components, strict=False):
        number = component[2]
        if number not in tables:
            return None
        least = 0.5 * np.array(tables[number]) + _ROUNDING
        for band in _bands(plane):
            used[number] |= _largest(band)[list(ZIGZAG)] >= least
            if used[number].all():
                break
    return used


def needed(used: np.ndarray, same: Callable[[list[int]], bool]) -> np.ndarray:
    """`used` with those of the other places added at which `same` says that the picture becomes another.

    same: whether the picture stays as it is when the steps of these places, in zigzag order, are made plain.
    """
    done = used.copy()

    def settle(places: list[int]) -> None:
        if not places or same(places):
            return
        if len(places) == 1:
            done[places[0]] = True
            return
        half = len(places) // 2
        settle(places[:half])
        settle(places[half:])

    settle([place for place in range(1, 64) if not used[place]])
    return done


def planes(coded: bytes) -> list[np.ndarray] | None:
    """Samples of each component as they are stored, (height, width) uint8; None for what FFmpeg cannot decode."""
    try:
        import av
    except ImportError:
        return None  # before Python 3.11
    decoder = av.CodecContext.create("mjpeg", "r")
    try:
        frames = [*decoder.decode(av.Packet(coded)), *decoder.decode(None)]
    except (av.FFmpegError, ValueError):
        return None
    if len(frames) != 1 or any(component.bits != 8 for component in frames[0].format.components):
        return None
    planes = []
    for plane in frames[0].planes:
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, -1)
        planes.append(rows[:, : plane.width])
    # FFmpeg puts green first, and red last.
    return [planes[i] for i in (2, 0, 1, 3)[: len(planes)]] if frames[0].format.name.startswith("gbr") else planes


def _bands(plane: np.ndarray):
    """The plane in bands of whole blocks, (rows, 8, columns, 8) float32 around zero, its edges repeated."""
    height, width = plane.shape
    for top in range(0, height, 8 * _ROWS):
        band = plane[top : top + 8 * _ROWS]
        band = np.pad(band, ((0, -len(band) % 8), (0, -width % 8)), "edge")
        yield band.reshape(len(band) // 8, 8, -1, 8).astype(np.float32) - 128


def _largest(blocks: np.ndarray) -> np.ndarray:
    """(64) the largest size of each coefficient over all blocks."""
    coefficients = np.matmul(np.matmul(_COSINES, blocks.transpose(0, 2, 1, 3)), _COSINES.T)
    return np.abs(coefficients).max(axis=(0, 1)).ravel()
