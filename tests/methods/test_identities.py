"""Which identity a track gets: what is expected of candidates, and what follows from those that were drawn."""

from dataclasses import replace
from unittest.mock import patch

import numpy as np
import pytest

from deidcli.errors import MethodError
from deidcli.faces.face_model import FaceModel, unit
from deidcli.methods.base import Secret
from deidcli.methods.cleanir import Cleanir
from deidcli.methods.fatm import Fatm
from deidcli.methods.identities import FAR, FOLLOWED, TRIES
from deidcli.methods.new_face import composited, draw
from deidcli.methods.outlook import (
    AGED,
    BEYOND,
    DISTANCE,
    EXPECTED,
    LOOK,
    TONED,
    WORTH,
    Measures,
    Outlook,
    alike_bounds,
)
from tests.conftest import found

GRADIENTS = np.diag([1.0, 1.0])  # of two coefficients, the distances by dlib and by SFace beyond the average ones
SPARE = 0.03
NEED = 1.1 + SPARE - EXPECTED


def outlook(rows, least=1.1, most=6):
    """A step adds 0.01 to dlib's distance and 0.05 to SFace's."""
    asked = Measures(
        EXPECTED, GRADIENTS, np.stack([DISTANCE] * 2), np.full(2, least), np.full(2, np.inf), np.full(2, SPARE)
    )
    return Outlook(np.array(rows), asked, np.ones(2), lambda gradient: np.array([0.01, 0.05]), [], most)


def aged(rows):
    """A third coefficient is the age of a new face, which has to be within 1 of 0. A step adds 0.05 to distances."""
    bounds = np.array([[1.1, 1.1, -1.0], [np.inf, np.inf, 1.0]])
    doubt = np.stack([DISTANCE, DISTANCE, LOOK])
    asked = Measures(np.append(EXPECTED, 0), np.eye(3), doubt, *bounds, np.array([SPARE, SPARE, 0.5]))
    return Outlook(np.array(rows), asked, np.ones(3), lambda gradient: np.array([0.05, 0.05, 0]), [], 6)


def test_the_first_that_is_expected_to_be_far_enough_is_drawn_as_it_is():
    rows = [NEED - 0.01, NEED + [0.5, -0.01], NEED + 0.001, NEED + 0.2]
    for least, number in ((1.1, 2), (-np.inf, 0)):  # anything will do
        chosen, moved, _ = outlook(rows, least).likely()
        assert chosen == number and not moved.any()


def test_where_none_is_that_which_lacks_least_is_moved_as_far_as_it_lacks():
    ours = outlook([NEED - [0, 0.2], NEED - [0, 0.1], NEED - [0.1, 0]])
    for number, steps in ((1, 2), (0, 4), (2, 6)):  # the last lacks ten, which are too many
        chosen, moved, hoped = ours.likely()
        assert chosen == number and np.allclose(moved, [0.01 * steps, 0.05 * steps])
        assert np.allclose(hoped, ours.expected()[number] + moved)


def test_of_those_that_are_far_enough_one_is_drawn_that_is_read_as_old():
    rows = [[*NEED, 0.9], [*NEED, -0.6], [*NEED, 0.4], [*NEED, 0.0]]
    assert aged(rows).likely()[0] == 2  # the first two may turn out to be too old and too young
    near = [*NEED - 0.05 * 0.35 * WORTH, 0.5]  # which lacks less than the age of the first is worth
    assert aged([rows[0], near]).likely()[0] == 1
    far = [*NEED - 0.05 * 0.45 * WORTH, 0.5]
    assert aged([rows[0], far]).likely()[0] == 0


def test_ages_that_were_read_tell_of_the_others():
    ours = aged([[*NEED, 0.0], [*NEED, 0.3], [*NEED, -0.4]])
    number, moved, _ = ours.likely()
    ours.note(number, moved, np.array([*NEED + EXPECTED, 1.4]))  # in this photograph everybody looks older
    assert number == 0 and ours.likely()[0] == 2


def test_what_was_drawn_tells_of_the_others():
    """A photograph that SFace knows by what is about the face: only the farthest by SFace can do."""
    ours = outlook([[0.2, 0.25], [0.2, 0.3], [0.2, 0.8], [0.2, 0.4]])
    number, moved, _ = ours.likely()
    before = ours.expected()
    ours.note(number, moved, np.array([1.4, 0.8]))
    assert number == 0 and ours.likely()[0] == 2
    told = ours.expected() - before
    assert (told[:, 0] > 0).all() and (told[:, 1] < -0.2).all()  # SFace found it 0.38 nearer than was expected
    assert abs(ours.expected()[0] - [1.4, 0.8]).max() < 0.05


