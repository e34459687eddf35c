"""FaceNet with the weights of keras-facenet: fetched once, verified, and never guessed."""

from __future__ import annotations

import importlib.util
import os
import urllib.error
import urllib.request
from pathlib import Path

from deidcli.errors import MissingDependency, PresetError
from deidcli.networks.backend import keras, ops
from deidcli.networks.store import Network
from deidcli.presets import Preset, sha256

KEY = "20180402-114759"  # VGGFace2, 99.65 % on LFW by its author
FOLDER = "~/.keras-facenet"  # where keras-facenet looks, too
ADDRESS = "https://github.com/faustomorales/keras-facenet/releases/download/v0.3.1/"
FILE = f"{KEY}-weights.h5"
CHECKSUM = "8b71e7045497e841c00ee568f031d1a4d30908fceadf6884aef2dec4d545202b"
SIDE, LENGTH = 160, 512
PATIENCE = 30  # seconds without an answer


def check_installed() -> None:
    """Raises MissingDependency where keras-facenet, or scipy which it imports, is not installed."""
    missing = [name for name in ("keras_facenet", "scipy") if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingDependency(
            f"the recogniser facenet needs {' and '.join(missing)}", "run `pip install deidcli[facenet]`"
        )


def weight_file() -> Path:
    """The verified weight file, fetched if it is not there. Raises PresetError that names the file to place."""
    path = Path(FOLDER).expanduser() / KEY / FILE
    if not path.is_file():
        _fetch(ADDRESS + FILE, path)
    if sha256(path) != CHECKSUM:
        raise PresetError(f"{path} is damaged: its sha256 is not {CHECKSUM}", "delete it and fetch it again")
    return path


def network() -> Network:
    """The network as `build` makes it, its weights fetched if they are not there; each row is computed alone.

    Raises MissingDependency or PresetError.
    """
    path = weight_file()
    return Network(lambda: build(path), Preset("facenet", path.parent, {"files": {FILE: CHECKSUM}}), "facenet")


def build(path: Path) -> keras.Model:
    """The network with the weights of `path`: (N, 160, 160, 3) as (RGB - 127.5) / 127.5 to (N, 512) of unit length.

    Raises MissingDependency where keras-facenet is not installed, PresetError for weights of another network.
    """
    check_installed()
    from keras_facenet.inception_resnet_v1 import InceptionResNetV1

    network = InceptionResNetV1(input_shape=(SIDE, SIDE, 3), classes=LENGTH)
    try:
        network.load_weights(path)
        # Its last layer calls TensorFlow itself, and not through Keras.
        x = network.layers[-2].output
        network = keras.Model(network.input, x / ops.sqrt(ops.maximum(ops.sum(x * x, axis=-1, keepdims=True), 1e-12)))
    except (ValueError, OSError, KeyError) as error:
        raise PresetError(f"{path} does not hold FaceNet's weights: {error}", f"fetch {ADDRESS + FILE}") from error
    return network


def _fetch(address: str, path: Path) -> None:
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with urllib.request.urlopen(address, timeout=PATIENCE) as answer, part.open("wb") as file:
            while block := answer.read(1 << 20):
                file.write(block)
        part.replace(path)
    except (OSError, urllib.error.URLError) as error:
        hint = f"fetch it on another machine and place it at {path} (sha256 {CHECKSUM})"
        raise PresetError(f"FaceNet's weights cannot be fetched from {address}: {error}", hint) from error
    finally:
        part.unlink(missing_ok=True)
