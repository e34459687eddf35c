"""Tracking: nothing that was found is lost, gaps close from both sides, cuts end everything, boxes do not jump."""

import tracemalloc
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deidcli.errors import UsageError
from deidcli.faces.align import MEAN_SHAPE
from deidcli.faces.tracking import FrameFaces, TrackOptions
from deidcli.faces.tracking.motion import hull, smoothed
from deidcli.faces.tracking.tracker import MOST_FRAMES, tracked_frames
from deidcli.values import Box, Face, Frame
from tests.faces.moving import RATE, SIDE, around, background, clip, pasted

QUICK = TrackOptions(gap=0.4, hold=0.12, stay=0.4)


@pytest.fixture(scope="session")
def head(portrait, face):
    """The face of `portrait` alone."""
    box = face.box.scaled(1.1)
    return portrait[int(box.top) : int(box.bottom), int(box.left) : int(box.right)].copy()


def walk(count, start=(60, 80), step=(3, 0)):
    return [(start[0] + step[0] * i, start[1] + step[1] * i) for i in range(count)]


def run(seen, options=QUICK):
    done = list(tracked_frames(iter(seen), options))
    assert [d.frame for d in done] == [s.frame for s in seen], "every frame, in order, unchanged"
    return [d.faces for d in done]


def holds(outer, inner, room=1e-6):
    return (
        outer.left <= inner.left + room
        and outer.top <= inner.top + room
        and outer.right >= inner.right - room
        and outer.bottom >= inner.bottom - room
    )


boxes = st.builds(
    lambda x, y, w, h: Box(x, y, x + w, y + h), *[st.integers(-20, 80)] * 2, *[st.integers(4, 50)] * 2
)  # fmt: skip
frames_of_boxes = st.lists(st.lists(boxes, max_size=3), min_size=1, max_size=24)


