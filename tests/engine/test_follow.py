"""Which frames of a video are searched: as few as allowed, the first and the last of a shot always."""

import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from fractions import Fraction
from functools import partial

import cv2
import numpy as np
import pytest

from deidcli.engine.find import Finder
from deidcli.engine.follow import followed, planned
from deidcli.engine.frames import FileFailure, FileFrame, Source
from deidcli.engine.jobs import Job
from deidcli.faces.tracking import TrackOptions
from deidcli.values import UNTRACKED, Box, Face, Frame

DEFAULT = TrackOptions()
NOISE = np.random.default_rng(0).integers(0, 256, (2, 60, 80, 3), dtype=np.uint8)


def searched(times, options, cut=10**9):
    """The numbers of the frames that are searched, of a video with one cut."""
    frames = [Frame(NOISE[int(i >= cut)], i, time) for i, time in enumerate(times)]
    shots = [FileFrame(None, frame, i == len(times) - 1) for i, frame in enumerate(frames)]
    done = list(planned(iter(shots), options))
    assert [shot.frame for shot in done] == frames
    return [shot.frame.index for shot in done if shot.searched]


def steady(count, rate):
    return [Fraction(i) / Fraction(rate) for i in range(count)]


@pytest.mark.parametrize(
    ("rate", "step"),
    [(5, 1), (10, 1), (15, 1), ("24000/1001", 3), (24, 3), (25, 3), ("30000/1001", 3), (30, 3), (60, 7)],
)
def test_by_default_no_frame_is_an_eighth_of_a_second_from_the_last(rate, step):
    assert searched(steady(50, rate), TrackOptions()) == sorted({*range(0, 50, step), 49})


def test_stamps_in_milliseconds_are_steady_too():
    times = [Fraction(round(1000 * time), 1000) for time in steady(60, "30000/1001")]
    assert searched(times, TrackOptions()) == sorted({*range(0, 60, 3), 59})


@pytest.mark.parametrize("rate", [100, 1000, 90_000])
def test_whatever_the_stamps_say_every_eighth_is_searched(rate):
    assert searched(steady(50, rate), TrackOptions()) == sorted({*range(0, 50, 8), 49})


def test_a_frame_before_a_pause_is_searched():
    times = [Fraction(t, 100) for t in (0, 4, 8, 12, 16, 90, 94, 98)]
    assert searched(times, TrackOptions()) == [0, 3, 4, 5, 7]


@pytest.mark.parametrize("every", [1, 2, 5])
def test_or_every_so_many(every):
    last = {29}
    assert searched(steady(30, 60), TrackOptions(detect_every=every)) == sorted({*range(0, 30, every)} | last)


def test_around_a_cut():
    options = TrackOptions(detect_every=6)
    assert searched(steady(30, 25), options, cut=10) == [0, 6, 9, 10, 16, 22, 28, 29]


def test_every_frame_where_none_is_followed():
    assert searched(steady(9, 60), TrackOptions(track=False)) == list(range(9))
    assert searched([None] * 3, TrackOptions(detect_every=4)) == [0, 1, 2]


def shows(count, where, options=DEFAULT, size=(320, 240)):
    """The numbers of the frames that are searched, and where, of a still video; `where` draws on its frames."""
    frames = []
    for index in range(count):
        pixels = np.full((size[1], size[0], 3), 90, np.uint8)
        for left, top in where.get(index, ()):
            pixels[top : top + 40, left : left + 30] = cv2.resize(NOISE[0][:8, :6], (30, 40))
        frames.append(Frame(pixels, index, Fraction(index, 25)))
    items = [FileFrame(None, frame, frame.index == count - 1) for frame in frames]
    done = list(planned(iter(items), options))
    assert [item.frame.index for item in done] == list(range(count))
    return {item.frame.index: item.parts for item in done if item.searched}


def test_what_shows_between_two_searches_is_searched():
    found = shows(13, {4: [(200, 100)], 8: [(20, 30), (250, 180)]})
    assert set(found) == {0, 3, 4, 6, 8, 9, 12}
    assert len(found[4]) == 1 and len(found[8]) == 2 and found[3] == ()
    assert found[4][0].left < 200 and found[4][0].right > 230


def test_what_stays_is_searched_where_it_is_due_alone():
    assert set(shows(13, {index: [(200, 100)] for index in range(4, 13)})) == {0, 3, 6, 9, 12}


def test_what_is_new_is_looked_at_alone_besides():
    """A detector finds a small face in a part of a frame that it misses in all of it."""
    found = shows(13, {index: [(200, 100)] for index in range(4, 13)}, size=(640, 480))
    whole, part = found[6]
    assert (whole.left, whole.top, whole.right, whole.bottom) == (0, 0, 640, 480)
    assert part.left < 200 and part.right > 230 and part.area < 0.25 * whole.area
    assert found[9] == ()


@pytest.mark.parametrize("every", [3, 5])
def test_a_number_of_frames_is_kept_to(every):
    found = shows(13, {4: [(200, 100)]}, TrackOptions(detect_every=every))
    assert set(found) == {*range(0, 13, every), 12}


def test_frames_that_wait_are_bounded(monkeypatch):
    monkeypatch.setattr("deidcli.engine.follow.MOST_PIXELS", 2 * 60 * 80)
    assert searched(steady(13, 100), TrackOptions()) == [0, 3, 6, 9, 12]


def test_frames_that_wait_for_a_failure_are_searched():
    items = [FileFrame(None, Frame(NOISE[0], i, Fraction(i, 25)), False) for i in range(5)]
    done = list(
        planned(iter([*items, FileFailure(Source(Job(None, None, "clip"), None, None, 0.0), "torn")]), TrackOptions())
    )
    assert [item.searched for item in done[:5]] == [True, False, False, True, True]
    assert isinstance(done[5], FileFailure)


def test_large_frames_wait_without_their_pixels():
    """While they wait for their tracks they hold none; every one comes out with its own, and with its own faces."""
    made, held = [], []

    def again(index):
        made.append(index)
        return NOISE[index % 2]

    def items():
        source = Source(Job("a.mp4", None, None), None, None, 0.0)
        for index, time in enumerate(steady(40, 25)):
            frame = Frame(NOISE[index % 2].copy(), index, time, again=partial(again, index))
            held.append(weakref.ref(frame.pixels))
            face = Face(Box(10, 10, 40, 40), 0.9, track=UNTRACKED)
            item = FileFrame(source, frame, index == 39, (face,))
            del frame
            yield item
            del item
            assert sum(each() is not None for each in held) <= 2

    done = list(followed(items(), DEFAULT, None))
    assert [item.frame.index for item in done] == made == list(range(40))
    assert all(np.array_equal(item.frame.pixels, NOISE[item.frame.index % 2]) and item.faces for item in done)


def test_the_faces_of_a_frame_are_located_together(portrait, face, monkeypatch):
    """A second, less sure detection within a face is none, even where landmarks lie well in it."""
    monkeypatch.setattr("deidcli.faces.landmarks._by_mesh", lambda pixels, one: replace(one, landmarks=face.landmarks))
    outer = replace(face, landmarks=None, track=UNTRACKED)
    inner = replace(outer, box=face.box.scaled(0.65), score=face.score / 2)
    finder = Finder(None, None, ThreadPoolExecutor(1), 1)
    alone = finder._located(Frame(portrait), [inner])
    both = finder._located(Frame(portrait), [outer, inner])
    assert alone[0].landmarks is not None
    assert both[0].landmarks is not None and both[1].landmarks is None
