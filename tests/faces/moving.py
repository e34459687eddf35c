"""Drawn clips: a face out of the examples that moves over a soft background, with the boxes where it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction

import cv2
import numpy as np

from deidcli.faces.tracking import FrameFaces
from deidcli.values import Box, Face, Frame

WIDTH, HEIGHT, SIDE, RATE = 240, 160, 40, 25
Place = tuple[float, float]  # the centre of a face


def background(seed: int = 0) -> np.ndarray:
    """Soft coloured blobs, (HEIGHT, WIDTH, 3) uint8."""
    drawn = np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    blurred = cv2.GaussianBlur(drawn, (0, 0), 5)
    return cv2.normalize(blurred, None, 20, 220, cv2.NORM_MINMAX)


def pasted(pixels: np.ndarray, face: np.ndarray, place: Place, side: float = SIDE) -> np.ndarray:
    """`pixels` with the picture of a face in a soft ellipse about `place`."""
    scale = side / face.shape[0]
    moved = np.array([[scale, 0, place[0] - side / 2], [0, scale, place[1] - side / 2]])
    size = pixels.shape[1], pixels.shape[0]
    new = cv2.warpAffine(face, moved, size, flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REPLICATE)
    alpha = np.zeros(pixels.shape[:2], np.float32)
    cv2.ellipse(alpha, (round(place[0]), round(place[1])), (round(side / 2), round(side * 0.6)), 0, 0, 360, 1.0, -1)
    alpha = cv2.GaussianBlur(alpha, (0, 0), 1)[..., None]
    return np.clip(pixels * (1 - alpha) + new * alpha, 0, 255).astype(np.uint8)


def around(place: Place, side: float = SIDE) -> Box:
    """The box of a face that was pasted there."""
    return Box(place[0] - side / 2, place[1] - side / 2, place[0] + side / 2, place[1] + side / 2)


def clip(
    face: np.ndarray,
    places: Sequence[Place | None],
    found: Callable[[int], bool] = lambda index: True,
    paint: Callable[[int, np.ndarray], np.ndarray] = lambda index, pixels: pixels,
    landmarks: Callable[[int], np.ndarray | None] = lambda index: None,
) -> list[FrameFaces]:
    """A frame for each place, None where there is no face; `found` says where it was found, `paint` draws over it."""
    seen = []
    for index, place in enumerate(places):
        pixels = background() if place is None else pasted(background(), face, place)
        faces = () if place is None or not found(index) else (Face(around(place), landmarks=landmarks(index)),)
        frame = Frame(paint(index, pixels), index, Fraction(index, RATE))
        seen.append(FrameFaces(frame, faces, index == 0))
    return seen
