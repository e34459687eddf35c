"""The shape model: what moves is told from what stays, and a mouth is measured."""

import numpy as np
import pytest

from deidcli.faces.align import apply_affine, similarity
from deidcli.faces.pose import ShapeModel, mouth_gap, upright, with_smile
from deidcli.faces.shape import INNER, JAW, MEAN_SHAPE

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


def test_expression_follows_and_the_nose_stays(model):
    face, target = MEAN_SHAPE * 100, (MEAN_SHAPE + 1.5 * OPENS - 1.5 * TALL) * 100
    made = upright(model.posed(face, target, 0.0))
    target = upright(target)
    assert abs(mouth_gap(made) - mouth_gap(target)) < 0.25 * (mouth_gap(target) - mouth_gap(MEAN_SHAPE))
    nose = lambda points: points[33, 1] - points[36:48, 1].mean()  # noqa: E731
    assert abs(nose(made) - nose(MEAN_SHAPE)) < 0.3 * abs(nose(target) - nose(MEAN_SHAPE))


def test_all_that_is_kept_is_the_target_itself(model):
    target = drawn(1, 1)[0][0]
    assert np.allclose(model.posed(MEAN_SHAPE, target, 1.0), target, atol=1e-6)


def test_the_jaw_stays_and_the_face_lies_where_the_target_lies(model):
    target = drawn(1, 1)[0][0]
    made = model.posed(MEAN_SHAPE, target, 0.0)
    assert np.allclose(made[JAW], target[JAW], atol=1e-6)
    moved = similarity(made[INNER], target[INNER])
    assert np.abs(apply_affine(moved, made) - made)[INNER].max() < 4


def test_numbers_make_another_face_and_move_nothing_that_moves(model):
    target = MEAN_SHAPE * 100
    numbers = RNG.standard_normal(model.own.shape[1])
    one, other = (model.posed(MEAN_SHAPE, target, 0.0, n) for n in (None, numbers))
    assert np.abs(one - other).max() > 0.3
    assert abs(mouth_gap(one) - mouth_gap(other)) < 0.05


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
