"""Canonical frame: the texture of a face, unwrapped so that every eye corner of every face is the same pixel.

The frame is the mean frontal mesh, 256 pixels square, with a ring of 36 points more around its rim for the edge of
forehead, temples and chin. A face is unwrapped by the affine maps of the triangles between its own mesh and that one;
`render` lays a texture over a posed mesh, at the photograph's own resolution.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files

import cv2
import numpy as np

from deidcli.faces.align import resampled, similarity
from deidcli.faces.mesh import POINTS, RIM

SIZE = 256  # pixels of the frame's side
BORDER = 6  # pixels between the ring and the side of the frame
OUTWARD = 0.12  # how far the ring lies outside the rim, as a share of the distance to the rim's middle
EDGE_ON = 0.35  # foreshortening, as a share of the median triangle's, from which on a triangle counts as fully seen


@dataclass(frozen=True)
class Canonical:
    """points: (504, 2) of mesh and ring in the frame. triangles: (n, 3) of them. label: (256, 256) int32, the triangle
    of each pixel, -1 outside. to_barycentric: (n, 3, 3), from (x, y, 1) of the frame to weights of the corners.
    """

    points: np.ndarray
    triangles: np.ndarray
    label: np.ndarray
    to_barycentric: np.ndarray

    @cached_property
    def inside(self) -> np.ndarray:
        """(256, 256) bool, the pixels that belong to the face and its ring."""
        return self.label >= 0

    @cached_property
    def areas(self) -> np.ndarray:
        """(n,) twice the signed areas of the triangles in the frame, in pixels."""
        return signed_areas(self.points[self.triangles])


@cache
def canonical() -> Canonical:
    """The frame that all faces share."""
    mean = mean_mesh()
    ring = with_ring(mean)[:, :2]
    scale = (SIZE - 2 * BORDER) / np.ptp(ring, axis=0).max()
    points = (ring - (ring.min(axis=0) + ring.max(axis=0)) / 2) * scale + (SIZE - 1) / 2
    triangles = _stored("mean_triangles.npy").astype(np.int32)
    # Every triangle has the same turning sense, so that one that is seen from behind shows it by its sign.
    turned = signed_areas(points[triangles]) < 0
    triangles[turned] = triangles[turned][:, ::-1]
    triangles = triangles[np.abs(signed_areas(points[triangles])) > 1e-6]
    label = np.full((SIZE, SIZE), -1, np.int32)
    for number, corners in enumerate(points[triangles]):
        cv2.fillConvexPoly(label, np.round(corners * 16).astype(np.int32), number, shift=4)
    corners = np.concatenate([points[triangles], np.ones((len(triangles), 3, 1))], axis=2)
    return Canonical(points, triangles, label, np.linalg.inv(corners.transpose(0, 2, 1)))


@cache
def mean_mesh() -> np.ndarray:
    """The mean frontal mesh (468, 3) float64: Procrustes mean of synthetic faces, x from -1 to 1, z away from the
    camera.
    """
    return _stored("mean_mesh.npy").astype(np.float64)


def _stored(name: str) -> np.ndarray:
    """A file of this folder. The triangles, of the mean mesh with its ring, are Delaunay's as SciPy finds them, whose
    import takes longer than all else that a photograph needs.
    """
    with files("deidcli.faces").joinpath(name).open("rb") as file:
        return np.load(file, allow_pickle=False)


def with_ring(mesh: np.ndarray) -> np.ndarray:
    """A mesh (468, d) with 36 points more (504, d) that lie outside its rim."""
    rim = mesh[RIM]
    return np.concatenate([mesh[:POINTS], rim + OUTWARD * (rim - rim.mean(axis=0))])


def signed_areas(corners: np.ndarray) -> np.ndarray:
    """Twice the areas of triangles (n, 3, 2): positive where their corners go clockwise as seen in the picture."""
    a, b = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    return a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]


def unwrap(pixels: np.ndarray, mesh: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The texture (256, 256, 3) uint8 of a face, and how far each of its pixels was seen (256, 256) float32 in [0, 1].

    pixels: (height, width, 3) uint8. mesh: (468, 3) in its coordinates. Not seen is what is turned away from the
    camera, and what lies outside the picture, whose border is repeated there. What is larger than the frame is
    averaged.
    """
    frame, points = canonical(), with_ring(mesh)[:, :2].astype(np.float64)
    height, width = pixels.shape[:2]
    low = np.clip(np.floor(points.min(axis=0)) - 2, 0, (width - 1, height - 1)).astype(int)
    high = np.clip(np.ceil(points.max(axis=0)) + 3, low + 1, (width, height)).astype(int)
    part = pixels[low[1] : high[1], low[0] : high[0]]
    points = points - low
    area = signed_areas(points[frame.triangles])
    shrink = np.sqrt(max(float(np.abs(area).sum()), 1.0) / np.abs(frame.areas).sum())
    if shrink > 1.4:
        size = tuple(max(1, round(side / shrink)) for side in part.shape[1::-1])
        step = np.array(part.shape[1::-1]) / size
        part, points = cv2.resize(part, size, interpolation=cv2.INTER_AREA), (points + 0.5) / step - 0.5
        shift = (low + 0.5) / step - 0.5
        limit = np.array([width, height]) / step
    else:
        shift, limit = low, np.array([width, height])
    at = frame_map(frame, points)
    texture = resampled(np.ascontiguousarray(part), at)
    seen = _facing(frame, area)[frame.label].astype(np.float32)
    place = at + shift.astype(np.float32)
    seen *= ((place >= -0.5) & (place <= limit - 0.5)).all(axis=2)
    seen[~frame.inside] = 0
    return texture, cv2.GaussianBlur(seen, (0, 0), 1.5) * frame.inside


