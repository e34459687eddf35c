"""What the tests of all rooms share: pictures of nobody's faces, a tiny preset, and the command in process.

Every face comes out of examples/in, cut out and shrunk, so that a search takes a twentieth of a second.
"""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

from deidcli.faces.detectors import DetectOptions, detector
from deidcli.faces.landmarks import locate
from deidcli.media.open import open_reader
from deidcli.methods.cleanir import TRAITS
from deidcli.presets import Preset, save_preset
from deidcli.values import Box, Face, Frame

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
# Drawn once and for all, so that a test that passes here passes elsewhere; no deadline, because machines are shared.
settings.register_profile("house", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("house")

# PyAV 18, which videos need, is not made for Python 3.10.
collect_ignore_glob = [] if sys.version_info >= (3, 11) else ["*/test_video*.py", "*/test_sequence.py"]
EXAMPLES = Path(__file__).parents[1] / "examples" / "in"
SIDE = 224  # of a portrait, in pixels
# Which of 68 landmarks takes the place of which when a picture is mirrored.
MIRROR = np.array(
    [*range(16, -1, -1), *range(26, 16, -1), 27, 28, 29, 30, *range(35, 30, -1), 45, 44, 43, 42, 47, 46, 39, 38, 37, 36]
    + [41, 40, *range(54, 47, -1), *range(59, 54, -1), *range(64, 59, -1), *range(67, 64, -1)]
)


@dataclass(frozen=True)
class Result:
    """What a command left: its exit status, and what it said on standard output and standard error."""

    status: int
    out: bytes
    err: str


# The commands search with the fastest detector; tests/detectors looks at every one, and at the default.
@pytest.fixture(autouse=True)
def own_environment(monkeypatch) -> None:
    """No setting of whoever runs the tests, but the fast detector; DEID_DATA says where research data lie."""
    for name in [name for name in os.environ if name.startswith("DEID_") and name != "DEID_DATA"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("DEID_DETECTOR", "hog")


def found(pixels: np.ndarray, upsample: int | None = None) -> list[Face]:
    """The faces of a picture with their landmarks, as a run with the default options sees them."""
    return locate(pixels, detector(DetectOptions(upsample=upsample)).detect([pixels])[0])


def read(path: Path) -> np.ndarray:
    """The first frame of a file."""
    with open_reader(path) as reader:
        return next(iter(reader.frames())).pixels


@pytest.fixture(scope="session")
def portraits() -> list[np.ndarray]:
    """Three pictures (SIDE, SIDE, 3) uint8 with one face in each, which has landmarks."""
    portraits = []
    for path in sorted(path for path in EXAMPLES.rglob("*") if path.is_file()):
        pixels = read(path)
        for face in found(pixels, upsample=0):
            portrait = _cut(pixels, face.box)
            faces = found(portrait)
            if len(faces) == 1 and faces[0].landmarks is not None:
                portraits.append(portrait)
            if len(portraits) == 3:
                return portraits
    raise AssertionError(f"{EXAMPLES} shows fewer than three faces that are found")


def _cut(pixels: np.ndarray, box: Box) -> np.ndarray:
    """The square about a face of about SIDE / 2 pixels."""
    scale = SIDE / 2 / box.width
    x, y = box.center
    transform = np.array([[scale, 0, SIDE / 2 - scale * x], [0, scale, SIDE * 0.55 - scale * y]])
    flags = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return cv2.warpAffine(pixels, transform, (SIDE, SIDE), flags=flags, borderMode=cv2.BORDER_REFLECT_101)


@pytest.fixture(scope="session")
def portrait(portraits) -> np.ndarray:
    """One face, (SIDE, SIDE, 3) uint8."""
    return portraits[0]


@pytest.fixture(scope="session")
def face(portrait) -> Face:
    """The face of `portrait`, with landmarks."""
    return found(portrait)[0]


@pytest.fixture(scope="session")
def frame(portrait) -> Frame:
    """`portrait` as a frame."""
    return Frame(portrait)


@pytest.fixture(scope="session")
def crowd(portraits) -> np.ndarray:
    """Three faces side by side, (SIDE, 3 SIDE, 3) uint8."""
    pixels = np.hstack(portraits)
    assert len(found(pixels)) == 3
    return pixels


@pytest.fixture(scope="session")
def nobody() -> np.ndarray:
    """Soft colours without a face, (90, 120, 3) uint8."""
    drawn = np.random.default_rng(4).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    return cv2.normalize(cv2.GaussianBlur(drawn, (0, 0), 9), None, 0, 255, cv2.NORM_MINMAX)


@pytest.fixture(scope="session")
def tiny_preset(tmp_path_factory) -> Iterator[Preset]:
    """A preset for cleanir with few channels and drawn weights, strong enough that an axis shows in the pixels."""
    import keras

    from deidcli.networks import cleanir
    from deidcli.networks.cleanir import VaeConfig, build_decoder, build_encoder

    keras.utils.set_random_seed(8)
    config = VaeConfig(encoder=(8, 8, 8, 8, 8), decoder=(8, 8, 8, 8, 8))
    encoder, decoder = build_encoder(config), build_decoder(config)
    for name, factor in (("dec0_dense", 30), ("decl_conv", 4)):
        layer = decoder.get_layer(name)
        layer.set_weights([weight * factor for weight in layer.get_weights()])
    folder = tmp_path_factory.mktemp("models") / "cleanir-256"
    spread = np.random.default_rng(8).standard_normal((128, config.identity)).astype(np.float32)
    traits = {f"trait_{name}": rows for name, rows in zip(TRAITS, np.split(spread[:8], len(TRAITS)), strict=True)}
    names = cleanir.save(folder, encoder, decoder, spread=spread, **traits)
    network = {"size": config.size, "encoder": config.encoder, "decoder": config.decoder}
    config = {"method": "cleanir", "crop": {"size": 64, "margin": 0.06}, "network": network, "traits": TRAITS}
    # Building a network takes seconds, and every test has its own method.
    patch = pytest.MonkeyPatch()
    load, known = cleanir.load, {}

    def load_once(preset: Preset):
        if preset.checksum not in known:
            known[preset.checksum] = load(preset)
        return known[preset.checksum]

    patch.setattr(cleanir, "load", load_once)
    yield save_preset(folder, config, names, "Tiny.")
    patch.undo()


@pytest.fixture(scope="session")
def without_xla() -> Iterator[None]:
    """Networks are not compiled by XLA, which takes ten times as long as the tests train them."""
    import keras

    compiled = keras.Model.compile

    def compile(self, *arguments, **options):
        return compiled(self, *arguments, **{"jit_compile": False, **options})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keras.Model, "compile", compile)
        yield


@pytest.fixture
def deid(monkeypatch) -> Callable[..., Result]:
    """`deid ARGUMENTS` in this process; `stdin` is what it reads."""
    from deidcli.__main__ import run

    def call(*arguments: object, stdin: bytes = b"") -> Result:
        out, err = _stream(b""), _stream(b"")
        with monkeypatch.context() as patch:
            for name, stream in (("stdin", _stream(stdin)), ("stdout", out), ("stderr", err)):
                patch.setattr(sys, name, stream)
            status = run([str(a) for a in arguments])
        return Result(status, out.buffer.getvalue(), err.buffer.getvalue().decode())

    return call


def _stream(held: bytes) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(held), encoding="utf-8", errors="backslashreplace", write_through=True)


