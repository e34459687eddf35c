"""Match: whether a face is one of a few known people, as both shipped recognisers see it, and how sure that is.

A face is the `SAME` where both say so by a strict threshold, and `OTHER` where both say by a loose one that it is
nobody of them. Between it is `UNSURE`, and `SPLIT` where one of them says that it is nobody and the other does not. The
thresholds were chosen on 448 faces of LFW's training people; docs/people.md has their error rates on other people, and
the command that measures them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from deidcli.faces.align import upright
from deidcli.faces.recognisers import Recogniser
from deidcli.faces.recognisers.both import BothRecogniser
from deidcli.values import Face

SAME, UNSURE, SPLIT, OTHER = "same", "unsure", "split", "other"
WORDS = (SAME, UNSURE, SPLIT, OTHER)
# As multiples of the thresholds of dlib (0.6) and SFace (0.637).
STRICT = np.array([0.85, 0.85])
LOOSE = np.array([1.05, 1.15])
SMALLEST = 40  # pixels of the shorter side of a face of which anything can be said
# How far the tip of the nose may lie from the middle between the eyes, as a share of their distance: 35 degrees.
TURNED = 0.3
NOSE, EYES = 30, (36, 45)  # the tip of the nose and the outer corners of the eyes among the 68 landmarks


def judged(distances: np.ndarray, strict: np.ndarray = STRICT, loose: np.ndarray = LOOSE) -> np.ndarray:
    """SAME, UNSURE, SPLIT or OTHER for distances (n, 2) by dlib and SFace, each as a multiple of its threshold.

    Words (n,). With the thresholds of one recogniser, distances (n, 1) are judged by it alone.
    """
    distances = np.asarray(distances).reshape(-1, len(strict))
    same, far = (distances <= strict).all(axis=1), distances > loose
    return np.select([same, far.all(axis=1), far.any(axis=1)], [SAME, OTHER, SPLIT], UNSURE)


def tellable(face: Face) -> bool:
    """Whether a face can be compared: it has landmarks, is large enough, and looks ahead."""
    if face.landmarks is None or min(face.box.width, face.box.height) < SMALLEST:
        return False
    points = upright(face.landmarks)
    left, right = points[EYES[0], 0], points[EYES[1], 0]
    return bool(right > left and abs((points[NOSE, 0] - left) / (right - left) - 0.5) <= TURNED)


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
