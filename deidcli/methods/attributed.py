"""Kinds: what a classifier reads off the people of a closed set, so that groups can have it in common."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from deidcli.faces.attributes import AttributeReader, Attributes
from deidcli.methods.census import Census
from deidcli.values import Box, Face, Frame

READ = ("gender", "age", "race")  # what can be asked
AGES = (15.0, 45.0)  # years at which one of the ages that groups have in common ends and the next begins
BATCH = 64  # faces that are read at once


def attributes(census: Census, asked: Sequence[str]) -> list[tuple[str, ...]]:
    """What each person has of the attributes `asked`, out of READ, as read off their typical face; age as one of three.

    Raises PresetError where the classifier is missing or damaged.
    """
    rows, reader, values = census.typical(), AttributeReader("attributes"), []
    for start in range(0, len(rows), BATCH):
        part = rows[start : start + BATCH]
        shown = zip(census.pixels[part], census.landmarks[part], strict=True)
        crops = [reader.cut(Frame(pixels), _whole(pixels, points)) for pixels, points in shown]
        values += [tuple(_said(found, name) for name in asked) for found in reader.read(crops)]
    return values


def _said(found: Attributes, name: str) -> str:
    return str(int(np.searchsorted(AGES, found.age or 0.0))) if name == "age" else str(getattr(found, name))


def _whole(pixels: np.ndarray, landmarks: np.ndarray) -> Face:
    """The face of a crop (side, side, 3) of the census."""
    return Face(Box(0, 0, pixels.shape[1], pixels.shape[0]), landmarks=np.asarray(landmarks))
