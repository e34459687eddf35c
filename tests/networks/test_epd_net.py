"""EPD-Net's generator begins as the identity and takes its noise from numbers; its adversary judges patches."""

import keras
import numpy as np
import pytest

from deidcli.errors import PresetError
from deidcli.networks.classifiers import ClassifierConfig, Head, build_classifier
from deidcli.networks.epd_net import (
    METHOD,
    EpdConfig,
    Translator,
    build_critic,
    build_generator,
    detail,
    load,
    load_verifier,
    packed,
    save,
)
from deidcli.networks.store import Network
from deidcli.presets import save_preset

CONFIG = EpdConfig(32, (8, 8, 12))


def drawn(config, count=3, seed=1):
    random = np.random.default_rng(seed)
    pictures = random.random((count, config.size, config.size, config.inputs), np.float32)
    return pictures, random.random((count, config.noise), np.float32)


def taught(config):
    """A generator whose change is not nothing."""
    network = build_generator(config)
    layer = network.get_layer("change")
    kernel, bias = layer.get_weights()
    layer.set_weights([np.random.default_rng(2).normal(0, 0.05, kernel.shape), bias])
    return Translator(config, Network.of(network))


@pytest.mark.parametrize("started", [False, True])
def test_begins_as_the_picture_that_it_changes(started):
    config = EpdConfig(32, (8, 8, 12), started)
    pictures, noise = drawn(config)
    made = Translator(config, Network.of(build_generator(config))).translate(pictures, noise)
    assert np.array_equal(made, pictures[..., -3:])


def test_noise_decides_and_company_does_not():
    translator = taught(CONFIG)
    pictures, noise = drawn(CONFIG)
    made = translator.translate(pictures, noise)
    assert made.min() >= 0 and made.max() <= 1 and np.abs(made - pictures).max() > 0.01
    assert np.array_equal(translator.translate(pictures[1:2], noise[1:2])[0], made[1])
    assert not np.array_equal(translator.translate(pictures, 1 - noise), made)


def test_half_of_the_numbers_are_dropped():
    """What z says of the first block, whose map is all ones, is what is left of it."""
    from deidcli.networks.backend import keras
    from deidcli.networks.epd_net import _dropped

    noise = np.random.default_rng(3).random((1, 128), np.float32)
    x, given = keras.Input((4, 4, 8)), keras.Input((128,))
    left = np.asarray(keras.Model([x, given], _dropped(x, given, "drop"))([np.ones((1, 4, 4, 8)), noise]))
    assert set(np.unique(left)) == {0.0, 2.0}
    assert np.array_equal(left.reshape(-1) > 0, noise[0] >= 0.5)


def test_noise_has_a_number_for_each_that_may_be_dropped():
    """Two blocks at 8 and 16 pixels, with 8 channels each."""
    assert CONFIG.noise == (8 * 8 + 16 * 16) * 8
    pictures, noise = drawn(CONFIG)
    assert packed(pictures, noise).shape == (3, 32 * 32 * 3 + CONFIG.noise)


def test_the_adversary_judges_patches():
    """A change in one corner changes the verdicts about that corner alone."""
    critic = build_critic(EpdConfig(), (8, 8, 8))
    picture = np.full((1, 64, 64, 3), 0.5, np.float32)
    other = picture.copy()
    other[:, :8, :8] = 0
    before, after = (np.asarray(critic(p, training=False))[0, ..., 0] for p in (picture, other))
    assert before.shape == (8, 8) and before[0, 0] != after[0, 0]
    assert np.array_equal(before[4:], after[4:]) and np.array_equal(before[:, 4:], after[:, 4:])


@pytest.fixture
def preset(tmp_path):
    verifier = ClassifierConfig((Head("identity", ("a", "b", "c")),), 32, (4, 4, 4, 4, 4), style="vgg")
    names = save(tmp_path, taught(CONFIG).network.model, identity=build_classifier(verifier))
    config = {"method": METHOD, "crop": {"size": 32, "margin": 0.06}, "network": CONFIG.stored()}
    return save_preset(tmp_path, config | {"identity": verifier.stored()}, names, "")


def test_a_preset_comes_back(preset):
    pictures, noise = drawn(CONFIG)
    made = load(preset).translate(pictures, noise)
    assert np.abs(made - taught(CONFIG).translate(pictures, noise)).max() < 1
    assert load(preset).config == CONFIG and np.abs(made - pictures).max() > 0.01
    said = load_verifier(preset, "identity").predict((pictures * 255).astype(np.uint8))["identity"]
    assert said.shape == (3, 3) and np.allclose(said.sum(axis=1), 1, atol=1e-5)
    with pytest.raises(PresetError, match="emotion"):
        load_verifier(preset, "emotion")


@pytest.mark.parametrize("change", [{"channels": [8, 8]}, {"size": 33}, {"depth": 3}])
def test_a_network_that_cannot_be_is_refused(preset, change):
    preset.config["network"] = CONFIG.stored() | change
    with pytest.raises(PresetError, match="network"):
        load(preset)


def test_a_start_is_changed_in_its_detail_alone():
    config = EpdConfig(32, (4, 4, 8), started=True)
    generator, random = build_generator(config), np.random.default_rng(1)
    change = generator.get_layer("change")
    change.kernel.assign(random.normal(0, 0.1, change.kernel.shape).astype(np.float32))
    pictures = random.uniform(0.4, 0.6, (2, 32, 32, 6)).astype(np.float32)
    rows = packed(pictures, random.random((2, config.noise), np.float32))
    moved = keras.ops.convert_to_numpy(generator(rows)) - pictures[..., 3:]
    assert np.abs(moved).max() > 0.01
    assert np.allclose(moved, moved[..., :1], atol=1e-5)  # no colour
    wide = keras.ops.convert_to_numpy(keras.ops.mean(moved, axis=(1, 2)))
    assert np.abs(wide).max() < 0.01 * np.abs(moved).max()


def test_detail_is_what_is_narrower_than_a_square():
    rows, columns = np.mgrid[:64, :64].astype(np.float32)
    slope, stripes = (columns + rows) / 128, (columns % 4 < 2).astype(np.float32)
    for grey, kept in ((slope, 0.0), (stripes, 0.5)):
        left = keras.ops.convert_to_numpy(detail(keras.ops.convert_to_tensor(grey[None, ..., None])))[0, 8:-8, 8:-8, 0]
        assert abs(np.abs(left).mean() - kept) < 0.01
