"""Groups of at least k, whatever the people are like, and the plan of who gets whose surrogate."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deidcli.methods.closed import group_people, pair_furthest, visiting_order

COUNTS = st.tuples(st.integers(2, 7), st.integers(0, 60)).map(lambda pair: (pair[0], pair[0] + pair[1]))
SEEDS = st.integers(0, 2**31)


def drawn(seed, count, width=6):
    """Points in clusters of unlike size, some of them equal."""
    draw = np.random.default_rng(seed)
    centres = draw.standard_normal((max(1, count // 5), width))
    points = centres[draw.integers(0, len(centres), count)] + 0.2 * draw.standard_normal((count, width))
    points[draw.random(count) < 0.2] = points[0]
    return points.astype(np.float32)


@given(COUNTS, SEEDS)
@settings(max_examples=60, deadline=None)
def test_everyone_is_in_a_group_of_k_to_2k_minus_1(counts, seed):
    k, count = counts
    groups = group_people(drawn(seed, count), k)
    sizes = np.bincount(groups)
    assert len(groups) == count and groups.min() == 0
    assert sizes.min() >= k and sizes.max() <= 2 * k - 1
    assert sum(size > k for size in sizes) <= 1, "only the last group takes more"


@given(COUNTS, SEEDS)
@settings(max_examples=40, deadline=None)
def test_the_order_of_people_changes_nothing(counts, seed):
    k, count = counts
    draw = np.random.default_rng(seed)
    points = draw.standard_normal((count, 5)).astype(np.float32)
    order = draw.permutation(count)
    assert np.array_equal(group_people(points, k)[order], group_people(points[order], k))


def test_the_first_group_is_the_outlier_and_its_nearest():
    """Newton et al.: a person and the k - 1 nearest of those that are left."""
    points = np.random.default_rng(1).standard_normal((23, 4)).astype(np.float32)
    groups, left = group_people(points, 3), np.arange(23)
    for start in visiting_order(points):
        if start not in left or len(left) < 6:
            continue
        apart = np.linalg.norm(points[left] - points[start], axis=1)
        nearest = left[np.argsort(apart)[:3]]
        assert set(np.flatnonzero(groups == groups[start])) == set(nearest)
        left = np.setdiff1d(left, nearest)
    assert set(np.flatnonzero(groups == groups[left[0]])) == set(left)


def test_a_graph_gives_groups_too(monkeypatch):
    """Above a size that a test can have, the index is a graph; equal points are its worst case."""
    monkeypatch.setattr("deidcli.faces.people.EXACT", 50)
    for points in (drawn(5, 900, 16), np.zeros((300, 4), np.float32)):
        sizes = np.bincount(group_people(points, 4))
        assert sizes.min() == 4 and sizes.max() <= 7
        assert np.array_equal(group_people(points, 4), group_people(points, 4))
    far = pair_furthest(drawn(6, 400, 16))
    assert sorted(far) == list(range(400)) and not np.any(far == np.arange(400))


def test_too_few():
    with pytest.raises(ValueError, match="no group of 4"):
        group_people(np.zeros((3, 2), np.float32), 4)


@given(st.integers(2, 40), SEEDS)
@settings(max_examples=60, deadline=None)
def test_opposite_deals_each_group_once_and_to_another(count, seed):
    far = pair_furthest(drawn(seed, count))
    assert sorted(far) == list(range(count))
    assert not np.any(far == np.arange(count))


def test_opposite_is_far():
    """Four groups at the corners of a square get those across."""
    assert pair_furthest(np.array([[1.0, 0], [0, 1.1], [-1.2, 0], [0, -1.3]])).tolist() == [2, 3, 0, 1]
