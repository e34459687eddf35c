"""Regions of the canonical frame: the face within its rim, skin, eyes, brows and lips. What skin shows of tone and
light, and what lies over a face, is read in them.
"""

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
LOW = 16  # side in pixels at which a face's light is read
HIDDEN = 0.17  # difference to the fit above which a pixel may belong to what hides the face


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


def tone_and_light(texture: np.ndarray) -> np.ndarray:
    """The mean colour of the skin (3,) and how its lightness changes to the right, downwards and to both sides (3,)."""
    tone = np.array(cv2.mean(texture, skin().view(np.uint8))[:3])
    smooth = cv2.GaussianBlur(shrunk(texture), (0, 0), 5)
    low = cv2.resize(smooth, (LOW, LOW), interpolation=cv2.INTER_AREA).mean(axis=2)
    places, slopes = _ways_of_light()
    values = low[places]
    return np.concatenate([tone, slopes @ (values - values.mean())])


@cache
def _ways_of_light() -> tuple[np.ndarray, np.ndarray]:
    """Where light is read, (16, 16) bool, and the (3, n) by which its n values give the slopes of `tone_and_light`."""
    places = cv2.resize(skin().astype(np.float32), (LOW, LOW), interpolation=cv2.INTER_AREA) > 0.5
    y, x = (np.array(np.nonzero(places)) - (LOW - 1) / 2) / (LOW / 2)
    ways = np.stack([x, y, x * x], axis=1)
    return places, np.linalg.pinv(ways - ways.mean(axis=0))


def hidden(unlike: np.ndarray) -> np.ndarray:
    """What lies over the face, (256, 256) float32 in [0, 1], from the difference to the fit (64, 64).

    A hand, a microphone, hair and a hat come in over the rim; what is unlike within the face is a shadow, a spot or the
    features themselves, and is not kept. Eyes and mouth never hide the face.
    """
    apart = cv2.GaussianBlur(unlike, (0, 0), 0.7) > HIDDEN
    apart &= shrunk(features(4)) < 0.5
    count, labels = cv2.connectedComponents(cv2.morphologyEx(apart.astype(np.uint8), cv2.MORPH_OPEN, np.ones((2, 2))))
    edge = (shrunk(rim_distance()) < 5) & (shrunk(canonical().inside.astype(np.float32)) > 0.5)
    reaching = [n for n in range(1, count) if (labels == n).sum() > 12 and (edge & (labels == n)).sum() > 2]
    covers = cv2.dilate(np.isin(labels, reaching).astype(np.float32), np.ones((3, 3)))
    return np.clip(cv2.GaussianBlur(cv2.resize(covers, (SIZE, SIZE)), (0, 0), 2), 0, 1)
