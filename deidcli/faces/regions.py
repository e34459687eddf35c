"""Regions of the canonical frame: the face within its rim, skin, eyes, brows and lips."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np

from deidcli.faces.canonical import (
    INNER_LIPS,
    LEFT_BROW,
    LEFT_LIDS,
    OUTER_LIPS,
    RIGHT_BROW,
    RIGHT_LIDS,
    RIM,
    SIZE,
    canonical,
)

NOSE_TIP = 1  # of the mesh
BEARD = 30  # pixels of the frame about the lips within which a beard is looked for
COARSE = 64  # side in pixels at which a face is fitted


def filled(parts: tuple[np.ndarray, ...], grow: int = 0) -> np.ndarray:
    """The hulls of mesh points in the frame, (256, 256) float32 in [0, 1], grown by so many pixels."""
    area: np.ndarray = np.zeros((SIZE, SIZE), np.float32)
    for part in parts:
        hull = cv2.convexHull(canonical().points[part].astype(np.float32))[:, 0]
        cv2.fillPoly(area, [np.round(hull * 16).astype(np.int32)], 1.0, cv2.LINE_AA, 4)
    if grow:
        area = cv2.dilate(area, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * grow + 1, 2 * grow + 1)))
    return area


@cache
def rim_distance() -> np.ndarray:
    """How far the pixels of the frame lie within the rim, (256, 256) float32; 0 outside it."""
    return cv2.distanceTransform((filled((RIM,)) > 0.5).astype(np.uint8), cv2.DIST_L2, 5)


@cache
def features(grow: int) -> np.ndarray:
    """Eyes, lips and brows, grown by pixels, (256, 256) float32 in [0, 1]."""
    return filled((OUTER_LIPS, LEFT_LIDS, RIGHT_LIDS, LEFT_BROW, RIGHT_BROW), grow)


@cache
def skin() -> np.ndarray:
    """The pixels of the frame that are skin in every face, (256, 256) bool."""
    return (rim_distance() > 14) & (features(5) < 0.5)


@cache
def openings() -> np.ndarray:
    """What lies between the lids and between the lips, (256, 256) float32 in [0, 1] with a soft edge."""
    inner = np.zeros((SIZE, SIZE), np.float32)
    for part in (INNER_LIPS, LEFT_LIDS, RIGHT_LIDS):
        cv2.fillPoly(inner, [np.round(canonical().points[part] * 16).astype(np.int32)], 1.0, cv2.LINE_AA, 4)
    return cv2.GaussianBlur(inner, (0, 0), 1.0)


def shrunk(texture: np.ndarray) -> np.ndarray:
    """A picture of the frame (256, 256, ...) at COARSE pixels a side."""
    return cv2.resize(texture, (COARSE, COARSE), interpolation=cv2.INTER_AREA)


@cache
def beard_weights() -> np.ndarray:
    """(256, 256) float32: a texture's lightness times these is how much darker the skin about the mouth is than
    the rest, as where a beard grows. Light that changes as a polynomial of second order over the face adds nothing.
    """
    bare = skin() & (filled((OUTER_LIPS,), 4) < 0.5)
    nose = canonical().points[NOSE_TIP][1]
    about = bare & (np.arange(SIZE)[:, None] > nose + 6) & (filled((OUTER_LIPS,), BEARD) > 0.5)
    places = np.nonzero(bare)
    y, x = (values / SIZE - 0.5 for values in places)
    smooth = np.linalg.qr(np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], axis=1))[0]
    wanted = about[places] / about.sum()
    weights = np.zeros((SIZE, SIZE), np.float32)
    weights[places] = smooth @ (smooth.T @ wanted) - wanted
    return weights
