"""What is still useful: likeness of the picture, landmarks, labels. Pure functions of originals and outputs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from deidcli.evaluation.extra import needed
from deidcli.evaluation.metrics import average, share
from deidcli.evaluation.results import Figure, Matrix
from deidcli.faces.shape import LEFT_EYE, RIGHT_EYE


def ssim(before: np.ndarray, after: np.ndarray) -> float:
    """Structural similarity of two pictures (h, w, 3) uint8 as Wang et al. (2004) define it, by scikit-image.

    FATM's Section 4 and EPD-Net's Figure 5 measure whole pictures. NaN for pictures smaller than its window of 11
    pixels. Raises MissingDependency.
    """
    with needed("SSIM"):
        from skimage.metrics import structural_similarity
    if min(before.shape[:2]) < 11 or before.shape != after.shape:
        return float("nan")
    window = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    return float(structural_similarity(before, after, channel_axis=2, data_range=255, **window))


def landmark_error(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Mean distance (n,) of the 68 landmarks (n, 68, 2) as a share of the distance between the eyes' centres."""
    before, after = np.asarray(before, float), np.asarray(after, float)
    eyes = before[:, LEFT_EYE].mean(axis=1) - before[:, RIGHT_EYE].mean(axis=1)
    apart = np.maximum(np.linalg.norm(eyes, axis=-1), 1e-9)
    return np.linalg.norm(after - before, axis=-1).mean(axis=-1) / apart


def confusion(name: str, truth: Sequence[str], said: Sequence[str], labels: Sequence[str] = ()) -> Matrix:
    """How often each true label was told as which (CLEANIR, Figure 9; k-Same-Net, Figure 11), by scikit-learn."""
    with needed("a confusion matrix"):
        from sklearn.metrics import confusion_matrix
    labels = tuple(labels) or tuple(sorted(set(truth) | set(said)))
    cells = confusion_matrix(list(truth), list(said), labels=list(labels))
    return Matrix(name, labels, labels, tuple(tuple(int(cell) for cell in row) for row in cells))


def accuracy(name: str, truth: Sequence, said: Sequence, people: Sequence | None = None) -> Figure:
    """The share of labels that are told right (k-Same-Net, Section 4.6), or that two readings agree on."""
    return share(name, np.array([a == b for a, b in zip(truth, said, strict=True)], float), people, "higher")


def f_measure(name: str, truth: Sequence[str], said: Sequence[str]) -> Figure:
    """The mean over labels of the harmonic mean of precision and recall (CLEANIR, Section 4.3.2), by scikit-learn."""
    with needed("the F-measure"):
        from sklearn.metrics import f1_score
    if not len(truth):
        return Figure(name, float("nan"), better="higher")
    value = f1_score(list(truth), list(said), average="macro", zero_division=0)
    return Figure(name, float(value), count=len(truth), better="higher")


def emotion_error(before: np.ndarray, after: np.ndarray, people: Sequence | None = None) -> Figure:
    """Emotion mean squared error (EPD-Net, Table I) between what a classifier says of (n, classes), 0 to 1 each."""
    squared = np.square(np.asarray(after, float) - np.asarray(before, float)).mean(axis=1)
    return average("emotion error", squared, people, "lower")


def difference(name: str, before: np.ndarray, after: np.ndarray, people: Sequence | None = None) -> Figure:
    """The mean absolute difference of numbers (n,), like ages in years."""
    return average(name, np.abs(np.asarray(after, float) - np.asarray(before, float)), people, "lower")
