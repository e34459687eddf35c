"""k-Same-Net: who gets which mix, what is kept and what is not; the groups themselves have tests of their own."""

import dataclasses

import numpy as np
import pytest

from deidcli.errors import PresetError, UsageError
from deidcli.faces.align import align, apply_affine
from deidcli.faces.attributes import Attributes
from deidcli.faces.pose import mouth_gap
from deidcli.faces.shape import MEAN_SHAPE
from deidcli.methods.base import Census, Secret
from deidcli.methods.ksame import grouping as attributed
from deidcli.methods.ksame import net as ksame_net
from deidcli.methods.ksame.grouping import group_by_value
from deidcli.methods.ksame.net import Correspondence, KSameNet, SurrogateDescriber
from deidcli.methods.ksame.proxies import ADULT_AGE, log_age
from deidcli.methods.ksame.render import OUTLINE, pose_transfer
from deidcli.values import Face, Frame
from tests.conftest import found
from tests.methods.ksame_net_drawn import draw_preset

PEOPLE = 9


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return draw_preset(tmp_path_factory.mktemp("models") / "drawn").folder


@pytest.fixture(scope="module")
def shots(portraits):
    return [(pixels, found(pixels)[0]) for pixels in portraits]


def drawn(self, people, mixes):
    """Descriptors as numbers that hang on who has what, where it does not matter what a recogniser would see."""
    seeds = [[who, *np.flatnonzero(mix.identities).tolist()] for who, mix in zip(people.tolist(), mixes, strict=True)]
    return np.stack([np.random.default_rng(seed).standard_normal(128) for seed in seeds])


@pytest.fixture
def make(folder, shots, monkeypatch):
    """make(preserve, **options): a method that knows PEOPLE people, each with one of three faces."""

    def made(preserve="none", seed=5, seen=False, **options):
        if not seen:
            monkeypatch.setattr(SurrogateDescriber, "describe", drawn)
        method = KSameNet(KSameNet.Options(preserve=preserve, preset=str(folder), **options), Secret.seeded(seed))
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
        x = method.surrogate(method._rows[members], np.full(len(members), 1 / len(members))).identities
        assert len(members) >= 4 == np.count_nonzero(x)
        assert np.allclose(x[x > 0], 1 / 4) and np.isclose(x.sum(), 1)


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
    method = make(k=9, seen=True)
    describer, one, other = (
        SurrogateDescriber(method, method.census),
        *(method._mix(np.array([i]), np.ones(1)) for i in (20, 50)),
    )
    rows = describer.describe(np.array([0, 3, 1, 0]), [one, one, one, other])
    assert rows.shape == (4, 128) and np.allclose(rows[0], rows[1], atol=1e-4)
    assert min(np.linalg.norm(rows[0] - row) for row in rows[2:]) > 0.05


def correspondence(known, kept, described=None, size=2):
    return Correspondence(known, frozenset(kept), size, Secret.seeded(1), described)


def test_proxies_are_of_the_gender_that_is_kept_and_grown_up(make):
    known = make(k=3).models.proxies
    members = known.descriptors[[20, 21, 22]]
    man = known.probe(members).mean(axis=0)[0] < 0.5
    grown = known.traits[:, 1] >= log_age(ADULT_AGE)
    kept, free = (correspondence(known, kinds).fitting(members) for kinds in ({"gender"}, ()))
    assert ((known.traits[kept, 0] < 0.5) == man).all() and grown[kept].all()
    assert np.array_equal(free, np.flatnonzero(grown)) and len(kept) < len(free)
    assert len(correspondence(known, {"gender"}, size=60).fitting(members)) == len(known.traits)


@pytest.mark.parametrize("harmless", [True, False])
def test_a_group_gets_a_cluster_with_which_nobody_in_it_is_named(make, harmless):
    """Proxy 20 shows who has it; where every man does, the group gets a woman's face."""
    known = make(k=3).models.proxies
    man = np.flatnonzero((known.traits[:, 0] < 0.5) & (known.traits[:, 1] >= log_age(ADULT_AGE)))
    shows = {int(man[0])} if harmless else set(man.tolist())
    centres = np.eye(4, 128) + known.descriptors[man].mean(axis=0)
    somebody = np.eye(1, 128, 100)[0] + centres.mean(axis=0)

    def described(people, clusters):
        told = np.array([bool(shows & set(cluster.tolist())) for cluster in clusters])[:, None]
        return np.where(told, centres[people], somebody + 0.1 * (centres[3] - somebody) - 0.1 * centres[people])

    found = correspondence(known, {"gender"}, described)
    groups = [np.array([0, 1])]
    cluster = found.assigned(groups, groups, centres)[0]
    assert not shows & set(cluster.tolist()) and len(set(cluster.tolist())) == 2
    assert (known.traits[cluster, 0] < 0.5).all() == harmless


