"""Match: whether a face is one of a few known people, as both shipped recognisers see it, and how sure that is.

A face is the `SAME` where both say so by a strict threshold, `OTHER` where both say by a loose one that it is nobody of
them, and `UNSURE` between, or where it is too small to be told. docs/people.md has the error rates of the thresholds
below, and the command that measures them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from deidcli.faces.embed import Recogniser
from deidcli.faces.recognisers.both import BothRecogniser
from deidcli.values import Face

SAME, UNSURE, OTHER = "same", "unsure", "other"
# As multiples of the thresholds of dlib (0.6) and SFace (0.637).
STRICT = np.array([0.75, 0.85])
LOOSE = np.array([1.10, 1.20])
SMALLEST = 40  # pixels of the shorter side of a face of which anything can be said


def judged(distances: np.ndarray, strict: np.ndarray = STRICT, loose: np.ndarray = LOOSE) -> np.ndarray:
    """SAME, UNSURE or OTHER for distances (n, 2) by dlib and SFace, each as a multiple of its threshold: (n,) words.

    With the thresholds of one of them (n, 1) by it alone.
    """
    distances = np.asarray(distances).reshape(-1, len(strict))
    same, other = (distances <= strict).all(axis=1), (distances > loose).all(axis=1)
    return np.where(same, SAME, np.where(other, OTHER, UNSURE))


def tellable(face: Face) -> bool:
    """Whether a face can be compared: it has landmarks and is large enough."""
    return face.landmarks is not None and min(face.box.width, face.box.height) >= SMALLEST


class KnownPeople:
    """The people whose pictures are at hand. rows: their descriptors (n, length), of both recognisers."""

    def __init__(self, rows: np.ndarray, recogniser: BothRecogniser):
        self.rows, self.recogniser = rows, recogniser

    def distances(self, descriptors: np.ndarray) -> np.ndarray:
        """How far faces are from the nearest picture of the people, by each recogniser: (m, length) to (m, 2)."""
        return nearest(self.recogniser, np.asarray(descriptors), self.rows)


def nearest(recogniser: BothRecogniser, faces: np.ndarray, known: np.ndarray) -> np.ndarray:
    """The least distance of each of `faces` (m, length) to any of `known` (n, length), by dlib and by SFace: (m, 2)."""
    apart = [recogniser.distances(np.repeat(face[None], len(known), axis=0), known).min(axis=0) for face in faces]
    return np.array(apart).reshape(-1, 2)


def describe(recogniser: Recogniser, pixels: np.ndarray, faces: Sequence[Face]) -> np.ndarray:
    """Descriptors (n, length) of the faces of one picture (height, width, 3) uint8; all have landmarks."""
    return recogniser.embed(recogniser.chips(pixels, faces))
