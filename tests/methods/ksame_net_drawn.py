"""A preset for ksame-net with a network of drawn weights, and the real proxies' shapes."""

from pathlib import Path

import keras
import numpy as np

from deidcli.faces.pose import upright
from deidcli.methods.ksame.m import STEPS
from deidcli.methods.ksame.proxies import Gallery, Proxies
from deidcli.networks.ksame_net import GeneratorConfig, build_generator, save
from deidcli.presets import Preset, save_preset

EXPRESSIONS = ("neutral", "happiness")


def draw_preset(folder: Path) -> Preset:
    """Strong weights, so that every number of x and y shows."""
    keras.utils.set_random_seed(6)
    gallery = Gallery.load("ksame-gallery")
    shapes = np.array([[upright(points) for points in proxy] for proxy in gallery.landmarks])
    moves = np.zeros((len(EXPRESSIONS), 68, 2))
    rows = gallery.traits, gallery.descriptors[:, 0], shapes, moves
    proxies = Proxies(EXPRESSIONS, STEPS, *rows, gallery.probe, 32, 0.15)
    config = GeneratorConfig(len(shapes), len(EXPRESSIONS) + shapes.shape[1], 32, (16, 8), (16, 8, 8), 4)
    network = build_generator(config)
    for layer in ("fc1", "fc2", "fc3"):
        network.get_layer(layer).set_weights([10 * weight for weight in network.get_layer(layer).get_weights()])
    names = [*save(folder, network), *proxies.save(folder)]
    return save_preset(folder, {"method": "ksame-net", **proxies.stored(), "network": config.stored()}, names, "Drawn.")