def frame_map(frame: Canonical, points: np.ndarray) -> np.ndarray:
    """Where in a picture the pixels of the frame lie, (256, 256, 2) float32, by points (504, 2) in the picture."""
    return affine_map(points[frame.triangles].transpose(0, 2, 1) @ frame.to_barycentric, frame.label)


def affine_map(affine: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Where the pixels of a picture lie in another one, (height, width, 2) float32.

    affine: (n, 2, 3), from (x, y, 1) to places there. label: (height, width), which of them applies to a pixel.
    """
    height, width = label.shape
    flat, at = label.ravel(), np.empty((height, width, 2), np.float32)
    x, y = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, None]
    for axis in (0, 1):
        # A column at a time: numpy gathers single numbers much faster than rows. Index -1 is the last one.
        columns = np.ascontiguousarray(affine[:, axis].T, np.float32)
        along, down, start = (np.take(column, flat, mode="wrap").reshape(height, width) for column in columns)
        along *= x
        down *= y
        along += down
        np.add(along, start, out=at[..., axis])
    return at


def _facing(frame: Canonical, area: np.ndarray) -> np.ndarray:
    """(n,) in [0, 1]: how far the triangles, of areas (n,) in the picture, face the camera."""
    ratio = area / frame.areas
    return np.clip(ratio / max(float(np.median(ratio)), 1e-9) / EDGE_ON, 0, 1)


def pose(mesh: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rotation with scale (3, 3) and shift (3,) that bring the mean mesh nearest to `mesh`: mean @ R + t."""
    source = mean_mesh()
    a, b = source - source.mean(axis=0), mesh - mesh.mean(axis=0)
    u, s, vt = np.linalg.svd(a.T @ b)
    sign = np.ones(3)
    sign[-1] = np.sign(np.linalg.det(u @ vt))
    rotation = (s * sign).sum() / max(float((a**2).sum()), 1e-12) * (u * sign) @ vt
    return rotation, mesh.mean(axis=0) - source.mean(axis=0) @ rotation


def posed_mean_mesh(points: np.ndarray, places: np.ndarray, stiffness: float = 0.0) -> np.ndarray:
    """The mean mesh (468, 3) float64 turned, scaled and shifted so that `points` (n, 3) of it come near `places` (n,
    2).

    The camera is a scaled orthographic one, found by least squares. stiffness: weight of the face that looks straight
    ahead, as a share of the points' own; few points determine a rotation badly.
    """
    source, target = points.mean(axis=0), places.mean(axis=0)
    a, b = points - source, np.asarray(places, np.float64) - target
    ahead = np.column_stack([similarity(a[:, :2], b)[:, :2], (0, 0)])
    prior = stiffness * float((a**2).sum()) / 3 * np.eye(3)
    rows = np.linalg.solve(a.T @ a + prior + 1e-9 * np.eye(3), a.T @ b + prior @ ahead.T).T
    scale = max(float(np.linalg.norm(rows, axis=1).mean()), 1e-6)
    u, _, vt = np.linalg.svd(rows / scale, full_matrices=False)
    flat = u @ vt
    turn = np.vstack([flat, np.cross(flat[0], flat[1])]) * scale
    return (mean_mesh() - source) @ turn.T + [*target, 0]


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


def triangles_of(flat: np.ndarray, depth: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, float]:
    """The triangle of each pixel (height, width) int32, -1 where there is none; and how many pixels of the frame fall
    on one of the picture, along a line.
    """
    frame = canonical()
    area = signed_areas(flat[frame.triangles])
    front = np.flatnonzero(area > 1e-3)
    order = front[np.argsort(-depth[frame.triangles[front]].mean(axis=1), kind="stable")]
    label = np.full(size[::-1], -1, np.int32)
    corners = np.round(flat[frame.triangles] * 16).astype(np.int32)
    for number in order:
        cv2.fillConvexPoly(label, corners[number], int(number), shift=4)
    shrink = np.sqrt(frame.areas[front].sum() / max(float(area[front].sum()), 1.0)) if len(front) else 1.0
    return label, float(shrink)


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
