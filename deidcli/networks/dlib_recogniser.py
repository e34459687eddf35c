"""Who a face is, as dlib's recogniser sees it: 128 numbers, many faces at a time."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import keras
import numpy as np

from deidcli.networks.dlib_chips import extract_chips
from deidcli.networks.dlib_nets import build_recogniser
from deidcli.networks.store import alone, run_alone

DESCRIPTOR = 128  # numbers
SAME_PERSON = 0.6  # Euclidean distance: below it dlib takes two faces for one person (99.4 % right on LFW)


def describe_faces(image: np.ndarray, landmarks: Sequence[np.ndarray]) -> np.ndarray:
    """The descriptors of the faces in a picture, as `compute_face_descriptor(image, face)` of dlib without jitter.

    image: (height, width, 3) uint8 RGB. landmarks: for each face (68, 2), pixels of the image.
    Returns (faces, 128) float32. Raises MethodError if landmarks fall on one point, and what `describe` raises.
    """
    return describe(extract_chips(image, landmarks))


def describe(chips: np.ndarray) -> np.ndarray:
    """The descriptors of chips as `extract_chips` cuts them, (N, 150, 150, 3) RGB in [0, 255], to (N, 128) float32.

    A chip has the same descriptor in any batch (`store.Alone`).

    Raises MissingDependency or PresetError where the weights are missing or damaged.
    """
    # One number type for every caller, because each other one would be traced anew.
    return run_alone(_alone(), np.asarray(chips, "float32"))[0]


@functools.cache
def _alone() -> keras.Model:
    return alone(_load())


@functools.cache
def _load() -> keras.Model:
    return build_recogniser()
