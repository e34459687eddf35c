"""A mouth is measured in any size and turn."""

import numpy as np

from deidcli.faces.pose import mouth_gap, upright
from deidcli.faces.shape import MEAN_SHAPE

OPENS = np.zeros((68, 2))
OPENS[55:60, 1], OPENS[65:68, 1] = 0.05, 0.06  # the lower lip goes down


def test_a_gap_is_measured_in_any_size_and_turn():
    wide = mouth_gap(MEAN_SHAPE + OPENS)
    assert wide > mouth_gap(MEAN_SHAPE) + 0.1
    turned = (MEAN_SHAPE + OPENS) @ np.array([[0, 40], [-40, 0]]) + 7
    assert np.isclose(mouth_gap(turned), wide)
    assert np.allclose(upright(MEAN_SHAPE * 30 + 5), MEAN_SHAPE)
