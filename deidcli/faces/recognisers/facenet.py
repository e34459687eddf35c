"""FaceNet through keras-facenet: Inception-ResNet-v1, trained on VGGFace2."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import cv2
import numpy as np

from deidcli.faces.align import INNER, MEAN_SHAPE, similarity
from deidcli.faces.recognisers import Recogniser, cosine_distance
from deidcli.values import Face

SIDE = 160  # pixels of a chip
# MTCNN's box, which FaceNet was trained with, against the face square: its centre's shift to the right and down, its
# width and height, each as a share of the square's side. Medians of 150 of LFW's training people.
BOX = (0.0, -0.047, 0.739, 0.995)
# How much more than the box is shown. Its author adds 32 pixels to boxes of LFW, which are 90 to 120 pixels large.
ROOM = 1.3


class FacenetRecogniser(Recogniser):
    """512 numbers of unit length, cosine distance; 0.605 is the Euclidean distance of 1.1 that CLEANIR judges by."""

    name = "facenet"
    threshold = 0.605
    length = 512

    def __init__(self, file: str = ""):
        super().__init__(file)
        from deidcli.networks.facenet import check_installed

        check_installed()

    def chips(self, pixels: np.ndarray, faces: Sequence[Face]) -> np.ndarray:
        """Boxes about faces as MTCNN would put them, not turned upright, stretched to 160 x 160 pixels."""
        chips = [_chip(pixels, self.points(face)) for face in faces]
        return np.stack(chips) if chips else np.zeros((0, SIDE, SIDE, 3), np.uint8)

    def embed(self, chips: np.ndarray) -> np.ndarray:
        """Descriptors of unit length."""
        return _network()((chips.astype(np.float32) - 127.5) / 127.5)[0]

    def distance(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Cosine distance, row by row."""
        return cosine_distance(a, b)


def _chip(pixels: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    square = similarity(MEAN_SHAPE[INNER], np.asarray(landmarks, np.float64)[INNER])
    side = float(np.hypot(square[0, 0], square[1, 0]))
    centre = square[:, :2] @ (0.5, 0.5) + square[:, 2] + np.array(BOX[:2]) * side
    size = np.array(BOX[2:]) * side * ROOM
    step = size / SIDE
    # The shrunk picture is averaged first, because a warp only interpolates.
    sigma = max(0.0, float(step.mean()) - 1) / 2
    corner = centre - size / 2 + step / 2
    part, origin = _around(pixels, centre, size + 6 * sigma + 4)
    if sigma > 0.2:
        part = cv2.GaussianBlur(part, (0, 0), sigma)
    warp = np.array([[step[0], 0, corner[0] - origin[0]], [0, step[1], corner[1] - origin[1]]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(part, warp, (SIDE, SIDE), flags=flags, borderMode=cv2.BORDER_REPLICATE)


def _around(pixels: np.ndarray, centre: np.ndarray, size: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The part of the picture about `centre`, at least one pixel of it, and its upper left corner (x, y)."""
    limit = np.array(pixels.shape[1::-1])
    low = np.clip(np.floor(centre - size / 2), 0, limit - 1).astype(int)
    high = np.clip(np.ceil(centre + size / 2), low + 1, limit).astype(int)
    return np.ascontiguousarray(pixels[low[1] : high[1], low[0] : high[0]]), low


@cache
def _network():
    from deidcli.networks.facenet import network

    return network()
