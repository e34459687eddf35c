"""Another package adds a method, a detector, a recogniser, a format and an attack: one file each, by entry point."""

import struct
import sys

import numpy as np
import pytest

from deidcli import methods
from deidcli.evaluation import attacks
from deidcli.faces import detectors, recognisers
from deidcli.media import open as opening
from tests.conftest import rows

FILES = {
    "toy_method": """
from dataclasses import dataclass
from deidcli.methods.base import Method, option
from deidcli.values import CropSpec

class Toy(Method):
    name, summary = "toy", "every pixel gets one shade"
    crop = CropSpec(size=None, margin=0.1, align="box", mask="ellipse", transfer_lighting=False)

    @dataclass(frozen=True)
    class Options:
        shade: int = option(9, "grey of the face", 0, 255)

    def apply(self, crops):
        return [crop.with_pixels(crop.pixels * 0 + self.options.shade) for crop in crops]
""",
    "toy_detector": """
from deidcli.faces.detectors import Detector
from deidcli.values import Box, Face

class Toy(Detector):
    name, threshold, smallest, largest, low_light = "toy", 0.5, 8, 10**9, False

    def find(self, pictures):
        return [[Face(Box(20, 10, 60, 50), 0.9)] for _ in pictures]
""",
    "toy_recogniser": """
import numpy as np
from deidcli.faces.recognisers import Recogniser

class Toy(Recogniser):
    name, threshold, length = "toy", 0.1, 3

    def chips(self, pixels, faces):
        return np.stack([pixels[:8, :8] for _ in faces])

    def embed(self, chips):
        return chips.reshape(len(chips), -1, 3).mean(axis=1).astype(np.float32)
""",
    "toy_format": """
import struct
import numpy as np
from deidcli.errors import MediaError
from deidcli.media.open import Format
from deidcli.media.stream import Reader, StreamInfo, Writer
from deidcli.values import Frame

class Toy(Format):
    @classmethod
    def matches(cls, head):
        return head.startswith(b"TOYF")

    @classmethod
    def open(cls, data, name, options):
        width, height = struct.unpack("<HH", data[4:8])
        if len(data) != 8 + 3 * width * height:
            raise MediaError(f"{name}: is not whole")
        return ToyReader(np.frombuffer(data[8:], np.uint8).reshape(height, width, 3))

class ToyReader(Reader):
    def __init__(self, pixels):
        self.pixels, self.info = pixels, StreamInfo("toy", pixels.shape[1::-1], 1)

    def frames(self):
        yield Frame(self.pixels)

    def writer(self, target, options, suffix=""):
        return ToyWriter(target)

class ToyWriter(Writer):
    def __init__(self, target):
        self.target = target

    def write(self, frame, changed):
        self.target.write(b"TOYF" + struct.pack("<HH", frame.width, frame.height) + frame.pixels.tobytes())

    def finish(self):
        pass
""",
    "toy_attack": """
from deidcli.evaluation.attacks import Attacker

class Toy(Attacker):
    name = "toy"

    def __call__(self, *args, **kwargs):
        return []
""",
}
CACHES = (methods.available, detectors.available, recognisers.available, attacks.available, opening.formats)


@pytest.fixture
def toys(tmp_path, monkeypatch):
    """The package `toys` as pip would have installed it."""
    place = tmp_path / "site"
    (place / "toys-1.0.dist-info").mkdir(parents=True)
    (place / "toys-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: toys\nVersion: 1.0\n")
    points = [f"[deidcli.{name.removeprefix('toy_')}s]\ntoy = {name}:Toy\n" for name in FILES]
    (place / "toys-1.0.dist-info" / "entry_points.txt").write_text("\n".join(points))
    for name, text in FILES.items():
        (place / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(str(place))
    # The command's flags are made of the methods when it is loaded.
    monkeypatch.delitem(sys.modules, "deidcli.cli.anonymize", raising=False)
    for cached in CACHES:
        cached.cache_clear()
    yield
    sys.modules.pop("deidcli.cli.anonymize", None)
    for cached in CACHES:
        cached.cache_clear()
    for name in FILES:
        sys.modules.pop(name, None)


def test_each_kind_is_known(toys):
    for known in CACHES:
        assert known()["toy"].__module__.startswith("toy_")


def test_they_work_together(toys, deid, tmp_path):
    pixels = np.random.default_rng(3).integers(60, 200, (64, 90, 3), dtype=np.uint8)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.toyf").write_bytes(b"TOYF" + struct.pack("<HH", 90, 64) + pixels.tobytes())
    flags = ("--method", "toy", "--detector", "toy", "--recogniser", "toy", "--shade", 7)
    done = deid("anonymize", *flags, tmp_path / "in", tmp_path / "out")
    assert done.status == 0 and "1 of 1 files written; 1 faces replaced" in done.err, done.err
    row = rows(tmp_path / "out")["a.toyf"]
    assert (row["format"], row["method"], row["detector"], row["options"]) == ("toy", "toy", "toy", {"shade": 7})
    new = np.frombuffer((tmp_path / "out" / "a.toyf").read_bytes()[8:], np.uint8).reshape(64, 90, 3)
    assert (new[30, 40] == 7).all() and np.array_equal(new[:, 85:], pixels[:, 85:])
    (tmp_path / "in" / "a.toyf").write_bytes(b"TOYF1234")
    assert deid("anonymize", *flags, "--overwrite", tmp_path / "in", tmp_path / "out").status == 3
