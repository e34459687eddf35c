"""Changes: what appears or jumps has to be searched, and where; what stays, pans or walks has not."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from deidcli.faces.tracking.motion import CutDetector, changed, parts, shrunk
from deidcli.values import Box
from tests.faces.moving import background, pasted

SIZE = (320, 240)


@pytest.fixture(scope="module")
def small_portrait():
    """A photograph of a person, (64, 64, 3) uint8 RGB."""
    path = Path(__file__).parents[2] / "examples" / "in" / "portrait.jpg"
    return cv2.resize(cv2.imread(str(path)), (64, 64), interpolation=cv2.INTER_AREA)[..., ::-1].copy()


def scene(seed=0, blur=6, size=(480, 320)):
    drawn = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return cv2.normalize(cv2.GaussianBlur(drawn, (0, 0), blur), None, 20, 220, cv2.NORM_MINMAX)


def at(small_portrait, place, side, left=0):
    pixels = scene()[: SIZE[1], left : left + SIZE[0]]
    return pixels if place is None else pasted(np.ascontiguousarray(pixels), small_portrait, place, side)


def looked_for(before, now, after):
    """The parts of `now` that are in neither neighbour."""
    before, now, after = map(shrunk, (before, now, after))
    return parts(changed(now, before) & changed(now, after), now.size)


def holds(boxes, place, side):
    x, y = place
    return any(
        box.left <= x - side / 2
        and box.right >= x + side / 2
        and box.top <= y - side / 2
        and box.bottom >= y + side / 2
        for box in boxes
    )


@pytest.mark.parametrize("side", [24, 48, 90])
@pytest.mark.parametrize("before", [None, (80, 80)])
@pytest.mark.parametrize("after", [None, (240, 80)])
def test_a_face_that_is_only_here(small_portrait, side, before, after):
    place = (160, 160)
    found = looked_for(
        at(small_portrait, before, side), at(small_portrait, place, side), at(small_portrait, after, side)
    )
    assert holds(found, place, side)


@pytest.mark.parametrize("step", [0, 1, 3])
def test_a_face_that_walks_is_followed(small_portrait, step):
    views = [at(small_portrait, (100 + step * n, 120), 60) for n in range(3)]
    assert looked_for(*views) == ()


@pytest.mark.parametrize("step", [3, 6])
def test_a_camera_that_pans(small_portrait, step):
    views = [at(small_portrait, (160 - step * n, 120), 60, step * n) for n in range(3)]
    found = looked_for(*views)
    # Only what comes into the picture at its border.
    assert all(box.right < 80 or box.left > SIZE[0] - 80 for box in found)


@pytest.mark.parametrize("flash", [60, -60])
def test_a_flash_is_searched_whole(small_portrait, flash):
    dark = at(small_portrait, None, 1)
    light = np.clip(dark.astype(int) + flash, 0, 255).astype(np.uint8)
    assert looked_for(dark, light, dark) == (Box(0, 0, *SIZE),)


def test_noise_is_no_change(small_portrait):
    rng = np.random.default_rng(1)
    views = [np.clip(at(small_portrait, (90, 90), 50) + rng.normal(0, 6, (240, 320, 3)), 0, 255).astype(np.uint8)] * 3
    assert looked_for(*views) == ()


@pytest.mark.parametrize("size", [(1, 1), (7, 300), (300, 5), (15, 15)])
def test_any_size(size):
    views = [np.full((size[1], size[0], 3), value, np.uint8) for value in (0, 255, 0)]
    assert looked_for(*views) == (Box(0, 0, *size),)


def test_parts_that_touch_are_one():
    mask = np.zeros((120, 160), bool)
    mask[50:53, 40:43] = mask[50:53, 60:63] = True
    mask[5, 150] = True
    one, other = sorted(parts(mask, (640, 480)), key=lambda box: box.left)
    assert one.left < 160 - 24 and one.right > 252 + 24 and other.right == 640


def begins(*frames):
    cuts = CutDetector()
    return [cuts.begins(frame) for frame in frames]


def test_another_picture_is_a_cut():
    assert begins(background(1), background(1), background(2), background(2)) == [True, False, True, False]


@pytest.mark.parametrize("shift", [1, 5, 12])
def test_a_pan_is_none(shift):
    frames = [np.roll(background(1), shift * i, axis=1) for i in range(8)]
    assert not any(begins(*frames)[1:])


@pytest.mark.parametrize("light", [0.3, 0.6, 1.2])
def test_a_flash_is_none(light):
    bright = np.clip(background(1) * light, 0, 255).astype(np.uint8)
    assert begins(background(1), bright, background(1)) == [True, False, False]


def test_a_fade_is_none(portrait):
    frames = [(background(1) * share).astype(np.uint8) for share in np.linspace(1, 0, 30)]
    assert not any(begins(*frames)[1:])


def test_out_of_the_black():
    black = np.zeros_like(background())
    assert begins(black, black, background(1)) == [True, False, True]


def test_a_large_face_that_passes_is_none(portrait):
    frames = [pasted(background(1), portrait, (40 + 12 * i, 80), 110) for i in range(10)]
    assert not any(begins(*frames)[1:])


@pytest.mark.parametrize("shape", [(1, 1, 3), (2, 300, 3), (1080, 1920, 3)])
def test_cuts_of_any_size(shape):
    frames = np.random.default_rng(0).integers(0, 256, (2, *shape), dtype=np.uint8)
    assert begins(*frames)[0] is True
