"""A new face is laid into its frame and nothing else is touched."""

import itertools

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deidcli.faces.align import align
from deidcli.faces.blend import BlendOptions, blend, mask, transfer_lighting
from deidcli.values import Box, CropSpec, Face, Frame

from .test_align import turned

SPECS = [CropSpec(64, 0.06), CropSpec(128, 0.2, mask="inner"), CropSpec(None, 0.35, "box", "ellipse", False)]
PLACES = [(100, 100), (0, 100), (199, 199), (100, 190)]


def scene(seed=1):
    drawn = np.random.default_rng(seed).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    return Frame(cv2.GaussianBlur(drawn, (0, 0), 3))


def laid(face, spec, options=BlendOptions(), color=(250, 10, 10)):  # noqa: B008 - frozen
    frame = scene()
    crop = align(frame, face, spec)
    return frame, blend(frame, crop.with_pixels(np.full_like(crop.pixels, color)), spec, options)


@pytest.mark.parametrize("poisson", [False, True])
@pytest.mark.parametrize("spec", SPECS, ids=lambda s: s.mask)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("size", [4, 60, 700])
def test_nothing_outside_changed(spec, place, size, poisson):
    frame, done = laid(turned(15, size, *place), spec, BlendOptions(poisson=poisson))
    before = scene().pixels
    assert np.array_equal(frame.pixels, before), "the frame that was given was changed"
    assert done.changed.shape == (200, 200) and done.changed.dtype == bool and done.changed.any()
    assert np.array_equal(done.frame.pixels[~done.changed], before[~done.changed])
    assert done.frame.pixels.dtype == np.uint8 and done.frame.index == frame.index


@pytest.mark.parametrize("spec", SPECS, ids=lambda s: s.mask)
def test_outside_the_frame_nothing_is_done(spec):
    frame, done = laid(turned(0, 60, -400, 50), spec)
    assert not done.changed.any() and np.array_equal(done.frame.pixels, frame.pixels)


def test_the_new_face_is_there_wholly():
    face = Face(Box(70, 60, 130, 140))
    _, done = laid(face, SPECS[2])
    assert (done.frame.pixels[60:140, 70:130] == (250, 10, 10)).all()


@pytest.mark.parametrize("spec", SPECS[:2], ids=lambda s: s.mask)
def test_its_own_crop_laid_back_changes_little(spec, portrait, face):
    """What a method leaves as it was comes back in its place: no seam, no shift, no other tone."""
    frame = Frame(portrait)
    crop = align(frame, face, CropSpec(160, spec.margin, mask=spec.mask))
    done = blend(frame, crop, spec, BlendOptions())
    difference = np.abs(done.frame.pixels.astype(int) - portrait)[done.changed]
    assert difference.mean() < 2.5


def test_scale_grows_what_is_changed():
    areas = [laid(turned(0, 70), SPECS[0], BlendOptions(scale=s))[1].changed.sum() for s in (0.8, 1.0, 1.3)]
    assert areas[0] < areas[1] < areas[2]


def test_poisson_joins_the_edge():
    """Where a pattern of the new face is cut off, it goes over into its surroundings with a smaller step."""
    grey, face, spec = Frame(np.full((200, 200, 3), 120, np.uint8)), turned(0, 120), CropSpec(128, 0.1)
    waves = (120 + 60 * np.sin(np.arange(128) / 5)).astype(np.uint8)
    crop = align(grey, face, spec).with_pixels(np.dstack([np.tile(waves, (128, 1))] * 3))
    soft = mask(face, spec.mask, (200, 200))
    rim = (soft.alpha > 0.5) & (soft.alpha < 0.9)
    plain, joined = (blend(grey, crop, spec, BlendOptions(poisson=p)).frame.pixels[soft.window] for p in (False, True))
    steps = [np.abs(pixels.astype(int) - 120)[rim].mean() for pixels in (plain, joined)]
    assert steps[1] < 0.7 * steps[0]
    assert np.abs(joined.astype(int) - 120).max() > 40, "the new face is there"


