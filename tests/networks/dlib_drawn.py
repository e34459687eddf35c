"""A face drawn from dlib's mean shape, good enough for dlib to find; and where dlib and the real pictures are."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from deidcli.networks.dlib_recogniser import chip_landmarks
from deidcli.presets import dlib_weights

needs_data = pytest.mark.skipif(
    not os.environ.get("DEID_DATA"), reason="DEID_DATA does not name the folder with lfw/ and scenes/"
)


def face(side=200, skin=(205, 165, 140), back=(70, 90, 110)):
    """(side, side, 3) uint8; `points(side)` are its landmarks."""
    size, p = 600, np.round(chip_landmarks() * 4 + 1.5).astype("int32")
    picture = np.full((size, size, 3), back, "uint8")
    cv2.ellipse(picture, (300, 250), (205, 250), 0, 0, 360, (60, 40, 30), -1)
    cv2.ellipse(picture, (300, 300), (180, 225), 0, 0, 360, skin, -1)
    cv2.polylines(picture, [p[:5], p[5:10]], False, (70, 45, 35), 14)
    for eye in (p[19:25], p[25:31]):
        cv2.fillPoly(picture, [eye], (245, 240, 235))
        cv2.circle(picture, tuple(int(v) for v in eye.mean(0)), 11, (40, 30, 25), -1)
        cv2.polylines(picture, [eye], True, (80, 55, 45), 4)
    cv2.polylines(picture, [p[10:14]], False, (190, 150, 128), 10)
    cv2.polylines(picture, [p[14:19]], False, (140, 95, 80), 9)
    cv2.fillPoly(picture, [p[31:43]], (170, 80, 80))
    cv2.polylines(picture, [p[43:51]], True, (110, 45, 45), 4)
    shade = np.cos((np.arange(size) - 260) / 400)[None, :, None]
    picture = cv2.GaussianBlur((picture * shade).astype("uint8"), (0, 0), 5)
    return cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA)


def points(side=200):
    """(68, 2) float64; the jaw, which the mean shape lacks, lies on the lower half of the face's ellipse."""
    angles = np.linspace(np.pi, 0, 17)
    jaw = np.stack([300 + 180 * np.cos(angles), 300 + 225 * np.sin(angles)], 1)
    return np.concatenate([jaw, chip_landmarks() * 4 + 1.5]) * side / 600


def scene(height, width, faces, seed=0):
    """(height, width, 3) uint8: a gradient with some noise, and a face of each (left, top, side)."""
    y, x = np.mgrid[:height, :width]
    picture = np.stack([x * 200 / width, y * 200 / height, 90 + 0 * x], 2) + 20
    picture = (picture + np.random.default_rng(seed).normal(0, 6, picture.shape)).clip(0, 255).astype("uint8")
    for number, (left, top, side) in enumerate(faces):
        skin = [(205, 165, 140), (150, 105, 80), (230, 195, 175)][number % 3]
        picture[top : top + side, left : left + side] = face(side, skin)
    return picture


def model(name):
    return str(dlib_weights(name))


def photographs(pattern, count):
    """The first `count` pictures that match under DEID_DATA, RGB."""
    paths = sorted(Path(os.environ["DEID_DATA"]).glob(pattern))
    step = max(1, len(paths) // count)
    return [cv2.imread(str(path))[..., ::-1].copy() for path in paths[::step][:count]]
