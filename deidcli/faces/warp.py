"""Warp: bend a face piecewise affinely, so that chosen points of it move to where they are wanted."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

COLLAPSED = 1e-3  # area in pixels below which a triangle has no inside
FADE = 0.03  # how far inside its border a picture counts in full, as a share of its shorter side


@dataclass(frozen=True)
class Mesh:
    """Triangles over a picture, and which of them each of its pixels lies in.

    triangles: (m, 3) indices of points. inverse: (m, 3, 3), pixel (x, y, 1) to the weights of the three corners.
    label: (height, width) index of a triangle, where -1 is none.
    """

    triangles: np.ndarray
    inverse: np.ndarray
    label: np.ndarray

    @classmethod
    def over(cls, points: np.ndarray, size: tuple[int, int], triangles: np.ndarray | None = None) -> Mesh:
        """The mesh over points (n, 2) of a picture of `size` (height, width), without triangles that collapsed.

        triangles: (m, 3) to be used instead of the Delaunay ones. Of triangles that lie over each other the last wins.
        """
        triangles = nondegenerate_triangles(points, delaunay(points) if triangles is None else triangles)
        label = np.full(size, -1, np.int32)
        for index, corners in enumerate(points[triangles]):
            cv2.fillConvexPoly(label, np.round(corners * 16).astype(np.int32), index, lineType=cv2.LINE_8, shift=4)
        ones = np.ones((len(triangles), 3, 1))
        return cls(triangles, np.linalg.inv(np.concatenate([points[triangles], ones], axis=2)), label)

    def places(self, points: np.ndarray) -> np.ndarray:
        """Where each pixel comes from when `points` (n, 2) move onto those of the mesh: (height, width, 2) float32.

        Every pixel looks up its place, so a triangle that collapsed among `points` (the gap of a closed mouth) needs
        no inverse. A pixel outside all triangles comes from far outside.
        """
        y, x = (np.asarray(axis, np.float32) for axis in np.indices(self.label.shape))
        affine = (self.inverse @ points[self.triangles]).astype(np.float32)
        outside = np.full((1, 3, 2), (0, 0), np.float32)
        outside[0, 2] = -1e4
        # Index -1 is the last row.
        rows = np.concatenate([affine, outside])
        return np.stack([rows[:, 0, k][self.label] * x + rows[:, 1, k][self.label] * y + rows[:, 2, k][self.label]
                         for k in (0, 1)], axis=2)  # fmt: skip

    def warp(self, picture: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """`picture` (height, width, 3) with its `points` (n, 2) moved onto those of the mesh, and how far it was seen.

        The first has the mesh's size, where what lies outside the picture repeats its border; the second is float32, 1
        inside the picture, fading to 0 at its border.
        """
        places = self.places(points)
        return lookup(picture, places), _seen(places, picture.shape[:2])


def lookup(picture: np.ndarray, places: np.ndarray) -> np.ndarray:
    """The pixels of `picture` at `places` (height, width, 2); what lies outside repeats the border."""
    columns, rows = np.ascontiguousarray(places[..., 0]), np.ascontiguousarray(places[..., 1])
    return cv2.remap(picture, columns, rows, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)


def delaunay(points: np.ndarray) -> np.ndarray:
    """Indices (m, 3) of the Delaunay triangles of points (n, 2); of points in one place only the first counts."""
    low, high = np.floor(points.min(axis=0)) - 1, np.ceil(points.max(axis=0)) + 2
    plane = cv2.Subdiv2D((int(low[0]), int(low[1]), int(high[0] - low[0]), int(high[1] - low[1])))
    index: dict[tuple[float, float], int] = {}
    for number, (x, y) in enumerate(points.astype(np.float32).tolist()):
        plane.insert((x, y))
        index.setdefault((x, y), number)
    corners = np.asarray(plane.getTriangleList()).reshape(-1, 3, 2).tolist()
    known = [[index.get((x, y), -1) for x, y in triangle] for triangle in corners]
    return np.array([t for t in known if min(t) >= 0], np.int64).reshape(-1, 3)


def nondegenerate_triangles(points: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """The triangles (m, 3) that have an inside; a matrix made of any other has no inverse."""
    return triangles[np.abs(signed_areas(points, triangles)) > COLLAPSED]


def signed_areas(points: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """The area (m,) of each triangle; its sign turns when the triangle is flipped over."""
    a, b, c = points[triangles].transpose(1, 0, 2)
    return ((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]) / 2


def _seen(places: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """How far places (side, side, 2) lie inside a picture of size (height, width), as a weight in [0, 1]."""
    height, width = size
    x, y = places[..., 0], places[..., 1]
    depth = np.minimum(np.minimum(x, width - 1 - x), np.minimum(y, height - 1 - y))
    return np.clip(depth / (FADE * min(size)), 0, 1).astype(np.float32)
