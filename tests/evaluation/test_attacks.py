"""Attacks with known outcomes: what protects nothing is broken by all, what covers all by none, and CLEANIR at 180°
by a second pass.
"""

from dataclasses import replace

import numpy as np
import pytest

from deidcli.cli.evaluate import again
from deidcli.errors import UsageError
from deidcli.evaluation.attacks import AttackOptions, available, find, load_attack_set, run_attacks
from deidcli.evaluation.bench import Bench, Study, Subject
from deidcli.faces.detectors import DetectOptions
from deidcli.methods import find as find_method
from deidcli.methods.base import Secret
from tests.evaluation.conftest import PEOPLE, Same

QUICK = AttackOptions(people=PEOPLE, training=8, steps=2, batch=4)


@pytest.fixture
def crowd(album, bench):
    people = load_attack_set(album, None, QUICK, 1)
    bench.read(people.names)
    return people


@pytest.fixture(scope="module")
def cleanir():
    """cleanir(angle): the paper's autoencoder with nothing kept; its networks are loaded once."""
    kind = find_method("cleanir")
    models = kind.Models(kind.Options(preset="cleanir-64"))
    return lambda angle: kind(kind.Options(angle=angle, keep="none", preset="cleanir-64"), Secret.seeded(1), models)


def outcomes(bench, crowd, method, *names):
    subject = Subject(method.name if method else "original", method)
    done = run_attacks(bench, subject, crowd, [find(name) for name in names or available()], QUICK)
    return {attack.name: attack for attack in done}


def test_everything_breaks_what_does_nothing(bench, crowd):
    done = outcomes(bench, crowd, Same(), "naive", "parrot", "linkage", "second-pass")
    assert set(done) == {
        "naive",
        "parrot",
        "parrot (same secret)",
        "linkage",
        "second-pass",
        "second-pass (same secret)",
    }
    for attack in done.values():
        assert attack.breaks and attack.rank1.value == 1 and attack.verification.value == 1
    assert done["naive"].chance == pytest.approx(1 / PEOPLE)
    assert done["linkage"].chance == pytest.approx(1 / (2 * PEOPLE - 1)) and done["linkage"].rank1.count == 2 * PEOPLE


@pytest.mark.parametrize("hidden", ["pixelate:cells=5", "blur:blur=0.2"])
def test_a_known_operation_is_undone_in_a_space_that_holds_the_face(bench, album, hidden):
    """What hides a face from a recogniser does not hide it from whoever fits faces through the same operation."""
    people = load_attack_set(album, None, QUICK, 1)
    people = replace(people, training=tuple(name for name in people.replaced if name not in people.gallery))
    bench.read(people.names)
    method = again(hidden, 1)
    asked = bench, Subject(hidden, method), people, [find(name) for name in ("naive", "fitting")], QUICK
    naive, fitting = run_attacks(*asked)
    assert naive.rank1.value < 0.5 and fitting.rank1.value > 0.7 and fitting.rank1.value - naive.rank1.value > 0.4
    assert f"a space of {PEOPLE - 1} directions" in fitting.note and f"of {PEOPLE} other" in fitting.note


def test_only_what_is_linear_is_fitted(bench, crowd):
    few = replace(crowd, training=crowd.probes)
    for method in (None, Same(), find_method("solid")()):
        subject = Subject("any", method)
        assert not list(run_attacks(bench, subject, few, [find("fitting")], QUICK))


def test_originals_are_recognised(bench, crowd):
    done = outcomes(bench, crowd, None)
    assert set(done) == {"naive", "linkage"} and done["naive"].breaks


def test_nothing_but_the_rest_breaks_a_black_cover(bench, crowd):
    method = find_method("solid")(find_method("solid").Options(color="black"))
    done = outcomes(bench, crowd, method, "naive", "second-pass", "background")
    assert not done["naive"].breaks and not done["second-pass"].breaks
    assert done["background (whole picture)"].breaks, "both pictures of a person of this album show one background"


def test_a_second_pass_breaks_cleanir_at_180(bench, crowd, cleanir):
    method = cleanir(180)
    done = outcomes(bench, crowd, method, "naive", "second-pass", "reversal")
    assert not done["naive"].breaks
    for name in ("second-pass", "second-pass (same secret)", "reversal (same secret)", "reversal (wrong secret)"):
        assert done[name].breaks and done[name].rank1.value > 3 / PEOPLE
    assert done["reversal (same secret)"].rank1.value == done["reversal (wrong secret)"].rank1.value, "no axis at 180°"


def test_a_persona_of_the_run_joins_its_outputs_and_one_of_the_face_does_not(album, crowd, known_faces, cleanir):
    found = {}
    for persona in ("track", "identity", "run"):
        bench = Bench(Study(album, "album", detect=DetectOptions("hog"), persona=persona, cache=known_faces))
        bench.read(crowd.names)
        done = outcomes(bench, crowd, cleanir(90), "linkage", "second-pass", "reversal")
        assert ("reversal (same secret)" in done) == (persona == "track")
        assert "Median distance to the original" in done["second-pass"].note
        found[persona] = done["linkage"].rank1.value
    assert found["track"] < found["identity"] and found["track"] < found["run"]


def test_the_axis_is_what_the_attacker_lacks(bench, crowd, cleanir):
    method = cleanir(75)
    done = outcomes(bench, crowd, method, "reversal")
    right, wrong = done["reversal (same secret)"], done["reversal (wrong secret)"]
    assert right.rank1.value > wrong.rank1.value and not wrong.breaks


@pytest.mark.usefixtures("without_xla")
def test_a_network_that_learns_is_tried_on_other_people(album, bench):
    options = AttackOptions(people=4, training=6, steps=3, batch=4)
    people = load_attack_set(album, None, options, 1)
    bench.read(people.names)
    assert len(people.people) == 4 and len(people.training) == 6
    assert not {name.split("/")[0] for name in people.training} & set(people.people)
    done = list(
        run_attacks(bench, Subject("pixelate", find_method("pixelate")()), people, [find("reconstruction")], options)
    )
    assert [attack.name for attack in done] == ["reconstruction"]
    assert 0 <= done[0].rank1.value <= 1 and "6 pictures" in done[0].note


@pytest.mark.usefixtures("without_xla")
def test_what_is_undone_can_be_learnt():
    """The network takes a shift of colours back, from a few crops."""
    from deidcli.evaluation.attacks.inversion import train_undo

    old = np.random.default_rng(1).integers(60, 200, (8, 1, 1, 3)).repeat(16, 1).repeat(16, 2).astype(np.uint8)
    new = old + np.array([40, 0, 30], np.uint8)
    undo = train_undo(new, old, steps=40, batch=4, seed=1)
    before, after = (np.abs(x.astype(float) - old).mean() for x in (new, undo(new)))
    assert after < before / 2


def test_averaging_needs_several_outputs(album, bench, crowd):
    assert not outcomes(bench, crowd, Same(), "averaging"), "two pictures a person leave one output"


def test_unknown_attacks_and_empty_albums_are_refused(tmp_path, portrait):
    with pytest.raises(UsageError, match="naive"):
        find("nonsense")
    from tests.conftest import save

    save(portrait, tmp_path / "a" / "1.png")
    with pytest.raises(UsageError, match="two people"):
        load_attack_set(tmp_path, None, QUICK, 1)