def test_those_that_are_like_what_was_far_are_expected_to_be_farther():
    ours = outlook([[0.0, 0.0], [3.0, 0.0], [-3.0, 0.0], [2.0, 0.5], [-2.0, 0.5]])
    for number, sface in ((1, 1.05), (2, 0.8)):
        ours.note(number, np.zeros(2), np.array([np.inf, sface]))
    expected = ours.expected()[:, 1]
    assert expected[3] > expected[4] + 0.1


def test_a_recogniser_that_was_not_asked_tells_nothing():
    ours = outlook([[0.2, 0.25], [0.2, 0.26]])
    before = ours.expected()
    ours.note(*ours.likely()[:2], np.array([np.inf, 1.0]))
    after = ours.expected()
    assert np.array_equal(after[:, 0], before[:, 0]) and not np.allclose(after[:, 1], before[:, 1])


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
    ours = method.models.outlook(made, old, face, [], 5.0, False)  # so far that the one which lacks least is moved

    def away(number, more):
        drawn = draw(method.models.model, face, made.made(number, more), 1.6)
        return method.models.away(old, composited(face.crop, drawn), face.crop, 0)[0]

    expected = ours.expected()[:, :2]
    moved = ours.likely()[1]
    picked = np.argsort(expected.sum(axis=1))[:: len(expected) // 24]
    told = np.array([away(number, 0 * moved) for number in picked])
    for each, found_so in zip(expected[picked].T, told.T, strict=True):
        assert np.corrcoef(each, found_so)[0, 1] > 0.4
    farther = np.mean([away(number, moved) - away(number, 0 * moved) for number in picked[::6]], axis=0)
    assert moved.any() and farther[1] > 0.1


def test_a_donor_is_not_moved(seen):
    method, face, old = seen
    ours = Fatm.create(None, Secret.seeded(1))
    assert ours.candidates(face.reading, old, "a#0").most == 0


def test_the_next_level_knows_what_was_looked_at(seen):
    """And another method of the same models does not."""
    _, face, _ = seen
    ours = Cleanir.create(None, Secret.seeded(3))
    further = ours.escalate(1)
    with patch("deidcli.methods.identities.HOPE", np.inf):
        ours.far = further.far = 9.0  # nothing will do, so that all tries are used up
        ours.apply([face.crop])
        looks = len(ours._told[face.crop.key])
        further.apply([face.crop])
    assert looks == TRIES and len(further._told[face.crop.key]) == 2 * TRIES
    assert face.crop.key not in type(ours)(ours.options, ours.secret, ours.models)._told


def test_nothing_is_drawn_that_is_not_expected_to_be_farther(seen):
    _, face, _ = seen
    looks = {}
    for hope in (-np.inf, 0.0, np.inf):
        ours = Cleanir.create(None, Secret.seeded(3))
        ours.far = 9.0
        with patch("deidcli.methods.identities.HOPE", hope):
            ours.apply([face.crop])
        looks[hope] = len(ours._told[face.crop.key])
    assert looks[-np.inf] == 1 <= looks[0.0] < looks[np.inf] == TRIES


@pytest.mark.parametrize("gender", [-0.7, 0.7])
def test_a_new_face_is_of_the_old_ones_gender_and_about_its_age_and_tone(gender):
    least, most = alike_bounds(np.array([gender, 0.5, -0.2]))
    assert least[0] <= gender <= most[0] and not least[0] <= -gender <= most[0]
    assert np.allclose(least[1:], [0.5 - AGED, -0.2 - TONED]) and np.allclose(most[1:], [0.5 + AGED, -0.2 + TONED])


def test_moving_a_face_away_changes_no_looks(seen):
    method, _, old = seen
    model, random = method.models.model, np.random.default_rng(4)
    kept, gradient = model.look_effects(old[0]), random.standard_normal(len(model.spread))
    step = model.varied(gradient, kept)
    assert np.abs(step @ kept).max() < 1e-6 * np.abs(kept).max() * np.linalg.norm(step)
    assert step @ gradient > 0.5 * np.linalg.norm(gradient * model.spread) / np.sqrt(len(gradient))
    assert np.linalg.norm(step / model.spread) == pytest.approx(1)


def test_an_identity_is_drawn_with_what_recognisers_see_of_it(seen):
    model = seen[0].models.model
    faces = np.random.default_rng(5).choice(model.faces, 40, replace=False)
    rows = np.concatenate([model.bank_texture[faces], model.bank_shape[faces]], axis=1)
    drawn = rows @ model._recognised.T
    assert np.linalg.norm(drawn / model.spread) < 0.65 * np.linalg.norm(rows / model.spread)
    for effects in model.effects:
        assert np.linalg.norm((drawn - rows) @ effects) < 0.2 * np.linalg.norm(rows @ effects)
    beards = [model.beard(each[:, : model.bank_texture.shape[1]]) for each in (rows, drawn)]
    assert np.corrcoef(*beards)[0, 1] > 0.99


def test_dlib_tells_light_people_from_dark_ones(seen):
    """By the bank, whose faces are nobody's: beside what is read as tone, which goes with the light, too."""
    model = seen[0].models.model
    light = model.bank_kept[:, 2]
    said = np.array([model.looks(row + model.dlib_mean)[2] for row in model.bank_dlib])
    assert np.corrcoef(said, light)[0, 1] > 0.6


def test_sface_is_asked_for_more(seen):
    """A face that both find as far goes on until SFace finds it farther."""
    _, face, old = seen
    ours = Cleanir.create(None, Secret.seeded(1))
    nearly, far = FAR + BEYOND[1] - 0.01, FAR + BEYOND[1]
    answers = [(np.array([FAR, sface]), old[0]) for sface in (nearly, far)]
    with patch.object(ours.models, "away", side_effect=answers) as away:
        ours.apply([face.crop])
    assert away.call_count == 2 and away.call_args.args[-1] == pytest.approx(nearly)


def test_in_a_video_a_new_face_is_farther(seen):
    method, face, _ = seen
    for moving, far in ((False, FAR), (True, FAR + FOLLOWED)):
        ours = Cleanir.create(None, Secret.seeded(1))
        with patch.object(ours.models, "outlook", wraps=ours.models.outlook) as outlook:
            ours.apply([replace(face.crop, moving=moving)])
        assert outlook.call_args.args[-2] == pytest.approx(far)


def test_what_was_taken_for_a_face_on_the_level_before_is_one(seen):
    method, face, _ = seen
    ours = Cleanir.create(None, Secret.seeded(1))
    with patch.object(FaceModel, "resemblance", return_value=-1.0):
        with pytest.raises(MethodError, match="features"):
            ours.apply([face.crop])
        ours._told[face.crop.key] = [(np.zeros(len(method.models.model.spread)), np.array([1.1, 0.9, 0.0, 0.0, 0.0]))]
        ours.escalate(1).apply([face.crop])


def test_a_track_stays_the_same_person_on_the_next_level(seen):
    """Its face is moved away where it has to be; a still, which shows one frame, gets another face."""
    method, face, _ = seen
    alike = {}
    for moving in (True, False):
        ours = Cleanir.create(None, Secret.seeded(1))
        crop = replace(face.crop, moving=moving)
        ours.apply([crop])
        further = ours.escalate(1)
        further.apply([crop])
        rows = [each._identities[crop.key].row / method.models.model.spread for each in (ours, further)]
        alike[moving] = float(unit(rows[0]) @ unit(rows[1]))
    assert alike[True] > 0.85 > alike[False]


def test_gender_age_and_glasses_stay_those_of_the_first_frame(seen):
    """Also on the next level, which begins with a later one."""
    method, face, _ = seen
    ours = Cleanir.create(None, Secret.seeded(1))
    crop = replace(face.crop, moving=True)
    ours.apply([crop])
    known = ours._identities[crop.key]
    ours._identities[crop.key] = replace(known, glasses=True)
    further, darker = ours.escalate(1), replace(crop, pixels=crop.pixels // 2)
    further.apply([darker])
    later = further._identities[crop.key]
    assert np.array_equal(later.dlib, known.dlib) and later.glasses
    assert np.array_equal(later.identity.traits, known.identity.traits)
    assert not np.array_equal(method.models.described(darker.pixels, darker)[0], known.dlib)
