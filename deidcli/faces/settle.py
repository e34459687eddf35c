"""Settle: what is written of a trail in one frame: a smooth box, and landmarks for as long as they can be had evenly.

A face is not shown anew in one frame and covered in the next: its track shows landmarks where most of the neighbouring
frames have some of their own, in all of these frames, and in none where few have.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from deidcli.faces.landmarks import believable
from deidcli.faces.smooth import REACH, hull, smoothed
from deidcli.faces.trail import Spot, Trail
from deidcli.values import Box, Face

if TYPE_CHECKING:
    from deidcli.faces.track import TrackOptions

CARRIED = 0.25  # how much a box that was carried counts beside one that was found
# Of the frames around in which the face was found, the share that has to have landmarks of its own for a face to get
# landmarks when it had none in the frame before, when it is new, and when it had some.
MANY, HALF, FEW = 0.75, 0.5, 0.3


def settled(trail: Trail, index: int, options: TrackOptions) -> Face:
    """The tracked face of a frame. Call it frame after frame."""
    spot = trail.spots[index]
    spots = sorted(trail.spots.items())
    box = _box(spot, [s for _, s in spots if s.covered], options.smooth)
    shows = _shows(trail, spot, [s for _, s in spots if s.found], options.around)
    points = _points(spot, [s for _, s in spots], options) if shows else None
    face = Face(box, spot.score, None, trail.number)
    if points is None or not believable(points, face):
        return face
    return Face(box, spot.score, points.astype(np.float32), trail.number)


def _box(spot: Spot, spots: list[Spot], sigma: float) -> Box:
    near = [s for s in spots if abs(s.time - spot.time) <= REACH * sigma]
    sides = np.array([(s.box.left, s.box.top, s.box.right, s.box.bottom) for s in near])
    weights = np.array([1.0 if s.found else CARRIED for s in near])
    left, top, right, bottom = hull(np.array([s.time for s in near]), sides, weights, spot.time, sigma)
    return Box(float(left), float(top), float(right), float(bottom))


def _shows(trail: Trail, spot: Spot, found: list[Spot], around: float) -> bool:
    """Whether the track shows landmarks now, by the share of frames around that have their own."""
    own = [s.own for s in found if abs(s.time - spot.time) <= around]
    share = sum(own) / len(own) if own else 0.0
    needed = HALF if trail.shows is None else FEW if trail.shows else MANY
    if own:
        trail.shows = share >= needed
    return bool(trail.shows)


def _points(spot: Spot, spots: list[Spot], options: TrackOptions) -> np.ndarray | None:
    if spot.points is None or spot.away > options.gap:
        return None
    near = [s for s in spots if s.points is not None and abs(s.time - spot.time) <= REACH * options.points]
    values = np.array([s.points.ravel() for s in near if s.points is not None])
    weights = np.array([1.0 if s.own else CARRIED for s in near])
    times = np.array([s.time for s in near])
    return smoothed(times, values, weights, spot.time, options.points).reshape(-1, 2)
