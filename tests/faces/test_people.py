"""Who is whom: clusters that were drawn are found again, chains join nobody, order changes nothing."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deidcli.faces.people import people


def drawn(seed, count, most=9, spread=0.03):
    """Descriptors of `count` people far apart, 1 to `most` pictures each, mixed; and whose each is."""
    draw = np.random.default_rng(seed)
    true = np.repeat(np.arange(count), draw.integers(1, most + 1, count))
    centres = draw.standard_normal((count, 128)) / 8
    points = (centres[true] + spread * draw.standard_normal((len(true), 128))).astype(np.float32)
    order = draw.permutation(len(true))
    return points[order], true[order]


def same(a, b):
    """Whether two labellings say the same of every pair."""
    return len(set(zip(a, b, strict=True))) == len(set(a)) == len(set(b))


@given(st.integers(1, 30), st.integers(0, 2**31))
@settings(max_examples=25, deadline=None)
def test_drawn_people_are_found_again(count, seed):
    points, true = drawn(seed, count)
    found = people(points, 0.6)
    assert same(found, true)
    assert found[0] == 0 and list(dict.fromkeys(found)) == list(range(count)), "numbered as they appear"


def test_a_person_with_more_pictures_than_an_index_is_asked_for():
    points, true = drawn(3, 4, most=150)
    assert same(people(points, 0.6), true)


@given(st.integers(0, 2**31))
@settings(max_examples=15, deadline=None)
def test_order_changes_nothing(seed):
    points, _ = drawn(seed, 12, spread=0.045)
    order = np.random.default_rng(seed).permutation(len(points))
    assert same(people(points, 0.6)[order], people(points[order], 0.6))


def test_a_chain_joins_nobody():
    """Ten descriptors, each within the threshold of the next: the ends are not one person."""
    points = np.zeros((10, 128), np.float32)
    points[:, 0] = 0.5 * np.arange(10)
    found = people(points, 0.6)
    assert found[0] != found[-1] and len(set(found)) >= 4
    for person in set(found):
        own = points[found == person, 0]
        assert np.ptp(own) <= 1.0


def test_by_the_graph(monkeypatch):
    monkeypatch.setattr("deidcli.faces.people.EXACT", 50)
    points, true = drawn(7, 150)
    assert same(people(points, 0.6), true)


@pytest.mark.parametrize("count", [0, 1])
def test_hardly_anybody(count):
    assert people(np.zeros((count, 128), np.float32), 0.6).tolist() == [0] * count
