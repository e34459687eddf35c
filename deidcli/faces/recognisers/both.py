"""Both shipped recognisers at once: a face counts as another person's only where dlib and SFace say so."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from deidcli.faces.recognisers import Recogniser
from deidcli.faces.recognisers.dlib import DlibRecogniser
from deidcli.faces.recognisers.sface import SfaceRecogniser
from deidcli.values import Face


class BothRecogniser(Recogniser):
    """`both`: dlib's descriptor and SFace's behind each other; the smaller distance, as a multiple of its threshold.

    Raises MissingDependency where SFace's weights are not installed.
    """

    name = "both"
    threshold = 1.0

    def __init__(self, file: str = ""):
        super().__init__(file)
        self.parts = DlibRecogniser(), SfaceRecogniser()
        self.length = sum(part.length for part in self.parts)

    def chips(self, pixels: np.ndarray, faces: Sequence[Face]) -> np.ndarray:
        """The chips of both side by side, dlib's of 150 pixels on the left and SFace's of 112 at the top beside it."""
        left, right = (part.chips(pixels, faces) for part in self.parts)
        beside = np.zeros((len(right), left.shape[1], right.shape[2], 3), np.uint8)
        beside[:, : right.shape[1]] = right
        return np.concatenate([left, beside], axis=2)

    def embed(self, chips: np.ndarray) -> np.ndarray:
        """(n, 256): dlib's 128 numbers, then SFace's."""
        side = chips.shape[1]
        beside = chips.shape[2] - side
        split = np.ascontiguousarray(chips[:, :, :side]), np.ascontiguousarray(chips[:, :beside, side:])
        return np.concatenate([part.embed(each) for part, each in zip(self.parts, split, strict=True)], axis=1)

    def compared(
        self, a: np.ndarray, b: np.ndarray, size: float, threshold: float | None = None, margin: float = 1.0
    ) -> tuple[np.ndarray, np.ndarray]:
        """One person is whom either recognises, each at its own threshold for faces of this size."""
        each, shares = self.distances(a, b), np.array([part.share_at(size) for part in self.parts])
        apart = each.min(axis=-1)
        return apart, ~np.all(each > shares * margin, axis=-1) if threshold is None else ~(apart > threshold * margin)

    def distance(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """The smaller of the two distances, row by row, 1 at the threshold of its recogniser."""
        return self.distances(a, b).min(axis=-1)

    def distances(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Both distances, row by row, each as a multiple of its recogniser's threshold: (n, 256) twice to (n, 2)."""
        a, b, end = np.asarray(a), np.asarray(b), self.parts[0].length
        halves = zip(self.parts, ((a[..., :end], b[..., :end]), (a[..., end:], b[..., end:])), strict=True)
        return np.stack([part.distance(x, y) / part.threshold for part, (x, y) in halves], axis=-1)
