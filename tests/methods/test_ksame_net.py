"""k-Same-Net: who gets which mix, what is kept and what is not; the groups themselves have tests of their own."""

import dataclasses

import numpy as np
import pytest

from deidcli.errors import PresetError, UsageError
from deidcli.faces.align import align, apply_affine
from deidcli.faces.attributes import Attributes
from deidcli.methods import closed as attributed
from deidcli.methods.base import Census, Secret
from deidcli.methods.closed import group_by_value
from deidcli.methods.ksame.net import Correspondence, KSameNet, SurrogateDescriber
from deidcli.values import Frame
from tests.conftest import found

PEOPLE = 9
MODELS = {}  # by the options: loaded once


@pytest.fixture(scope="module")
def shots(portraits):
    return [(pixels, found(pixels)[0]) for pixels in portraits]


def drawn(self, people, mixes):
    """Descriptors as numbers that hang on who has what, where it does not matter what a recogniser would see."""
    seeds = [[who, *np.abs(mix.texture[:3] * 100).astype(int)] for who, mix in zip(people.tolist(), mixes, strict=True)]
    return np.stack([np.random.default_rng(seed).standard_normal(256) for seed in seeds])


@pytest.fixture
def make(shots, monkeypatch):
    """make(preserve, **options): a method that knows PEOPLE people, each with one of three faces."""

    def made(preserve="none", seed=5, seen=False, **options):
        if not seen:
            monkeypatch.setattr(SurrogateDescriber, "describe", drawn)
            monkeypatch.setattr(SurrogateDescriber, "known", lambda self: np.eye(PEOPLE, 256))
        options = KSameNet.Options(preserve=preserve, **options)
        loaded = next(iter(MODELS.values()), None)
        method = KSameNet(options, Secret.seeded(seed), loaded)
        MODELS.setdefault("one", method.models)
        spec = dataclasses.replace(method.crop, size=method.stored)
        cut = [align(Frame(pixels), face, spec) for pixels, face in shots]
        points = [apply_affine(crop.transform, crop.face.landmarks) for crop in cut]
        rows = [i % 3 for i in range(PEOPLE)]
        described = np.random.default_rng(3).standard_normal((PEOPLE, 128)).astype(np.float32)
        pixels = np.stack([cut[i].pixels for i in rows])
        landmarks = np.stack([points[i] for i in rows]).astype(np.float32)
        keys = [f"{i}#0" for i in range(PEOPLE)]
        census = Census(keys, pixels, landmarks, described, np.arange(PEOPLE))
        method.prepare(census)
        return method

    return made


def crops(method, shots, keys, face=0):
    pixels, found_face = shots[face]
    return [align(Frame(pixels), found_face, method.crop, key) for key in keys]


def test_a_group_shares_one_face_and_another_has_another(make, shots):
    method = make(k=3)
    made = method.apply(crops(method, shots, [f"{i}#0" for i in range(PEOPLE)]))
    by_group = {}
    for i, crop in enumerate(made):
        by_group.setdefault(int(method.plan.group[i]), set()).add(crop.pixels.tobytes())
    assert len(by_group) == 3 and all(len(faces) == 1 for faces in by_group.values())
    assert len(set.union(*by_group.values())) == 3


def test_k_identities_are_mixed_alike(make):
    method = make(k=4)
    for group in range(len(method.plan.source)):
        members = np.flatnonzero(method.plan.group == group)
        cluster = method._clusters[group]
        assert len(members) >= 4 == len(set(cluster.tolist()))
        made = method.surrogate(method._rows[members], np.full(len(members), 1 / len(members)))
        assert np.allclose(made.texture, method.models.proxies.mean(cluster, np.full(4, 0.25)).texture)


def test_diverse_members_get_other_shares_of_the_same_proxies(make, shots):
    method = make(k=9, diverse=True)
    made = method.apply(crops(method, shots, ["0#0", "1#0"]))
    assert not np.array_equal(made[0].pixels, made[1].pixels)


def test_clusters_hang_on_the_secret(make):
    first, again, other = (make(seed=seed, k=2) for seed in (5, 5, 6))
    clusters = [[frozenset(c.tolist()) for c in method._clusters] for method in (first, again, other)]
    assert clusters[0] == clusters[1] != clusters[2] and len(clusters[0]) == 4


