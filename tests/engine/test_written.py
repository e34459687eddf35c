"""What is to be written is decoded and judged again: an encoder or an alpha channel may show what memory did not."""

import io
import threading

import numpy as np
import pytest
from PIL import Image

from deidcli.api import anonymize
from deidcli.engine import local
from deidcli.engine.replace import Outcome, Replaced
from deidcli.engine.written import REASON, Seen, WrittenCheck, _regions
from deidcli.faces.align import MEAN_SHAPE
from deidcli.faces.blend import mask
from deidcli.faces.recognisers import Recogniser
from deidcli.media.open import open_reader
from deidcli.values import Box, Face, Frame
from tests.media.drawn import noise, region, smooth

BEFORE = noise((60, 80, 3), 7)
MASK = region(60, 80)
FACE = Face(Box(20, 15, 40, 30), landmarks=np.zeros((68, 2), np.float32))


class ByMean(Recogniser):
    """Knows a face by the mean of the picture that it is in."""

    name, threshold, length = "mean", 10.0, 1

    def chips(self, pixels, faces):
        return np.stack([pixels[MASK].mean(axis=0, keepdims=True) for _ in faces])

    def embed(self, chips):
        return chips.mean(axis=(1, 2))[:, None]


def compared(judge, face, originals, row):
    """As `Replacer.compared`, with one threshold."""
    distance = float(np.abs(originals - row).min())
    return distance, distance <= judge.threshold


def treated(after, distance=None, originals=None, looks=()):
    outcome = Outcome(FACE, "replaced", "painter", 1, distance)
    source = Frame(BEFORE, looks=looks)
    pixels = BEFORE.copy()
    pixels[MASK] = after[MASK]
    return source, Replaced(source.with_pixels(pixels), MASK, (outcome,), (originals,))


def check(after, judge=None, **known):
    made = WrittenCheck(judge, compared, threading.Lock())
    made.add(*treated(after, **known))
    return made


