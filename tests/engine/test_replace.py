"""Escalation: a face is replaced, or covered, or its file is not written; never let through."""

from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import pytest

from deidcli.engine.replace import Replacer, Request
from deidcli.engine.settings import FALLBACKS, Settings, fingerprint
from deidcli.errors import MethodError
from deidcli.faces.align import align
from deidcli.faces.blend import BlendOptions
from deidcli.faces.recognisers import Recogniser, recogniser
from deidcli.methods.base import Method, Secret
from deidcli.methods.naive import Blur, Pixelate, Solid
from deidcli.values import Box, CropSpec, Face, Frame, Layer
from tests.conftest import SIDE, found

GREEN = (20, 200, 30)


class Painter(Method):
    """Paints a face green, unless `spoil` says otherwise for the crops of its batch."""

    name = "painter"
    crop = CropSpec(64, 0.1, transfer_lighting=False)

    def __init__(self, spoil=None, stronger=None):
        super().__init__(self.Options(), Secret.seeded(1))
        self.spoil, self.stronger, self.batches = spoil, stronger, []

    def apply(self, crops):
        self.batches.append([crop.key for crop in crops])
        made = [crop.with_pixels(np.full_like(crop.pixels, GREEN)) for crop in crops]
        return self.spoil(crops, made) if self.spoil else made

    def escalate(self, attempt):
        return self.stronger


class Fixed(Recogniser):
    """Knows everybody, or nobody, at whatever distance it is told."""

    name, threshold, length = "fixed", 0.6, 1

    def __init__(self, *distances):
        self.distances = list(distances)

    def chips(self, pixels, faces):
        return np.zeros((len(faces), 1), np.float32)

    def embed(self, chips):
        return chips

    def distance(self, a, b):
        return np.array([self.distances.pop(0) for _ in a])


@pytest.fixture
def request_of(crowd):
    faces = [replace(face, track=track) for track, face in enumerate(sorted(found(crowd), key=lambda f: f.box.left))]
    return Request(Frame(crowd), tuple(faces), "crowd.png")


def run(method, request, judge=None, **settings):
    [done] = Replacer(method, Settings(**settings), judge)([request])
    return done


def by_track(done):
    return [outcome for outcome in sorted(done.outcomes, key=lambda o: o.face.track)]


def hidden(done, request):
    """For each face whether it shows nothing but the flat colours that `solid` covers these faces with."""
    crops = [align(request.frame, face, Solid.crop) for face in request.faces]
    flat = {tuple(new.pixels[0, 0]) for new in Solid().apply(crops)}
    # A box has corners that the ellipse about a face leaves free.
    boxes = [face.box.scaled(0.7) for face in request.faces]
    rows = [done.frame.pixels[max(0, int(b.top)) : int(b.bottom), max(0, int(b.left)) : int(b.right)] for b in boxes]
    return [{tuple(pixel) for pixel in row.reshape(-1, 3)} <= flat for row in rows]


def test_every_face_is_replaced(request_of):
    done = run(Painter(), request_of)
    assert [(o.action, o.method, o.tries, o.reason) for o in done.outcomes] == [("replaced", "painter", 1, "")] * 3
    assert np.array_equal(done.frame.pixels[~done.changed], request_of.frame.pixels[~done.changed])
    for face in request_of.faces:
        x, y = (int(v) for v in face.box.center)
        assert (done.frame.pixels[y, x] == GREEN).all()


def test_no_faces(request_of):
    done = run(Painter(), replace(request_of, faces=()))
    assert done.frame is request_of.frame and done.changed is None and done.outcomes == ()


def fail(error):
    def spoil(crops, made):
        if any(crop.key.endswith("#1") for crop in crops):
            raise error
        return made

    return spoil


def spoil_pixels(change):
    def spoil(crops, made):
        return [new.with_pixels(change(new.pixels)) if new.key.endswith("#1") else new for new in made]

    return spoil


BROKEN = {
    "error": fail(ValueError("no such face")),
    "method error": fail(MethodError("not mine")),
    "memory": fail(MemoryError()),
    "shape": spoil_pixels(lambda p: p[:-1]),
    "channels": spoil_pixels(lambda p: p[..., 0]),
    "type": spoil_pixels(lambda p: p.astype(np.float32)),
    "none": lambda crops, made: [new for new in made if not new.key.endswith("#1")],
}


@pytest.mark.parametrize("spoil", BROKEN.values(), ids=BROKEN)
def test_one_bad_face_is_covered_alone(request_of, spoil):
    done = run(Painter(spoil), request_of)
    assert [o.action for o in by_track(done)] == ["replaced", "covered", "replaced"]
    assert by_track(done)[1].method == "solid" and "painter failed" in by_track(done)[1].reason
    assert hidden(done, request_of) == [False, True, False]


