"""Something fails at every step of the chain, in every way: no face is open afterwards, no file half, and it is said.

The detector and the recogniser are stubs that know the drawn face; everything else is the chain as it runs.
"""

import errno
import os
import threading
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from deidcli.engine import find, follow, local, replace
from deidcli.engine.files import PART
from deidcli.engine.jobs import Job
from deidcli.engine.local import anonymize
from deidcli.engine.manifest import Manifest
from deidcli.engine.output import Target
from deidcli.engine.pipeline import Pipeline
from deidcli.engine.settings import Settings
from deidcli.engine.written import WrittenCheck
from deidcli.faces.detectors import DetectOptions, Detector
from deidcli.faces.recognisers import Recogniser
from deidcli.media.image.reader import ImageReader, ImageWriter
from deidcli.media.open import open_reader
from deidcli.methods import find as method_called
from deidcli.methods.base import Secret
from deidcli.methods.naive import Pixelate
from deidcli.values import Box, Face
from tests.conftest import rows, tree
from tests.media.filmed import film

SIZE, PLACE = (96, 80), Box(24, 16, 72, 64)
OPTIONS = ("--method", "pixelate", "--cells", "3", "--seed", "1", "--workers", "1", "--batch-size", "2", "--quiet")


def drawn(face=True):
    """A disc with a pattern on grey, or the grey alone; (height, width, 3) uint8."""
    pixels = np.full((SIZE[1], SIZE[0], 3), 90, np.uint8)
    if face:
        x, y = np.meshgrid(np.arange(48), np.arange(48))
        pattern = np.where((x // 6 + y // 6) % 2, 230, 30).astype(np.uint8)
        pixels[16:64, 24:72] = pattern[..., None]
    return pixels


def shows_face(pixels):
    part = pixels[16:64, 24:72].astype(np.float64)
    return pixels.shape == (SIZE[1], SIZE[0], 3) and bool(np.mean(np.abs(part - drawn()[16:64, 24:72])) < 40)


class Stub(Detector):
    """Finds the drawn face where it is."""

    name, threshold, smallest, largest = "stub", 0.5, 10, 1 << 24

    def detect(self, pictures, followed=False):
        return self.find(pictures)

    def find(self, pictures):
        return [[Face(PLACE, 1.0)] if shows_face(pixels) else [] for pixels in pictures]


class Judge(Recogniser):
    """Takes two pictures for one person where they are nearly the same."""

    name, threshold, length = "judge", 0.2, 256

    def chips(self, pixels, faces):
        return np.stack([cv2.resize(pixels[16:64, 24:72], (16, 16)) for _ in faces])

    def embed(self, chips):
        return np.asarray(chips, np.float32).mean(axis=3).reshape(len(chips), -1) / 255 / 16


@pytest.fixture
def inputs(tmp_path, monkeypatch):
    """A picture with a face, one without, an animation, and a page of each; the search and the judge are stubs."""
    place = tmp_path / "in"
    (place / "sub").mkdir(parents=True)
    Image.fromarray(drawn()).save(place / "a.png")
    Image.fromarray(drawn(False)).save(place / "b.png")
    frames = [Image.fromarray(drawn(number < 2)) for number in range(3)]
    frames[1].putpixel((2, 2), (255, 255, 255))
    frames[0].save(place / "c.gif", save_all=True, append_images=frames[1:], duration=40)
    Image.fromarray(drawn()).save(place / "sub" / "d.jpg", quality=95)
    landmarks = np.stack(np.meshgrid(np.linspace(28, 68, 17), np.linspace(20, 60, 4)), 2).reshape(-1, 2)
    placed = [Face(PLACE, 1.0, landmarks.astype(np.float32))]
    monkeypatch.setattr(
        local, "detector", lambda options: Stub(DetectOptions(detector="hog", upsample=0, low_light=False))
    )
    monkeypatch.setattr(local, "recogniser", lambda name: Judge())
    monkeypatch.setattr(find, "locate", lambda pixels, faces, *more, **options: placed[: len(faces)])
    return place


def open_faces(folder):
    """The files under a final name that show the face, by a decoder of their own."""
    found = []
    for path in sorted(path for path in folder.rglob("*") if path.suffix in (".png", ".gif", ".jpg")):
        with Image.open(path) as image:
            for number in range(getattr(image, "n_frames", 1)):
                image.seek(number)
                if shows_face(np.asarray(image.convert("RGB"))):
                    found.append(f"{path.name} {number}")
    return found


class Fault:
    """Raises once, at the call of that number, wherever it is put in the place of a function."""

    def __init__(self, error, number):
        self.error, self.number, self.calls, self.raised = error, number, 0, False
        self._lock = threading.Lock()

    def into(self, monkeypatch, owner, name):
        whole = getattr(owner, name)

        def faulty(*arguments, **options):
            with self._lock:
                self.calls += 1
                due = self.calls == self.number
            if due:
                self.raised = True
                raise self.error
            return whole(*arguments, **options)

        monkeypatch.setattr(owner, name, faulty)


STEPS = {
    "read": (find, "_read"), "open": (find, "open_reader"), "decode": (ImageReader, "frames"),
    "detect": (Stub, "find"), "landmarks": (find, "locate"), "track": (follow, "tracked_frames"),
    "align": (replace, "align"), "describe": (Judge, "embed"),
    "method": (Pixelate, "apply"), "blend": (replace, "patch"), "verify": (Judge, "distance"),
    "target": (Target, "open"), "write": (ImageWriter, "write"), "encode": (ImageWriter, "finish"),
    "written": (WrittenCheck, "__init__"), "finish": (Pipeline, "_finish"), "sync": (os, "fsync"),
    "rename": (Target, "_move"), "row": (Pipeline, "_row"), "manifest": (Manifest, "add"),
}  # fmt: skip
ERRORS = {
    "memory": MemoryError(), "disk": OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
    "bug": IndexError("index 7 is out of bounds"),
    "interrupt": KeyboardInterrupt(),
}  # fmt: skip
COVERS = ("align", "describe", "method", "blend", "verify")  # where a face can still be covered


@pytest.fixture(scope="module")
def whole():
    """What an undisturbed run writes; made by the first test."""
    return {}


@pytest.mark.parametrize("kind", ERRORS)
@pytest.mark.parametrize("step", STEPS)
def test_a_fault_at_every_step(deid, inputs, whole, tmp_path, monkeypatch, step, kind):
    if not whole:
        assert deid("anonymize", *OPTIONS, inputs, tmp_path / "whole").status == 0
        whole.update(tree(tmp_path / "whole"))
        assert sorted(whole) == ["a.png", "b.png", "c.gif", "sub/d.jpg"] and open_faces(tmp_path / "whole") == []
        assert len(open_faces(inputs)) == 4, "and the inputs show them"
    # Memory and Ctrl-C at the first call, which is often another thread's; the others at the second, in the middle.
    for number in (1,) if kind in ("memory", "interrupt") else (2,):
        out, fault = tmp_path / f"out{number}", Fault(ERRORS[kind], number)
        with monkeypatch.context() as patch:
            fault.into(patch, *STEPS[step])
            done = deid("anonymize", *OPTIONS, inputs, out)
        assert "Traceback" not in done.err and open_faces(out) == []
        left = {path.name for path in out.rglob("*") if path.name.endswith(PART)} if out.exists() else set()
        assert not left, "no temporary file is left"
        there = tree(out) if out.exists() else {}
        there = {name: data for name, data in there.items() if not Path(name).name.startswith(".")}
        if step not in COVERS:
            assert all(whole[name] == data for name, data in there.items()), "what stands is whole"
        if not fault.raised:
            assert done.status == 0
            continue
        if kind == "interrupt":
            assert done.status == 130, done.err
        else:
            # The second call of fsync is for the folder, and not every system has that.
            assert done.status in ((0, 1) if step in (*COVERS, "sync") else (1, 3)), done.err
            told = rows(out) if (out / "deid-manifest.jsonl").exists() else {}
            assert done.status == 0 or done.err.count("\n") >= 1
            for name in whole.keys() - there.keys():
                assert step == "manifest" or (name in told and told[name]["status"] == "failed") or done.status == 3
        again = deid("anonymize", *OPTIONS, "--resume", inputs, out)
        assert again.status == 0 and open_faces(out) == [], again.err
        assert sorted(name for name in tree(out) if not Path(name).name.startswith(".")) == sorted(whole)


def test_an_input_that_vanishes_or_shrinks_while_it_is_read(deid, inputs, tmp_path, monkeypatch):
    """Listed, and then gone, cut, or another one: it fails alone."""
    read = find._read

    def late(job):
        if job.name == "a.png":
            job.source.unlink()
        elif job.name == "c.gif":
            job.source.write_bytes(job.source.read_bytes()[:200])
        return read(job)

    monkeypatch.setattr(find, "_read", late)
    done = deid("anonymize", *OPTIONS, inputs, tmp_path / "out")
    assert done.status == 1 and sorted(tree(tmp_path / "out")) == ["b.png", "sub/d.jpg"]
    told = rows(tmp_path / "out")
    assert told["a.png"]["status"] == told["c.gif"]["status"] == "failed" and open_faces(tmp_path / "out") == []


def test_a_disk_that_is_full_after_so_many_bytes(deid, inputs, whole, tmp_path, monkeypatch):
    """The limit of the system on the size of a file: a file that does not fit fails, and no half of it stays."""
    resource = pytest.importorskip("resource")
    signal = pytest.importorskip("signal")
    Image.effect_noise((900, 900), 90).save(inputs / "large.png")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
        done = deid("anonymize", *OPTIONS, inputs, tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert done.status == 1 and "large.png" in done.err
    assert not (tmp_path / "out" / "large.png").exists() and len(tree(tmp_path / "out")) == 4
    assert not [path for path in (tmp_path / "out").rglob("*") if path.name.endswith(PART)]
    assert deid("anonymize", *OPTIONS, "--resume", inputs, tmp_path / "out").status == 0


def test_a_clock_that_jumps(deid, inputs, tmp_path, monkeypatch):
    """The time of the day is not what anything is measured by."""
    import time

    jumps = iter(range(0, 10**9, 86400))
    monkeypatch.setattr(time, "time", lambda: 2e9 - next(jumps))
    assert deid("anonymize", *OPTIONS, inputs, tmp_path / "out").status == 0
    assert open_faces(tmp_path / "out") == [] and all(row["seconds"] >= 0 for row in rows(tmp_path / "out").values())


def test_an_open_face_would_be_seen(inputs):
    """The look at folders that these tests rely on."""
    assert len(open_faces(inputs)) == 4
    with open_reader(inputs / "c.gif") as reader:
        assert [shows_face(frame.pixels) for frame in reader.frames()] == [True, True, False]
        assert all(isinstance(frame.time, Fraction) for frame in reader.frames())


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
    method = method_called("solid")(secret=Secret.seeded(1))
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
    method = method_called("solid")(secret=Secret.seeded(1))
    rows = list(anonymize([Job(path, tmp_path / "out.mkv", "in.mkv")], method, Settings(verify=False, workers=1)))
    assert rows[0].status == "failed" and rows[0].error.count("in.mkv") == 1
