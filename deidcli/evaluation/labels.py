"""Labels: what a classifier reads off a face beside its identity. A seam: whatever reads labels can be plugged in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from deidcli.values import Face, Frame

Answers = dict[str, np.ndarray]


class Labeller(Protocol):
    """Reads labels.

    classes: for each label the words that it can be; empty for one that is a number, like an age.
    """

    classes: dict[str, tuple[str, ...]]

    def read(self, pairs: Sequence[tuple[Frame, Face]]) -> Answers:
        """For each label the probabilities (n, classes) of its words, or the numbers (n,), of faces with landmarks."""
        ...


def words(labeller_classes: Sequence[str], answers: np.ndarray) -> np.ndarray:
    """The likeliest word (n,) of probabilities (n, classes)."""
    return np.asarray(labeller_classes)[np.argmax(answers, axis=1)] if len(answers) else np.array([], str)
