"""Groups of at least k: who shares a surrogate with whom, by nearness of descriptors. Deterministic.

What comes out does not depend on the order of the people: they are visited by their own numbers alone.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence

import numpy as np

from deidcli.faces.attributes import AttributeReader, Attributes
from deidcli.faces.people import Neighbours
from deidcli.methods.base import Census
from deidcli.values import Frame

BLOCK = 256  # people whose neighbours are asked for at once; most of them are in a group before their turn
SPARE = 4  # neighbours that are asked for, as a multiple of those that a group needs


def group_people(points: np.ndarray, k: int) -> np.ndarray:
    """The group of each person, (n,) int from 0: of k people each, the last one of k to 2 k - 1 (Newton et al. 2005).

    points: (n, d), the people's mean descriptors. A group is a person and the k - 1 nearest of those that have none;
    the first are those farthest from everybody's mean, so that no outlier is left over for the last group. Raises
    ValueError for fewer than k people.
    """
    if len(points) < k:
        raise ValueError(f"{len(points)} people are no group of {k}")
    groups = np.full(len(points), -1)
    count, left, exact = 0, visiting_order(points), False
    while len(left) >= 2 * k:
        before = count
        for members in _one_pass(points, left, k, exact):
            groups[members] = count
            count += 1
        left = left[groups[left] < 0]
        # An approximate index may find too few neighbours, as among many equal points: then search exactly.
        exact = count == before
    groups[left] = count
    return groups


def group_by_value(points: np.ndarray, values: Sequence[Hashable], k: int) -> np.ndarray:
    """Groups as `group_people` makes them, but of people with one value; (n,) int.

    People of a value that fewer than k have join the group whose mean is nearest to them. Where no value has k people
    the groups are made without values. Raises ValueError for fewer than k people.
    """
    group, count = np.full(len(points), -1), 0
    for value in sorted(set(values), key=repr):
        same = np.flatnonzero([each == value for each in values])
        if len(same) >= k:
            group[same] = count + group_people(points[same], k)
            count = int(group.max()) + 1
    if not count:
        return group_people(points, k)
    means = np.stack([points[group == number].mean(axis=0) for number in range(count)])
    left = np.flatnonzero(group < 0)
    if len(left):
        group[left] = Neighbours(means).nearest(points[left], 1)[1][:, 0]
    return group


def _one_pass(points: np.ndarray, left: np.ndarray, k: int, exact: bool) -> Iterator[np.ndarray]:
    """Groups of exactly k of those who are `left`, while k stay for the last; some wait for another round.

    A person whose nearest neighbours are all taken is left for the next pass, whose index holds only those left.
    """
    index, free = Neighbours(points[left], exact), np.ones(len(left), bool)
    width = min(len(left), SPARE * k)
    for place, near in _nearest_of_free(index, points[left], free, width):
        open_ones = near[free[near] & (near != place)][: k - 1]
        if len(open_ones) == k - 1 and free.sum() >= 2 * k:
            members = np.append(open_ones, place)
            free[members] = False
            yield left[members]


def _nearest_of_free(
    index: Neighbours, points: np.ndarray, free: np.ndarray, width: int
) -> Iterator[tuple[int, np.ndarray]]:
    """(place, its nearest) for every place that is still free when its turn comes."""
    start = 0
    while start < len(points):
        block = start + np.flatnonzero(free[start:])[:BLOCK]
        if not len(block):
            return
        for place, near in zip(block, index.nearest(points[block], width)[1], strict=True):
            if free[place]:
                yield int(place), near[near >= 0]
        start = block[-1] + 1


def visiting_order(points: np.ndarray) -> np.ndarray:
    """The numbers (n,) of points, farthest from their mean first; equal distances by the coordinates themselves."""
    # Sums of numbers in one order are the same to the last bit, whichever order the people came in.
    order = np.lexsort(points.T)
    rows = points[order]
    return order[np.argsort(-np.linalg.norm(rows - rows.mean(axis=0), axis=1), kind="stable")]


def pair_furthest(centres: np.ndarray) -> np.ndarray:
    """For each group another one, as far away as can be had, each given once: (g,) int, g of 2 and more.

    k-Same-furthest (Meng et al. 2014): a group gets the surrogate of a group that it does not look like. Far away is
    measured by the angle at everybody's mean.
    """
    order = visiting_order(centres)
    rows = centres[order] - centres[order].mean(axis=0)
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    given = _match_antipodes(rows)
    result = np.empty(len(order), int)
    result[order] = order[given]
    return result


def _match_antipodes(units: np.ndarray) -> np.ndarray:
    """For each unit vector the number of another one near its antipode, each number once."""
    given, givers, exact = np.full(len(units), -1), np.arange(len(units)), False
    while len(wanting := np.flatnonzero(given < 0)):
        if len(wanting) == 1 and givers[0] == wanting[0]:
            # The last one would get itself, so it swaps with the first.
            given[wanting[0]], given[0] = given[0], wanting[0]
            break
        index, free = Neighbours(units[givers], exact), np.ones(len(givers), bool)
        for start in range(0, len(wanting), BLOCK):
            block = wanting[start : start + BLOCK]
            for taker, near in zip(block, index.nearest(-units[block], min(len(givers), 8 * SPARE))[1], strict=True):
                near = near[near >= 0]
                open_ones = near[free[near] & (givers[near] != taker)]
                if len(open_ones):
                    given[taker], free[open_ones[0]] = givers[open_ones[0]], False
        givers, exact = givers[free], bool(free.all())
    return given


# --- What a classifier reads off the people of a closed set, so that groups can have it in common.

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
        crops_seen = [reader.cut(Frame(crop.pixels), crop.face) for crop in crops]
        values += [tuple(_value_of(found, name) for name in asked) for found in reader.read(crops_seen)]
    return values


def _value_of(found: Attributes, name: str) -> str:
    return str(int(np.searchsorted(AGES, found.age or 0.0))) if name == "age" else str(getattr(found, name))
