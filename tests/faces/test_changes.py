"""Changes: what appears or jumps has to be searched, and where; what stays, pans or walks has not."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from deidcli.faces.tracking.changes import changed, parts, shrunk
from deidcli.values import Box
from tests.faces.moving import pasted

SIZE = (320, 240)


@pytest.fixture(scope="module")
def portrait():
    """A photograph of a person, (64, 64, 3) uint8 RGB."""
    path = Path(__file__).parents[2] / "examples" / "in" / "portrait.jpg"
    return cv2.resize(cv2.imread(str(path)), (64, 64), interpolation=cv2.INTER_AREA)[..., ::-1].copy()


def scene(seed=0, blur=6, size=(480, 320)):
    drawn = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return cv2.normalize(cv2.GaussianBlur(drawn, (0, 0), blur), None, 20, 220, cv2.NORM_MINMAX)


def at(portrait, place, side, left=0):
    pixels = scene()[: SIZE[1], left : left + SIZE[0]]
    return pixels if place is None else pasted(np.ascontiguousarray(pixels), portrait, place, side)


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
def test_a_face_that_is_only_here(portrait, side, before, after):
    place = (160, 160)
    found = looked_for(at(portrait, before, side), at(portrait, place, side), at(portrait, after, side))
    assert holds(found, place, side)


@pytest.mark.parametrize("step", [0, 1, 3])
def test_a_face_that_walks_is_followed(portrait, step):
    views = [at(portrait, (100 + step * n, 120), 60) for n in range(3)]
    assert looked_for(*views) == ()


@pytest.mark.parametrize("step", [3, 6])
def test_a_camera_that_pans(portrait, step):
    views = [at(portrait, (160 - step * n, 120), 60, step * n) for n in range(3)]
    found = looked_for(*views)
    # Only what comes into the picture at its border.
    assert all(box.right < 80 or box.left > SIZE[0] - 80 for box in found)


@pytest.mark.parametrize("flash", [60, -60])
def test_a_flash_is_searched_whole(portrait, flash):
    dark = at(portrait, None, 1)
    light = np.clip(dark.astype(int) + flash, 0, 255).astype(np.uint8)
    assert looked_for(dark, light, dark) == (Box(0, 0, *SIZE),)


def test_noise_is_no_change(portrait):
    rng = np.random.default_rng(1)
    views = [np.clip(at(portrait, (90, 90), 50) + rng.normal(0, 6, (240, 320, 3)), 0, 255).astype(np.uint8)] * 3
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
