"""Open faces in drawn clips whose faces are known: a disc stands for a face, and a stub finds every whole disc."""

from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import cv2
import numpy as np
import pytest

from deidcli.engine.find import Finder
from deidcli.engine.frames import FileFrame, Source
from deidcli.engine.jobs import Job
from deidcli.faces.tracking import TrackOptions
from deidcli.values import Box, Face, Frame

SIZE, SIDE, COUNT = (320, 200), 40, 24
RNG = np.random.default_rng(5)
SPOTS = RNG.uniform((30, 30), (SIZE[0] - 30, SIZE[1] - 30), (COUNT, 2)).tolist()
CLIPS = {
    "still": [(100, 100)] * COUNT,
    "walks": [(40 + 3 * n, 100) for n in range(COUNT)],
    "fast": [(40 + abs((n * 37) % 480 - 240), 100) for n in range(COUNT)],
    "falls": [(160, 25 + (n * 31) % 150) for n in range(COUNT)],
    "jumps": SPOTS,
    "every third": [(200, 90) if n % 3 == 1 else None for n in range(COUNT)],
    "every fifth": [(60, 140) if n % 5 == 2 else None for n in range(COUNT)],
    "once": [(250, 60) if n == 10 else None for n in range(COUNT)],
}


class Discs:
    """Finds red discs of which all is in the picture that it is given."""

    batches = False

    class options:
        overlap = 0.4

    def __init__(self):
        self.pixels = 0

    def detect(self, pictures, followed=False):
        """A face for each disc."""
        self.pixels += sum(picture.shape[0] * picture.shape[1] for picture in pictures)
        return [[*self._found(picture)] for picture in pictures]

    def _found(self, picture):
        colours = picture.astype(int)
        red = (colours[..., 0] - colours[..., 1] > 60).astype(np.uint8)
        count, _, stats, _ = cv2.connectedComponentsWithStats(red)
        for left, top, wide, high, area in stats[1:count]:
            if area > 0.6 * SIDE * SIDE and min(wide, high) > 0.9 * SIDE:
                yield Face(Box(left, top, left + wide, top + high))


def scene(blur):
    drawn = RNG.integers(0, 256, (SIZE[1], SIZE[0], 1), dtype=np.uint8)
    soft = cv2.normalize(cv2.GaussianBlur(drawn, (0, 0), blur), None, 30, 200, cv2.NORM_MINMAX)
    return np.repeat(soft[..., None], 3, axis=2)


SCENES = {"soft": scene(9), "fine": scene(2)}


def opened(places, behind, options, monkeypatch):
    """How many faces are open, and how many frames' worth of pixels were searched."""
    monkeypatch.setattr("deidcli.engine.find.locate", lambda pixels, faces, how: list(faces))
    source, frames = Source(Job(None, None, "clip"), None, None, 0.0), []
    for index, place in enumerate(places):
        pixels = behind.copy()
        if place is not None:
            cv2.circle(pixels, tuple(map(round, place)), SIDE // 2, (200, 40, 40), -1)
            cv2.circle(pixels, tuple(round(each - 5) for each in place), 4, (240, 150, 140), -1)
        frames.append(Frame(pixels, index, Fraction(index, 25)))
    discs, missed = Discs(), 0
    with ThreadPoolExecutor(2) as pool:
        finder = Finder(discs, None, pool, 4, track=options)
        items = (FileFrame(source, frame, frame.index == len(frames) - 1) for frame in frames)
        for item, place in zip(finder.search(items), places, strict=True):
            if place is not None:
                truth = Box(*(each - SIDE / 2 for each in place), *(each + SIDE / 2 for each in place))
                missed += not any(face.box.iou(truth) > 0.5 or _in(truth, face.box) for face in item.faces)
    return missed, discs.pixels / (SIZE[0] * SIZE[1])


def _in(inner, outer):
    x, y = inner.center
    return outer.left < x < outer.right and outer.top < y < outer.bottom and outer.area < 4 * inner.area


@pytest.mark.parametrize("behind", SCENES.values(), ids=SCENES)
@pytest.mark.parametrize("name", CLIPS)
def test_no_face_is_open(monkeypatch, name, behind):
    missed, searched = opened(CLIPS[name], behind, TrackOptions(), monkeypatch)
    assert missed == 0
    # Where nothing jumps hardly more is searched than every third frame.
    assert searched < (14 if name in ("still", "walks", "once") else COUNT)


@pytest.mark.parametrize("name", ["fast", "jumps", "every third"])
def test_a_number_of_frames_leaves_some_open(monkeypatch, name):
    """What the docs say of --detect-every, and that the clips are hard."""
    assert opened(CLIPS[name], SCENES["soft"], TrackOptions(detect_every=3), monkeypatch)[0] > 3
    assert opened(CLIPS[name], SCENES["soft"], TrackOptions(detect_every=1), monkeypatch)[0] == 0
