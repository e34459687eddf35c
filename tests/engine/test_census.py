"""What the first pass keeps: rows on disk, faces as they were seen, one row a track."""

import numpy as np
import pytest

from deidcli.engine.census import CensusTaker, DetectionCache, DiskRows
from deidcli.engine.frames import FileFailure, FileFrame, Source
from deidcli.engine.jobs import Job
from deidcli.errors import MediaError
from deidcli.faces.recognisers import recogniser
from deidcli.methods import find
from deidcli.values import Box, Face, Frame
from tests.conftest import found


def shot(name, faces, pixels=None, index=0, error=""):
    source = Source(Job(None, None, name), None, "digest", 0.0)
    if error:
        return FileFailure(source, error)
    return FileFrame(
        source, Frame(np.zeros((8, 8, 3), np.uint8) if pixels is None else pixels, index), True, tuple(faces)
    )


def test_rows_come_back():
    spill = DiskRows((2, 3), np.int16)
    for number in range(5):
        spill.add(np.full((2, 3), number, np.int16))
    assert len(spill) == 5 and spill[3].tolist() == [[3] * 3] * 2
    assert spill[np.array([4, 0, 4])][:, 0, 0].tolist() == [4, 0, 4]
    with pytest.raises(IndexError):
        spill[5]
    with pytest.raises(ValueError, match="a row of"):
        spill.add(np.zeros(3, np.int16))


def test_a_full_disk_is_said(monkeypatch):
    spill = DiskRows((4,), np.uint8)

    class Full:
        def seek(self, place): ...

        def write(self, data):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(spill, "_file", Full())
    with pytest.raises(MediaError, match="No space left"):
        spill.add(np.zeros(4, np.uint8))


def test_faces_come_back_as_they_were_seen():
    seen = DetectionCache()
    points = np.random.default_rng(2).random((68, 2)).astype(np.float32) * 100
    faces = [Face(Box(1.25, 2, 30.1, 40), 0.7, points, 3), Face(Box(0, 0, 5, 5), 1.0, None, 8)]
    shots = [shot("a", faces), shot("a", [], index=1), shot("b", []), shot("broken", [], error="no picture")]
    assert list(seen.noted(shots)) == shots
    first, second = seen.of("a", 0)
    assert (first.box, first.score, first.track) == (faces[0].box, 0.7, 3)
    assert np.array_equal(first.landmarks, points) and second.landmarks is None
    assert seen.of("a", 1) == [] == seen.of("b", 0) and seen.numbers("a") == 9
    for name, frame in (("a", 2), ("broken", 0), ("never", 0)):
        with pytest.raises(MediaError):
            seen.of(name, frame)


@pytest.fixture
def taker():
    kind = find("ksame-pixel")
    taker = CensusTaker(kind(kind.Options(k=2, size=48)), recogniser("dlib"))
    yield taker
    taker.close()


def test_one_row_a_track(taker, portraits):
    """A track of six frames is looked at in the 1st, 2nd and 4th; who has no landmarks is not described."""
    faces = [found(pixels)[0] for pixels in portraits]
    shots = [shot("film", [faces[0], Face(Box(0, 0, 9, 9), track=1)], portraits[0], index) for index in range(6)]
    shots += [shot("a", [faces[1]], portraits[1]), shot("bad", [], error="torn"), shot("b", [faces[0]], portraits[0])]
    census = taker.take(shots)
    assert census.keys == ["film#0", "a#0", "b#0"] and len(taker.descriptors) == 5
    assert census.people.tolist() == [0, 1, 0] and census.count == 2
    assert census.pixels[np.arange(3)].shape == (3, 48, 48, 3)
    points = census.landmarks[0]
    assert points.shape == (68, 2) and points.min() > -10 and points.max() < 58
    assert census.people[census.typical()].tolist() == [0, 1]


def test_nobody(taker):
    census = taker.take([shot("a", [])])
    assert census.count == 0 and len(census.typical()) == 0


def test_what_a_method_does_not_accept_is_left_out(taker, portraits, monkeypatch):
    monkeypatch.setattr(type(taker.method), "accepts", lambda self, crop: False)
    assert taker.take([shot("a", found(portraits[0]), portraits[0])]).count == 0
