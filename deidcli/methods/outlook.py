"""Outlook: how far candidates are expected to take a photograph from its old face, and which is drawn next.

The distance by each recogniser is taken as linear in an identity's coefficients: a constant, which differs from one
photograph to the next by what is about the face, and a gradient, of which the face model knows most. Every new face
that is looked at says more of both: a Bayesian linear regression whose prior is the face model's.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

# How far new faces are from the old one on average, in thresholds of dlib and of SFace, and how much farther than is
# asked for one has to be expected.
EXPECTED, SPARE = np.array([1.13, 0.93]), 0.03
# Standard deviations in thresholds: of that average between photographs, of what the face model does not foresee of an
# identity, and of what is not linear.
BETWEEN, UNFORESEEN, NOISE = 0.13, 0.12, 0.035

Told = tuple[np.ndarray, np.ndarray]  # the coefficients (d,) of a new face that was looked at, and how far it was (2,)


class Outlook:
    """What is to be expected of the candidates for a face by dlib and SFace, in their thresholds.

    rows: (k, d) coefficients of the candidates. gradients: (d, 2), what they add to the distances. spread: (d,), their
    standard deviations. step: the coefficients (d,) of one deviation along what raises a gradient (d,) most. told:
    what was looked at before; `note` adds to it. least: how far a new face has to be by each, (2,). most: how
    many deviations a candidate may be moved.
    """

    def __init__(
        self,
        rows: np.ndarray,
        gradients: np.ndarray,
        spread: np.ndarray,
        step: Callable[[np.ndarray], np.ndarray],
        told: list[Told],
        least: np.ndarray,
        most: float,
    ):
        self._rows, self._prior, self._step_of = rows, gradients, step
        self._variance = (UNFORESEEN / spread) ** 2 / len(spread)  # of each gradient, (d,)
        self._least, self._most = least + SPARE, most
        self._left = np.arange(len(rows))
        self._told = told
        self._learn()

    def likely(self) -> tuple[int, np.ndarray]:
        """The number of the first candidate that is expected to be far enough, or else of the one that lacks least, and
        the coefficients (d,) that are added to it so that it lacks nothing, as far as may be.
        """
        lacks = self._least - self.expected()[self._left]
        lacking = (lacks / np.maximum(self._step @ self._gradients, 1e-6)).max(axis=1).clip(min=0)  # in steps
        place = int(lacking.argmin())
        number, self._left = int(self._left[place]), np.delete(self._left, place)
        return number, min(float(lacking[place]), self._most) * self._step

    def note(self, number: int, moved: np.ndarray, away: np.ndarray) -> None:
        """How far a candidate with the coefficients (d,) that were added was from the old face, (2,); infinite where a
        recogniser was not asked.
        """
        self._told.append((self._rows[number] + moved, away))
        self._learn()

    def expected(self) -> np.ndarray:
        """How far each candidate is expected to be as it is, (k, 2)."""
        return self._average + self._rows @ self._gradients

    def _learn(self) -> None:
        """The averages (2,) and gradients (d, 2) that go best with what was told."""
        self._average, self._gradients = EXPECTED.copy(), self._prior.copy()
        for judge in range(len(EXPECTED)):
            told = [(row, away[judge]) for row, away in self._told if np.isfinite(away[judge])]
            if not told:
                continue
            seen, apart = (np.stack(values) for values in zip(*told, strict=True))
            off = apart - EXPECTED[judge] - seen @ self._prior[:, judge]
            likeness = BETWEEN**2 + (seen * self._variance) @ seen.T
            weights = np.linalg.solve(likeness + NOISE**2 * np.eye(len(told)), off)
            self._average[judge] += BETWEEN**2 * weights.sum()
            self._gradients[:, judge] += self._variance * (seen.T @ weights)
        self._step = self._step_of(self._gradients[:, 1])  # SFace passes fewer faces