def test_more_faces_than_were_asked_for(request_of):
    done = run(Painter(lambda crops, made: [*made, made[0]]), request_of)
    assert [o.action for o in done.outcomes] == ["covered"] * 3 and all(hidden(done, request_of))


@pytest.mark.parametrize("size", [1, 2, 32])
def test_batches_are_as_large_as_asked(request_of, size):
    method = Painter()
    run(method, request_of, batch_size=size)
    assert max(map(len, method.batches)) == min(size, 3) and sum(map(len, method.batches)) == 3


def test_a_face_without_landmarks_is_covered(request_of):
    blind = replace(request_of.faces[1], landmarks=None)
    request = replace(request_of, faces=(request_of.faces[0], blind))
    done = run(Painter(), request)
    assert [o.action for o in by_track(done)] == ["replaced", "covered"]
    assert "landmarks" in by_track(done)[1].reason and hidden(done, request)[1]


def test_landmarks_that_cannot_be_cut_out_are_covered(request_of):
    """All in one point: there is no way to turn such a face upright."""
    point = replace(request_of.faces[1], landmarks=np.full((68, 2), 330, np.float32))
    request = replace(request_of, faces=(request_of.faces[0], point))
    done = run(Painter(), request)
    assert [o.action for o in by_track(done)] == ["replaced", "covered"]
    assert "cannot be right" in by_track(done)[1].reason and hidden(done, request)[1]


def test_what_is_still_recognised_is_covered(request_of):
    """A method that changes nothing, judged by the real recogniser."""
    done = run(Painter(lambda crops, made: list(crops)), request_of, recogniser("dlib"))
    assert [o.action for o in done.outcomes] == ["covered"] * 3
    assert all("still recognised" in o.reason for o in done.outcomes) and all(hidden(done, request_of))


def test_nothing_is_judged_without_verify(request_of):
    """Although a recogniser is there, because the persona needs one."""
    judge = Fixed(*[0.1] * 9)
    done = run(Painter(), request_of, judge, verify=False, persona="identity")
    assert [(o.action, o.tries, o.distance) for o in done.outcomes] == [("replaced", 1, None)] * 3


def test_what_is_not_recognised_stays(request_of):
    done = run(Painter(), request_of, recogniser("dlib"))
    assert [o.action for o in done.outcomes] == ["replaced"] * 3
    assert all(o.distance > 0.6 for o in done.outcomes)


def test_stronger_settings_come_before_the_fallback(request_of):
    request = replace(request_of, faces=request_of.faces[:1])
    stronger = Painter()
    done = run(
        Painter(stronger=stronger), request, Fixed(0.4, 0.4, 0.9)
    )  # the first is asked with the margin and without
    [outcome] = done.outcomes
    assert (outcome.action, outcome.tries, outcome.distance, outcome.reason) == ("replaced", 2, 0.9, "")
    assert stronger.batches == [["crowd.png#0"]]


def test_a_failure_before_a_success_is_no_reason(request_of):
    done = run(Painter(fail(ValueError("weak")), stronger=Painter()), request_of)
    assert [(o.action, o.reason) for o in done.outcomes] == [("replaced", "")] * 3


def test_distance_is_the_threshold(request_of):
    request = replace(request_of, faces=request_of.faces[:1])
    assert run(Painter(), request, Fixed(0.5), distance=0.4).outcomes[0].action == "replaced"
    assert run(Painter(), request, Fixed(0.6)).outcomes[0].action == "covered", "at the threshold it is the same person"
    assert run(Painter(), request, Fixed(float("nan"))).outcomes[0].action == "covered"


@pytest.mark.parametrize(
    ("time", "distances", "tries", "taken"),
    [
        (None, (0.61, 0.61, 0.62), 2, 0.62),  # in a still the next level is tried, and is the last: no margin
        (None, (0.61, 0.61, 0.5, 0.61), 3, 0.61),  # which is recognised: the one before is taken again
        (None, (0.5, 0.5, 0.5), 3, None),
        (Fraction(1), (0.61,), 1, 0.61),  # frames of a video are not judged in the file
    ],
)
def test_a_still_has_to_be_apart_by_a_margin_while_there_is_a_stronger_setting(
    request_of, time, distances, tries, taken
):
    """What an encoder brings nearer by a tenth would be covered in the file."""
    frame = replace(request_of.frame, time=time)
    request = replace(request_of, frame=frame, faces=request_of.faces[:1])
    [outcome] = run(Painter(stronger=Painter()), request, Fixed(*distances)).outcomes
    assert (outcome.action, outcome.distance) == ("replaced" if taken else "covered", taken)
    assert outcome.tries == tries and bool(outcome.reason) is (taken is None)