@given(found=frames_of_boxes, every=st.integers(1, 4), cut=st.integers(1, 30), gap=st.sampled_from([0.0, 0.2, 1.0]))
def test_whatever_was_found_is_covered(found, every, cut, gap):
    """Boxes anywhere, at any time, in noise: each lies within a tracked one, and a number occurs once in a frame."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 80, 3), dtype=np.uint8)
    seen = [
        FrameFaces(
            Frame(np.roll(noise, i, axis=1), i, Fraction(i, 10)),
            None if i % every else tuple(map(Face, each)),
            i in (0, cut),
        )
        for i, each in enumerate(found)
    ]
    done = run(seen, TrackOptions(gap=gap, detect_every=every))
    for s, faces in zip(seen, done, strict=True):
        numbers = [face.track for face in faces]
        assert len(set(numbers)) == len(numbers)
        for face in s.faces or ():
            assert any(holds(other.box, face.box) for other in faces)
    before, after = ({f.track for faces in part for f in faces} for part in (done[:cut], done[cut:]))
    assert not before & after, "no track crosses a cut"


def test_look_ahead_is_bounded(head):
    """In time, in frames and in pixels."""
    taken = [0]

    def counted(seen):
        for s in seen:
            taken[0] += 1
            yield s

    ahead = []
    for given_out, _ in enumerate(tracked_frames(counted(clip(head, walk(60, step=(1, 0)))), QUICK), 1):
        ahead.append(taken[0] - given_out)
    assert 8 < max(ahead) <= RATE * (QUICK.around + 2.5 * QUICK.smooth) + 2
    taken[0] = 0
    still = FrameFaces(Frame(background(), 0, Fraction(0)), (), True)
    endless = (replace(still, frame=replace(still.frame, index=i), begins=i == 0) for i in range(400))
    assert max(taken[0] - n for n, _ in enumerate(tracked_frames(counted(endless), QUICK), 1)) <= MOST_FRAMES + 1


def test_a_long_film_needs_no_more_memory(head):
    """Nor does one in which faces come and go."""

    def endless(count):
        shown = clip(head, [*walk(10), None, None, None, None])
        for i in range(count):
            seen = shown[i % len(shown)]
            yield replace(seen, frame=replace(seen.frame, index=i, time=Fraction(i, RATE)), begins=i == 0)

    def peak(count):
        tracemalloc.start()
        for _ in tracked_frames(endless(count), QUICK):
            pass
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    peak(30)
    assert peak(180) < 1.1 * peak(60)


def test_large_frames_are_not_held(monkeypatch, head):
    monkeypatch.setattr("deidcli.faces.tracking.tracker.MOST_PIXELS", 5 * background().size // 3)
    taken = []
    seen = clip(head, walk(20), found=lambda i: i % 3 == 0)
    ahead = [len(taken) - n for n, _ in enumerate(tracked_frames((taken.append(s) or s for s in seen), QUICK), 1)]
    assert max(ahead) <= 6


@pytest.mark.parametrize("step", [(0, 0), (3, 1), (-2, 0.5)])
def test_a_gap_is_filled_from_both_sides(head, step):
    places = walk(24, (110, 80), step)
    done = run(clip(head, places, found=lambda i: not 8 <= i < 15))
    assert {f.track for faces in done for f in faces} == {0} and all(len(faces) == 1 for faces in done)
    for place, faces in zip(places, done, strict=True):
        assert faces[0].box.iou(around(place)) > 0.8


def test_a_gap_looks_the_same_from_either_end(head):
    """Played backwards, the same frames are covered at the same places."""
    seen = clip(head, walk(20, (90, 80), (2, 1)), found=lambda i: i in (2, 3, 4, 12, 13))
    back = [replace(s, frame=replace(s.frame, index=i, time=Fraction(i, RATE)), begins=i == 0)
            for i, s in enumerate(reversed(seen))]  # fmt: skip
    forth, reverse = run(seen), run(back)[::-1]
    for i in range(2, 14):
        assert forth[i][0].box.iou(reverse[i][0].box) > 0.85


def test_behind_a_pillar(head):
    """Nothing shows the face for a while; it is the same one when it comes out, and is covered all the way."""
    places = walk(30, (50, 80), (4, 0))

    def pillar(_, pixels):
        pixels = pixels.copy()
        pixels[:, 90:125] = (90, 60, 30)
        return pixels

    hidden = lambda i: not 85 < places[i][0] < 130  # noqa: E731
    done = run(clip(head, places, found=hidden, paint=pillar), TrackOptions())
    assert {f.track for faces in done for f in faces} == {0}
    for place, faces in zip(places, done, strict=True):
        assert faces and np.hypot(*np.subtract(faces[0].box.center, place)) < SIDE / 2


def test_as_fast_as_a_face_can_be(head):
    """More than half of its side from frame to frame, and it never sticks out of its box."""
    places = walk(7, (30, 80), (28, 0))
    done = run(clip(head, places))
    assert {f.track for faces in done for f in faces} == {0}
    assert all(holds(faces[0].box, around(place)) for place, faces in zip(places, done, strict=True))


def test_it_stays_covered_while_it_is_seen(head):
    """Found in three frames, it is covered before and after for as long as it looks the same."""
    done = run(clip(head, walk(40, step=(1, 0)), found=lambda i: 18 <= i < 21), TrackOptions(gap=0.4, stay=5))
    covered = [i for i, faces in enumerate(done) if faces]
    assert covered[0] <= 8 and covered[-1] >= 20 + 0.4 * RATE
    for i in covered:
        assert done[i][0].box.iou(around(walk(40, step=(1, 0))[i])) > 0.6


def test_it_leaves_half_and_comes_back(head):
    """While its middle is past the border it is not found, and a part of it is seen."""
    out = [236, 240, 244, 246, 246, 244, 240, 236]
    places = [(x, 80) for x in (*range(190, 232, 4), *out, *range(230, 188, -4))]
    done = run(clip(head, places, found=lambda i: places[i][0] < 234))
    assert [[face.track for face in faces] for faces in done] == [[0]] * len(places)


def test_it_is_held_a_little_where_it_is_not_seen(head):
    places = [None] * 10 + walk(5) + [None] * 20
    done = run(clip(head, places))
    covered = [i for i, faces in enumerate(done) if faces]
    assert covered == list(range(7, 18)), "0.12 seconds are three frames"


def test_one_found_once_is_covered(head):
    done = run(clip(head, [(60, 80)] * 9, found=lambda i: i == 4))
    assert all(len(faces) == 1 for faces in done[2:7])


def test_two_cross(head, portraits):
    """Each keeps its number when one passes the other."""
    other = portraits[1]
    left, right = walk(24, (40, 60), (6, 0)), walk(24, (190, 100), (-6, 0))
    seen = []
    for i in range(24):
        pixels = pasted(pasted(background(), head, left[i]), other, right[i])
        faces = (Face(around(left[i])), Face(around(right[i])))
        seen.append(FrameFaces(Frame(pixels, i, Fraction(i, RATE)), faces[:: 1 if i % 2 else -1], i == 0))
    done = run(seen)
    first, last = ({round(f.box.center[1], -1): f.track for f in done[i]} for i in (0, 23))
    assert first == last and len(set(first.values())) == 2


def test_jitter_does_not_show(head):
    """Boxes of a detector that knows few sizes: they follow the face more smoothly, and never cut it."""
    random = np.random.default_rng(3)
    places = walk(40, (60, 80), (2, 0))
    seen = []
    for s, place in zip(clip(head, places), places, strict=True):
        box = around(place).scaled(random.choice([1, 1.2]))
        seen.append(replace(s, faces=(Face(box),)))
    done = run(seen)
    centres = np.array([[f.box.center, (f.box.width, f.box.height)] for (f,) in done])
    raw = np.array([[f.box.center, (f.box.width, f.box.height)] for s in seen for f in s.faces])
    rough = lambda v: np.abs(np.diff(v, 2, axis=0)).mean()  # noqa: E731
    assert rough(centres) < 0.4 * rough(raw)
    assert all(holds(faces[0].box, s.faces[0].box) for s, faces in zip(seen, done, strict=True))


def points_at(place):
    return ((MEAN_SHAPE - 0.5) * SIDE * 0.9 + place).astype(np.float32)


@pytest.mark.parametrize("missing", [lambda i: i == 9, lambda i: 6 <= i < 11, lambda i: i % 3 == 1])
def test_landmarks_that_lack_in_some_frames_are_carried(head, missing):
    places = walk(24, (60, 80), (3, 1))
    done = run(clip(head, places, landmarks=lambda i: None if missing(i) else points_at(places[i])))
    for place, (face,) in zip(places, done, strict=True):
        assert face.landmarks is not None and face.landmarks.dtype == np.float32
        assert np.abs(face.landmarks - points_at(place)).max() < 2


def test_landmarks_that_few_frames_have_are_not_used(head):
    """A face is not new in one frame and covered in the next."""
    places = walk(24, (60, 80), (2, 0))
    done = run(clip(head, places, landmarks=lambda i: points_at(places[i]) if i in (3, 9, 10, 17) else None))
    assert all(face.landmarks is None for (face,) in done)


def test_landmarks_come_and_go_once(head):
    """A face that turns away in the middle of its track changes once, not back and forth."""
    places = [(100, 80)] * 60
    known = lambda i: points_at(places[i]) if i < 30 and i % 5 or i in (36, 41) else None  # noqa: E731
    done = run(clip(head, places, landmarks=known))
    shown = [face.landmarks is not None for (face,) in done]
    assert sum(a != b for a, b in zip(shown, shown[1:], strict=False)) == 1 and shown[0] and not shown[-1]


def test_landmarks_that_do_not_fit_are_not_used(head):
    """The box stays, the points that flow carried along do not belong to it any more."""
    places = [(60, 80)] * 10
    far = points_at((160, 80))
    done = run(clip(head, places, landmarks=lambda i: far))
    assert all(face.landmarks is None for (face,) in done)


@pytest.mark.parametrize("wrong", [{"detect_every": 0}, {"detect_every": 2, "track": False}])
def test_options_that_make_no_sense(wrong):
    with pytest.raises(UsageError, match="detect-every"):
        TrackOptions(**wrong)


TIMES = np.arange(11) / 25


@pytest.mark.parametrize("power", [0, 1, 2])
@pytest.mark.parametrize("now", [0, 5, 10])
def test_parabolas_pass(power, now):
    """Also at either end, and with uneven times."""
    for times in (TIMES, TIMES + np.random.default_rng(1).uniform(0, 0.02, 11)):
        values = np.column_stack([7 + 300 * times**power, 1 - 90 * times**power])
        done = smoothed(times, values, np.ones(11), times[now], 0.1)
        assert np.allclose(done, values[now], atol=1e-6)


def test_jitter_shrinks():
    noise = np.random.default_rng(0).standard_normal((200, 4))
    times = np.arange(200) / 25
    done = [smoothed(times, noise, np.ones(200), now, 0.12) for now in times]
    assert np.std(done) < 0.6 * np.std(noise)


@given(
    sides=st.lists(st.lists(st.floats(-1e4, 1e4), min_size=4, max_size=4), min_size=1, max_size=12),
    gaps=st.lists(st.floats(0, 0.2), min_size=12, max_size=12),
    data=st.data(),
)
def test_the_hull_holds_its_box(sides, gaps, data):
    """Whatever the boxes, even several at one time."""
    sides, times = np.array(sides), np.cumsum(gaps)[: len(sides)]
    at = data.draw(st.integers(0, len(sides) - 1))
    weights = np.array(data.draw(st.lists(st.sampled_from([0.25, 1.0]), min_size=len(sides), max_size=len(sides))))
    left, top, right, bottom = hull(times, sides, weights, times[at], 0.12)
    a, b, c, d = sides[at]
    assert left <= a + 1e-6 and top <= b + 1e-6 and right >= c - 1e-6 and bottom >= d - 1e-6
