"""FATM with the shipped donors, on drawn faces."""

import json
from dataclasses import replace

import numpy as np
import pytest

from deidcli.errors import UsageError
from deidcli.faces.align import align
from deidcli.faces.blend import BlendOptions, blend
from deidcli.faces.canonical import SIZE
from deidcli.faces.recognisers import recogniser
from deidcli.faces.regions import openings
from deidcli.methods.base import Secret
from deidcli.methods.fatm import CanonicalFatm, Fatm, area
from deidcli.presets import load_preset
from tests.conftest import save


@pytest.fixture(scope="module")
def method():
    made = Fatm.create(Fatm.Options(), Secret.seeded(1))
    assert isinstance(made, CanonicalFatm) and made.name == "fatm"
    return made


@pytest.fixture(scope="module")
def crop(method, frame, face):
    return align(frame, face, method.crop, "one#0")


def with_options(method, seed=1, **options):
    """Another instance with what was loaded already."""
    return type(method)(replace(method.options, **options), Secret.seeded(seed), method.models)


def placed(made, frame, method):
    return blend(frame, made, method.crop, BlendOptions()).frame.pixels


def test_the_shipped_donors_do_not_exist(method):
    preset = load_preset("fatm-256", "fatm")
    preset.verify()
    donors = method.models.donors
    assert len(donors) >= 12 and set(preset.config["donors"].values()) == {"does not exist"}
    genders, ages = (np.array([donor.kept[i] for donor in donors]) for i in (0, 1))
    assert (genders > 0).sum() >= 4 and (genders < 0).sum() >= 4
    assert np.ptp(ages) > 2 and np.ptp([donor.kept[2] for donor in donors]) > 1


def test_another_person_stands_there(method, crop, frame, face):
    """The whole face, on a shape that goes on, is farther away for both recognisers, and another person for dlib."""

    def away(ours, name):
        judge, new = recogniser(name), placed(ours.apply([crop])[0], frame, ours)
        old, other = (judge.embed(judge.chips(pixels, [face])) for pixels in (frame.pixels, new))
        return judge.distance(old, other)[0] / judge.threshold

    assert away(method.escalate(1), "dlib") > 1
    one = with_options(method, donor="donor-03")
    assert all(away(one.escalate(1), name) > away(one, name) for name in ("dlib", "sface"))


def test_a_named_donor_is_taken(method, crop):
    names = [donor.name for donor in method.models.donors]
    pictures = []
    for name in names[:2]:
        ours = with_options(method, donor=name)
        pictures.append(ours.apply([crop])[0].pixels)
        assert ours.marks(crop.key) == {"donor": name}
    assert not np.array_equal(*pictures)


def test_a_key_keeps_its_donor(method, crop):
    ours = with_options(method)
    ours.apply([crop])
    before = ours.marks(crop.key)
    darker = crop.with_pixels((crop.pixels * 0.4).astype(np.uint8))
    ours.apply([darker])
    assert before["donor"] and ours.marks(crop.key) == before and ours.marks("another#0") == {}


def test_random_donors_are_drawn_from_the_secret(method, crop):
    orders = [with_options(method, seed, donor="random").order("a", None) for seed in (1, 1, 2)]
    assert orders[0] == orders[1] != orders[2] and sorted(orders[0]) == sorted(orders[2])
    other = with_options(method, donor="random").order("b", None)
    assert other != orders[0]


def test_the_nearest_is_of_the_faces_own_kind(method):
    """A reading with a donor's own gender, age and tone has that donor first."""
    for donor in method.models.donors:
        reading = type("Reading", (), {"kept": donor.kept})()
        assert method.order("a", reading)[0] == donor.name


def test_among_the_first_and_skipped(method, crop):
    names = [donor.name for donor in method.models.donors]
    few = with_options(method, among=2, donor="random")
    assert sorted(few.order("a", None)) == sorted(names[:2])
    passed = with_options(method, donor="random", skip=len(names) - 1)
    passed.apply([crop])
    assert passed.marks(crop.key)["donor"] == passed.order(crop.key, None)[-1]


def test_it_escalates_to_the_whole_face_and_to_other_donors(method):
    level, said = method, []
    while (level := level.escalate(1)) is not None:
        said.append((level.options.reach, level.options.skip))
        assert level.secret is method.secret and level.models is method.models
    assert said[0] == (1.0, 0) and said[1] == (1.0, 8) and said[-1][1] < len(method.models.donors)
    named = with_options(method, donor="donor-01", reach=1.0)
    assert named.escalate(1).options.shape == 2 and named.escalate(1).escalate(2) is None


def test_it_reaches_as_far_as_it_is_told(method, crop, frame):
    """Without another shape the head stays as it is, and what lies beyond the reach keeps its pixels."""
    ours = with_options(method, shape=0.0)
    made = ours.apply([crop])[0]
    assert not made.layer.bend.any()
    untouched = blend(frame, made, ours.crop, BlendOptions())
    assert np.array_equal(untouched.frame.pixels[~untouched.changed], frame.pixels[~untouched.changed])
    wide = with_options(method, shape=0.0, reach=1.0).apply([crop])[0]
    assert wide.layer.alpha.sum() > 1.2 * made.layer.alpha.sum()
    assert (made.layer.alpha <= wide.layer.alpha + 0.05).all()


def test_the_mask_is_the_papers_and_more():
    inner, wide, whole = (area(reach) for reach in (0.0, 0.15, 1.0))
    assert inner.shape == (SIZE, SIZE) and (inner <= wide).all() and (wide <= whole).all()
    assert inner[openings() > 0.9].min() > 0.5 and inner[20, 128] == 0 and whole[20:230, 128].min() == 1


@pytest.mark.parametrize("options", [{"donor": "nobody"}, {"paper": True}, {"donor": "donor-12", "among": 2}])
def test_what_there_is_not_is_refused(options):
    with pytest.raises(UsageError):
        Fatm.create(Fatm.Options(**options))


def test_the_manifest_names_the_donor(deid, portrait, tmp_path):
    save(portrait, tmp_path / "in" / "one.png")
    done = deid("anonymize", "--method", "fatm", "--donor", "donor-03", "--no-verify", tmp_path / "in",
                tmp_path / "out")  # fmt: skip
    assert done.status == 0, done.err
    row = json.loads((tmp_path / "out" / "deid-manifest.jsonl").read_text().splitlines()[-1])
    assert row["faces"][0]["donor"] == "donor-03" and row["faces"][0]["action"] == "replaced"