@pytest.mark.parametrize("fallback", FALLBACKS)
def test_fallbacks(request_of, fallback):
    done = run(Painter(fail(ValueError("no"))), request_of, fallback=fallback)
    covered = by_track(done)[1]
    assert (covered.action, covered.method) == ("covered", fallback)
    box = request_of.faces[1].box
    window = np.s_[int(box.top) : int(box.bottom), int(box.left) : int(box.right)]
    before, after = (f.pixels[window].astype(float) for f in (request_of.frame, done.frame))
    fine = lambda p: np.abs(np.diff(p, axis=1)).mean()  # noqa: E731
    assert fine(after) < 0.6 * fine(before)


@pytest.mark.parametrize("fallback", ["pixelate", "blur"])
def test_the_last_resort_is_a_solid_color(request_of, fallback):
    request = replace(request_of, faces=request_of.faces[:1])
    done = run(Painter(), request, Fixed(*[0.1] * 20), fallback=fallback)
    [outcome] = done.outcomes
    assert (outcome.action, outcome.method) == ("covered", "solid") and all(hidden(done, request))


@pytest.mark.parametrize("method", [Solid(), Pixelate(), Blur()])
def test_classical_methods_get_past_the_recogniser(request_of, method):
    done = run(method, request_of, recogniser("dlib"))
    assert all(o.method in (method.name, "solid") for o in done.outcomes)
    assert all(o.distance is None or o.distance > 0.6 for o in done.outcomes)
    assert done.outcomes[0].action == "replaced"


PLACES = {
    "over the corner": Box(-40, -40, 40, 40),
    "tiny": Box(50, 50, 55, 55),
    "larger than the picture": Box(-3000, -3000, 3000, 3000),
    "outside": Box(5000, 5000, 5100, 5100),
    "a line": Box(10, 10, 11, 200),
}


@pytest.mark.parametrize("fallback", FALLBACKS)
@pytest.mark.parametrize("box", PLACES.values(), ids=PLACES)
def test_boxes_anywhere(request_of, box, fallback):
    request = replace(request_of, faces=(Face(box),))
    done = run(Painter(), request, recogniser("dlib"), fallback=fallback)
    assert [o.action for o in done.outcomes] == ["covered"]
    if fallback == "solid":
        assert all(hidden(done, request))


def test_overlapping_faces_are_all_hidden(request_of):
    face = request_of.faces[0]
    box = face.box
    near = [Face(box.scaled(s), track=i) for i, s in enumerate((1.2, 0.9, 0.6))]
    near.append(Face(Box(box.left + 30, box.top + 30, box.right + 30, box.bottom + 30), track=3))
    request = replace(request_of, faces=tuple(near))
    # In one colour: where the soft edge of one lies over another there is a mixture of both.
    done = run(Solid(Solid.Options(color="#0ac81e")), request)
    for face in near:
        rows, columns = slice(int(face.box.top), int(face.box.bottom)), slice(int(face.box.left), int(face.box.right))
        assert np.all(done.frame.pixels[rows, columns] == (10, 200, 30))


class Layered(Painter):
    """Lays green over the middle of each face, in a window."""

    name = "layered"
    crop = CropSpec(size=None, margin=0.1, align="window", transfer_lighting=False)

    def apply(self, crops):
        made = []
        for crop in crops:
            size = crop.pixels.shape[:2]
            y, x = (np.indices(size).T / np.array(size)).T
            alpha = (np.hypot(y - 0.5, x - 0.5) < 0.35).astype(np.float32)
            layer = Layer(alpha, np.zeros((*size, 2), np.float32))
            made.append(replace(crop.with_pixels(np.full_like(crop.pixels, GREEN)), layer=layer))
        return made


def behind(request_of, share=0.25):
    """A face that has a new one, and a smaller one without landmarks, so many widths beside the middle of the first."""
    face = request_of.faces[0]
    side = face.box.width * 0.7
    left, top = face.box.center[0] + face.box.width * share, face.box.center[1] - side / 2
    return replace(request_of, faces=(face, Face(Box(left, top, left + side, top + side), track=1)))


def test_a_cover_lies_behind_a_nearer_new_face(request_of):
    request = behind(request_of)
    near, far = request.faces
    alone, both = (run(Layered(), replace(request, faces=faces)) for faces in ((near,), (near, far)))
    assert [o.action for o in by_track(both)] == ["replaced", "covered"]
    green = (alone.frame.pixels == GREEN).all(axis=2) & alone.changed
    assert (both.frame.pixels[green] == GREEN).all()
    rows, columns = slice(int(far.box.top), int(far.box.bottom)), slice(int(far.box.left), int(far.box.right))
    shown = both.frame.pixels[rows, columns]
    assert ((shown != request.frame.pixels[rows, columns]).any(axis=2) | green[rows, columns]).mean() > 0.97
    assert 0.1 < green[rows, columns].mean() < 0.9


