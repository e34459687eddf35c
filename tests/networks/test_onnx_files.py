"""Changes to other people's ONNX files."""

import numpy as np
import pytest

from deidcli.networks.graphs import session
from deidcli.networks.onnx_files import Graph, with_one_input, with_split_slopes
from deidcli.networks.store import run_rows

RNG = np.random.default_rng(7)
SLOPES = np.array([-0.5, 0, 0.25, 1, 1.5, 0.9, -2, 0.1] * 20, np.float32)  # 160 channels: packed sizes of two bytes


def network(slopes):
    graph = Graph("data", (1, 160, 9, 7))
    made = graph.add("PRelu", "data", graph.constant(slopes))
    return graph.model(graph.add("Mul", made, graph.constant(np.float32([3]))))


def test_split_slopes_give_what_a_prelu_gives():
    rows = RNG.normal(size=(3, 160, 9, 7)).astype(np.float32)
    wanted = 3 * np.where(rows > 0, rows, rows * SLOPES[:, None, None])
    whole = network(SLOPES.reshape(-1, 1, 1))
    split = with_split_slopes(whole)
    assert b"PRelu" in whole and b"PRelu" not in split
    for model in (whole, split):
        assert run_rows(session(model), rows)[0] == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 9, 7), (160, 9, 7)])
def test_other_slopes_stay(shape):
    whole = network(RNG.normal(size=shape).astype(np.float32))
    assert with_split_slopes(whole) == whole


@pytest.mark.parametrize("damaged", [b"no model", network(SLOPES.reshape(-1, 1, 1))[:-90]])
@pytest.mark.parametrize("change", [with_split_slopes, with_one_input])
def test_what_is_no_model(change, damaged):
    with pytest.raises((ValueError, IndexError, StopIteration)):
        change(damaged)