@pytest.mark.parametrize("size", [6, 14, 60, 300])
@pytest.mark.parametrize("place", PLACES)
def test_poisson_keeps_nothing_of_the_old_face(size, place):
    """Lines that are drawn into the old face, where the mask is whole, are gone; even out of a small one."""
    face, spec = turned(0, size, *place), CropSpec(64, 0.2)
    soft = mask(face, spec.mask, (200, 200))
    whole = np.zeros((200, 200), bool)
    whole[soft.window] = soft.alpha > 0.999
    one = np.clip(scene().pixels, 50, 205)
    lines = np.where(np.indices((200, 200)).sum(axis=0) % 2, 50, -50) * whole
    lined = one + lines[..., None]
    crop = align(Frame(one), face, spec)
    crop = crop.with_pixels(np.full_like(crop.pixels, 99))
    frames = [Frame(p.astype(np.uint8)) for p in (one, lined)]
    made = [blend(f, crop, spec, BlendOptions(poisson=True)).frame.pixels.astype(int) for f in frames]
    assert np.abs(made[0] - made[1])[whole].max(initial=0) < 35


def patch(*colors):
    """Stripes of colour with a grain on them, (60, 60, 3) uint8."""
    stripes = np.repeat(np.array(colors, float)[None], 60, axis=0).repeat(60 // len(colors), axis=1)
    grain = np.random.default_rng(3).normal(0, 6, (60, 60, 3))
    return np.clip(stripes + grain, 0, 255).astype(np.uint8)


EVERYWHERE = np.ones((60, 60), np.float32)


def test_tone_and_light_come_over():
    """A face takes the colour of the old one, and its light where that falls from one side."""
    old = patch((150, 110, 90), (60, 40, 30))
    matched = transfer_lighting(patch((90, 100, 120)), old, EVERYWHERE).astype(float)
    for half in (slice(0, 15), slice(45, 60)):
        assert np.abs(matched[:, half].mean(axis=(0, 1)) - old[:, half].mean(axis=(0, 1))).max() < 12


def test_features_do_not_come_over():
    """Neither the old face's lines nor its grain: what was matched does not tell with which face it was."""
    plain, lined = patch((150, 110, 90)), patch(*[(150, 110, 90), (110, 70, 50)] * 10)
    lined = lined - np.clip(lined.mean(axis=(0, 1)) - plain.mean(axis=(0, 1)), -99, 99)
    new = patch((90, 100, 120))
    one, other = (
        transfer_lighting(new, np.clip(p, 0, 255).astype(np.uint8), EVERYWHERE).astype(float) for p in (plain, lined)
    )
    assert np.std((one - other)[10:-10, 10:-10], axis=(0, 1)).max() < 2


def relit(pixels, strength):
    """The same thing in a light of `strength`: linear light scaled, uint8 sRGB in and out."""
    share = pixels / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4) * strength
    share = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * np.maximum(linear, 1e-9) ** (1 / 2.4) - 0.055)
    return np.clip(share * 255 + 0.5, 0, 255).astype(np.uint8)


def contrast(pixels):
    """Deviation of lightness from its smoothed self."""
    light = cv2.cvtColor(pixels.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)[..., 0]
    return float(np.std(light - cv2.GaussianBlur(light, (0, 0), 10)))


FACE = patch(*[(170, 130, 110), (90, 60, 50), (185, 150, 130), (150, 100, 100)] * 3)


@pytest.mark.parametrize("light", [0.03, 0.2, 1, 1.5])
def test_in_its_own_light_a_face_stays_as_it_was(light):
    face = relit(FACE, light)
    assert np.abs(transfer_lighting(face, face, EVERYWHERE).astype(int) - face).max() <= 1


