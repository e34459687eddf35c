"""A track keeps a level that it was raised to, a cover for a while, whichever frames came in one call."""

from fractions import Fraction

import numpy as np
import pytest

from deidcli.engine.escalation import STEADY
from deidcli.engine.replace import Replacer, Request
from deidcli.engine.settings import Personas, Settings
from deidcli.faces.recognisers import Recogniser
from deidcli.faces.tracking import TrackOptions
from deidcli.methods.base import Method, Secret
from deidcli.values import Box, CropSpec, Face, Frame

COUNT, RATE = 12, 2  # frames, and how many a second


class Paint(Method):
    """One colour; another one when it is asked again."""

    crop = CropSpec(64, 0.1, transfer_lighting=False)

    def __init__(self, name="weak", color=(200, 30, 30)):
        super().__init__(self.Options(), Secret.seeded(1))
        self.name, self.color = name, color

    def apply(self, crops):
        return [crop.with_pixels(np.full_like(crop.pixels, self.color)) for crop in crops]

    def escalate(self, attempt):
        return Paint("strong", (30, 200, 30)) if self.name == "weak" else None


class Judge(Recogniser):
    """Knows a face that the weak method painted in the frames of `hard`, and any in those of `known`.

    The corner of a frame says which it is.
    """

    name, threshold, length = "judge", 0.6, 2

    def __init__(self, hard, known=()):
        self.hard, self.known = hard, known

    def chips(self, pixels, faces):
        middle = [pixels[int(face.box.center[1]), int(face.box.center[0])] for face in faces]
        return np.array([(pixels[0, 0, 0], *color) for color in middle], np.float32)

    def embed(self, chips):
        return chips

    def distance(self, a, b):
        weak = b[:, 1] > 150
        return np.where(weak & np.isin(b[:, 0], self.hard) | np.isin(b[:, 0], self.known), 0.1, 0.9)


@pytest.fixture
def requests(portrait, face):
    frames = []
    for index in range(COUNT):
        pixels = portrait.copy()
        pixels[0, 0] = index
        frames.append(Frame(pixels, index, Fraction(index, RATE)))
    return [Request(frame, (face,), "clip") for frame in frames]


def run(requests, hard, size, known=()):
    replacer = Replacer(Paint(), Settings(), Judge(hard, known))
    done = [one for start in range(0, len(requests), size) for one in replacer(requests[start : start + size])]
    return [outcome.method for one in done for outcome in one.outcomes], [one.frame.pixels for one in done]


@pytest.mark.parametrize("size", [1, 2, 5, COUNT])
def test_a_new_face_stays(requests, size):
    methods, pixels = run(requests, [3], size)
    assert methods == ["weak"] * 3 + ["strong"] * (COUNT - 3)
    for a, b in zip(pixels, run(requests, [3], 1)[1], strict=True):
        assert np.array_equal(a, b)


@pytest.mark.parametrize("size", [1, 2, 5, COUNT])
def test_a_cover_stays_for_a_while_and_then_the_level_before_is_tried(requests, size):
    high = STEADY * RATE
    methods, pixels = run(requests, [1], size, known=[3])
    assert methods == ["weak", "strong", "strong", *["solid"] * high, *["strong"] * (COUNT - 3 - high)]
    for a, b in zip(pixels, run(requests, [1], 1, known=[3])[1], strict=True):
        assert np.array_equal(a, b)
    assert run(requests, [], size, known=[3])[0] == [*["weak"] * 3, *["solid"] * high, *["weak"] * (COUNT - 3 - high)]


def test_other_tracks_and_files_and_stills_do_not_know(requests, face):
    other = [Request(r.frame, (Face(face.box, 1.0, face.landmarks, 9),), "clip") for r in requests[4:6]]
    elsewhere = [Request(r.frame, r.faces, "other") for r in requests[4:6]]
    assert run([*requests[:4], *other, *elsewhere], [3], 8)[0] == ["weak"] * 3 + ["strong"] + ["weak"] * 4
    stills = [Request(Frame(r.frame.pixels), r.faces, r.name) for r in requests]
    assert run(stills, [3], 5)[0] == ["weak"] * 3 + ["strong"] + ["weak"] * (COUNT - 4)


def test_a_followed_face_stays_one_person(requests):
    """With --persona identity, although its descriptors wander."""

    class Wandering(Judge):
        def distance(self, a, b):
            return np.abs(a[:, 0] - b[:, 0])

    keys = {}
    for track in (True, False):
        method = Paint()
        settings = Settings(persona="identity", distance=0.5, verify=False, track=TrackOptions(track=track))
        seen = []
        method.apply = lambda crops, seen=seen: seen.extend(c.key for c in crops) or list(crops)
        method.escalate = lambda attempt: None
        Replacer(method, settings, Wandering([]))(requests)
        keys[track] = set(seen)
    assert len(keys[True]) == 1 and len(keys[False]) == COUNT


FACES = [Face(Box(0, 0, 9, 9), track=track) for track in range(2)]


def distance(a, b):
    return np.linalg.norm(a - b, axis=-1)


@pytest.mark.parametrize(("persona", "count"), [("track", 4), ("file", 2), ("run", 1)])
def test_keys(persona, count):
    personas = Personas(persona, None, 0.0)
    assert len({personas.key(name, face, None) for name in ("a.jpg", "b.jpg") for face in FACES}) == count


def test_a_person_is_known_again_in_any_file():
    """200 people, each seen three times: as many keys as people, and a face without a descriptor stays alone."""
    random = np.random.default_rng(0)
    people = 3 * random.standard_normal((200, 16)).astype(np.float32)
    personas = Personas("identity", distance, 1.0)
    near = lambda row: row + random.uniform(-0.1, 0.1, 16).astype(np.float32)  # noqa: E731
    keys = [[personas.key(f"{visit}.jpg", FACES[0], near(row)) for row in people] for visit in range(3)]
    assert keys[0] == keys[1] == keys[2] and len(set(keys[0])) == 200
    assert personas.key("x.jpg", FACES[1], None) == "x.jpg#1"
