"""Smoothing follows steady motion without lag, and its hull holds the box of its moment."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deidcli.faces.tracking.motion import hull, smoothed

TIMES = np.arange(11) / 25


@pytest.mark.parametrize("power", [0, 1, 2])
@pytest.mark.parametrize("now", [0, 5, 10])
def test_parabolas_pass(power, now):
    """Also at either end, and with uneven times."""
    for times in (TIMES, TIMES + np.random.default_rng(1).uniform(0, 0.02, 11)):
        values = np.column_stack([7 + 300 * times**power, 1 - 90 * times**power])
        done = smoothed(times, values, np.ones(11), times[now], 0.1)
        assert np.allclose(done, values[now], atol=1e-6)


def test_jitter_shrinks():
    noise = np.random.default_rng(0).standard_normal((200, 4))
    times = np.arange(200) / 25
    done = [smoothed(times, noise, np.ones(200), now, 0.12) for now in times]
    assert np.std(done) < 0.6 * np.std(noise)


@given(
    sides=st.lists(st.lists(st.floats(-1e4, 1e4), min_size=4, max_size=4), min_size=1, max_size=12),
    gaps=st.lists(st.floats(0, 0.2), min_size=12, max_size=12),
    data=st.data(),
)
def test_the_hull_holds_its_box(sides, gaps, data):
    """Whatever the boxes, even several at one time."""
    sides, times = np.array(sides), np.cumsum(gaps)[: len(sides)]
    at = data.draw(st.integers(0, len(sides) - 1))
    weights = np.array(data.draw(st.lists(st.sampled_from([0.25, 1.0]), min_size=len(sides), max_size=len(sides))))
    left, top, right, bottom = hull(times, sides, weights, times[at], 0.12)
    a, b, c, d = sides[at]
    assert left <= a + 1e-6 and top <= b + 1e-6 and right >= c - 1e-6 and bottom >= d - 1e-6
