"""Non-maximum suppression: each face once, where several searches found the same one."""

from __future__ import annotations

from collections.abc import Iterable

from deidcli.values import Box, Face

INSIDE = 0.8  # of the smaller box's area: a box that lies in a better one is the same face, cut off or seen too close
DWARF = 0.25  # of the larger box's area: a box smaller than that is another face, in front of the first or on a shirt


def nms(faces: Iterable[Face], overlap: float) -> list[Face]:
    """Of faces in order of preference those that no earlier one covers.

    overlap: the intersection over union above which two boxes are one face, in [0, 1].
    """
    kept: list[Face] = []
    for face in faces:
        if not any(same(face.box, other.box, overlap) for other in kept):
            kept.append(face)
    return kept


def same(a: Box, b: Box, overlap: float) -> bool:
    """Whether two boxes are of one face: they share much of their union, or one lies in the other and is no dwarf."""
    if a.iou(b) > overlap:
        return True
    small, large = sorted((a, b), key=lambda box: box.area)
    return small.area > DWARF * large.area and lies_in(small, large)


def lies_in(box: Box, other: Box) -> bool:
    """Whether nearly all of `box` lies in `other`."""
    return shared(box, other) > INSIDE * box.area


def shared(a: Box, b: Box) -> float:
    """The area that two boxes have in common, in square pixels."""
    width = min(a.right, b.right) - max(a.left, b.left)
    height = min(a.bottom, b.bottom) - max(a.top, b.top)
    return max(width, 0.0) * max(height, 0.0)
