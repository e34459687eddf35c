"""Graphs of networks: they do what Keras does, to the presets' weights belong the graphs that lie beside them."""

import json

import keras
import numpy as np
import pytest
from keras import layers, ops

from deidcli.errors import PresetError
from deidcli.networks import backend, graphs
from deidcli.networks.export import plan_of
from deidcli.networks.store import Network, alone, networks_of, run_alone, run_rows, save_half
from deidcli.presets import folders, load_preset, save_preset, sha256

PRESETS = [folder.name for folder in folders() if "network" in load_preset(folder.name).config]


@pytest.fixture(autouse=True)
def on_processor(monkeypatch, tmp_path):
    monkeypatch.setattr(backend, "_CHOSEN", ["cpu"])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.mark.parametrize("name", PRESETS)
def test_shipped_graphs_do_what_keras_does(name, tmp_path):
    networks = networks_of(load_preset(name))
    assert networks, "the preset has a network that `deid models export` does not know"
    for network in networks:
        shape = network.model.input_shape[1:]
        rows = np.random.default_rng(5).random((3, *shape), np.float32) * (255 if network.name == "classifier" else 1)
        assert network.place.is_file(), f"run `deid models export {name}`"
        for ours, theirs in zip(network(rows), run_alone(alone(network.model), rows), strict=True):
            assert np.abs(ours - theirs).max() < 1e-3 and np.ptp(ours, axis=0).max() > 1e-5
        network.export(tmp_path / "again.json")
        assert (tmp_path / "again.json").read_text() == network.place.read_text(), f"run `deid models export {name}`"


@keras.saving.register_keras_serializable("test")
class Twisted(layers.Layer):
    """A layer of a preset's own, with a weight and two inputs."""

    def build(self, shapes):
        self.scale = self.add_weight(shape=(shapes[0][-1],), initializer="uniform", name="scale")

    def call(self, inputs):
        x, y = inputs
        kept = ops.cast(ops.sigmoid(y) >= 0.4, x.dtype)
        return ops.clip(x * self.scale, -2.0, 2.0) * kept / (1 - 0.5) + ops.square(y) * ops.exp(-ops.abs(y))


def _convolutions(x):
    x = layers.ZeroPadding2D(1)(layers.Rescaling(0.5, 0.3)(x))
    x = layers.Conv2D(6, 3, 2, "same", activation="relu")(x)
    x = layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2)(layers.BatchNormalization()(x))
    x = layers.SeparableConv2D(8, 3, padding="same", use_bias=False)(layers.PReLU()(x))
    return layers.Conv2DTranspose(5, 4, 2, "same")(layers.Conv2D(4, 2, dilation_rate=2, groups=2)(x))


def _pools(x):
    a = layers.AveragePooling2D(3, 2, "same")(x)
    b = layers.UpSampling2D(2, interpolation="bilinear")(layers.MaxPooling2D(4, 4, "same")(x))
    joined = layers.Concatenate()([a, layers.Cropping2D(((0, 1), (1, 0)))(b)[:, :7, :7]])
    return layers.GlobalMaxPooling2D()(layers.UpSampling2D(2)(joined))


def _operations(x):
    grey = ops.mean(x, axis=-1, keepdims=True)
    edges = ops.maximum(grey[:, 1:-1, 2:] - grey[:, 1:-1, :-2], 0.01) / (
        ops.sqrt(ops.sum(x * x, axis=(1, 2, 3), keepdims=True)) + 1.0
    )
    turned = ops.transpose(ops.concatenate([edges, 2 - edges, ops.tanh(edges)], axis=-1), (0, 2, 1, 3))
    wide = ops.repeat(ops.max(turned, axis=-1, keepdims=True), 3, axis=-1)
    return layers.Reshape((-1, 3))(wide)[..., -2:]


