"""dlib's ResNet, run by this project in Keras."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from deidcli.faces.recognisers import Recogniser
from deidcli.values import Face


class DlibRecogniser(Recogniser):
    """128 numbers, Euclidean distance, 0.6 as its author recommends. `small` is by benchmarks/small_faces.py."""

    name = "dlib"
    threshold = 0.6
    length = 128
    small = ((8, 0.55), (11, 0.69), (14, 0.77), (18, 0.83), (22, 0.88), (27, 0.92), (34, 0.95), (44, 0.98), (60, 1.0))

    def chips(self, pixels: np.ndarray, faces: Sequence[Face]) -> np.ndarray:
        """Upright faces of 150 pixels with a quarter of room on each side."""
        from deidcli.networks.dlib_recogniser import extract_chips

        return extract_chips(pixels, [face.landmarks for face in faces if face.landmarks is not None])

    def embed(self, chips: np.ndarray) -> np.ndarray:
        """Descriptors of about unit length."""
        from deidcli.networks.dlib_recogniser import describe

        return describe(chips)
