"""Faces found by dlib's convolutional detector: the same boxes and scores, many pictures at a time."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from deidcli.networks import dlib_files as files
from deidcli.networks.backend import keras
from deidcli.networks.dlib_files import COLOUR_RANGE, build_detector
from deidcli.presets import dlib_weights

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


# --- The detector


STRIDE, FIRST_CELL = 8, 14  # pixels of the frame from one cell to the next, and before the first cell's centre
BUCKET = 32  # frames are as wide and high as a multiple of it, so that few sizes are ever prepared
BATCH_PIXELS = 4_000_000  # of frames that are scored together: 48 MB of frames and 64 MB of the first layer's maps
DOUBLING = np.array([1.25, 0.75])  # dlib halves a point as p / 2 minus this

Detection = tuple[int, int, int, int, float]


@dataclass(frozen=True)
class _Detector:
    network: keras.Model
    mean: np.ndarray  # (3,) colour in [0, 255]
    reach: float  # pixels from the centre of a window to its outermost pixels
    overlap: float  # the shared part of two boxes' common frame above which the weaker one is dropped


def detect(images: Sequence[np.ndarray], threshold: float = 0.0, upsample: int = 0) -> list[list[Detection]]:
    """The faces of each picture, the surest first, as `dlib.cnn_face_detection_model_v1(image, upsample)` finds them.

    images: (height, width, 3) uint8 RGB each, of any sizes. threshold: the lowest score, dlib's own is 0; lower finds
    more. upsample: how often a picture is doubled before; a face is found from about 80 pixels on in the result.
    Returns (left, top, right, bottom, score) for each face: whole pixels of the picture as given, right and bottom
    within the face, possibly past the picture's border; scores are above `threshold`, rarely above 1.2.
    Raises MissingDependency or PresetError where the weights are missing or damaged.
    """
    detector = _load()
    found: list[list[Detection]] = [[] for _ in images]
    doubled = [_doubled(image, upsample) for image in images]
    layouts = [tiling(*image.shape[:2]) for image in doubled]
    for batch in _batches(layouts):
        scores = _scores(detector, [doubled[i] for i in batch], [layouts[i] for i in batch])
        for index, cells in zip(batch, scores, strict=True):
            found[index] = _faces(detector, cells, layouts[index], threshold, upsample)
    return found


@functools.cache
def _load() -> _Detector:
    stored = files.read_network(dlib_weights(files.DETECTOR))
    _, width, _, *_, overlap, _, _, _ = stored.loss.values
    return _Detector(build_detector(), np.array(stored.input.values), (width - 1) / 2, overlap)


def _batches(layouts: Sequence[Tiling]) -> Iterator[list[int]]:
    """Indices of the pictures that are scored together: frames of one size, as many as memory allows."""
    groups: dict[tuple[int, int], list[int]] = {}
    for index, layout in enumerate(layouts):
        groups.setdefault(_frame_size(layout), []).append(index)
    for (height, width), members in groups.items():
        count = max(1, BATCH_PIXELS // (height * width))
        yield from (members[i : i + count] for i in range(0, len(members), count))


def _frame_size(layout: Tiling) -> tuple[int, int]:
    height, width = (math.ceil(side / BUCKET) * BUCKET for side in (layout.height, layout.width))
    return height, width


def _scores(detector: _Detector, images: list[np.ndarray], layouts: list[Tiling]) -> list[np.ndarray]:
    """The scores of the cells of each picture, (rows, columns) float32, without those of the padding."""
    frames = np.zeros((len(images), *_frame_size(layouts[0]), 3), "float32")
    for frame, image, layout in zip(frames, images, layouts, strict=True):
        fill(frame, image, layout.tiles, detector.mean)
    valid = np.array([[_cells(layout.height), _cells(layout.width)] for layout in layouts], "int32")
    scores = detector.network.predict_on_batch([frames, valid])
    return [cells[:rows, :columns] for cells, (rows, columns) in zip(scores, valid, strict=True)]


def _cells(pixels: int) -> int:
    """How many cells fit in so many pixels: three convolutions of 5 pixels and stride 2, none of which pads."""
    for _ in range(3):
        pixels = max((pixels - 5) // 2 + 1, 0)
    return pixels


def _faces(detector: _Detector, cells: np.ndarray, layout: Tiling, threshold: float, upsample: int) -> list[Detection]:
    rows, columns = np.nonzero(cells > threshold)
    scores = cells[rows, columns]
    order = np.argsort(-scores, kind="stable")
    points = np.stack([columns, rows], 1)[order] * float(STRIDE) + FIRST_CELL
    boxes = _rounded(to_photograph(points, layout, detector.reach))
    kept = _suppressed(boxes, detector.overlap)
    for _ in range(upsample):
        boxes = boxes / 2 - np.tile(DOUBLING, 2)
    found = zip(_rounded(boxes)[kept], scores[order][kept], strict=True)
    return [(int(a), int(b), int(c), int(d), float(score)) for (a, b, c, d), score in found]


def _suppressed(boxes: np.ndarray, overlap: float) -> list[int]:
    """Indices of the boxes that no stronger one covers; the overlap is measured in the frame around both, as dlib does.

    boxes: (N, 4) whole pixels, the surest first, right and bottom within.
    """
    kept: list[int] = []
    for index, box in enumerate(boxes):
        others = boxes[kept]
        shared = _area(np.maximum(others[:, :2], box[:2]), np.minimum(others[:, 2:], box[2:]))
        around = _area(np.minimum(others[:, :2], box[:2]), np.maximum(others[:, 2:], box[2:]))
        if not np.any(shared > overlap * around):
            kept.append(index)
    return kept


def _area(upper: np.ndarray, lower: np.ndarray) -> np.ndarray:
    return np.maximum(lower - upper + 1, 0).prod(1)


def _rounded(values: np.ndarray) -> np.ndarray:
    """To whole numbers, halves away from zero, as C rounds."""
    return np.copysign(np.floor(np.abs(values) + 0.5), values)


def _doubled(image: np.ndarray, times: int) -> np.ndarray:
    """The picture in twice its size and a little more, `times` over, as dlib upsamples."""
    for _ in range(times):
        height, width = image.shape[:2]
        # dlib maps the corner pixels by its doubling of points, and takes what they come to as the size.
        right, bottom = _rounded((np.array([width, height]) - 1 + DOUBLING) * 2)
        image = resized(image.astype("float32"), int(right) + 1, int(bottom) + 1).astype("uint8")
    return image
