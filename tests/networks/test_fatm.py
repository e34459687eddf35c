"""FATM's networks: the sizes of Figure 3, and what a preset of them gives back."""

import json
from dataclasses import asdict

import numpy as np
import pytest

from deidcli.errors import PresetError
from deidcli.networks.fatm import FatmConfig, build_decoder, build_encoder, load, save
from deidcli.networks.own_layers import PixelShuffle
from deidcli.presets import save_preset

TINY = FatmConfig(32, 64, 1 / 64, residual=True)


def kernels(network):
    return [layer.kernel.shape for layer in network.layers if layer.weights]


def test_the_papers_sizes():
    encoder, decoder = build_encoder(FatmConfig()), build_decoder(FatmConfig(), "one")
    convolutions = [(5, 5, 3, 128), (5, 5, 128, 256), (5, 5, 256, 512), (5, 5, 512, 1024)]
    assert kernels(encoder) == [*convolutions, (4 * 4 * 1024, 1024), (1024, 16384)]
    ups = [(3, 3, 1024, 4 * 512), (3, 3, 512, 4 * 256), (3, 3, 256, 4 * 128), (3, 3, 128, 4 * 64)]
    assert kernels(decoder) == [*ups, (5, 5, 64, 3)]
    assert decoder.input_shape == (None, 16384) and decoder.output_shape == (None, 64, 64, 3)


def test_a_larger_picture_has_more_layers():
    assert FatmConfig(64, 256, 0.5).upscales == [256, 128, 64, 32, 16, 8]
    assert build_decoder(TINY, "one").output_shape == (None, 64, 64, 3)


def test_four_channels_become_four_pixels():
    given = np.arange(2 * 3 * 8, dtype=np.float32).reshape(1, 2, 3, 8)
    made = np.asarray(PixelShuffle()(given))
    assert made.shape == (1, 4, 6, 2)
    assert made[0, :2, :2].reshape(-1, 2).tolist() == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert made[0, 2:, 4:].reshape(-1).tolist() == list(range(40, 48))


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "tiny"
    decoders = {name: build_decoder(TINY, name) for name in ("a", "b")}
    for number, decoder in enumerate(decoders.values()):
        last = decoder.get_layer("colours")
        drawn = np.random.default_rng(number).standard_normal(last.kernel.shape)
        last.set_weights([drawn, last.get_weights()[1]])
    files = save(folder, build_encoder(TINY), decoders)
    config = {"network": asdict(TINY), "donors": {"a": "", "b": ""}}
    return save_preset(folder, {"method": "fatm", **config}, files, "")


def test_each_donor_has_a_face_and_each_row_its_bits(preset):
    faces, pictures = load(preset), np.random.default_rng(3).random((3, 32, 32, 3), np.float32)
    made = faces(pictures, "a")
    assert made.shape == (3, 64, 64, 3) and np.isfinite(made).all()
    assert not np.allclose(made, faces(pictures, "b"))
    assert all(np.array_equal(faces(row[None], "a")[0], own) for row, own in zip(pictures, made, strict=True))


def test_an_untrained_residual_adds_nothing():
    code = np.random.default_rng(1).standard_normal((2, int(np.prod(TINY.map)))).astype(np.float32)
    assert not np.asarray(build_decoder(TINY, "one")(code)).any()


def test_a_preset_without_its_sizes_is_refused(preset, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"method": "fatm", "donors": {}}))
    broken = type(preset)("broken", tmp_path, {"method": "fatm", "donors": {}})
    with pytest.raises(PresetError, match="broken"):
        load(broken)
