"""Frozen values that travel from stage to stage. Pixels are RGB `uint8`, coordinates are pixels of the upright frame.

A coordinate names a point of the continuous plane in which pixel (0, 0) covers [-0.5, 0.5] on both axes, as OpenCV's
warps have it. x runs to the right and y down.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from fractions import Fraction

import numpy as np


@dataclass(frozen=True)
class Frame:
    """One picture: a photograph, a page, or a frame of a video.

    pixels: (height, width, 3) uint8, RGB, upright (any stored orientation is already applied).
    index: 0-based place in its file. time: seconds since the start by the stream's own clock, None for a still.
    native: what the file itself holds of this frame, for the writer of the same file alone; None where it needs none.
    looks: other ways in which viewers show the frame, (height, width, 3) uint8 each: where it has alpha, or numbers
    wider than a screen's. A face that shows in any of them is a face of the frame; what replaces it goes into `pixels`.
    again: makes the very same pixels from `native`, for frames that wait long; None where nothing can.
    """

    pixels: np.ndarray
    index: int = 0
    time: Fraction | None = None
    native: object = field(default=None, compare=False, repr=False)
    looks: tuple[np.ndarray, ...] = field(default=(), compare=False, repr=False)
    again: Callable[[], np.ndarray] | None = field(default=None, compare=False, repr=False)

    @property
    def height(self) -> int:
        return self.pixels.shape[0]

    @property
    def width(self) -> int:
        return self.pixels.shape[1]

    def with_pixels(self, pixels: np.ndarray) -> Frame:
        return replace(self, pixels=pixels, again=None)

    def resting(self) -> Frame:
        """The frame without its pixels, where `again` can make them; of the same size, and black until it is awake."""
        if self.again is None or self.looks:
            return self
        return replace(self, pixels=np.broadcast_to(np.zeros(1, np.uint8), self.pixels.shape))

    def awake(self) -> Frame:
        """The frame with its pixels, those of one that rests made again."""
        if self.again is None or self.pixels.strides != (0, 0, 0):
            return self
        return replace(self, pixels=self.again())

    def cropped(self, box: Box) -> Frame:
        """The part of the frame, and of its looks, in a box of whole pixels that lies within it."""
        rows, columns = slice(int(box.top), int(box.bottom)), slice(int(box.left), int(box.right))
        looks = tuple(look[rows, columns] for look in self.looks)
        return replace(self, pixels=self.pixels[rows, columns], looks=looks, again=None)


@dataclass(frozen=True)
class Box:
    """An upright rectangle in pixels; it may reach past the border of the frame. right and bottom are exclusive."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def width(self) -> float:
        return self.right - self.left

    @property
    def height(self) -> float:
        return self.bottom - self.top

    @property
    def area(self) -> float:
        return max(self.width, 0.0) * max(self.height, 0.0)

    @property
    def center(self) -> tuple[float, float]:
        return (self.left + self.right) / 2, (self.top + self.bottom) / 2

    def scaled(self, factor: float) -> Box:
        """The box grown (or shrunk) about its centre by `factor` on both axes."""
        (x, y), w, h = self.center, self.width * factor / 2, self.height * factor / 2
        return Box(x - w, y - h, x + w, y + h)

    def shifted(self, x: float, y: float) -> Box:
        """The box moved by so many pixels."""
        return Box(self.left + x, self.top + y, self.right + x, self.bottom + y)

    def iou(self, other: Box) -> float:
        """Intersection over union with `other`, in [0, 1]."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        shared = max(width, 0.0) * max(height, 0.0)
        union = self.area + other.area - shared
        return shared / union if union > 0 else 0.0

    def as_list(self) -> list[float]:
        return [round(float(v), 2) for v in (self.left, self.top, self.right, self.bottom)]


UNTRACKED = -1
"""The track of a face that has no number yet."""


@dataclass(frozen=True)
class Face:
    """A face that was found.

    landmarks: (68, 2) float32 in the iBUG order, or None where they were not asked for or cannot be right; a face
    without landmarks is covered by its box and never gets a generated face. track: which face of the file this is; the
    same track gets the same new face in every frame; UNTRACKED before it has a number. points5: (5, 2) float32, the
    detector's own middles of the eyes, tip of the nose and corners of the mouth, what lies left in the upright face
    first; None where the detector gives none or the face was carried along a track.
    """

    box: Box
    score: float = 1.0
    landmarks: np.ndarray | None = None
    track: int = 0
    points5: np.ndarray | None = field(default=None, compare=False)


@dataclass(frozen=True)
class CropSpec:
    """The picture of a face that a method asks for; the engine obeys it and never asks which method it serves.

    size: side in pixels of the square crop, or None for the photograph's own resolution.
    margin: how much of the surroundings to show, as a share of the face's size on each side.
    align: "landmarks" turns the face upright by a similarity transform to the mean shape; "box" cuts the box as it is;
    "window" cuts the part of the frame about the landmarks, its pixels as they are, and not square at a border; with a
    size it is as "landmarks".
    mask: the part that is put back: "inner" (brows to chin, as FATM), "full" (forehead to jaw), "high" (and
    where the hair begins) or "ellipse" of the box.
    transfer_lighting: whether the new face takes the tone and light of the old one while it is blended.
    """

    size: int | None
    margin: float
    align: str = "landmarks"
    mask: str = "full"
    transfer_lighting: bool = True


@dataclass(frozen=True)
class Layer:
    """How a new face lies over its frame, where the method says so itself. Its arrays are as high and wide as its crop.

    alpha: (h, w) float32 in [0, 1], the share of the new pixels. bend: (h, w, 2) float32, by how many pixels to the
    right and down the frame moves under it, so that the head fits the new face.
    """

    alpha: np.ndarray
    bend: np.ndarray


@dataclass(frozen=True)
class Crop:
    """A face cut out for a method, with the way back.

    pixels: (h, w, 3) uint8, square but for a window. transform: (2, 3) float64, frame coordinates to crop coordinates.
    face: the face, in frame coordinates. key: names the person's track ("path#track"), so that a method gives one track
    one new face. layer: how new pixels lie over the frame; None where the mask of the CropSpec says it. moving: whether
    it is of a video, where more frames follow.
    """

    pixels: np.ndarray
    transform: np.ndarray
    face: Face
    key: str = ""
    layer: Layer | None = None
    moving: bool = False

    def with_pixels(self, pixels: np.ndarray, layer: Layer | None = None) -> Crop:
        return replace(self, pixels=pixels, layer=layer)