@pytest.mark.parametrize("light", [0.5, 0.25, 0.1])
def test_in_a_weaker_light_it_is_as_if_it_had_been_there(light):
    """Not only as dark: as faint, too."""
    dim = relit(FACE, light)
    matched = transfer_lighting(FACE, dim, EVERYWHERE)
    assert np.abs(matched.astype(int) - dim).mean() < 3
    assert contrast(matched) == pytest.approx(contrast(dim), rel=0.15)


def test_contrast_falls_with_light():
    found = [contrast(transfer_lighting(FACE, relit(FACE, light), EVERYWHERE)) for light in (1, 0.5, 0.25, 0.1, 0.04)]
    assert all(less < 0.9 * more for more, less in itertools.pairwise(found))


def test_dark_skin_shines():
    """What is dark and has the contrast of bright things is no dim picture: highlights stay, little is black."""
    dark = patch(*[(60, 40, 30), (20, 10, 8), (110, 90, 80), (50, 35, 28)] * 3)
    matched, dim = (transfer_lighting(FACE, old, EVERYWHERE) for old in (dark, relit(FACE, 0.1)))
    assert abs(matched.mean() - dim.mean()) < 12, "both are about as dark"
    assert contrast(matched) > 1.3 * contrast(dim)
    assert (matched == 0).mean() < 0.03


@given(st.integers(0, 255), st.integers(0, 255), st.integers(0, 60), st.integers(1, 60))
def test_contrast_is_never_added_and_the_mean_is_the_old_ones(new, old, swing, other):
    waves = np.sin(np.indices((60, 60)).sum(axis=0) / 3)[..., None]
    one, two = (
        np.clip(level + waves[:: 1 - 2 * i] * wide + np.zeros(3), 0, 255).astype(np.uint8)
        for i, (level, wide) in enumerate([(new, swing), (old, other)])
    )
    matched = transfer_lighting(one, two, EVERYWHERE)
    assert contrast(matched) <= contrast(one) + 1
    light = [cv2.cvtColor(p.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)[..., 0].mean() for p in (matched, two)]
    assert abs(light[0] - light[1]) < 4


def test_a_grey_picture_gets_a_grey_face():
    grey = np.repeat(FACE.mean(axis=2, keepdims=True), 3, axis=2).astype(np.uint8)
    assert np.ptp(transfer_lighting(FACE, grey, EVERYWHERE).astype(int), axis=2).max() <= 3


def test_nothing_to_match():
    new = patch((90, 100, 120))
    assert np.array_equal(transfer_lighting(new, new // 2, np.zeros((60, 60), np.float32)), new)


def test_overlapping_faces_are_both_covered():
    frame, spec = scene(), CropSpec(None, 0.35, "box", "ellipse", False)
    boxes = [Box(40, 40, 110, 110), Box(80, 80, 160, 160)]
    changed = np.zeros((200, 200), bool)
    source = frame
    for box in boxes:
        crop = align(source, Face(box), spec)
        done = blend(frame, crop.with_pixels(np.zeros_like(crop.pixels)), spec, BlendOptions())
        frame, changed = done.frame, changed | done.changed
    for box in boxes:
        assert not frame.pixels[int(box.top) : int(box.bottom), int(box.left) : int(box.right)].any()
        covered = mask(Face(box), "ellipse", (200, 200))
        assert changed[covered.window][covered.alpha > 0].all()
    assert np.array_equal(frame.pixels[~changed], source.pixels[~changed])


def test_what_lies_far_from_the_mask_takes_its_tone_as_well():
    """The forehead above the cheeks that are compared: not left in the tone that the new face had."""
    new, old = np.full((120, 90, 3), (150, 110, 90), np.uint8), np.full((120, 90, 3), (230, 200, 180), np.uint8)
    alpha = np.zeros((120, 90), np.float32)
    alpha[90:110, 30:60] = 1
    made = transfer_lighting(new, old, alpha).astype(int)
    assert np.abs(made - old).max() <= 6
