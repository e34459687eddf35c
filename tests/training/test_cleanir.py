"""CLEANIR's training: its losses, the erasure of the person from the other half, and where traits lie."""

from dataclasses import dataclass, replace

import cv2
import keras
import numpy as np
import pytest
from keras import ops
from skimage.metrics import structural_similarity

from deidcli.methods.cleanir import turn
from deidcli.networks.cleanir import VaeConfig, build_encoder
from deidcli.training.cleanir import probe
from deidcli.training.cleanir_graph import AdversarialLoss, ConsistencyLoss, Expression, RotateIdentity, dissimilarity
from deidcli.training.cleanir_latent import directions, erase, erasure
from deidcli.training.data import Pack


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_dissimilarity_is_scikit_images(portraits):
    a = portraits[0][40:120, 40:130].astype(np.float32) / 255
    b = np.clip(a[:, ::-1] * 0.7 + 0.1, 0, 1)
    flat = np.full_like(a, 0.3)
    for other in (a, b, flat):
        kernel = {"win_size": 7, "use_sample_covariance": False, "data_range": 1.0, "channel_axis": 2}
        whole = structural_similarity(a.astype(float), other.astype(float), full=True, **kernel)[1]
        made = float(dissimilarity(ops.convert_to_tensor(a[None]), ops.convert_to_tensor(other[None]))[0])
        assert made == pytest.approx(1 - whole[3:-3, 3:-3].mean(), abs=2e-4)


def test_turned_identities_are_at_the_drawn_angles():
    random = np.random.default_rng(0)
    identity = random.standard_normal((64, 24)).astype(np.float32)
    spread = random.standard_normal((8, 24)).astype(np.float32)
    layer = RotateIdentity(spread, np.zeros((0, 24)))
    turned = np.asarray(layer(identity))
    assert turned.shape == (16, 24)
    assert np.allclose(np.linalg.norm(turned, axis=1), 1, atol=1e-4)
    degrees = np.degrees(np.arccos(np.clip(np.sum(turned * unit(identity[:16]), axis=1), -1, 1)))
    assert degrees.min() > 59 and degrees.std() > 15
    # They stay in the plane of the identity and an axis that the spread can make.
    left = turned - turned @ np.linalg.pinv(np.r_[spread, identity[:16]]) @ np.r_[spread, identity[:16]]
    assert np.abs(left).max() < 1e-3
    assert not np.allclose(turned, np.asarray(layer(identity)))


def test_turned_identities_keep_what_the_method_keeps():
    random = np.random.default_rng(4)
    identity, kept = random.standard_normal((32, 24)).astype(np.float32), random.standard_normal((3, 24))
    turned = np.asarray(RotateIdentity(random.standard_normal((8, 24)), kept)(identity))
    start = unit(identity[:8])
    assert np.allclose(turned @ kept.T, start @ kept.T, atol=1e-4)
    assert np.allclose(np.linalg.norm(turned, axis=1), 1, atol=1e-4)
    basis = np.linalg.qr(kept.T)[0]
    rest, was = (x - x @ basis @ basis.T for x in (turned, start))
    degrees = np.degrees(np.arccos(np.clip(np.sum(unit(rest) * unit(was), axis=1), -1, 1)))
    assert degrees.min() > 59


def test_expression_asks_for_what_the_photographs_show(portraits):
    """Nothing for the photographs themselves, something for others, and no weight of its own to learn."""
    photographs = np.stack([cv2.resize(p, (128, 128)) for p in portraits[:4]]).astype(np.float32) / 255
    layer = Expression(1.0, 128)

    def loss(picture, turned):
        layer([picture, turned, photographs])
        return float(sum(layer.losses))

    others = photographs[::-1].copy()
    assert loss(photographs, photographs[:1]) == pytest.approx(0, abs=1e-5)
    assert loss(others, photographs[:1]) > 0.05
    assert 0 < loss(photographs, others[:1]) < loss(others, others[:1])
    assert not layer.trainable_weights