def _layers(x):
    x = layers.Flatten()(layers.Permute((2, 1, 3))(x))
    x = keras.Sequential([layers.Dense(9, activation="tanh"), layers.LayerNormalization(), layers.LeakyReLU(0.1)])(x)
    y = layers.Dropout(0.5)(layers.Dense(9, activation="softplus")(x))
    x = Twisted()([layers.Subtract()([x, y]), layers.Multiply()([x, y])])
    return layers.Lambda(lambda z: ops.relu(z) * 3)(layers.Add()([x, y, x]))


@pytest.mark.parametrize("body", [_convolutions, _pools, _operations, _layers])
def test_operations_do_what_keras_does(body):
    keras.utils.set_random_seed(7)
    picture = keras.Input((13, 13, 3))
    network = keras.Model(picture, [body(picture), layers.Softmax()(layers.GlobalAveragePooling2D()(picture))])
    for weight in network.weights:  # Keras begins many of them at 0 or 1
        weight.assign(np.random.default_rng(len(weight.shape)).uniform(0.2, 0.9, weight.shape))
    rows = np.random.default_rng(2).normal(size=(4, 13, 13, 3)).astype(np.float32)
    made = run_rows(graphs.session(plan_of(network).onnx()), rows)
    for ours, theirs in zip(made, run_alone(alone(network), rows), strict=True):
        assert ours.shape == theirs.shape and np.abs(ours - theirs).max() < 1e-5 * max(1, np.abs(theirs).max())
        assert np.ptp(ours, axis=0).max() > 0.01


def preset(folder, last="tanh"):
    """A preset with one network, and how often it was built in Keras."""
    built = []

    def build():
        built.append(1)
        network = keras.Sequential([keras.Input((4,)), layers.Dense(3), layers.Activation(last)])
        network.set_weights([np.arange(12, dtype=np.float32).reshape(4, 3) / 10, np.ones(3, np.float32)])
        return network

    folder.mkdir()
    save_half(build(), folder / "net.weights.h5")
    made = save_preset(folder, {"method": "test"}, ["net.weights.h5"], "")
    built.clear()
    return made, build, built


ROWS = np.eye(4, dtype=np.float32)


def test_the_first_run_keeps_the_graph_for_the_next(tmp_path):
    made, build, built = preset(tmp_path / "p")
    first = Network(build, made, "net")(ROWS)[0]
    assert built == [1]
    again = Network(build, made, "net")
    assert np.array_equal(again(ROWS)[0], first) and again.cached.is_file() and not again.place.exists()
    assert built == [1] and again(ROWS[:0])[0].shape == (0, 3)


def test_a_graph_of_other_weights_is_not_used(tmp_path):
    made, build, built = preset(tmp_path / "p")
    network = Network(build, made, "net")
    network.export()
    said = json.loads(network.place.read_text())
    said["weights"]["net.weights.h5"] = sha256(network.place)
    said["sha256"] = graphs._sum({key: value for key, value in said.items() if key != "sha256"})
    network.place.write_text(json.dumps(said))
    assert graphs.read(network.place, made.file, made.config["files"]) is None


def test_a_damaged_graph_is_an_error(tmp_path):
    made, build, _ = preset(tmp_path / "p")
    network = Network(build, made, "net")
    network.export()
    text = network.place.read_text()
    for damaged in (text.replace("Tanh", "Sinh"), text[:-30], "[]"):
        network.place.write_text(damaged)
        with pytest.raises(PresetError, match="graph.json"):
            Network(build, made, "net")(ROWS)


def test_a_network_that_has_no_graph_runs_in_keras(tmp_path):
    made, build, built = preset(tmp_path / "p", last="hard_sigmoid")
    network = Network(build, made, "net")
    with pytest.raises(PresetError, match="hard_sigmoid"):
        network.export()
    assert np.allclose(network(ROWS)[0], run_alone(alone(build()), ROWS)[0])


def test_a_gpu_runs_keras(tmp_path, monkeypatch):
    made, build, built = preset(tmp_path / "p")
    Network(build, made, "net").export()
    built.clear()
    monkeypatch.setattr(backend, "_CHOSEN", ["gpu"])
    Network(build, made, "net")(ROWS)
    assert built == [1]
