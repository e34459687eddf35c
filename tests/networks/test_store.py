"""Networks on batches: a row that is computed alone has the same bits in any batch, order and place."""

import os
import tempfile
from contextlib import suppress
from pathlib import Path

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deidcli.networks.backend import without_noise
from deidcli.networks.store import alone, run, run_alone


@pytest.fixture(scope="module")
def networks():
    """A network with two outputs as it is, and computing each row alone; its sizes fill no vector register evenly."""
    keras.utils.set_random_seed(3)
    picture = keras.Input((13, 13, 3))
    x = keras.layers.Conv2D(17, 3, activation="relu")(picture)
    x = keras.layers.Flatten()(x)
    network = keras.Model(picture, [keras.layers.Dense(67)(x), keras.layers.Dense(5, activation="softmax")(x)])
    return network, alone(network)


PICTURES = np.random.default_rng(1).normal(size=(12, 13, 13, 3)).astype(np.float32)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 11), max_size=12))
def test_a_row_is_the_same_in_any_batch(networks, order):
    whole = run_alone(networks[1], PICTURES)
    part = run_alone(networks[1], PICTURES[order])
    for all_rows, some in zip(whole, part, strict=True):
        assert np.array_equal(all_rows[order], some)


def test_alone_answers_as_the_network_does(networks):
    for together, apart in zip(run(networks[0], PICTURES), run_alone(networks[1], PICTURES), strict=True):
        assert np.allclose(together, apart, atol=1e-4) and np.ptp(apart, axis=0).max() > 0.01


@pytest.mark.parametrize("full", ["standard error", "the disk"])
def test_what_libraries_say_is_lost_where_there_is_no_room_for_it(full, monkeypatch):
    """And not the work that they were said during."""
    if full == "the disk":
        monkeypatch.setattr(tempfile, "TemporaryFile", lambda: Path("/dev/full/no").touch())
    saved, device, done = os.dup(2), os.open("/dev/full", os.O_WRONLY), []
    os.dup2(device, 2)
    try:
        with without_noise():
            with suppress(OSError):
                os.write(2, b"a library speaks\n")
            done.append(True)
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(device)
    assert done
