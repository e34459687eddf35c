"""Kinds: what a classifier reads off the people of a closed set, so that groups can have it in common."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from deidcli.faces.attributes import AttributeReader, Attributes
from deidcli.methods.census import Census
from deidcli.values import Frame

READ = ("gender", "age", "race")  # what can be asked
AGES = (15.0, 45.0)  # years at which one of the ages that groups have in common ends and the next begins
BATCH = 64  # faces that are read at once


def attributes(census: Census, asked: Sequence[str]) -> list[tuple[str, ...]]:
    """What each person has of the attributes `asked`, out of READ, as read off their typical face; age as one of three.

    Raises PresetError where the classifier is missing or damaged.
    """
    rows, reader, values = census.typical(), AttributeReader("attributes"), []
    for start in range(0, len(rows), BATCH):
        crops = census.crops(rows[start : start + BATCH])
        seen = [reader.cut(Frame(crop.pixels), crop.face) for crop in crops]
        values += [tuple(_said(found, name) for name in asked) for found in reader.read(seen)]
    return values


def _said(found: Attributes, name: str) -> str:
    return str(int(np.searchsorted(AGES, found.age or 0.0))) if name == "age" else str(getattr(found, name))
