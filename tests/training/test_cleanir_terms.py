"""The terms beyond the paper: each is nothing where nothing is wrong, and pulls the right way where something is."""

import cv2
import keras
import numpy as np
import pytest
from keras import ops
from skimage.metrics import structural_similarity

from deidcli.training.cleanir_graph import AdversarialLoss, ConsistencyLoss, Expression, RotateIdentity, dissimilarity


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
