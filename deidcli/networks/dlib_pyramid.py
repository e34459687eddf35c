"""The picture that dlib's detector sees: every size of a photograph, laid out side by side in one frame.

Each level is 5/6 as large as the one before, down to 5 rows. The levels stand below each other on the left until the
next one fits beside the last, then go up again along the right edge, 10 pixels apart and 11 from the border. Cells see
95 pixels far, into the neighbouring levels; a level that is scored alone scores differently, so the layout is dlib's
to the pixel.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from deidcli.networks.dlib_files import COLOUR_RANGE

RATE = (6 - 1.0) / 6  # of one level to the one before; in doubles as dlib has it, because sizes are cut off
RATE_UP = 6 / (6 - 1.0)  # back again; a division by RATE rounds some halves the other way
GAP, BORDER = 10, 11  # pixels between levels and around them
MIN_HEIGHT = 5  # rows of the smallest level


@dataclass(frozen=True)
class Tiling:
    """Where the levels of a photograph lie in the frame.

    tiles: (levels, 4) int64, left, top, width and height in pixels, the photograph itself first. height, width: of the
    frame in pixels.
    """

    tiles: np.ndarray
    height: int
    width: int


def tiling(height: int, width: int) -> Tiling:
    """The layout for a photograph of `height` x `width` pixels, each at least 1."""
    sizes = list(_sizes(height, width))
    first = _first_column(sizes)
    y, tiles = BORDER, []
    for w, h in sizes[:first]:
        tiles.append((BORDER, y, w, h))
        y += h + GAP
    frame_height = y - GAP + BORDER
    tiles.extend(_second_column(sizes[first:], right=BORDER + width, bottom=y - GAP, ceiling=BORDER + height))
    return Tiling(np.array(tiles), frame_height, width + 2 * BORDER)


def fill(frame: np.ndarray, image: np.ndarray, tiles: np.ndarray, mean: np.ndarray) -> None:
    """Writes all levels of `image`, (height, width, 3) uint8 RGB, into `frame`, float32 zeros of at least its tiling.

    mean: (3,) the colour that is taken off, in [0, 255]. Values written are within -0.5 and 0.6.
    """
    level = (image.astype("float32") - mean.astype("float32")) / np.float32(COLOUR_RANGE)
    for left, top, width, height in tiles:
        level = resized(level, width, height)
        frame[top : top + height, left : left + width] = level


def resized(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """The picture in another size, bilinear, first and last pixels' centres on each other as dlib lays them."""
    rows, columns = image.shape[:2]
    if (rows, columns) == (height, width):
        return image
    # cv2.resize lays the pixels' outer edges on each other, which would shift a level by up to a tenth of a pixel.
    x, y = (columns - 1) / max(width - 1, 1), (rows - 1) / max(height - 1, 1)
    warp = np.array([[x, 0, 0], [0, y, 0]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(image, warp, (int(width), int(height)), flags=flags, borderMode=cv2.BORDER_REPLICATE)


def to_photograph(points: np.ndarray, layout: Tiling, reach: float) -> np.ndarray:
    """Windows of the frame as boxes of the photograph.

    points: (N, 2) float64, x and y of the windows' centres in the frame, each taken to be of the level nearest to it.
    reach: from a centre to a window's outermost pixels. Returns (N, 4) float64: left, top, right, bottom.
    """
    origins, last = layout.tiles[:, :2], layout.tiles[:, :2] + layout.tiles[:, 2:] - 1
    away = np.maximum(np.maximum(origins - points[:, None], points[:, None] - last), 0)
    level = np.hypot(away[..., 0], away[..., 1]).argmin(1)
    centre = points - origins[level]
    boxes = np.hstack([centre - reach, centre + reach])
    # A level down is (x - 0.3) * 5/6 for dlib, whatever its resampling does; the way back repeats it level by level.
    for step in range(len(layout.tiles) - 1):
        boxes = np.where(level[:, None] > step, boxes * RATE_UP + 0.3, boxes)
    return boxes


def _sizes(height: int, width: int) -> Iterator[tuple[int, int]]:
    yield width, height
    height, width = math.floor(RATE * height), math.floor(RATE * width)
    while width and height >= MIN_HEIGHT:
        yield width, height
        height, width = math.floor(RATE * height), math.floor(RATE * width)


def _first_column(sizes: list[tuple[int, int]]) -> int:
    """How many levels stand on the left: half of the height under the photograph, then until one fits on the right."""
    width, height = sizes[0]
    total = sum(h + GAP for _, h in sizes) - 2 * GAP
    filled, before = 0, 0
    for index, (w, h) in enumerate(sizes):
        if w <= width - before - GAP and (filled - height) * 2 >= total - height:
            return index
        filled, before = filled + h + GAP, w
    return len(sizes)


def _second_column(
    sizes: list[tuple[int, int]], right: int, bottom: int, ceiling: int
) -> Iterator[tuple[int, int, int, int]]:
    """Tiles from the bottom up along the right edge, as long as they stay below the photograph."""
    for w, h in sizes:
        bottom -= h
        if bottom < ceiling:
            return
        yield right - w, bottom, w, h
        bottom -= GAP