def test_it_lies_over_a_new_face_that_it_is_in_front_of_and_over_one_that_is_not_final(request_of):
    request = behind(request_of)
    covered = run(Layered(), request, Fixed(*[0.1] * 40))  # always known again: the new face gives way to a cover
    assert [o.action for o in by_track(covered)] == ["covered", "covered"]
    assert not (covered.frame.pixels[covered.changed] == GREEN).all(axis=1).any()
    request = behind(request_of, -0.3)
    done, box = run(Layered(), request), request.faces[1].box.scaled(0.7)
    rows, columns = slice(int(box.top), int(box.bottom)), slice(int(box.left), int(box.right))
    assert not (done.frame.pixels[rows, columns] == GREEN).all(axis=2).any()


def test_poisson_hides_as_well(request_of):
    """Joined gradients leave nothing of the face that was there: another one below gives the same picture."""
    box = request_of.faces[0].box
    other = request_of.frame.pixels.copy()
    inner = np.s_[int(box.top) : int(box.bottom), int(box.left) : int(box.right)]
    other[inner] = other[inner][::-1, ::-1]
    face = Face(box)
    shown = []
    for pixels in (request_of.frame.pixels, other):
        request = Request(Frame(pixels), (face,), "a")
        shown.append(run(Solid(), request, blend=BlendOptions(poisson=True)).frame.pixels[inner].astype(int))
    assert np.abs(shown[0] - shown[1]).max() <= 2


def test_a_face_that_cannot_be_covered_is_an_error(request_of, monkeypatch):
    """Then the file is not written; nobody guesses."""

    def broken(*_):
        raise RuntimeError("no blending today")

    monkeypatch.setattr("deidcli.engine.replace.patch", broken)
    with pytest.raises(MethodError, match="neither be replaced nor covered"):
        run(Painter(), request_of)


def test_small_faces_are_compared_at_a_threshold_of_their_size(request_of):
    """Where the command gives none: what it gives counts at all sizes."""

    class Small(Fixed):
        small = ((1.0, 0.5), (1e5, 0.5))

    request = replace(request_of, faces=request_of.faces[:1])
    assert run(Painter(), request, Small(0.4)).outcomes[0].action == "replaced"
    assert run(Painter(), request, Fixed(0.4)).outcomes[0].action == "covered"
    assert run(Painter(), request, Small(0.4), distance=0.6).outcomes[0].action == "covered"


def test_what_a_level_drew_is_gone_when_the_next_one_draws(request_of):
    """The next level's face lies over the original's surroundings, and not over those of the level before."""
    small = Painter()
    small.crop = CropSpec(64, 0.1, mask="inner", transfer_lighting=False)
    request = replace(request_of, faces=request_of.faces[:1])
    twice = run(Painter(stronger=small), request, Fixed(0.1, 0.1, 0.9))
    assert twice.outcomes[0].tries == 2
    assert np.array_equal(twice.frame.pixels, run(small, request).frame.pixels)


def test_frames_do_not_mix(request_of, portrait):
    single = Request(Frame(portrait), tuple(found(portrait)), "single.png")
    empty = Request(Frame(portrait), (), "empty.png")
    done = Replacer(Painter(), Settings(), None)([single, empty, request_of])
    assert [len(d.outcomes) for d in done] == [1, 0, 3]
    assert np.array_equal(done[2].frame.pixels, run(Painter(), request_of).frame.pixels)
    assert np.array_equal(done[1].frame.pixels, portrait)
    assert done[0].frame.pixels.shape == (SIDE, SIDE, 3)


@dataclass(frozen=True)
class Other(Painter.Options):
    """Settings of another value."""

    strength: int = 2


def test_fingerprint_says_what_decides_the_output():
    method, settings = Blur(), Settings(seed=3)
    first = fingerprint(method, settings)
    assert first == fingerprint(Blur(), replace(settings, workers=7, batch_size=1))
    changed = [replace(settings, seed=4), replace(settings, fallback="blur"), replace(settings, faces="abc")]
    changed += [replace(settings, verify=False), replace(settings, blend=BlendOptions(1.5))]
    prints = [fingerprint(method, other) for other in changed] + [fingerprint(Blur(Blur.Options(0.5)), settings)]
    prints += [fingerprint(Pixelate(), settings)]
    assert len({first, *prints}) == len(prints) + 1
