"""The shape model: how people differ is told from what moves in a face, and a mouth is measured."""

import numpy as np
import pytest

from deidcli.faces.pose import LIDS, RAISED, STARTLED, ShapeModel, mouth_gap, upright, with_smile, with_surprise
from deidcli.faces.shape import MEAN_SHAPE

RNG = np.random.default_rng(3)
OPENS = np.zeros((68, 2))
OPENS[55:60, 1], OPENS[65:68, 1] = 0.05, 0.06  # the lower lip goes down
TALL = np.zeros((68, 2))
TALL[27:36, 1] = 0.03  # a long nose


def drawn(people=40, pictures=5):
    """Shapes of people with noses of their own, whose mouths open now and then, turned and moved at random."""
    rows, names = [], []
    for person in range(people):
        nose = RNG.normal()
        for _ in range(pictures):
            shape = MEAN_SHAPE + nose * TALL + RNG.normal() * OPENS + RNG.normal(0, 0.001, (68, 2))
            c, s = 50 * np.cos(turn := RNG.uniform(-0.3, 0.3)), 50 * np.sin(turn)
            rows.append(shape @ np.array([[c, s], [-s, c]]) + RNG.uniform(0, 30, 2))
            names.append(person)
    return np.array(rows), np.array(names)


@pytest.fixture(scope="module")
def model():
    return ShapeModel.of(*drawn())


def test_numbers_make_another_face_and_move_nothing_that_moves(model):
    made = model.varied(MEAN_SHAPE * 100, RNG.standard_normal(model.own.shape[1]))
    noses = made[27:36, 1].mean() - made[36:48, 1].mean(), MEAN_SHAPE[27:36, 1].mean() - MEAN_SHAPE[36:48, 1].mean()
    assert abs(noses[0] - noses[1]) > 0.003
    assert abs(mouth_gap(made) - mouth_gap(MEAN_SHAPE)) < 0.05
    assert np.allclose(model.varied(MEAN_SHAPE * 100, np.zeros(model.own.shape[1])), upright(MEAN_SHAPE * 100))


def test_nobody_twice_is_an_error():
    with pytest.raises(ValueError, match="twice"):
        ShapeModel.of(*drawn(5, 1))


def test_a_gap_is_measured_in_any_size_and_turn():
    wide = mouth_gap(MEAN_SHAPE + OPENS)
    assert wide > mouth_gap(MEAN_SHAPE) + 0.1
    turned = (MEAN_SHAPE + OPENS) @ np.array([[0, 40], [-40, 0]]) + 7
    assert np.isclose(mouth_gap(turned), wide)


def test_a_smile_bends_the_mouth_and_nothing_else():
    """The corners go up as far as the target's; the middle of the lips and the gap stay, and so does the own width."""
    smiling = MEAN_SHAPE.copy()
    smiling[[48, 54, 60, 64], 1] -= 0.04
    smiling[48:68, 0] = 0.5 + (smiling[48:68, 0] - 0.5) * 1.3
    made = with_smile(MEAN_SHAPE, smiling)
    assert np.allclose(made[[48, 54], 1], smiling[[48, 54], 1]) and np.allclose(made[:, 0], MEAN_SHAPE[:, 0])
    assert np.allclose(made[[51, 57, 62, 66]], MEAN_SHAPE[[51, 57, 62, 66]]) and np.array_equal(
        made[:48], MEAN_SHAPE[:48]
    )
    assert np.isclose(mouth_gap(made), mouth_gap(MEAN_SHAPE), atol=0.01)
    assert np.allclose(with_smile(smiling, smiling), smiling)


def test_surprise_raises_brows_and_opens_eyes_and_moves_nothing_else():
    made = with_surprise(MEAN_SHAPE)
    for upper, lower in LIDS:
        assert np.isclose(made[lower, 1] - made[upper, 1], STARTLED * (MEAN_SHAPE[lower, 1] - MEAN_SHAPE[upper, 1]))
    height = MEAN_SHAPE[36:48, 1].mean() - MEAN_SHAPE[17:27, 1].mean()
    assert np.allclose(MEAN_SHAPE[17:27, 1] - made[17:27, 1], (RAISED - 1) * height)
    moved = np.flatnonzero((made != MEAN_SHAPE).any(axis=1))
    assert set(moved.tolist()) == {*range(17, 27), *(point for pair in LIDS for point in pair)}
