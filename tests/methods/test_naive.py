"""The classical baselines hide by an amount that is measured in faces, not in pixels."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deidcli.errors import UsageError
from deidcli.methods.naive import MARGIN, Blur, Pixelate, Solid
from deidcli.values import Box, Crop, Face
from tests.conftest import SIDE

ANYWHERE = Face(Box(0, 0, 1, 1))
THROUGH = np.eye(2, 3)


def applied(method, pixels):
    return method.apply([Crop(pixels, THROUGH, ANYWHERE)])[0].pixels


def edge(side):
    pixels = np.zeros((side, side, 3), np.uint8)
    pixels[:, side // 2 :] = 255
    return pixels


def width_of_edge(pixels):
    """Pixels between 10 % and 90 % of the way up."""
    row = pixels[pixels.shape[0] // 2, :, 0].astype(float)
    low, high = np.interp([25.5, 229.5], row, np.arange(len(row)))
    return high - low


@pytest.mark.parametrize("side", [60, 120, 480])
def test_blur_grows_with_the_face(side):
    """An edge that is blurred by one standard deviation rises from 10 % to 90 % in 2.56 of them."""
    share = 0.1
    face = side / (1 + 2 * MARGIN)
    assert width_of_edge(applied(Blur(Blur.Options(share)), edge(side))) == pytest.approx(2.56 * share * face, rel=0.15)


def test_blur_grows_with_its_option():
    widths = [width_of_edge(applied(Blur(Blur.Options(share)), edge(240))) for share in (0.05, 0.1, 0.2)]
    assert widths[0] * 1.6 < widths[1] and widths[1] * 1.6 < widths[2]


@pytest.mark.parametrize("cell", [1, 3, 10, 31])
def test_pixelate_shows_means(cell):
    """Not samples: a sample of a picture can be a pixel of the face."""
    cells = 10
    pixels = np.random.default_rng(2).integers(0, 256, (cells * cell, cells * cell, 3), dtype=np.uint8)
    method = Pixelate(Pixelate.Options(round(cells / (1 + 2 * MARGIN))))
    means = pixels.reshape(cells, cell, cells, cell, 3).mean(axis=(1, 3))
    wanted = means.repeat(cell, axis=0).repeat(cell, axis=1)
    assert np.abs(applied(method, pixels) - wanted).max() <= 0.5 + 1e-6


@given(st.integers(8, 300), st.integers(1, 32))
def test_pixelate_shows_no_more_than_its_cells(side, cells):
    pixels = np.random.default_rng(side).integers(0, 256, (side, side, 3), dtype=np.uint8)
    made = applied(Pixelate(Pixelate.Options(cells)), pixels)
    shown = {tuple(color) for color in made.reshape(-1, 3)}
    assert len(shown) <= min(side, round(cells * (1 + 2 * MARGIN))) ** 2
    assert np.abs(made.mean(axis=(0, 1)) - pixels.mean(axis=(0, 1))).max() < 32


@pytest.mark.parametrize(("color", "rgb"), [("black", (0, 0, 0)), ("#10ff80", (16, 255, 128)), ("teal", (0, 128, 128))])
def test_solid_is_one_color(color, rgb):
    for seed in range(2):
        pixels = np.random.default_rng(seed).integers(0, 256, (50, 50, 3), dtype=np.uint8)
        assert (applied(Solid(Solid.Options(color)), pixels) == rgb).all()


def test_solid_is_the_mean_of_the_face(portrait):
    made = applied(Solid(), portrait)
    border = round(SIDE * (1 - 1 / (1 + 2 * MARGIN)) / 2)
    mean = portrait[border : SIDE - border, border : SIDE - border].mean(axis=(0, 1))
    assert (made == made[0, 0]).all() and np.abs(made[0, 0] - mean).max() <= 1


def test_solid_refuses_what_is_no_color():
    with pytest.raises(UsageError, match="--color"):
        Solid(Solid.Options("nightish"))


@pytest.mark.parametrize("method", [Blur(), Pixelate()])
def test_stronger_settings_keep_less(method, portrait):
    detail = []
    pixels = cv2.resize(portrait, (170, 170))
    rung = method
    while rung is not None:
        detail.append(float(np.std(applied(rung, pixels).astype(float), axis=(0, 1)).mean()))
        rung = rung.escalate(len(detail))
    assert len(detail) > 1 and detail == sorted(detail, reverse=True)
