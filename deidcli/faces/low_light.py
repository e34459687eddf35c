"""Low light: brighten dark pictures by local histogram equalisation (CLAHE) before faces are searched."""

from __future__ import annotations

import cv2
import numpy as np

DARK = 48  # of 255: what is darker counts as dark
# Of the picture that has to be dark before it is worth a second search: a dim hall has 0.69 and more, a portrait in a
# dark suit up to 0.64, and in portraits the second look finds little but collars and curtains.
SHARE = 0.66
# Local histogram equalisation: how much it may steepen contrast, and in how many squares a side. Of the strengths that
# were tried (2 to 8, with and without a brighter curve or a blur before) this one found most faces in a dim audience.
STRENGTH, SQUARES = 5.0, 8


def is_low_light(pixels: np.ndarray) -> bool:
    """Whether enough of a picture (height, width, 3) uint8 RGB is dark for faces to hide there."""
    # Every fourth pixel says as much.
    return bool(np.mean(pixels[::4, ::4].max(axis=2) < DARK) > SHARE) if pixels.size else False


def brightened(pixels: np.ndarray) -> np.ndarray:
    """The picture with its lightness equalised square by square, colours kept; same shape and type."""
    lab = cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2LAB)
    lab[..., 0] = cv2.createCLAHE(STRENGTH, (SQUARES, SQUARES)).apply(lab[..., 0])
    return cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)
