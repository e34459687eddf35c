"""Turned, dim and very large pictures: found once each, in the right place, within bounds."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deidcli.errors import UsageError
from deidcli.faces.detectors import DetectOptions, Detector, detector
from deidcli.faces.search import RIM, brightened, is_low_light, nms, same, unturned
from deidcli.values import Box, Face

GREY = 100  # of a picture: not dim


class _Squares(Detector):
    """Finds grey values above 200: the box of each of up to 9 squares that touch no other, if it is of its size."""

    name, threshold, smallest, largest = "squares", 0.0, 20, 40_000
    most = 45  # pixels of the largest square that it recognises in one piece

    def __init__(self, options):
        super().__init__(options)
        self.seen = []

    def find(self, pictures):
        self.seen.append([p.shape[:2] for p in pictures])
        return [list(self._one(p)) for p in pictures]

    def _one(self, picture):
        import cv2

        bright = (picture[..., 0] > 200).astype(np.uint8)
        count, _, stats, _ = cv2.connectedComponentsWithStats(bright)
        for left, top, width, height, _ in stats[1:count]:
            if self.smallest <= max(width, height) <= self.most and min(width, height) >= 8:
                yield Face(Box(left, top, left + width, top + height), float(width * height) / self.most**2)


def _picture(height, width, squares):
    picture = np.full((height, width, 3), GREY, np.uint8)
    for left, top, side in squares:
        picture[top : top + side, left : left + side] = 255
    return picture


def _found(picture, **options):
    search = _Squares(DetectOptions(**options))
    return search, [face.box for face in search.detect([picture])[0]]


def test_a_small_picture_is_searched_once():
    search, boxes = _found(_picture(150, 200, [(20, 30, 24)]))
    assert search.seen == [[(150, 200)]] and boxes == [Box(20, 30, 44, 54)]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 860), st.integers(0, 560), st.integers(24, 40))
def test_tiles_find_a_face_once_wherever_it_lies(left, top, side):
    search, boxes = _found(_picture(600, 900, [(left, top, side)]))
    assert len(boxes) == 1
    assert boxes[0].iou(Box(left, top, left + side, top + side)) > 0.9
    assert all(height * width <= search.largest for batch in search.seen for height, width in batch)


@pytest.mark.parametrize("side", [30, 60, 100, 170, 300])
def test_tiles_find_faces_of_every_size(side):
    _, boxes = _found(_picture(800, 1100, [(500, 300, side)]))
    assert len(boxes) == 1 and boxes[0].iou(Box(500, 300, 500 + side, 300 + side)) > 0.85


def test_tiles_keep_neighbours_apart():
    squares = [(x, y, 30) for x in (10, 190, 430, 860) for y in (5, 210, 560)]
    _, boxes = _found(_picture(600, 900, squares))
    assert sorted((b.left, b.top) for b in boxes) == sorted((x, y) for x, y, _ in squares)


def test_calls_stay_small():
    search = _Squares(DetectOptions())
    search.detect([_picture(150, 200, [(20, 30, 24)])] * 9)
    assert max(sum(h * w for h, w in batch) for batch in search.seen) < 2 * search.largest


@pytest.mark.parametrize("turn", [0, 90, 180, 270])
def test_boxes_of_a_turned_picture_come_back(turn):
    _, boxes = _found(_picture(120, 180, [(20, 30, 24)]), rotations=(turn,))
    assert boxes == [Box(20, 30, 44, 54)]


def test_all_turns_find_a_face_once():
    search, boxes = _found(_picture(120, 180, [(20, 30, 24)]), rotations=(0, 90, 180, 270))
    assert boxes == [Box(20, 30, 44, 54)] and sum(map(len, search.seen)) == 4


@given(st.sampled_from([0, 90, 180, 270]), st.integers(0, 6), st.integers(0, 4))
def test_unturned_is_numpys_turn(turn, x, y):
    picture = np.zeros((5, 7))
    picture[y, x] = 1
    row, column = np.argwhere(np.rot90(picture, turn // 90))[0]
    assert unturned(np.array([[column + 0.5, row + 0.5]]), turn, (7, 5)).tolist() == [[x + 0.5, y + 0.5]]


def test_a_face_upside_down_gets_its_landmarks(portrait):
    upright = detector(DetectOptions("hog"))
    turned = detector(DetectOptions("hog", rotations=(0, 180)))
    assert upright.detect([portrait[::-1, ::-1]]) == [[]]
    [[face]] = turned.detect([portrait[::-1, ::-1]])
    eyes, chin = face.landmarks[36:48].mean(axis=0), face.landmarks[8]
    assert chin[1] < eyes[1] and abs(face.box.center[0] - portrait.shape[1] / 2) < 40


@pytest.mark.parametrize("rotations", [(), (45,), (0, -90)])
def test_turns_that_cannot_be(rotations):
    with pytest.raises(UsageError):
        DetectOptions(rotations=rotations)


def test_a_dim_picture_is_searched_twice():
    dim = _picture(120, 180, [(20, 30, 24)]) // 5
    search, boxes = _found(dim)
    assert search.seen[0] == [(120, 180)] * 2 and len(boxes) <= 1
    assert _found(dim, low_light=False)[0].seen == [[(120, 180)]]


@pytest.mark.parametrize(("doublings", "first"), [(1, (40, 50)), (0, (81, 100))])
def test_in_a_video_a_dim_picture_is_brightened_and_halved(doublings, first):
    """The half is for detectors that look at the double; what it shows comes back in its place."""
    dim = _picture(81, 100, []) // 5
    dim[24:64, 20:60] = 255
    search = _Squares(DetectOptions(upsample=doublings))
    [faces] = search.detect([dim], followed=True)
    assert search.seen == [[first, (81, 100)]]
    assert any(face.box.iou(Box(20, 24, 60, 64)) > 0.9 for face in faces)
    assert _Squares(DetectOptions(upsample=1)).detect([np.zeros((1, 1, 3), np.uint8)], followed=True) == [[]]
    search = _Squares(DetectOptions(upsample=doublings))
    search.detect([_picture(81, 100, [(20, 24, 40)])], followed=True)
    assert search.seen == [[(81, 100)]], "what is not dim is searched as ever"


def test_lifting_shows_what_is_dark():
    dark = (np.random.default_rng(0).integers(0, 30, (64, 64, 3))).astype(np.uint8)
    assert (
        is_low_light(dark)
        and not is_low_light(np.full((64, 64, 3), 99, np.uint8))
        and not is_low_light(np.zeros((0, 5, 3), np.uint8))
    )
    assert brightened(dark).shape == dark.shape and brightened(dark).std() > 2 * dark.std()


def test_a_face_that_a_border_cuts_gives_way():
    whole, part = Face(Box(10, 10, 50, 50), 0.2), Face(Box(10, 10, 50, 32), 0.9)
    assert same(whole.box, part.box, 0.4) and RIM > 0
    assert nms([whole, part], 0.4) == [whole]


def test_a_dwarf_within_a_face_is_another():
    face, dwarf = Face(Box(0, 0, 100, 100), 0.9), Face(Box(40, 40, 60, 60), 0.5)
    assert nms([face, dwarf], 0.4) == [face, dwarf]
    assert nms([face, replace(dwarf, box=Box(20, 20, 90, 90))], 0.4) == [face]