def file_of(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return open_reader(buffer.getvalue(), "written")


FLAT = np.full_like(BEFORE, 90)


@pytest.mark.parametrize("leak", [1.0, 0.4, -0.5])
def test_a_region_that_shows_the_original_again_is_seen(leak):
    made = check(FLAT)
    faint = np.clip(128 + leak * (BEFORE.astype(float) - 128), 0, 255).astype(np.uint8)
    seen = made.look(file_of(np.where(MASK[..., None], faint, BEFORE)))
    assert seen and seen.regions == {0: {0}}
    ((frame, changed),) = made.covered(iter([Frame(BEFORE)]), seen)
    assert np.array_equal(changed, MASK) and np.ptp(frame.pixels[MASK], axis=0).max() == 0
    assert np.array_equal(frame.pixels[~MASK], BEFORE[~MASK])
    (outcome,) = made.outcomes(0, seen)
    assert (outcome.action, outcome.method, outcome.reason) == ("covered", "solid", REASON)


@pytest.mark.parametrize("after", [FLAT, smooth(60, 80), noise((60, 80, 3), 99), BEFORE[::-1].copy(), 255 - BEFORE])
def test_what_is_written_as_it_was_made_passes(after):
    made = check(after)
    pixels = BEFORE.copy()
    pixels[MASK] = after[MASK]
    assert not made.look(file_of(pixels))


def test_alpha_that_draws_the_original_is_seen():
    made = check(FLAT)
    alpha = BEFORE.mean(axis=2).astype(np.uint8)
    written = np.dstack([np.where(MASK[..., None], FLAT, BEFORE), alpha])
    assert made.look(file_of(written)).regions == {0: {0}}
    opaque = np.dstack([written[..., :3], np.where(MASK, 255, alpha)])
    assert not made.look(file_of(opaque))


def test_a_look_of_the_original_that_is_written_is_seen():
    hidden = noise((60, 80, 3), 31)
    made = check(FLAT, looks=(hidden,))
    assert made.look(file_of(np.where(MASK[..., None], hidden, BEFORE))).regions == {0: {0}}


def test_a_face_that_is_recognised_in_the_file_alone_is_seen():
    originals = np.array([[200.0], [90.0]])
    made = check(FLAT, ByMean(), distance=50.0, originals=originals)
    pixels = np.where(MASK[..., None], FLAT + 60, BEFORE).astype(np.uint8)
    assert not made.look(file_of(pixels))
    pixels = np.where(MASK[..., None], FLAT + 3, BEFORE).astype(np.uint8)
    seen = made.look(file_of(pixels))
    assert seen.faces == {0: {0}} and not seen.regions


def test_what_was_filled_is_no_face_to_a_recogniser_unless_it_resembles_one():
    """Of small faces a recogniser takes one colour for the original."""
    originals = np.array([[200.0], [90.0]])
    made = check(FLAT, ByMean(), distance=50.0, originals=originals)
    filled = np.where(MASK[..., None], FLAT + 3, BEFORE).astype(np.uint8)
    seen = made.look(file_of(filled))
    faint = np.where(MASK[..., None], 90 + (BEFORE.astype(float) - BEFORE[MASK].mean()) * 0.03, BEFORE)
    for covered in (made.widened(Seen(), seen), made.widened(Seen(), seen, wide=True)):
        assert seen and not made.look(file_of(filled), covered)
        assert made.look(file_of(np.clip(faint, 0, 255).astype(np.uint8)), covered)


# Two faces whose new pixels touch: a small one, and beside it a larger one, which lies over its edge.
SMALL, LARGE = Box(10, 20, 22, 34), Box(30, 15, 54, 45)
JOINED = np.zeros((60, 80), bool)
JOINED[12:50, 6:60] = True
NEW = noise((60, 80, 3), 99)


class ByBox(Recogniser):
    """Knows a face by the mean of the pixels in its box."""

    name, threshold, length = "box", 10.0, 1

    def chips(self, pixels, faces):
        return np.array([[[[inside(pixels, face.box).mean()]]] for face in faces])

    def embed(self, chips):
        return chips.reshape(len(chips), 1)


def inside(pixels, box):
    return pixels[int(box.top) : int(box.bottom), int(box.left) : int(box.right)]


def face_of(box):
    corner, side = np.array([box.left, box.top]), np.array([box.width, box.height])
    return Face(box, landmarks=(corner + MEAN_SHAPE * side).astype(np.float32))


def joined(small=SMALL, large=LARGE, known=(True, False)):
    """The check of two faces in one region, each of which may be known again in what is written."""
    pixels = np.where(JOINED[..., None], NEW, BEFORE)
    faces = [face_of(small), face_of(large)]
    outcomes = tuple(Outcome(face, "replaced", "painter", 1, 50.0) for face in faces)
    means = [
        np.array([[inside(pixels, face.box).mean() if one else 900.0]]) for face, one in zip(faces, known, strict=True)
    ]
    made = WrittenCheck(ByBox(), compared, threading.Lock())
    made.add(Frame(BEFORE), Replaced(Frame(pixels), JOINED, outcomes, tuple(means)))
    written = pixels.copy()
    written[:, 7] ^= 1  # as an encoder would
    return made, written


def painted(made, covered):
    ((frame, changed),) = made.covered(iter([Frame(BEFORE)]), covered)
    assert np.array_equal(frame.pixels[~changed], BEFORE[~changed])
    return frame.pixels


def test_a_face_that_is_recognised_is_covered_alone():
    made, written = joined()
    seen = made.look(file_of(written))
    covered = made.widened(Seen(), seen)
    assert covered == Seen({}, {0: {0}})
    pixels = painted(made, covered)
    assert np.ptp(inside(pixels, SMALL), axis=(0, 1)).max() == 0 and np.array_equal(
        inside(pixels, LARGE), inside(NEW, LARGE)
    )
    small, large = made.outcomes(0, covered)
    assert (small.action, small.method, small.reason, large.action) == ("covered", "solid", REASON, "replaced")
    assert not made.look(file_of(pixels), covered), "one colour is no face, though its mean is known"


def test_what_is_still_recognised_takes_its_region_with_it():
    made, written = joined()
    covered = made.widened(Seen(), made.look(file_of(written)))
    left, top, right, bottom = (int(value) for value in SMALL.as_list())
    faint = painted(made, covered)
    faint[top:bottom, left:right] = np.clip(
        faint[top:bottom, left:right] * 0.7 + BEFORE[top:bottom, left:right] * 0.3, 0, 255
    )
    again = made.look(file_of(faint), covered)
    wide = made.widened(covered, again)
    assert again.faces == {0: {0}} and wide.regions == {0: {0}}
    assert np.ptp(painted(made, wide)[JOINED], axis=0).max() == 0
    assert [outcome.action for outcome in made.outcomes(0, wide)] == ["covered", "covered"]
    assert made.widened(Seen(), made.look(file_of(written)), wide=True).regions == {0: {0}}


@pytest.mark.parametrize("known", [(True, True), (False, True)])
@pytest.mark.parametrize("left", [10, 16, 22, 28, 36])
def test_no_recognised_face_stays_open_wherever_it_touches_another(left, known):
    """Its box shows one colour, the edge of another cover, or the new face of a nearer one that lies over it."""
    made, written = joined(small=Box(left, 20, left + 12, 34), known=known)
    covered = made.widened(Seen(), made.look(file_of(written)))
    pixels, over = painted(made, covered), mask(face_of(LARGE), "full", (80, 60))
    nearer = np.zeros((60, 80), bool)
    nearer[over.window] = over.alpha > 0
    for place, (box, one) in enumerate(zip((Box(left, 20, left + 12, 34), LARGE), known, strict=True)):
        if one:
            assert place in covered.faces[0]
            part = inside(pixels, box)[~inside(nearer, box)] if place == 0 else inside(pixels, box).reshape(-1, 3)
            assert not len(part) or np.ptp(part, axis=0).max() < 16 < np.ptp(inside(NEW, box))
        assert made.outcomes(0, covered)[place].action == ("covered" if one else "replaced")
    assert known[1] or np.array_equal(pixels[nearer & JOINED], NEW[nearer & JOINED])


def test_a_file_is_written_again_until_nobody_is_recognised(tmp_path, crowd, monkeypatch):
    """The first of three faces is recognised once it is coded: it alone is covered, and the others keep theirs."""

    class Fickle(Recogniser):
        name, threshold, length = "fickle", 10.0, 1

        def __init__(self):
            self.turns = 0

        def chips(self, pixels, faces):
            return np.zeros((len(faces), 1))

        def embed(self, chips):
            self.turns += 1
            rows = np.full((len(chips), 1), 0.0 if self.turns == 1 else 99.0)
            rows[0] = 0.0 if self.turns in (1, 3) else 99.0
            return rows

    monkeypatch.setattr(local, "recogniser", lambda name: Fickle())
    Image.fromarray(crowd).save(tmp_path / "three.jpg", quality=92)
    report = anonymize(
        tmp_path / "three.jpg", tmp_path / "out", "pixelate", detector="hog", recogniser="fickle", seed=1
    )
    [row] = report.rows
    assert (report.covered, report.replaced, report.status) == (1, 2, 0)
    assert [face["reason"] for face in row.faces if face["action"] == "covered"] == [REASON]


def test_a_face_that_was_never_judged_is_not_judged_here():
    made = check(FLAT, ByMean(), distance=None, originals=np.array([[90.0]]))
    assert not made.look(file_of(np.where(MASK[..., None], FLAT + 3, BEFORE).astype(np.uint8)))


def test_no_change_is_no_check():
    made = WrittenCheck(None, compared, threading.Lock())
    made.add(Frame(BEFORE), Replaced(Frame(BEFORE), None, ()))
    assert not made


def test_regions_of_many_faces_are_those_of_the_whole_mask():
    """They are looked for band by band; two of them share rows, one is a pixel, and one ends with the picture."""
    source, after, mask = Frame(noise((60, 80, 3), 1)), noise((60, 80, 3), 2), np.zeros((60, 80), bool)
    for rows, columns in ((slice(3, 9), slice(4, 20)), (slice(6, 14), slice(30, 33)), (slice(20, 21), slice(7, 8))):
        mask[rows, columns] = True
    mask[50:, 70:] = np.triu(np.ones((10, 10), bool))
    found = list(_regions(source, after, mask))
    assert [(part.corner, part.mask.shape) for part in found] == [
        ((4, 3), (6, 16)), ((30, 6), (8, 3)), ((7, 20), (1, 1)), ((70, 50), (10, 10)),
    ]  # fmt: skip
    again = np.zeros_like(mask)
    for part in found:
        part.cut(again)[part.mask] = True
        assert np.array_equal(part.after, part.cut(after))
        assert np.array_equal(part.before[0], part.cut(source.pixels))
    assert np.array_equal(again, mask)
