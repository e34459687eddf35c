"""Which identity a track gets: what is expected of candidates, and what follows from those that were drawn."""

import numpy as np
import pytest

from deidcli.methods.base import Secret
from deidcli.methods.cleanir import Cleanir
from deidcli.methods.fatm import Fatm
from deidcli.methods.identities import EXPECTED, SPARE, Outlook
from deidcli.methods.new_face import composited, draw
from tests.conftest import found

STEP, STEPS = np.zeros(4), np.array([0.01, 0.05])  # a step moves a face by so much away from the old one


def test_the_first_that_is_expected_to_be_far_enough_is_drawn_as_it_is():
    need = 1.1 + SPARE - np.array(EXPECTED)
    gains = np.array([need - 0.01, need + [0.5, -0.01], need + 0.001, need + 0.2])
    assert Outlook(gains, STEP, STEPS, 1.1, 6).likely() == (2, 0)
    assert Outlook(gains, STEP, STEPS, 0.0, 6).likely() == (0, 0)  # anything will do


def test_where_none_is_that_which_lacks_least_is_moved_as_far_as_it_lacks():
    need = 1.1 + SPARE - np.array(EXPECTED)
    gains = np.array([need - [0, 0.2], need - [0, 0.1], need - [0.1, 0]])
    outlook = Outlook(gains, STEP, STEPS, 1.1, 6)
    assert [outlook.likely() for _ in gains] == [
        (1, pytest.approx(2)),
        (0, pytest.approx(4)),
        (2, 6),
    ]


def test_what_was_drawn_tells_of_the_others():
    """A photograph that SFace knows by what is about the face: only the farthest by SFace can do."""
    gains = np.array([[0.2, 0.25], [0.2, 0.3], [0.2, 0.6], [0.2, 0.4]])
    outlook = Outlook(gains, STEP, STEPS, 1.1, 6)
    assert outlook.likely() == (0, 0)
    outlook.note(0, 0, np.array([1.4, 0.8]))  # 0.55 on average, so that 0.58 are needed
    assert outlook.likely() == (2, 0)


def test_steps_are_no_part_of_the_average():
    outlook, other = (Outlook(np.full((3, 2), -0.2), STEP, STEPS, 1.1, 6) for _ in range(2))
    for one, steps in ((outlook, 0), (other, 4)):
        one.likely()
        one.note(0, steps, np.array([1.4, 0.8]) + steps * STEPS)
    assert outlook.likely() == pytest.approx(other.likely())


def test_a_recogniser_that_was_not_asked_tells_nothing():
    gains = np.array([[0.2, 0.25], [0.2, 0.26], [0.0, 0.9]])
    outlook = Outlook(gains, STEP, STEPS, 1.1, 6)
    number, steps = outlook.likely()
    outlook.note(number, steps, np.array([np.inf, 1.15]))
    assert outlook.likely() == (1, 0)


@pytest.fixture(scope="module")
def seen(portraits):
    from deidcli.faces.align import align
    from deidcli.values import Frame

    method = Cleanir.create(None, Secret.seeded(1))
    crop = align(Frame(portraits[0]), found(portraits[0], 0)[0], method.crop, "a#0")
    return method, method.models.read(crop), method.models.described(crop.pixels, crop)


def test_what_is_expected_goes_with_what_recognisers_say(seen):
    """Of candidates that are drawn, and of one that is moved away."""
    method, face, old = seen
    made = method.candidates(face.reading, old, "a#0")
    outlook = method.models.outlook(made, old, face, 1.1)

    def away(number, steps):
        drawn = draw(method.models.model, face, made.made(number, steps * outlook.step), 1.6)
        return method.models.away(old, composited(face.crop, drawn), face.crop, 0)[0]

    picked = np.argsort(outlook.gains.sum(axis=1))[:: len(outlook.gains) // 24]
    told = np.array([away(number, 0) for number in picked])
    for expected, found_so in zip(outlook.gains[picked].T, told.T, strict=True):
        assert np.corrcoef(expected, found_so)[0, 1] > 0.4
    moved = np.mean([away(number, 4) - away(number, 0) for number in picked[::6]], axis=0)
    assert moved[1] > 0.5 * 4 * outlook.steps[1] > 0.05


def test_a_donor_is_not_moved(seen):
    method, face, old = seen
    ours = Fatm.create(None, Secret.seeded(1))
    assert ours.candidates(face.reading, old, "a#0").most == 0
