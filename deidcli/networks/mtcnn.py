"""Faces found by MTCNN, many pictures at a time.

All sizes of a picture stand in one frame, so that the first network runs once for a batch and is prepared for few
sizes; the windows that it proposes in all pictures go through the other two together.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from deidcli.networks.backend import keras
from deidcli.networks.mtcnn_nets import build_judge, build_proposer, build_refiner, load_weights
from deidcli.networks.store import run

FACTOR = 0.709  # of one size to the one before
WINDOW, STRIDE = 12, 2  # pixels that the first network sees, and from one window to the next
BUCKET = 64  # frames are as wide and high as a multiple of it
PROPOSE, REFINE = 0.6, 0.7  # the thresholds of the first two networks
BATCH_PIXELS = 4_000_000  # of frames that the first network takes at once
SIZES = (16, 64, 256)  # of batches of patches
MOST = 4096  # windows of one picture that are looked at again: a picture of noise is no reason to run out of memory


@dataclass(frozen=True)
class _Level:
    """One size of a picture in the frame. scale: to the picture. left, top, width, height: pixels of the frame."""

    scale: float
    left: int
    top: int
    width: int
    height: int


def detect(pictures: Sequence[np.ndarray], threshold: float = 0.8, smallest: float = 20) -> list[np.ndarray]:
    """The faces of each (height, width, 3) uint8 RGB picture, of any sizes, the surest first.

    threshold: the lowest probability, in [0, 1]. smallest: side in pixels of the smallest face that is searched for.
    Returns (faces, 5) float64 each: left, top, right, bottom in pixels, possibly past the border, and the probability.
    Raises MissingDependency or PresetError where the weights are missing or not the known ones.
    """
    _, refiner, judge = _load()
    layouts = [_layout(*picture.shape[:2], smallest) for picture in pictures]
    boxes = [_square(rows) for rows in _proposals(pictures, layouts)]
    boxes = [_square(rows) for rows in _looked_at(refiner, pictures, boxes, 24, REFINE)]
    found = _looked_at(judge, pictures, boxes, 48, threshold)
    return [_apart(rows) for rows in found]


@functools.cache
def _load() -> tuple[keras.Model, keras.Model, keras.Model]:
    builders = {"pnet": build_proposer, "rnet": build_refiner, "onet": build_judge}
    return tuple(build(load_weights(name)) for name, build in builders.items())


def _layout(height: int, width: int, smallest: float) -> list[_Level]:
    """All sizes in which a window may hold a face, on shelves from the top, each level at an even place."""
    shelves: list[list[int]] = []  # of each: its top and how far it is filled
    levels, scale, bottom, full = [], WINDOW / smallest, 0, 0
    while min(height, width) * scale >= WINDOW:
        w, h = int(width * scale), int(height * scale)
        full = full or w
        shelf = next((s for s in shelves if s[1] + w <= full), None)
        if shelf is None:
            shelf = [bottom, 0]
            shelves.append(shelf)
            bottom = _even(bottom + h)
        levels.append(_Level(scale, shelf[1], shelf[0], w, h))
        shelf[1], scale = _even(shelf[1] + w), scale * FACTOR
    return levels


def _even(value: int) -> int:
    return value + value % 2


def _proposals(pictures: Sequence[np.ndarray], layouts: list[list[_Level]]) -> list[np.ndarray]:
    """(windows, 5) of each picture from the first network."""
    found = [np.zeros((0, 5))] * len(pictures)
    groups: dict[tuple[int, int], list[int]] = {}
    for index, layout in enumerate(layouts):
        if layout:
            groups.setdefault(_frame_size(layout), []).append(index)
    for (height, width), members in groups.items():
        count = max(1, BATCH_PIXELS // (height * width))
        for start in range(0, len(members), count):
            batch = members[start : start + count]
            frames = np.zeros((len(batch), height, width, 3), np.float32)
            for frame, index in zip(frames, batch, strict=True):
                _fill(frame, pictures[index], layouts[index])
            scores, offsets = _load()[0].predict_on_batch(frames)
            for index, score, offset in zip(batch, scores, offsets, strict=True):
                found[index] = _windows(layouts[index], score, offset)
    return found


def _frame_size(layout: list[_Level]) -> tuple[int, int]:
    bottom, right = max(v.top + v.height for v in layout), max(v.left + v.width for v in layout)
    return math.ceil(bottom / BUCKET) * BUCKET, math.ceil(right / BUCKET) * BUCKET


def _fill(frame: np.ndarray, picture: np.ndarray, layout: list[_Level]) -> None:
    picture = np.ascontiguousarray(picture)
    for level in layout:
        how = cv2.INTER_AREA if level.scale < 1 else cv2.INTER_LINEAR
        resized = cv2.resize(picture, (level.width, level.height), interpolation=how)
        frame[level.top : level.top + level.height, level.left : level.left + level.width] = _normal(resized)


def _normal(pixels: np.ndarray) -> np.ndarray:
    return (pixels.astype(np.float32) - 127.5) / 128


def _windows(layout: list[_Level], scores: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """The windows that the first network takes for faces, moved by its offsets, in pixels of the picture."""
    found = []
    for level in layout:
        # Only windows that lie wholly within the level: others see two levels at once.
        rows, columns = ((side - WINDOW) // STRIDE + 1 for side in (level.height, level.width))
        top, left = level.top // STRIDE, level.left // STRIDE
        part = np.s_[top : top + rows, left : left + columns]
        y, x = np.nonzero(scores[part] > PROPOSE)
        corner = np.column_stack([x, y, x, y]) * STRIDE + (0, 0, WINDOW, WINDOW)
        boxes = (corner + offsets[part][y, x] * WINDOW) / level.scale
        found.append(_suppressed(np.column_stack([boxes, scores[part][y, x]]), 0.5))
    return _suppressed(np.concatenate(found), 0.7)[:MOST]


def _suppressed(rows: np.ndarray, overlap: float) -> np.ndarray:
    """The rows (n, 5), the surest first, that no surer one shares more than `overlap` of their union with."""
    if not len(rows):
        return rows
    sides = np.column_stack([rows[:, :2], rows[:, 2:4] - rows[:, :2]])
    return rows[cv2.dnn.NMSBoxes(sides.tolist(), rows[:, 4].tolist(), 0.0, overlap)]


def _apart(rows: np.ndarray) -> np.ndarray:
    """The rows (n, 5), the surest first, of which no surer one covers more than 0.7."""
    kept: list[int] = []
    rows = rows[np.argsort(-rows[:, 4], kind="stable")]
    areas = (rows[:, 2:4] - rows[:, :2]).clip(0).prod(axis=1)
    for index, row in enumerate(rows):
        others = rows[kept]
        shared = np.minimum(others[:, 2:4], row[2:4]) - np.maximum(others[:, :2], row[:2])
        if not np.any(shared.clip(0).prod(axis=1) > 0.7 * np.minimum(areas[kept], areas[index])):
            kept.append(index)
    return rows[kept]


def _square(rows: np.ndarray) -> np.ndarray:
    """The boxes grown to squares about their centres."""
    centre, half = (rows[:, :2] + rows[:, 2:4]) / 2, (rows[:, 2:4] - rows[:, :2]).max(axis=1, keepdims=True) / 2
    return np.column_stack([centre - half, centre + half, rows[:, 4]])


def _looked_at(
    network: keras.Model, pictures: Sequence[np.ndarray], boxes: list[np.ndarray], side: int, threshold: float
) -> list[np.ndarray]:
    """The boxes that `network` confirms, moved by its offsets, the surest first, doublings dropped."""
    patches = [_patch(p, box, side) for p, rows in zip(pictures, boxes, strict=True) for box in rows]
    if not patches:
        return boxes
    scores, offsets, *_ = run(network, np.stack(patches), SIZES)
    rows = np.concatenate(boxes)
    span = np.tile(rows[:, 2:4] - rows[:, :2] + 1, 2)
    moved = np.column_stack([rows[:, :4] + offsets * span, scores])
    parts = np.split(moved, np.cumsum([len(rows) for rows in boxes])[:-1])
    return [_suppressed(rows[rows[:, 4] > threshold], 0.7) for rows in parts]


def _patch(picture: np.ndarray, box: np.ndarray, side: int) -> np.ndarray:
    """The square `box` of a picture at (side, side, 3) float32; grey outside the picture."""
    step = (box[2:4] - box[:2]) / (side - 1)
    warp = np.array([[step[0], 0, box[0]], [0, step[1], box[1]]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    patch = cv2.warpAffine(picture, warp, (side, side), flags=flags, borderValue=(128, 128, 128))
    return _normal(patch)
