"""Outlook: what candidates are expected to make of a photograph, and which is drawn next.

Measured are how far the new face is from the old one by each recogniser, and its looks: the gender, age and tone that
dlib's descriptor says. Each is taken as linear in an identity's coefficients: a constant, which differs from one
photograph to the next by what is about the face, and a gradient, of which the face model knows most. Every new face
that is looked at says more of both: a Bayesian linear regression whose prior is the face model's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

# How far new faces are from the old one on average, in thresholds of dlib and of SFace.
EXPECTED = np.array([1.13, 0.93])
# How much farther than is asked for in general a new face has to be by each of them: strangers lie at 1.4 thresholds by
# both, but SFace also knows people by what is about the face, and names people by what is just beyond its threshold.
BEYOND = np.array([0.0, 0.1])
# The looks (gender, age and tone) that new faces are read as on average: so much, and such a share of the old face's;
# and how far they go with what the face model says of an identity.
READ, OF_OLD, OF_NEW = np.array([-0.11, 0.18, 0.03]), np.array([0.85, 0.41, 0.12]), np.array([1.5, 0.75, 1.0])
# Standard deviations by which a new face may be read older or younger, and lighter or darker, than the old one.
AGED, TONED = 1.0, 1.0
# How much more than is asked for is expected of a new face: farther by dlib and SFace, more alike in its looks.
SPARE = np.array([0.03, 0.03, 0.25, 0.5, 0.7])
# Standard deviations of a measure: of its constant between photographs, of what the face model does not foresee of an
# identity, and of what is not linear; for distances in thresholds, for looks in those of people.
DISTANCE, LOOK = np.array([0.13, 0.12, 0.035]), np.array([0.4, 0.3, 0.1])
# Deviations that a candidate may be moved away rather than have other looks by one of people's.
WORTH = 3.0

Told = tuple[np.ndarray, np.ndarray]  # the coefficients (d,) of a new face that was looked at, and its measures (m,)


@dataclass(frozen=True)
class Measures:
    """What is expected of a photograph's new faces before the first is looked at, and what is asked of them.

    average: (m,), of all identities. gradients: (d, m), what their coefficients add. doubt: (m, 3), rows of DISTANCE or
    LOOK. least, most: (m,). spare: (m,), how much within these a new face has to be expected. The first `distances` of
    the measures are raised by moving a face.
    """

    average: np.ndarray
    gradients: np.ndarray
    doubt: np.ndarray
    least: np.ndarray
    most: np.ndarray
    spare: np.ndarray
    distances: int = 2


def measures_of(distances: np.ndarray, effects: np.ndarray, looks: np.ndarray, far: float, alike: bool) -> Measures:
    """Of a face: how far new ones are by dlib and SFace, and their looks.

    distances: (d, 2) and effects: (d, 3), what coefficients add to them. looks: (3,), the old face's. far: how far new
    faces have to be, 0 for anything. alike: whether they have to look like the old one.
    """
    anything = np.full(len(EXPECTED), np.inf)
    bounds = alike_bounds(looks) if alike else np.outer([-1, 1], np.full(len(looks), np.inf))
    return Measures(
        np.concatenate([EXPECTED, READ + OF_OLD * looks]),
        np.concatenate([distances, OF_NEW * effects], axis=1),
        np.stack([DISTANCE] * len(EXPECTED) + [LOOK] * len(looks)),
        np.concatenate([far + BEYOND if far else -anything, bounds[0]]),
        np.concatenate([anything, bounds[1]]),
        SPARE,
    )


def alike_bounds(looks: np.ndarray) -> np.ndarray:
    """The least and the most (2, 3) that the looks of a new face may be read as, by those of the old one (3,)."""
    gender, age, tone = looks
    least = [0 if gender > 0 else -np.inf, age - AGED, tone - TONED]
    return np.array([least, [np.inf if gender > 0 else 0, age + AGED, tone + TONED]])


class Outlook:
    """What is to be expected of the candidates for a face.

    rows: (k, d) coefficients of the candidates. spread: (d,), their standard deviations. step: the coefficients (d,) of
    one deviation along what raises a gradient (d,) most. told: what was looked at before; `note` adds to it. most: how
    many deviations a candidate may be moved.
    """

    def __init__(
        self,
        rows: np.ndarray,
        measures: Measures,
        spread: np.ndarray,
        step: Callable[[np.ndarray], np.ndarray],
        told: list[Told],
        most: float,
    ):
        self._rows, self._measures, self._step_of, self._most = rows, measures, step, most
        self._share = 1 / (len(spread) * spread**2)  # of what is not foreseen in each gradient, (d,)
        self._left = np.arange(len(rows))
        self._told = told
        self._learn()

    def likely(self) -> tuple[int, np.ndarray, np.ndarray]:
        """The number of the first candidate that is expected to do, or else of the one that lacks least, the
        coefficients (d,) that are added to it so that it is far enough, as far as may be, and what it is expected to
        come to with these, (m,).
        """
        asked, count = self._measures, self._measures.distances
        expected = self.expected()[self._left]
        lacks = np.maximum(asked.least + asked.spare - expected, expected - asked.most + asked.spare)
        raised = np.maximum(self._step @ self._gradients[:, :count], 1e-6)
        steps = (lacks[:, :count] / raised).max(axis=1).clip(min=0)
        unlike = lacks[:, count:].clip(min=0).sum(axis=1)
        place = int((steps + WORTH * unlike).argmin())
        number, self._left = int(self._left[place]), np.delete(self._left, place)
        more = min(float(steps[place]), self._most) * self._step
        return number, more, expected[place] + more @ self._gradients

    def alike(self, looks: np.ndarray) -> bool:
        """Whether a new face with these looks (3,) is as much like the old one as is asked; not if they are unknown."""
        asked, first = self._measures, self._measures.distances
        return bool((looks >= asked.least[first:]).all() and (looks <= asked.most[first:]).all())

    def note(self, number: int, moved: np.ndarray, measured: np.ndarray) -> None:
        """What a candidate with the coefficients (d,) that were added came to, (m,); not finite where it was not
        measured.
        """
        self._told.append((self._rows[number] + moved, measured))
        self._learn()

    def expected(self) -> np.ndarray:
        """What each candidate is expected to come to as it is, (k, m)."""
        return self._average + self._rows @ self._gradients

    def _learn(self) -> None:
        """The averages (m,) and gradients (d, m) that go best with what was told."""
        prior = self._measures
        self._average, self._gradients = prior.average.copy(), prior.gradients.copy()
        for one, (between, unforeseen, noise) in enumerate(prior.doubt):
            told = [(row, measured[one]) for row, measured in self._told if np.isfinite(measured[one])]
            if not told:
                continue
            seen, values = (np.stack(each) for each in zip(*told, strict=True))
            off = values - prior.average[one] - seen @ prior.gradients[:, one]
            variance = unforeseen**2 * self._share
            likeness = between**2 + (seen * variance) @ seen.T
            weights = np.linalg.solve(likeness + noise**2 * np.eye(len(told)), off)
            self._average[one] += between**2 * weights.sum()
            self._gradients[:, one] += variance * (seen.T @ weights)
        self._step = self._step_of(self._gradients[:, 1])  # SFace passes fewer faces