def told(consistency, repulsion, read, identity, attributes=None, read_attributes=None):
    attributes = np.zeros((len(identity), 4), np.float32) if attributes is None else attributes
    layer = ConsistencyLoss(consistency, repulsion)
    picture = np.zeros((2, 4, 4, 3), np.float32)
    layer([picture, read, attributes if read_attributes is None else read_attributes, identity, attributes])
    return float(sum(layer.losses))


def test_consistency():
    random = np.random.default_rng(1)
    identity = unit(random.standard_normal((6, 8))).astype(np.float32)
    assert told(1, 0, 3 * identity, identity) == pytest.approx(0, abs=1e-5)
    assert told(1, 0, -identity, identity) == pytest.approx(2, abs=1e-5)
    ones = np.ones((6, 4), np.float32)
    assert told(1, 0, identity, identity, ones, 3 * ones) == pytest.approx(2, abs=1e-4)


def test_repulsion_is_of_people_who_look_more_alike_than_told():
    apart = np.eye(4, dtype=np.float32)
    one = np.ones((4, 4), np.float32)
    assert told(0, 1, apart, apart) == pytest.approx(0, abs=1e-6)
    assert told(0, 1, one, apart) == pytest.approx(12 / 16, abs=1e-5)
    assert told(0, 1, apart, one) == pytest.approx(0, abs=1e-6)


def test_the_critic_learns_and_is_pleased():
    """Pictures without any detail get some, by what the critic says alone."""
    keras.utils.set_random_seed(3)
    random = np.random.default_rng(0)
    photographs = random.choice([0.2, 0.8], (8, 16, 16, 1)).repeat(3, axis=3).astype(np.float32)
    start = keras.layers.Input((16, 16, 3))
    made = keras.layers.Conv2D(3, 1, kernel_initializer="zeros", activation="sigmoid", dtype="float32")(start)
    looks = AdversarialLoss(1.0, 0.0, dtype="float32")
    model = keras.Model(start, looks([made, made, start]))
    model.compile(optimizer=keras.optimizers.Adam(0.01), loss=lambda target, picture: 0.0 * ops.sum(picture))
    assert np.asarray(model(photographs)).std() < 0.01
    for _ in range(60):
        model.train_on_batch(photographs, photographs)
    assert np.asarray(model(photographs)).std(axis=(1, 2)).min() > 0.05
    # What is said to please it is no reason for the critic to move.
    own = keras.Model(start, looks.critic(start, learning=False)[-1])
    own.compile(optimizer="sgd", loss=lambda target, verdict: ops.mean(verdict))
    with pytest.raises(ValueError, match="No gradients"):
        own.train_on_batch(photographs, photographs)


def related(count=4000, seed=0):
    """Attributes (n, 40) of which ten directions tell a descriptor (n, 10), mixed; and the same for strangers."""
    random = np.random.default_rng(seed)
    mixing = np.random.default_rng(9).standard_normal((40, 40))
    descriptors = random.standard_normal((count, 10))
    own = random.standard_normal((count, 40))
    own[:, :10] = 0.2 * own[:, :10] + descriptors
    return own @ mixing, descriptors


def predicted(attributes, descriptors, others, theirs):
    """R squared of a regression that is fitted on the first and asked about the others.

    What is left of a direction below a thousandth of the attributes' size is rounding, and no picture shows it.
    """
    random, size = np.random.default_rng(7), 1e-3 * attributes.std()
    attributes, others = (a + size * random.standard_normal(a.shape) for a in (attributes, others))
    fitted = np.linalg.lstsq(np.c_[attributes, np.ones(len(attributes))], descriptors, rcond=None)[0]
    left = theirs - np.c_[others, np.ones(len(others))] @ fitted
    return 1 - left.var() / theirs.var()


def test_nothing_linear_is_told_any_more():
    (known, descriptors), (others, theirs) = related(), related(seed=1)
    kernel, bias = erasure(known, descriptors)
    assert predicted(known, descriptors, others, theirs) > 0.9
    assert abs(predicted(known @ kernel + bias, descriptors, others @ kernel + bias, theirs)) < 0.05