def test_what_is_tried_on_is_seen_by_the_recogniser(make):
    """Three faces under nine names: who has the same face and the same surrogate looks the same, others do not."""
    method = make(k=9)
    one, other = (method._mix(np.array([i]), np.ones(1), 0) for i in (20, 50))
    describer = SurrogateDescriber(method, method.census)
    rows = np.stack([describer._one(who, mix) for who, mix in ((0, one), (3, one), (1, one), (0, other))])
    assert rows.shape == (4, 256) and np.allclose(rows[0], rows[1], atol=1e-4)
    assert min(np.linalg.norm(rows[0] - row) for row in rows[2:]) > 0.05


def correspondence(known, kept, described=None, size=2):
    return Correspondence(known, frozenset(kept), size, Secret.seeded(1), described)


def test_proxies_are_of_the_gender_and_age_that_are_kept(make):
    known = make(k=3).models.proxies
    kept, old, free = (correspondence(known, kinds).fitting(-1.0, 1.0) for kinds in ({"gender"}, {"age"}, ()))
    assert (known.kept[kept, 0] < 0).all() and (known.kept[old, 1] > 0).all()
    assert len(free) == len(known.kept) > max(len(kept), len(old))
    assert len(correspondence(known, {"gender"}, size=500).fitting(-1.0, 1.0)) == len(known.kept)


@pytest.mark.parametrize("harmless", [True, False])
def test_a_group_gets_a_cluster_with_which_nobody_in_it_is_named(make, harmless):
    """One proxy shows who has it; where every man does, the group gets a woman's face."""
    known = make(k=3).models.proxies
    man = np.flatnonzero(known.kept[:, 0] < 0)
    shows = {int(man[0])} if harmless else set(man.tolist())
    centres = np.eye(4, 128)
    somebody = np.eye(1, 128, 100)[0] + centres.mean(axis=0)

    def described(people, clusters):
        told = np.array([bool(shows & set(cluster.tolist())) for cluster in clusters])[:, None]
        return np.where(told, centres[people], somebody + 0.1 * (centres[3] - somebody) - 0.1 * centres[people])

    found = correspondence(known, {"gender"}, described)
    cluster = found.assigned([np.array([-1.0, 0.0])], [np.array([0, 1])], centres)[0]
    assert not shows & set(cluster.tolist()) and len(set(cluster.tolist())) == 2
    assert (known.kept[cluster, 0] < 0).all() == harmless


def test_gender_is_kept_by_the_groups(make, monkeypatch):
    def read(self, crops):
        assert len(crops) == PEOPLE and crops[0].shape == (64, 64, 3)
        return [Attributes(tone=0.0, gender="female" if i % 3 else "male", age=30.0) for i in range(len(crops))]

    monkeypatch.setattr(attributed.AttributeReader, "read", read)
    group = make("gender", k=3).plan.group
    men = {int(group[i]) for i in range(0, PEOPLE, 3)}
    assert len(men) == 1 and not men & {int(group[i]) for i in range(PEOPLE) if i % 3}


def test_a_surrogate_has_the_age_of_its_group(make):
    method = make(k=3)
    traits = method.models.model.traits(method.census.centres())
    for group, members in enumerate(method._members):
        made = method._surrogate(group, 0)
        assert np.isclose(made.traits[1], traits[members, 1].mean(), atol=1e-5)


def test_groups_of_one_value_and_those_left_over():
    points = np.random.default_rng(1).standard_normal((11, 8))
    group = group_by_value(points, [*"aaaabbbbccc"], 4)
    assert len(set(group[:4])) == len(set(group[4:8])) == 1 and group[0] != group[4]
    assert np.bincount(group).sum() == 11 and set(group[8:]) <= {group[0], group[4]}, "three of c join the nearest"
    alone = group_by_value(points[:4], [*"abcd"], 4)
    assert len(set(alone)) == 1, "where no value has enough, all are together"


@pytest.mark.parametrize("preserve", ["smile", "none,gender", "", "gender,odd"])
def test_preserve_that_is_none(preserve):
    with pytest.raises(UsageError, match="--preserve"):
        KSameNet(KSameNet.Options(preserve=preserve))


def test_a_gallery_that_is_none():
    with pytest.raises(PresetError):
        KSameNet(KSameNet.Options(gallery="cleanir-64"))
