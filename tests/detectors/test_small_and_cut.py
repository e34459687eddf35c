"""Faces of 12 pixels, faces cut by a border and pictures of 1 bit, as the default detector finds them.

The fourteen larger faces of examples/in are shrunk into a drawn landscape, cut at all four borders, or made 1 bit.
"""

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from deidcli.faces.detectors import DetectOptions, detector
from deidcli.faces.detectors.shipped import WEIGHTS
from deidcli.faces.search import shared
from deidcli.media.open import open_reader
from deidcli.values import Box

EXAMPLES = Path(__file__).parents[2] / "examples" / "in"
SHOWN = ("badge.gif", "grey.png", "group.jpg", "pair.png", "portrait.jpg", "sideways.jpg", "trip/café terrace.jpg")
SIDES = ("left", "top", "right", "bottom")

pytestmark = pytest.mark.skipif(not WEIGHTS.find(), reason="the weights of centerface are missing")


@pytest.fixture(scope="module")
def centerface():
    return detector(DetectOptions("centerface"))


@pytest.fixture(scope="module")
def drawn(centerface):
    """Each of fourteen faces as its picture and its box."""
    pictures = [read(EXAMPLES / name) for name in SHOWN]
    faces = [(picture, face.box) for picture in pictures for face in centerface.detect([picture], followed=True)[0]]
    assert len(faces) == 14
    return faces


def read(path):
    with open_reader(path) as reader:
        return next(iter(reader.frames())).pixels


def cropped(picture, part, scale):
    """The part of a picture that lies in a box, at another scale."""
    left, top = max(0, round(part.left)), max(0, round(part.top))
    pixels = picture[top : round(part.bottom), left : round(part.right)]
    return cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def found(centerface, picture, place):
    """Whether a box has half of `place`."""
    return any(2 * shared(face.box, place) > place.area for face in centerface.detect([picture])[0])


def test_faces_of_12_pixels(centerface, drawn):
    landscape = read(EXAMPLES / "no_face.jpg")[200:320, 300:460]
    hits = 0
    for picture, box in drawn:
        scene = landscape.copy()
        head = cropped(picture, box.scaled(1.8), 12 / box.height)
        scene[60 : 60 + head.shape[0], 80 : 80 + head.shape[1]] = head
        middle = Box(80, 60, 80 + head.shape[1], 60 + head.shape[0]).scaled(0.4)
        hits += found(centerface, scene, middle)
    assert hits >= 12


@pytest.mark.parametrize(("hidden", "least"), [(0.6, 52), (0.7, 50)])
def test_faces_cut_by_a_border(centerface, drawn, hidden, least):
    """A share of the box, 50 pixels high, lies past one of the four borders."""
    hits = 0
    for picture, box in drawn:
        around, scale = box.scaled(3), 50 / box.height
        for side in SIDES:
            part = cut(around, box, side, hidden, picture.shape)
            visible = Box(
                *(
                    (value - origin) * scale
                    for value, origin in zip(
                        (
                            max(box.left, part.left),
                            max(box.top, part.top),
                            min(box.right, part.right),
                            min(box.bottom, part.bottom),
                        ),
                        (part.left, part.top) * 2,
                        strict=True,
                    )
                )
            )
            hits += found(centerface, cropped(picture, part, scale), visible)
    assert hits >= least


def cut(around, box, side, hidden, shape):
    """`around`, ended where `hidden` of the box is left out at one side."""
    left, top, right, bottom = max(around.left, 0), max(around.top, 0), around.right, around.bottom
    right, bottom = min(right, shape[1]), min(bottom, shape[0])
    if side == "left":
        left = box.left + hidden * box.width
    elif side == "top":
        top = box.top + hidden * box.height
    elif side == "right":
        right = box.right - hidden * box.width
    else:
        bottom = box.bottom - hidden * box.height
    return Box(left, top, right, bottom)


@pytest.mark.parametrize("size", [24, 60])
def test_pictures_of_one_bit(centerface, drawn, size):
    hits = 0
    for picture, box in drawn:
        part, scale = cut(box.scaled(4), box, "left", -1.5, picture.shape), size / box.height
        small = cropped(picture, part, scale)
        dots = np.array(Image.fromarray(small).convert("1").convert("RGB"))
        x, y = ((c - o) * scale for c, o in zip(box.center, (max(part.left, 0), max(part.top, 0)), strict=True))
        hits += found(centerface, dots, Box(x - size / 3, y - size / 3, x + size / 3, y + size / 3))
    assert hits >= 13


def test_the_mirror_image_of_a_whole_face_is_none(centerface, portrait):
    """Near the border, but not cut by it: one face, and it is not moved."""
    [[face]] = centerface.detect([portrait])
    near = portrait[:, max(0, int(face.box.left) - 6) :]
    [[beside]] = centerface.detect([near])
    assert beside.box.iou(Box(6, face.box.top, 6 + face.box.width, face.box.bottom)) > 0.7
