"""Render: a texture of the canonical frame as it is seen on a mesh, at the photograph's resolution."""

from __future__ import annotations

import cv2
import numpy as np

from deidcli.faces.align import resampled
from deidcli.faces.canonical import affine_map, canonical, triangles_of, with_ring

SUPERSAMPLED = 90  # longer side in pixels of a face that is drawn at twice its size and averaged


def render(texture: np.ndarray, mesh: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """The texture as it is seen on `mesh`, (height, width, c) float32, and where it is seen, (height, width) in [0, 1].

    texture: (256, 256, c) float32. mesh: (468, 3) in pixels of the picture. size: (width, height). Triangles that turn
    away from the camera are not drawn, the nearer ones lie over those behind.
    """
    width, height = size
    points = with_ring(mesh)
    whole = np.zeros((height, width, texture.shape[2]), np.float32), np.zeros((height, width), np.float32)
    # Only the part of the picture in which the face lies is worked on.
    low = np.clip(np.floor(points[:, :2].min(axis=0)) - 1, 0, (width, height)).astype(int)
    high = np.clip(np.ceil(points[:, :2].max(axis=0)) + 2, low, (width, height)).astype(int)
    if (high <= low).any():
        return whole
    window = np.s_[low[1] : high[1], low[0] : high[0]]
    whole[0][window], whole[1][window] = _rendered(texture, points - [*low, 0], tuple(high - low))
    return whole


def _rendered(texture: np.ndarray, points: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """`render` for a mesh with its ring (504, 3)."""
    width, height = (int(side) for side in size)
    up = 2 if max(np.ptp(points[:, 0]), np.ptp(points[:, 1])) < SUPERSAMPLED else 1
    flat = ((points[:, :2].astype(np.float64) + 0.5) * up) - 0.5
    label, shrink = triangles_of(flat, points[:, 2], (width * up, height * up))
    if shrink > 1:
        texture = cv2.GaussianBlur(texture, (0, 0), 0.35 * shrink).reshape(texture.shape)
    drawn = _sampled(texture, picture_map(flat, label))
    seen: np.ndarray = (label >= 0).astype(np.float32)
    if up > 1:
        drawn *= seen[..., None]
        drawn = cv2.resize(drawn, (width, height), interpolation=cv2.INTER_AREA).reshape(height, width, -1)
        seen = cv2.resize(seen, (width, height), interpolation=cv2.INTER_AREA)
        drawn = drawn / np.maximum(seen, 1e-3)[..., None]
    drawn *= (seen > 0)[..., None]
    return drawn, seen


def _sampled(texture: np.ndarray, at: np.ndarray) -> np.ndarray:
    """The texture (h, w, c) at the places `at` (height, width, 2): (height, width, c)."""
    channels = texture.shape[2]
    # OpenCV interpolates four channels at a time.
    parts = [np.ascontiguousarray(texture[..., first : first + 4]) for first in range(0, channels, 4)]
    drawn = [resampled(part, at, cv2.INTER_CUBIC) for part in parts]
    return np.concatenate([part.reshape(*at.shape[:2], -1) for part in drawn], axis=2)


def picture_map(flat: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Where in the frame the pixels of a picture lie, (height, width, 2) float32; far outside where there is no
    face.
    """
    frame = canonical()
    corners = np.concatenate([flat[frame.triangles], np.ones((len(frame.triangles), 3, 1))], axis=2)
    sound = np.abs(np.linalg.det(corners)) > 1e-6
    inverse = np.zeros_like(corners)
    inverse[sound] = np.linalg.inv(corners[sound])
    at = affine_map((inverse @ frame.points[frame.triangles]).transpose(0, 2, 1), label)
    at[label < 0] = -1e4
    return at