def test_the_rest_stays_and_twice_is_once():
    known, descriptors = related()
    kernel, bias = erasure(known, descriptors)
    after = known @ kernel + bias
    assert np.allclose(after.mean(axis=0), known.mean(axis=0), atol=1e-3)
    assert np.allclose(after @ kernel + bias, after, atol=1e-3)
    assert np.linalg.matrix_rank(kernel, tol=1e-4) == 30
    # What the ten directions do not tell can still be read of the others.
    free = np.linalg.lstsq(after, known - descriptors @ np.linalg.lstsq(descriptors, known, rcond=None)[0], rcond=None)
    assert free[2] >= 30


def test_attributes_that_tell_nothing_stay_as_they_are():
    random = np.random.default_rng(3)
    kernel, bias = erasure(random.standard_normal((4000, 20)), random.standard_normal((4000, 5)))
    assert np.allclose(kernel, np.eye(20), atol=1e-6) and np.allclose(bias, 0, atol=1e-6)


@pytest.mark.parametrize("count", [700])
def test_the_layer_of_an_encoder(count):
    """Before it is set it changes nothing; afterwards the encoder's own attributes tell nothing of its faces."""
    keras.utils.set_random_seed(2)
    random = np.random.default_rng(0)
    encoder = build_encoder(VaeConfig(64, 16, 24, (8,) * 5, (8,) * 5, "flatten", 4, erase=True))
    light = random.uniform(0, 1, (count, 3))
    crops = (255 * np.clip(light[:, None, None] + 0.1 * random.standard_normal((count, 64, 64, 3)), 0, 1)).astype(
        np.uint8
    )
    pack = Pack(crops, light.astype(np.float32), np.arange(count).astype(str))
    read = lambda: np.asarray(encoder.predict(crops / np.float32(255), verbose=0)[0])[:, 16:]  # noqa: E731
    before = read()
    erase(encoder, pack)
    after = read()
    assert predicted(before, light, before, light) > 0.5 and predicted(after, light, after, light) < 0.1


SIZE = 24


def drawn(count=600):
    """Identities in which the first three numbers are gender, age and tone, the rest is the person."""
    random = np.random.default_rng(1)
    gender, years, race = random.integers(0, 2, count), random.integers(1, 90, count), random.integers(0, 3, count)
    identities = random.standard_normal((count, SIZE))
    identities[:, 0] += 4 * gender - 2
    identities[:, 1] += 3 * (np.log1p(years) - 3.5)
    identities[:, 2] += 4 * (race == 1)
    identities[:, 3] += 4 * (race == 2)
    labels = {"gender": gender, "age": years, "race": race}
    columns = {name: column.astype(str) for name, column in labels.items()}
    blank = np.zeros((count, 1, 1, 3), np.uint8)
    return identities, Pack(blank, identities.astype(np.float32), np.arange(count).astype(str), None, columns)


def test_traits_are_found_where_they_lie():
    identities, pack = drawn()
    found = directions(pack, identities)
    assert {name: rows.shape for name, rows in found.items()} == {
        "gender": (1, SIZE),
        "age": (1, SIZE),
        "tone": (2, SIZE),
    }
    assert abs(found["gender"][0, 0]) > 0.95 and abs(found["age"][0, 1]) > 0.95
    assert np.linalg.norm(found["tone"][:, [2, 3]], axis=1).min() > 0.95


def test_half_a_turn_leaves_what_is_kept():
    """Whoever was a man stays one, and everything that is not a trait is the opposite."""
    identities, pack = drawn()
    kept = np.concatenate(list(directions(pack, identities).values()))
    half = np.full(len(identities), 180.0)
    turned = turn(identities, np.ones_like(identities), half, kept)
    unit = identities / np.linalg.norm(identities, axis=1, keepdims=True)
    assert (np.sign(turned[:, 0]) == np.sign(unit[:, 0])).mean() > 0.97
    assert np.corrcoef(turned[:, 10], unit[:, 10])[0, 1] < -0.97


