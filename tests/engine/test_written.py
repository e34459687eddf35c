"""What is to be written is decoded and judged again: an encoder or an alpha channel may show what memory did not."""

import io
import threading

import numpy as np
import pytest
from PIL import Image

from deidcli.engine.replace import Outcome, Replaced
from deidcli.engine.written import REASON, WrittenCheck
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
    assert seen.faces == {0: {0}} and seen.regions == {0: {0}}


def test_what_was_filled_is_no_face_to_a_recogniser_unless_it_resembles_one():
    """Of small faces a recogniser takes one colour for the original."""
    originals = np.array([[200.0], [90.0]])
    made = check(FLAT, ByMean(), distance=50.0, originals=originals)
    filled = np.where(MASK[..., None], FLAT + 3, BEFORE).astype(np.uint8)
    seen = made.look(file_of(filled))
    assert seen and not made.look(file_of(filled), seen)
    faint = np.where(MASK[..., None], 90 + (BEFORE.astype(float) - BEFORE[MASK].mean()) * 0.03, BEFORE)
    assert made.look(file_of(np.clip(faint, 0, 255).astype(np.uint8)), seen)


def test_a_face_that_was_never_judged_is_not_judged_here():
    made = check(FLAT, ByMean(), distance=None, originals=np.array([[90.0]]))
    assert not made.look(file_of(np.where(MASK[..., None], FLAT + 3, BEFORE).astype(np.uint8)))


def test_no_change_is_no_check():
    made = WrittenCheck(None, compared, threading.Lock())
    made.add(Frame(BEFORE), Replaced(Frame(BEFORE), None, ()))
    assert not made
