"""CutDetector: another picture begins a shot; a pan, a flash, a fade or a face that passes does not."""

import numpy as np
import pytest

from deidcli.faces.tracking.changes import CutDetector
from tests.faces.moving import background, pasted


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
def test_any_size(shape):
    frames = np.random.default_rng(0).integers(0, 256, (2, *shape), dtype=np.uint8)
    assert begins(*frames)[0] is True