def test_labels_that_are_missing_are_left_out():
    identities, pack = drawn()
    for name in ("gender", "race"):
        pack.labels[name][: len(pack) // 3] = ""
    del pack.labels["age"]
    found = directions(pack, identities)
    assert set(found) == {"gender", "tone"} and abs(found["gender"][0, 0]) > 0.9


def test_the_expression_is_its_labels_and_the_mouth():
    identities, pack = drawn()
    random = np.random.default_rng(7)
    smiles = random.random(len(pack)) < 0.5
    identities[:, 5] += 4 * smiles - 2
    words = np.where(smiles, "happiness", "neutral")
    words[:5] = "contempt"  # of five faces nothing can be learnt
    landmarks = np.tile(random.random((68, 2)), (len(pack), 1, 1)).astype(np.float32)
    landmarks[:, 36:48, 0] = np.r_[np.zeros(6), np.ones(6)]
    landmarks[:, 66, 1] = landmarks[:, 62, 1] + 0.1 * identities[:, 6]
    landmarks[:, 54, 0] = landmarks[:, 48, 0] + 3 + 0.1 * identities[:, 7]
    landmarks[:3] = np.nan
    pack = replace(pack, landmarks=landmarks, labels={"expression": words})
    found = directions(pack, identities)["expression"]
    assert found.shape == (3, SIZE)
    assert abs(found[0, 5]) > 0.9 and abs(found[2, 7]) > 0.9
    assert set(directions(replace(pack, labels={}), identities)) == set()


@dataclass
class Leaky:
    """A pair of networks whose attribute half tells `share` of the descriptor, which stands in the crop's name."""

    rows: np.ndarray
    share: float

    def encode(self, crops):
        random = np.random.default_rng(0)
        known = self.rows[crops[:, 0, 0, :2].astype(int) @ [1, 256]]
        return known, self.share * known + random.standard_normal(known.shape)


def test_the_probe_reads_what_is_there():
    random = np.random.default_rng(2)
    rows = random.standard_normal((900, 64)).astype(np.float32)
    crops = np.zeros((900, 1, 1, 3), np.uint8)
    crops[:, 0, 0, 0], crops[:, 0, 0, 1] = np.arange(900) % 256, np.arange(900) // 256
    pack = Pack(crops, rows, np.arange(900).astype(str))
    faces, strangers = pack.where(np.arange(700)), pack.where(np.arange(700, 900))
    told, blind = probe(Leaky(rows, 5.0), faces, strangers), probe(Leaky(rows, 0.0), faces, strangers)
    assert told["probe_rank1"] == 1 and told["probe_cosine"] > 0.9
    assert blind["probe_rank1"] < 0.03 and abs(blind["probe_cosine"]) < 0.1 and blind["probe_chance"] == 0.005


class Exact:
    """Stands for a Pair: attributes by name of the face, which the crop's first pixels hold."""

    def __init__(self, attributes):
        self.attributes = attributes

    def encode(self, crops):
        return None, self.attributes[crops[:, 0, 0, 0].astype(int) * 256 + crops[:, 0, 0, 1]]


def faces(rows, descriptors):
    crops = np.zeros((len(rows), 8, 8, 3), np.uint8)
    crops[:, 0, 0, 0], crops[:, 0, 0, 1] = rows // 256, rows % 256
    return Pack(crops, descriptors[rows].astype(np.float32), np.array([f"{r}/a.jpg" for r in rows]))


@pytest.mark.parametrize(
    ("telling", "straight", "bent"), [("line", True, True), ("sign", False, True), ("", False, False)]
)
def test_what_is_read(telling, straight, bent):
    random = np.random.default_rng(0)
    descriptors = random.standard_normal((3200, 6))
    attributes = random.standard_normal((3200, 24))
    if telling == "line":
        attributes[:, :6] = descriptors
    if telling == "sign":
        # The size tells, and half of the signs are turned: nothing linear is left of it.
        descriptors = descriptors**2
        attributes[:, :6] = np.sqrt(descriptors) * random.choice([-1, 1], descriptors.shape)
    found = probe(Exact(attributes), faces(np.arange(3000), descriptors), faces(np.arange(3000, 3200), descriptors))
    assert found["probe_chance"] == 0.005
    assert (found["probe_cosine"] > 0.4) == straight and (found["probe_net_cosine"] > 0.4) == bent
    assert (found["probe_rank1"] > 0.04) == straight and (found["probe_net_rank1"] > 0.04) == bent
