"""What the tests of training share: networks are trained for a few steps, so nothing is compiled that takes longer."""

import keras
import pytest
import tensorflow as tf

from deidcli.training import fit


@pytest.fixture(autouse=True)
def quick(without_xla, monkeypatch):
    """No test here waits for XLA, or for the curves of its log after each epoch, but for the one that looks at them."""
    monkeypatch.setattr(fit, "draw_log", lambda folder: None)


@pytest.fixture
def eagerly():
    """TensorFlow runs each operation as it comes, which for a few steps is faster than to trace a graph of them.

    Of each trainer another test, of a smaller network, traces the graph.
    """
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture(autouse=True)
def own_policy():
    """The commands set the arithmetic of the whole process."""
    policy = keras.mixed_precision.dtype_policy()
    yield
    keras.mixed_precision.set_dtype_policy(policy)
