"""What several tests of the evaluation share: an album of seven people who do not exist, and a drawn report."""

from __future__ import annotations

from dataclasses import replace
from importlib import metadata
from pathlib import Path

import cv2
import numpy as np
import pytest

from deidcli import methods
from deidcli.evaluation.bench import Bench, Study
from deidcli.evaluation.plan import Plan, from_folder
from deidcli.faces.detectors import DetectOptions
from deidcli.faces.recognisers import recogniser
from deidcli.methods.base import Method
from deidcli.presets import cache_folder
from deidcli.values import CropSpec
from tests.conftest import EXAMPLES, SIDE, _cut, found, read, save
from tests.evaluation.drawn_results import drawn

PEOPLE = 7


@pytest.fixture(scope="session")
def album(tmp_path_factory) -> Path:
    """PERSON/1.png and PERSON/2.png, the second moved, turned and brighter."""
    folder, judge = tmp_path_factory.mktemp("album"), recogniser("dlib")
    known: list[np.ndarray] = []
    for path in sorted(path for path in EXAMPLES.rglob("*") if path.is_file()):
        pixels = read(path)
        for face in found(pixels, upsample=0):
            portrait = _cut(pixels, face.box)
            faces = found(portrait)
            if len(known) == PEOPLE or len(faces) != 1 or faces[0].landmarks is None:
                continue
            described = judge.embed(judge.chips(portrait, faces))[0]
            if all(judge.distance(described, other) > judge.threshold for other in known):
                known.append(described)
                save(portrait, folder / f"person{len(known)}" / "1.png")
                save(_again(portrait), folder / f"person{len(known)}" / "2.png")
    assert len(known) == PEOPLE
    return folder


def _again(portrait: np.ndarray) -> np.ndarray:
    turn = cv2.getRotationMatrix2D((SIDE / 2, SIDE / 2), 4, 0.96)
    moved = cv2.warpAffine(portrait, turn, (SIDE, SIDE), borderMode=cv2.BORDER_REFLECT_101)
    return cv2.convertScaleAbs(moved, alpha=1.05, beta=6)


class Same(Method):
    """Hands every face back as it came."""

    name, summary = "same", "nothing"
    crop = CropSpec(size=256, margin=0.3, transfer_lighting=False)

    def apply(self, crops):
        return list(crops)


class Swap(Method):
    """Gives every person the face of the next one in the batch."""

    name, summary = "swap", "another person"
    crop = CropSpec(size=256, margin=0.3, transfer_lighting=False)

    def apply(self, crops):
        people = [crop.key.split("/")[0] for crop in crops]
        order = sorted(set(people))
        following = dict(zip(order, [*order[1:], order[0]], strict=True))
        return [
            replace(c, pixels=crops[people.index(following[who])].pixels) for c, who in zip(crops, people, strict=True)
        ]


class Knows:
    """A labeller that tells the people of an album apart, by their descriptors; "nobody" is far from all of them."""

    def __init__(self, bench: Bench, names: list[str]):
        self.bench, self.people = bench, sorted({name.split("/")[0] for name in names})
        self.rows = bench.originals.descriptors([f"{who}/1.png" for who in self.people])
        self.classes = {"look": (*self.people, "nobody")}

    def read(self, pairs):
        judge = self.bench.judge
        rows = judge.embed(np.stack([judge.chips(frame.pixels, [face])[0] for frame, face in pairs]))
        apart = np.array([[float(judge.distance(row, known)) for known in self.rows] for row in rows])
        return {"look": -np.column_stack([apart, np.full(len(rows), judge.threshold)])}


@pytest.fixture
def doubles(monkeypatch):
    """The methods of this file, as another package would offer them."""

    class Point:
        def __init__(self, kind):
            self.name, self.kind = kind.name, kind

        def load(self):
            return self.kind

    others = metadata.entry_points

    def points(group):  # scikit-learn, too, asks for plugins, of its own
        return [Point(Same), Point(Swap)] if group == "deidcli.methods" else others(group=group)

    monkeypatch.setattr(metadata, "entry_points", points)
    methods.available.cache_clear()
    yield
    methods.available.cache_clear()


@pytest.fixture(scope="session")
def known_faces(tmp_path_factory) -> Path:
    """A cache folder for the faces of originals, which are searched once a session."""
    return tmp_path_factory.mktemp("cache") / "deid"


@pytest.fixture(autouse=True)
def default_cache(known_faces, monkeypatch):
    """The commands find that folder where they look for the user's cache."""
    fetched = cache_folder() / "weights"
    monkeypatch.setenv("XDG_CACHE_HOME", str(known_faces.parent))
    # Faces are remembered in a folder of the tests, the weights that were fetched stay where they are.
    here = cache_folder() / "weights"
    if fetched.is_dir() and not here.exists():
        here.parent.mkdir(parents=True, exist_ok=True)
        here.symlink_to(fetched)


@pytest.fixture
def bench(album, known_faces) -> Bench:
    return Bench(Study(album, "album", detect=DetectOptions("hog"), cache=known_faces))


@pytest.fixture
def plan(album, bench) -> Plan:
    """Every pair of the album, and one closed set of all its people; the originals are read."""
    plan = from_folder(album, None, 1, PEOPLE, 1)
    assert len(bench.read(plan.names)) == 2 * PEOPLE
    return plan


@pytest.fixture(scope="session")
def report(tmp_path_factory):
    """Drawn results, and the page that was written of them."""
    pytest.importorskip("matplotlib")
    from deidcli.evaluation.report import write_report

    folder = tmp_path_factory.mktemp("report")
    results = drawn(folder)
    return results, write_report(results, folder / "out")
