"""After the erasure nothing linear reads the person, and what is not the person is as it was."""

import keras
import numpy as np
import pytest

from deidcli.networks.cleanir import VaeConfig, build_encoder
from deidcli.training.cleanir_latent import erase, erasure
from deidcli.training.data import Pack


def drawn(count=4000, seed=0):
    """Attributes (n, 40) of which ten directions tell a descriptor (n, 10), mixed; and the same for strangers."""
    random = np.random.default_rng(seed)
    mixing = np.random.default_rng(9).standard_normal((40, 40))
    descriptors = random.standard_normal((count, 10))
    own = random.standard_normal((count, 40))
    own[:, :10] = 0.2 * own[:, :10] + descriptors
    return own @ mixing, descriptors


def told(attributes, descriptors, others, theirs):
    """R squared of a regression that is fitted on the first and asked about the others.

    What is left of a direction below a thousandth of the attributes' size is rounding, and no picture shows it.
    """
    random, size = np.random.default_rng(7), 1e-3 * attributes.std()
    attributes, others = (a + size * random.standard_normal(a.shape) for a in (attributes, others))
    fitted = np.linalg.lstsq(np.c_[attributes, np.ones(len(attributes))], descriptors, rcond=None)[0]
    left = theirs - np.c_[others, np.ones(len(others))] @ fitted
    return 1 - left.var() / theirs.var()


def test_nothing_linear_is_told_any_more():
    (known, descriptors), (others, theirs) = drawn(), drawn(seed=1)
    kernel, bias = erasure(known, descriptors)
    assert told(known, descriptors, others, theirs) > 0.9
    assert abs(told(known @ kernel + bias, descriptors, others @ kernel + bias, theirs)) < 0.05


def test_the_rest_stays_and_twice_is_once():
    known, descriptors = drawn()
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
    assert told(before, light, before, light) > 0.5 and told(after, light, after, light) < 0.1
