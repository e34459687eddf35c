"""Every way in which a frame could reach the writer without having been searched, and what happens there.

"Could not look" is never "no face": the file is not written, its row says failed, and the others go on.

 1. the detector fails for a frame, or for a batch of frames
 2. the detector answers for other than the frames it was given
 3. landmarks cannot be located
 4. the file cannot be decoded to its end
 5. the tracker returns fewer frames than it was given
 6. frames between two searched ones (`--detect-every`)
 7. a list of faces lacks the file, or is of another one
 8. the first pass of a closed set did not see the frame
 9. the file changed between the two passes
10. the replacing of a batch fails
11. a frame without its new pixels comes to the writer
12. a setting hides every face: row and summary tell it

Packets of a video that are copied are compared with the frames that were searched in tests/media.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from deidcli.engine import find as finding
from deidcli.engine import follow, local
from deidcli.engine.census import DetectionCache
from deidcli.engine.face_list import FaceList, ListedFile
from deidcli.engine.find import Finder
from deidcli.engine.frames import FileFailure, FileFrame, Source
from deidcli.engine.jobs import Job, list_files
from deidcli.engine.manifest import DONE, FAILED
from deidcli.engine.pipeline import Pipeline
from deidcli.engine.run import Run, Tally
from deidcli.engine.settings import RunOptions, Settings
from deidcli.errors import MediaError
from deidcli.faces.detectors import DetectOptions
from deidcli.faces.tracking import TrackOptions
from deidcli.methods.naive import Solid
from deidcli.values import Box, Face, Frame

PLAIN = {"verify": False, "workers": 1, "detect": DetectOptions(detector="hog")}


class Detector:
    """Finds one face in every frame. bad: by the first pixel, the frames for which it fails."""

    batches = False

    def __init__(self, bad=(), answer=lambda found: found):
        self.bad, self.answer, self.seen = set(bad), answer, 0

    def detect(self, pictures, followed=False):
        self.seen += len(pictures)
        if any(int(pixels[0, 0, 0]) in self.bad for pixels in pictures):
            raise RuntimeError("the network did not answer")
        return self.answer([[Face(Box(10, 10, 40, 40))] for _ in pictures])


class Batches(Detector):
    batches = True


@pytest.fixture
def pictures(tmp_path):
    """Three pictures and an animation of three frames; the first pixel of each frame tells it."""
    (tmp_path / "in").mkdir()
    shades = np.random.default_rng(1).integers(30, 220, (6, 60, 80, 3), dtype=np.uint8)
    for number, pixels in enumerate(shades):
        pixels[:2, :2] = number * 40
    for number in range(3):
        Image.fromarray(shades[number]).save(tmp_path / "in" / f"{number}.png")
    pages = [Image.fromarray(pixels) for pixels in shades[3:]]
    pages[0].save(tmp_path / "in" / "film.png", save_all=True, append_images=pages[1:], duration=100)
    return tmp_path / "in"


@pytest.fixture
def done(monkeypatch, pictures, tmp_path):
    """The rows and the report of a run with a detector of ours."""

    def run(detector, settings=None, **options):
        monkeypatch.setattr(local, "detector", lambda wanted: detector)
        settings = Settings(**PLAIN) if settings is None else settings
        files = list_files([str(pictures)], str(tmp_path / "out"))
        job = Run(files, str(tmp_path / "out"), Solid(), settings, RunOptions(**options))
        rows, tally = {}, Tally()
        for row in job.rows():
            rows[row.input] = row
            tally.add(row)
        for name, row in rows.items():
            assert (row.status == FAILED) is not (tmp_path / "out" / name).exists()
        return rows, job.summary(tally), job.status(tally)

    return run


def failed(rows):
    return sorted(name for name, row in rows.items() if row.status == FAILED)


@pytest.mark.parametrize("kind", [Detector, Batches])
@pytest.mark.parametrize(
    ("bad", "files"), [({40}, ["1.png"]), ({160}, ["film.png"]), ({0, 200}, ["0.png", "film.png"])]
)
def test_1_a_search_that_fails(done, kind, bad, files):
    rows, _, status = done(kind(bad))
    assert failed(rows) == files and status == 1
    assert all("did not answer" in rows[name].error and name in rows[name].error for name in files)


@pytest.mark.parametrize("answer", [lambda found: found[:-1], lambda found: [], lambda found: [*found, []]])
@pytest.mark.parametrize("kind", [Detector, Batches])
def test_2_an_answer_for_other_frames(done, kind, answer):
    rows, _, status = done(kind(answer=answer))
    assert len(failed(rows)) == 4 and status == 3


def test_3_landmarks_that_cannot_be_located(done, monkeypatch):
    locate = finding.locate

    def broken(pixels, *rest):
        if pixels[0, 0, 0] in (80, 120):
            raise RuntimeError("no shape")
        return locate(pixels, *rest)

    monkeypatch.setattr(finding, "locate", broken)
    rows, _, status = done(Detector())
    assert failed(rows) == ["2.png", "film.png"] and status == 1


def test_4_a_file_that_ends_early(done, pictures):
    whole = (pictures / "film.png").read_bytes()
    (pictures / "film.png").write_bytes(whole[: len(whole) * 2 // 3])
    (pictures / "1.png").write_bytes((pictures / "1.png").read_bytes()[:900])
    rows, _, status = done(Detector())
    assert failed(rows) == ["1.png", "film.png"] and status == 1


@pytest.mark.parametrize("lost", [1, 2, 3])
def test_5_a_tracker_that_loses_frames(done, monkeypatch, lost):
    track = follow.tracked_frames
    monkeypatch.setattr(follow, "tracked_frames", lambda *args: list(track(*args))[:-lost])
    rows, _, status = done(Detector())
    assert failed(rows) == ["film.png"] and status == 1, "stills have no tracks"


@pytest.mark.parametrize("every", [2, 3, 50])
def test_6_frames_between_are_tracked_from_both_sides(every):
    """Nothing but a frame of a tracked video is ever left out, and the first and last of a shot never are."""
    items = [FileFrame(SOURCE, Frame(np.zeros((8, 8, 3), np.uint8), i, Fraction(i, 25)), i == 9) for i in range(10)]
    searched = [item.searched for item in follow.planned(iter(items), TrackOptions(detect_every=every))]
    assert searched[0] and searched[-1]
    stills = [replace(item, frame=Frame(item.frame.pixels, item.frame.index)) for item in items]
    for planned in (
        follow.planned(iter(stills), TrackOptions(detect_every=every)),
        follow.planned(iter(items), TrackOptions(track=False)),
    ):
        assert all(item.searched for item in planned)


SOURCE = Source(Job(None, None, "clip"), None, "5e77", 0.0)


def found(known, *frames):
    with ThreadPoolExecutor(1) as pool:
        finder = Finder(None, known, pool, 2)
        return list(finder.found(iter([FileFrame(SOURCE, Frame(FRAME, i), last) for i, last in frames])))


FRAME = np.full((50, 60, 3), 90, np.uint8)
BOX = Face(Box(5, 5, 30, 30))


@pytest.mark.parametrize(("listed", "said"), [
    ({}, "not in the list"),
    ({"clip": ListedFile({3: [BOX]})}, "has no frame 3"),
    ({"clip": ListedFile({0: [Face(Box(500, 5, 530, 30))]})}, "outside"),
    ({"clip": ListedFile({0: [BOX]}, sha256="77e5")}, "not the file"),
    ({"clip": ListedFile({0: [BOX]}, sizes={0: (61, 50)})}, "61x50"),
])  # fmt: skip
def test_7_a_list_that_does_not_fit(listed, said):
    items = found(FaceList(listed), (0, False), (1, True))
    assert any(isinstance(item, FileFailure) and said in item.error for item in items)


def test_8_and_9_a_first_pass_that_saw_something_else():
    cache = DetectionCache()
    seen = [FileFrame(SOURCE, Frame(FRAME, i), i == 1, (BOX,)) for i in range(2)]
    list(cache.noted(seen))
    assert [item.faces[0].box for item in found(cache, (0, False), (1, True))] == [BOX.box] * 2
    assert "changed while the run went on" in found(cache, (0, True))[-1].error
    assert isinstance(found(cache, (0, False), (1, False), (2, True))[-1], FileFailure)
    other = Source(SOURCE.job, None, "other", 0.0)
    with ThreadPoolExecutor(1) as pool:
        [item] = Finder(None, cache, pool, 2).found(iter([FileFrame(other, Frame(FRAME), True)]))
    assert "changed while the run went on" in item.error
    cache.close()


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("gone"), ValueError("odd")])
def test_10_a_batch_that_cannot_be_replaced(done, monkeypatch, error):
    """It is halved until the frame that fails is alone, and only its file fails."""
    from deidcli.engine.replace import Replacer

    call, sizes = Replacer.__call__, []

    def broken(self, requests):
        sizes.append(len(requests))
        if len(requests) > 2 or any(request.frame.pixels[0, 0, 0] == 40 for request in requests):
            raise error
        return call(self, requests)

    monkeypatch.setattr(Replacer, "__call__", broken)
    rows, _, status = done(Detector())
    assert failed(rows) == ["1.png"] and status == 1 and max(sizes) > 2


def test_11_a_frame_that_was_not_treated(done, monkeypatch):
    replace_all = Pipeline._replace
    monkeypatch.setattr(
        Pipeline, "_replace", lambda self, items: ((item, None) for item, _ in replace_all(self, items))
    )
    rows, _, status = done(Detector())
    assert len(failed(rows)) == 4 and status == 3
    assert all("was not treated" in row.error for row in rows.values())


@pytest.mark.parametrize(("options", "said"), [
    ({"min_face": 9999}, "faces below 9999 pixels (--min-face) were left as they are"),
    ({"threshold": 7.5}, "faces of scores below 7.5 (--threshold) were left as they are"),
    ({"min_face": 20, "threshold": 0.9}, "faces below 20 pixels (--min-face) and of scores below 0.9 (--threshold)"),
])  # fmt: skip
def test_12_settings_that_hide_faces_are_told(done, options, said):
    settings = Settings(**PLAIN | {"detect": DetectOptions(detector="hog", **options)})
    rows, summary, _ = done(Detector(answer=lambda found: [[] for _ in found]), settings)
    assert said in summary and "4 without a face copied" in summary
    for row in rows.values():
        assert row.status == DONE and all(row.search[key] == value for key, value in options.items())


def test_nothing_is_told_where_nothing_is_hidden(done):
    rows, summary, status = done(Detector())
    assert status == 0 and "left as they are" not in summary and {row.status for row in rows.values()} == {DONE}
    assert rows["0.png"].search["detector"] == "hog" and rows["0.png"].search["threshold"] is None


def test_a_search_needs_something_to_search_with():
    items = found(None, (0, True))
    assert isinstance(items[0], FileFailure) and "detector" in items[0].error
    with pytest.raises(MediaError):
        FaceList({}).of("clip", 0)
