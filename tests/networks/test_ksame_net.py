"""k-Same-Net's network: Figure 4 in small; sizes, MaxUP, the same face in any company, presets there and back."""

import keras
import numpy as np
import pytest

from deidcli.errors import PresetError
from deidcli.networks.ksame_net import Generator, GeneratorConfig, _max_of_pairs, build_generator, load, save
from deidcli.networks.store import Network
from deidcli.presets import save_preset

CONFIG = GeneratorConfig(6, 4, 32, (16, 8), (16, 8, 8), 4)


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    keras.utils.set_random_seed(2)
    folder = tmp_path_factory.mktemp("models") / "drawn"
    stored = {"method": "ksame-net", "network": CONFIG.stored()}
    return save_preset(folder, stored, save(folder, build_generator(CONFIG)), "Drawn.")


def wanted(count):
    random = np.random.default_rng(1)
    return random.dirichlet(np.ones(6), count), np.eye(4)[random.integers(4, size=count)]


@pytest.mark.parametrize("count", [0, 1, 9])
def test_faces(preset, count):
    made = load(preset).generate(*wanted(count))
    assert made.shape == (count, 32, 32, 3) and made.dtype == np.uint8


def test_company_changes_nothing(preset):
    generator, (x, y) = load(preset), wanted(9)
    whole = generator.generate(x, y)
    assert np.array_equal(whole[5:7], generator.generate(x[5:7], y[5:7]))


def test_both_inputs_count(preset):
    generator, (x, y) = load(preset), wanted(1)
    first = generator.generate(x, y)
    assert not np.array_equal(first, generator.generate(np.roll(x, 1, 1), y))
    assert not np.array_equal(first, generator.generate(x, np.roll(y, 1, 1)))


def test_the_layers_of_figure_4():
    network = build_generator(CONFIG)
    names = [layer.name for layer in network.layers]
    order = ["fc1", "fc2", "c1", "fc3", "up1", "up2", "maxup", "out_conv", "to_rgb", "bias"]
    assert sorted(order, key=names.index) == order
    assert network.get_layer("maxup").output.shape[1:] == (32, 32, CONFIG.channels[-1] // 2)


def test_a_silent_network_shows_the_mean():
    network, mean = build_generator(CONFIG), np.random.default_rng(3).uniform(0.05, 0.95, (32, 32, 3))
    network.get_layer("to_rgb").set_weights([0 * weight for weight in network.get_layer("to_rgb").get_weights()])
    network.get_layer("bias").begin(mean)
    made = Generator(CONFIG, Network.of(network)).generate(*wanted(1))[0]
    assert np.abs(made - 255 * mean).max() < 1


def test_maxup_keeps_the_largest_of_pairs():
    values = np.array([1, 5, 4, 2], np.float32).reshape(1, 1, 1, 4)
    assert np.array_equal(np.asarray(_max_of_pairs(keras.ops.convert_to_tensor(values))).ravel(), [5, 4])


def test_sizes_that_cannot_be():
    assert CONFIG.start == 4
    with pytest.raises(ValueError, match="doubling"):
        _ = GeneratorConfig(6, 4, 36, (16, 8), (16, 8, 8)).start


def test_presets_that_are_none(tmp_path):
    broken = save_preset(tmp_path, {"method": "ksame-net", "network": {"size": 32}}, [], "")
    with pytest.raises(PresetError, match="network"):
        load(broken)