def test_expression_is_kept_where_it_is_asked_for(make, shots, monkeypatch):
    """The same face read as another expression comes out another; with none it does not matter."""
    told = {}
    for preserve in ("expression", "none"):
        method, made = make(preserve, k=3), []
        for word in ("neutral", "happiness"):
            read = type("Read", (), {"expression": word})()
            monkeypatch.setattr(ksame_net.AttributeReader, "of_crops", lambda self, c, read=read: [read] * len(c))
            made.append(method.apply(crops(method, shots, ["0#0"]))[0].pixels)
        told[preserve] = np.array_equal(*made)
    assert told == {"expression": False, "none": True}


def test_gender_is_kept_by_the_groups(make, monkeypatch):
    def read(self, crops):
        assert len(crops) == PEOPLE and crops[0].shape == (64, 64, 3)
        return [Attributes(tone=0.0, gender="female" if i % 3 else "male", age=30.0) for i in range(len(crops))]

    monkeypatch.setattr(attributed.AttributeReader, "read", read)
    group = make("gender", k=3).plan.group
    men = {int(group[i]) for i in range(0, PEOPLE, 3)}
    assert len(men) == 1 and not men & {int(group[i]) for i in range(PEOPLE) if i % 3}


def test_groups_of_one_value_and_those_left_over():
    points = np.random.default_rng(1).standard_normal((11, 8))
    group = group_by_value(points, [*"aaaabbbbccc"], 4)
    assert len(set(group[:4])) == len(set(group[4:8])) == 1 and group[0] != group[4]
    assert np.bincount(group).sum() == 11 and set(group[8:]) <= {group[0], group[4]}, "three of c join the nearest"
    alone = group_by_value(points[:4], [*"abcd"], 4)
    assert len(set(alone)) == 1, "where no value has enough, all are together"


def test_profiles_are_left_to_the_fallback(make, shots):
    method = make(k=3)
    pixels, face = shots[0]
    crop = align(Frame(pixels), face, method.crop)
    assert method.accepts(crop)
    points = face.landmarks.copy()
    points[:17, 0] = points[27, 0] + np.linspace(-1, 9, 17)
    assert not method.accepts(dataclasses.replace(crop, face=dataclasses.replace(face, landmarks=points)))
    assert not method.accepts(dataclasses.replace(crop, face=Face(face.box)))


def test_turned_keeps_the_own_mouth(shots):
    target = shots[0][1].landmarks.astype(float)
    own = target * 0.5
    own[60:68, 1] += 3
    shape = pose_transfer(own, target)
    assert np.allclose(shape[:48], target[:48], atol=1e-6)
    assert np.allclose(shape[60:68, 1] - target[60:68, 1], 6, atol=1e-6)


def test_moved_takes_three_numbers_of_the_target_and_no_landmarks(shots):
    """Lips and lids as far apart, brows as high; where the single points of brows lie does not come through."""
    target = MEAN_SHAPE * 200 + 30
    own, raised = target.copy(), target.copy()
    raised[17:27, 1] -= 6
    raised[[37, 38, 43, 44], 1] -= 2
    raised[65:68, 1] += 20
    shape = pose_transfer(own, raised, moved=True)
    assert np.isclose(mouth_gap(shape), mouth_gap(raised), atol=0.02)
    brow = [float(points[36:48, 1].mean() - points[17:27, 1].mean()) for points in (shape, raised)]
    assert np.isclose(*brow, atol=1.5) and brow[0] > own[36:48, 1].mean() - own[17:27, 1].mean() + 3
    bent = raised.copy()
    bent[17:27, 1] += np.tile([4, 2, 0, -2, -4], 2)
    assert np.allclose(pose_transfer(own, bent, moved=True)[17:27], shape[17:27], atol=1.5)


@pytest.mark.parametrize(("gap", "share"), [(0, OUTLINE), (0.4, 1)])
def test_the_jaw_lies_between_both_but_where_the_mouth_is_wide_open(gap, share):
    """`gap`: of the lips, in pixels of a mean face of 200, whose chin is 20 pixels longer than the other's."""
    own = MEAN_SHAPE * 200
    target = own.copy()
    target[6:11, 1] += 20
    target[65:68, 1] += gap * 200
    shape = pose_transfer(own, target, moved=True)
    assert np.allclose(shape[6:11, 1] - own[6:11, 1], 20 * share, atol=1.5)


@pytest.mark.parametrize("preserve", ["smile", "none,gender", "", "expression,odd"])
def test_preserve_that_is_none(folder, preserve):
    with pytest.raises(UsageError, match="--preserve"):
        KSameNet(KSameNet.Options(preserve=preserve, preset=str(folder)))


def test_damaged_preset(folder, tmp_path):
    for name in ("config.json", "generator.weights.h5", "proxies.npz"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    (tmp_path / "proxies.npz").write_bytes(b"odd")
    with pytest.raises(PresetError):
        KSameNet(KSameNet.Options(preset=str(tmp_path)))
