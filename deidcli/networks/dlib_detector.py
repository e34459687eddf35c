"""Faces found by dlib's convolutional detector: the same boxes and scores, many pictures at a time."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from deidcli.networks import dlib_files as files
from deidcli.networks import dlib_pyramid as pyramid
from deidcli.networks.backend import keras
from deidcli.networks.dlib_nets import build_detector
from deidcli.presets import dlib_weights

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
    layouts = [pyramid.tiling(*image.shape[:2]) for image in doubled]
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


def _batches(layouts: Sequence[pyramid.Tiling]) -> Iterator[list[int]]:
    """Indices of the pictures that are scored together: frames of one size, as many as memory allows."""
    groups: dict[tuple[int, int], list[int]] = {}
    for index, layout in enumerate(layouts):
        groups.setdefault(_frame_size(layout), []).append(index)
    for (height, width), members in groups.items():
        count = max(1, BATCH_PIXELS // (height * width))
        yield from (members[i : i + count] for i in range(0, len(members), count))


def _frame_size(layout: pyramid.Tiling) -> tuple[int, int]:
    height, width = (math.ceil(side / BUCKET) * BUCKET for side in (layout.height, layout.width))
    return height, width


def _scores(detector: _Detector, images: list[np.ndarray], layouts: list[pyramid.Tiling]) -> list[np.ndarray]:
    """The scores of the cells of each picture, (rows, columns) float32, without those of the padding."""
    frames = np.zeros((len(images), *_frame_size(layouts[0]), 3), "float32")
    for frame, image, layout in zip(frames, images, layouts, strict=True):
        pyramid.fill(frame, image, layout.tiles, detector.mean)
    valid = np.array([[_cells(layout.height), _cells(layout.width)] for layout in layouts], "int32")
    scores = detector.network.predict_on_batch([frames, valid])
    return [cells[:rows, :columns] for cells, (rows, columns) in zip(scores, valid, strict=True)]


def _cells(pixels: int) -> int:
    """How many cells fit in so many pixels: three convolutions of 5 pixels and stride 2, none of which pads."""
    for _ in range(3):
        pixels = max((pixels - 5) // 2 + 1, 0)
    return pixels


def _faces(
    detector: _Detector, cells: np.ndarray, layout: pyramid.Tiling, threshold: float, upsample: int
) -> list[Detection]:
    rows, columns = np.nonzero(cells > threshold)
    scores = cells[rows, columns]
    order = np.argsort(-scores, kind="stable")
    points = np.stack([columns, rows], 1)[order] * float(STRIDE) + FIRST_CELL
    boxes = _rounded(pyramid.to_photograph(points, layout, detector.reach))
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
        image = pyramid.resized(image.astype("float32"), int(right) + 1, int(bottom) + 1).astype("uint8")
    return image
