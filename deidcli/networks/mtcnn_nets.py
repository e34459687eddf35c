"""The three networks of MTCNN (Zhang et al., 2016) in Keras, with the weights of the package `mtcnn`.

The first network scores every window of 12 pixels of a picture, the second and third look at the windows that are left
at 24 and 48 pixels. Pictures come as (RGB - 127.5) / 128.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from deidcli.errors import MissingDependency, PresetError
from deidcli.networks.backend import keras, layers
from deidcli.presets import sha256

DTYPE = "float32"
# The files are Python pickles, which may run anything: only these very files are opened.
CHECKSUMS = {
    "pnet": "ea6b0c3e685ebee3165326ad6484acc95f2ef78f1c94fbf40a55704fa989f7b5",
    "rnet": "cb00e6460f3c98b0bfafaba3c0a0ded4bdf6e62cee7174d969e8670d7e757fee",
    "onet": "94f6ea2f4cf985275ee958cdd762d17b6009348a4fb9d8c6be39ba73ffd22ca3",
}


def build_proposer(weights: list[np.ndarray]) -> keras.Model:
    """(N, H, W, 3) to scores (N, h, w) in [0, 1] and box offsets (N, h, w, 4); h and w count windows in steps of 2."""
    given = iter(weights)
    picture = keras.Input((None, None, 3), dtype=DTYPE)
    x = _block(picture, given)
    x = layers.MaxPooling2D(2, dtype=DTYPE)(x)
    x = _block(_block(x, given), given)
    offsets, classes = _conv(x, given), _conv(x, given)
    return keras.Model(picture, [layers.Softmax(dtype=DTYPE)(classes)[..., 1], offsets], name="mtcnn_pnet")


def build_refiner(weights: list[np.ndarray]) -> keras.Model:
    """(N, 24, 24, 3) to scores (N,) and box offsets (N, 4)."""
    given = iter(weights)
    patch = keras.Input((24, 24, 3), dtype=DTYPE)
    x = layers.MaxPooling2D(3, 2, padding="same", dtype=DTYPE)(_block(patch, given))
    x = layers.MaxPooling2D(3, 2, dtype=DTYPE)(_block(x, given))
    x = _hidden(_block(x, given), given)
    offsets, classes = _dense(x, given), _dense(x, given)
    return keras.Model(patch, [layers.Softmax(dtype=DTYPE)(classes)[:, 1], offsets], name="mtcnn_rnet")


def build_judge(weights: list[np.ndarray]) -> keras.Model:
    """(N, 48, 48, 3) to scores (N,), box offsets (N, 4) and five points (N, 10), all x before all y."""
    given = iter(weights)
    patch = keras.Input((48, 48, 3), dtype=DTYPE)
    x = layers.MaxPooling2D(3, 2, padding="same", dtype=DTYPE)(_block(patch, given))
    x = layers.MaxPooling2D(3, 2, dtype=DTYPE)(_block(x, given))
    x = layers.MaxPooling2D(2, padding="same", dtype=DTYPE)(_block(x, given))
    x = _hidden(_block(x, given), given)
    offsets, points, classes = _dense(x, given), _dense(x, given), _dense(x, given)
    return keras.Model(patch, [layers.Softmax(dtype=DTYPE)(classes)[:, 1], offsets, points], name="mtcnn_onet")


def load_weights(name: str) -> list[np.ndarray]:
    """The arrays of the network `name` ("pnet", "rnet" or "onet") out of the installed package `mtcnn`.

    Raises MissingDependency where the package is not installed, PresetError where its file is not the known one.
    """
    path = _file(name)
    if sha256(path) != CHECKSUMS[name]:
        raise PresetError(f"{path} is not the weight file of mtcnn 1.0.0", "run `pip install --force-reinstall mtcnn`")
    import joblib

    return joblib.load(path)


def _file(name: str) -> Path:
    found = importlib.util.find_spec("mtcnn")
    for folder in (found.submodule_search_locations or []) if found else []:
        path = Path(folder) / "assets" / "weights" / f"{name}.lz4"
        if path.is_file() and importlib.util.find_spec("joblib") and importlib.util.find_spec("lz4"):
            return path
    raise MissingDependency(
        "the detector mtcnn needs the packages mtcnn 1.0.0, joblib and lz4", "run `pip install deidcli[facenet]`"
    )


def _block(x, given: Iterator[np.ndarray]):
    """A convolution and a rectifier with a slope of its own for each channel."""
    return _slope(_conv(x, given), given, [1, 2])


def _conv(x, given: Iterator[np.ndarray]):
    kernel, bias = next(given), next(given)
    layer = layers.Conv2D(len(bias), kernel.shape[:2], dtype=DTYPE)
    y = layer(x)
    layer.set_weights([kernel, bias])
    return y


def _slope(x, given: Iterator[np.ndarray], shared: list[int] | None):
    layer = layers.PReLU(shared_axes=shared, dtype=DTYPE)
    y = layer(x)
    layer.set_weights([next(given)])
    return y


def _hidden(x, given: Iterator[np.ndarray]):
    # The weights come from Caffe by way of MATLAB: columns before rows.
    x = layers.Flatten(dtype=DTYPE)(layers.Permute((2, 1, 3), dtype=DTYPE)(x))
    return _slope(_dense(x, given), given, None)


def _dense(x, given: Iterator[np.ndarray]):
    kernel, bias = next(given), next(given)
    layer = layers.Dense(len(bias), dtype=DTYPE)
    y = layer(x)
    layer.set_weights([kernel, bias])
    return y
