"""A file that grows, shrinks or is replaced while it is read is not written: nobody has searched what it holds now."""

from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from deidcli.engine.jobs import Job
from deidcli.engine.local import anonymize
from deidcli.engine.settings import Settings
from deidcli.methods import find
from deidcli.methods.base import Secret
from tests.media.filmed import film


class Meddler:
    """A detector that sees nothing and does something to the file when it is asked for the second time."""

    batches = False

    def __init__(self, path, change):
        self.path, self.change, self.calls = path, change, 0

    def detect(self, pictures, followed=False):
        """No faces."""
        self.calls += 1
        if self.calls == min(2, getattr(self, "when", 2)):
            self.change(self.path)
        return [[] for _ in pictures]


CHANGES = {
    "grows": lambda path: path.write_bytes(path.read_bytes() * 2),
    "is cut": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "is another": lambda path: path.write_bytes(path.read_bytes().replace(b"\0", b"\1")),
    "is gone": lambda path: path.unlink(),
    "stays": lambda path: None,
}


@pytest.mark.parametrize("name", ["in.ts", "in.mkv", "in.png"])
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_file_that_changes(tmp_path, monkeypatch, name, change):
    path = tmp_path / name
    if name.endswith("png"):
        Image.fromarray(np.full((40, 40, 3), 90, np.uint8)).save(path)
    else:
        film(path, "mpeg2video" if name.endswith("ts") else "ffv1", clock=Fraction(1, 25))
    meddler = Meddler(path, change)
    meddler.when = 1 if name.endswith("png") else 2
    monkeypatch.setattr("deidcli.engine.local.detector", lambda options: meddler)
    out = tmp_path / f"out{path.suffix}"
    method = find("solid")(secret=Secret.seeded(1))
    rows = list(anonymize([Job(path, out, name)], method, Settings(verify=False, workers=1)))
    if change is CHANGES["stays"]:
        assert rows[0].status == "done" and out.exists()
    else:
        assert rows[0].status == "failed" and name in rows[0].error and not out.exists()


@pytest.mark.parametrize(
    "error", [ValueError("31 is not a valid Type"), KeyError("x"), MemoryError(), RuntimeError("in.mkv: torn")]
)
def test_every_error_names_its_file_once(tmp_path, monkeypatch, error):
    class Broken(Meddler):
        def detect(self, pictures, followed=False):
            raise error

    path = film(tmp_path / "in.mkv", count=3)
    monkeypatch.setattr("deidcli.engine.local.detector", lambda options: Broken(path, None))
    method = find("solid")(secret=Secret.seeded(1))
    rows = list(anonymize([Job(path, tmp_path / "out.mkv", "in.mkv")], method, Settings(verify=False, workers=1)))
    assert rows[0].status == "failed" and rows[0].error.count("in.mkv") == 1