@pytest.fixture
def folder(tmp_path, portrait, crowd, nobody) -> Path:
    """A folder with one face, three faces and none: one.png, sub/three.jpg, none.png."""
    save(portrait, tmp_path / "in" / "one.png")
    save(crowd, tmp_path / "in" / "sub" / "three.jpg", quality=92)
    save(nobody, tmp_path / "in" / "none.png")
    return tmp_path / "in"


def save(pixels: np.ndarray, path: Path, **options: object) -> Path:
    """Write a picture in the format of its suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder with its bytes, manifests and locks left out."""
    own = ("deid-manifest", ".deid-lock")
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.startswith(own)]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def rows(path: Path) -> dict[str, dict]:
    """The rows of a manifest, or of the one in a folder, by their input."""
    path = path / "deid-manifest.jsonl" if path.is_dir() else path
    return {row["input"]: row for row in map(json.loads, path.read_bytes().splitlines())}


def pytest_terminal_summary(terminalreporter) -> None:
    """Say aloud how many tests were not run, and why: research data, programs or rights that are missing here."""
    reasons: dict[str, int] = {}
    for report in terminalreporter.stats.get("skipped", []):
        said = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        reason = said.removeprefix("Skipped: ")
        reasons[reason] = reasons.get(reason, 0) + 1
    if reasons:
        terminalreporter.section(f"{sum(reasons.values())} tests were not run")
        for reason, count in sorted(reasons.items(), key=lambda pair: -pair[1]):
            terminalreporter.line(f"{count:5} {reason}")


def drawn_generator(folder: Path, config: Any, **more: str) -> Preset:
    """A preset for epdnet with drawn weights that change a face plainly."""
    import keras

    from deidcli.networks import epd_net

    keras.utils.set_random_seed(2)
    network = epd_net.build_generator(config)
    layer = network.get_layer("change")
    kernel, bias = layer.get_weights()
    layer.set_weights([np.random.default_rng(2).normal(0, 0.03, kernel.shape), bias])
    stored = {"method": "epdnet", "crop": {"size": config.size, "margin": 0.06}, "network": config.stored()}
    return save_preset(folder, stored | more, epd_net.save(folder, network), "Drawn.")


@pytest.fixture(scope="session")
def generator_preset(tmp_path_factory) -> Preset:
    """A preset for epdnet in the canonical frame, with few channels and drawn weights."""
    from deidcli.networks.epd_net import EpdConfig

    folder = tmp_path_factory.mktemp("models") / "epdnet"
    return drawn_generator(folder, EpdConfig(64, (8, 8, 12), True), model="face-256")
