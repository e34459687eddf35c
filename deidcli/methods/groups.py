"""Groups of at least k: who shares a surrogate with whom, by nearness of descriptors. Deterministic.

What comes out does not depend on the order of the people: they are visited by their own numbers alone.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence

import numpy as np

from deidcli.faces.neighbours import Neighbours

BLOCK = 256  # people whose neighbours are asked for at once; most of them are in a group before their turn
SPARE = 4  # neighbours that are asked for, as a multiple of those that a group needs


def grouped(points: np.ndarray, k: int) -> np.ndarray:
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
        for members in _round(points, left, k, exact):
            groups[members] = count
            count += 1
        left = left[groups[left] < 0]
        # A graph that finds too few, as one of many equal points does, must not go round for ever.
        exact = count == before
    groups[left] = count
    return groups


def grouped_alike(points: np.ndarray, values: Sequence[Hashable], k: int) -> np.ndarray:
    """Groups as `grouped` makes them, but of people with one value; (n,) int.

    People of a value that fewer than k have join the group whose mean is nearest to them. Where no value has k people
    the groups are made without values. Raises ValueError for fewer than k people.
    """
    group, count = np.full(len(points), -1), 0
    for value in sorted(set(values), key=repr):
        same = np.flatnonzero([each == value for each in values])
        if len(same) >= k:
            group[same] = count + grouped(points[same], k)
            count = int(group.max()) + 1
    if not count:
        return grouped(points, k)
    means = np.stack([points[group == number].mean(axis=0) for number in range(count)])
    left = np.flatnonzero(group < 0)
    if len(left):
        group[left] = Neighbours(means).nearest(points[left], 1)[1][:, 0]
    return group


def _round(points: np.ndarray, left: np.ndarray, k: int, exact: bool) -> Iterator[np.ndarray]:
    """Groups of exactly k of those who are `left`, while k stay for the last; some wait for another round.

    A person waits whose nearest were all taken by others: an index of those who are left then knows nearer ones.
    """
    index, free = Neighbours(points[left], exact), np.ones(len(left), bool)
    width = min(len(left), SPARE * k)
    for place, near in _asked(index, points[left], free, width):
        open_ones = near[free[near] & (near != place)][: k - 1]
        if len(open_ones) == k - 1 and free.sum() >= 2 * k:
            members = np.append(open_ones, place)
            free[members] = False
            yield left[members]


def _asked(index: Neighbours, points: np.ndarray, free: np.ndarray, width: int) -> Iterator[tuple[int, np.ndarray]]:
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


def opposite(centres: np.ndarray) -> np.ndarray:
    """For each group another one, as far away as can be had, each given once: (g,) int, g of 2 and more.

    k-Same-furthest (Meng et al. 2014): a group gets the surrogate of a group that it does not look like. Far away is
    measured by the angle at everybody's mean.
    """
    order = visiting_order(centres)
    rows = centres[order] - centres[order].mean(axis=0)
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    given = _dealt(rows)
    result = np.empty(len(order), int)
    result[order] = order[given]
    return result


def _dealt(units: np.ndarray) -> np.ndarray:
    """For each unit vector the number of another one near its antipode, each number once."""
    given, givers, exact = np.full(len(units), -1), np.arange(len(units)), False
    while len(wanting := np.flatnonzero(given < 0)):
        if len(wanting) == 1 and givers[0] == wanting[0]:
            # The last one would get itself, so it changes with the first.
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
