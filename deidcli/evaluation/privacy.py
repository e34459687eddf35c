"""The papers' measures of privacy, under their names. threshold: the distance up to which two faces are one person."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from deidcli.evaluation.identification import all_distances
from deidcli.evaluation.metrics import share
from deidcli.evaluation.results import Figure
from deidcli.faces.embed import Recogniser

PAIRS = 10_000  # Section 4.1 of "Deep Autoencoders"


def faceness(found: np.ndarray, people: Sequence | None = None) -> Figure:
    """FCNS, Equation 12 of "Deep Autoencoders": the share of new faces (n,) that a detector takes for a face."""
    return share("FCNS", found, people, "higher")


def deidentified(distances: np.ndarray, threshold: float, people: Sequence | None = None) -> Figure:
    """DEID, Equation 13 of "Deep Autoencoders": new faces that are not taken for the person in their own original.

    distances: (n,) of each new face to its original. The paper takes dlib's recogniser at 0.6.
    """
    return share("DEID", np.asarray(distances) > threshold, people, "higher")


def diversity(judge: Recogniser, new: np.ndarray, threshold: float, seed: int = 0, pairs: int = PAIRS) -> Figure:
    """DIV, Equation 14 of "Deep Autoencoders": the share of random pairs of new faces (n, d) that are two people.

    Every pair is taken where there are no more than `pairs`. The interval resamples pairs.
    """
    first, second = _pairs(len(new), pairs, seed)
    return share("DIV", judge.distance(new[first], new[second]) > threshold, None, "higher")


def anonymity(judge: Recogniser, new: np.ndarray, threshold: float) -> Figure:
    """ANON, Section 4.4 of "Deep Autoencoders": the fewest new faces (n, d) that cannot be told from one of them.

    Itself included, as k of k-anonymity. The paper gives words and no formula; a new face is here told from another by
    the recogniser.
    """
    if not len(new):
        return Figure("ANON", float("nan"), better="higher")
    # Row by row: the distances of ten thousand faces among each other would fill the memory.
    fewest = min(np.sum(all_distances(judge, row[None], new) <= threshold) for row in new)
    return Figure("ANON", float(fewest), count=len(new), better="higher")


def attributes_kept(before: np.ndarray, after: np.ndarray) -> float:
    """ATTR, Section 4.4 of "Deep Autoencoders": the micro-averaged precision over binary attributes (n, attributes).

    What a classifier says of the originals counts as the truth. NaN where nothing is claimed of the new faces.
    """
    before, after = np.asarray(before, bool), np.asarray(after, bool)
    # The share of right ones among all that is claimed; scikit-learn's precision_score(average="micro").
    return float(np.sum(before & after) / after.sum()) if after.any() else float("nan")


def self_deidentified(distances: np.ndarray, threshold: float, people: Sequence | None = None) -> Figure:
    """De-identification rate, Section IV-B of EPD-Net: new faces that lie farther than `threshold` from their own.

    The paper's verification score is a distance ("greater than mu implies de-identification").
    """
    return share("self de-identification", np.asarray(distances) > threshold, people, "higher")


def switched(distances: np.ndarray, probes: Sequence, gallery: Sequence, threshold: float) -> Figure:
    """Switching de-identification rate, Section IV-B of EPD-Net: new faces that match nobody else in the gallery.

    distances: (n, m). The paper says "any subject in the gallery"; its rate (86 %) lies above that of the face itself
    (70 %), so the face's own subject cannot be among them, and is left out here.
    """
    others = np.asarray(probes)[:, None] != np.asarray(gallery)[None, :]
    nearest = np.where(others, distances, np.inf).min(axis=1, initial=np.inf)
    return share("switching de-identification", nearest > threshold, probes, "higher")


def linkability(distances: np.ndarray, threshold: float, people: Sequence | None = None) -> Figure:
    """The share of pairs of two outputs of one person that match each other: how far outputs can be put together."""
    return share("linkability", np.asarray(distances) <= threshold, people, "lower")


def _pairs(count: int, wanted: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Both members (m,) of `wanted` different pairs of `count` things, or of all pairs where there are no more."""
    total = count * (count - 1) // 2
    if total <= wanted:
        return np.triu_indices(count, 1)
    numbers = np.random.default_rng(seed).choice(total, wanted, replace=False)
    # Pair number n is (b, a) with a < b, counted b by b: b (b - 1) / 2 pairs lie before those of b.
    second = np.floor((1 + np.sqrt(1 + 8.0 * numbers)) / 2).astype(int)
    return numbers - second * (second - 1) // 2, second
