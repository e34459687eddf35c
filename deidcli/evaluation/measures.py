"""The papers' measures of privacy, under their names. threshold: the distance up to which two faces are one person."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from deidcli.evaluation import results
from deidcli.evaluation.metrics import all_distances, as_measure, average, needed, share
from deidcli.evaluation.results import SHARE, Figure, Matrix, Measure
from deidcli.faces.align import INNER, LEFT_EYE, MEAN_SHAPE, RIGHT_EYE, apply_affine, similarity
from deidcli.faces.recognisers import Recogniser

PAIRS = 10_000  # Section 4.1 of "Deep Autoencoders"


def faceness(found: np.ndarray, people: Sequence | None = None) -> Figure:
    """FCNS, Equation 12 of "Deep Autoencoders": the share of new faces (n,) that a detector takes for a face."""
    return share(results.FACENESS, found, people)


def deidentified(distances: np.ndarray, threshold: float, people: Sequence | None = None) -> Figure:
    """DEID, Equation 13 of "Deep Autoencoders": new faces that are not taken for the person in their own original.

    distances: (n,) of each new face to its original. The paper takes dlib's recogniser at 0.6.
    """
    return share(results.DEID, np.asarray(distances) > threshold, people)


def diversity(judge: Recogniser, new: np.ndarray, threshold: float, seed: int = 0, pairs: int = PAIRS) -> Figure:
    """DIV, Equation 14 of "Deep Autoencoders": the share of random pairs of new faces (n, d) that are two people.

    Every pair is taken where there are no more than `pairs`. The interval resamples pairs.
    """
    first, second = _pairs(len(new), pairs, seed)
    return share(results.DIVERSITY, judge.distance(new[first], new[second]) > threshold)


def anonymity(judge: Recogniser, new: np.ndarray, threshold: float) -> Figure:
    """ANON, Section 4.4 of "Deep Autoencoders": the fewest new faces (n, d) that cannot be distinguished from one of
    them.

    Itself included, as k of k-anonymity. The paper gives words and no formula; new faces are distinguished by the
    recogniser here.
    """
    if not len(new):
        return results.ANONYMITY.figure(float("nan"))
    # Row by row: the distances of ten thousand faces among each other would fill the memory.
    fewest = min(np.sum(all_distances(judge, row[None], new) <= threshold) for row in new)
    return results.ANONYMITY.figure(float(fewest), count=len(new))


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
    return share(results.SELF_DEID, np.asarray(distances) > threshold, people)


def switched(distances: np.ndarray, probes: Sequence, gallery: Sequence, threshold: float) -> Figure:
    """Switching de-identification rate, Section IV-B of EPD-Net: new faces that match nobody else in the gallery.

    distances: (n, m). The paper says "any subject in the gallery"; its rate (86 %) lies above that of the face itself
    (70 %), so the face's own subject cannot be among them, and is left out here.
    """
    others = np.asarray(probes)[:, None] != np.asarray(gallery)[None, :]
    nearest = np.where(others, distances, np.inf).min(axis=1, initial=np.inf)
    return share(results.SWITCHING, nearest > threshold, probes)


def linkability(distances: np.ndarray, threshold: float, people: Sequence | None = None) -> Figure:
    """The share of pairs of two outputs of one person that match each other: how far outputs can be put together."""
    return share(results.LINKABILITY, np.asarray(distances) <= threshold, people)


def _pairs(count: int, wanted: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Both members (m,) of `wanted` different pairs of `count` things, or of all pairs where there are no more."""
    total = count * (count - 1) // 2
    if total <= wanted:
        return np.triu_indices(count, 1)
    numbers = np.random.default_rng(seed).choice(total, wanted, replace=False)
    # Pair number n is (b, a) with a < b, counted b by b: b (b - 1) / 2 pairs lie before those of b.
    second = np.floor((1 + np.sqrt(1 + 8.0 * numbers)) / 2).astype(int)
    return numbers - second * (second - 1) // 2, second


# --- What is still useful: likeness of the picture, landmarks, labels. Pure functions of originals and outputs.


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


def confusion(
    name: str, truth: Sequence | np.ndarray, predicted: Sequence | np.ndarray, labels: Sequence[str] = ()
) -> Matrix:
    """How often each true label was predicted as which (CLEANIR, Figure 9; k-Same-Net, Figure 11), by scikit-learn."""
    with needed("a confusion matrix"):
        from sklearn.metrics import confusion_matrix
    labels = tuple(labels) or tuple(sorted(set(truth) | set(predicted)))
    cells = confusion_matrix(list(truth), list(predicted), labels=list(labels))
    return Matrix(name, labels, labels, tuple(tuple(int(cell) for cell in row) for row in cells))


def accuracy(
    measure: str | Measure,
    truth: Sequence | np.ndarray,
    predicted: Sequence | np.ndarray,
    people: Sequence | None = None,
) -> Figure:
    """The share of labels that are predicted right (k-Same-Net, Section 4.6), or that two readings agree on."""
    same = np.array([a == b for a, b in zip(truth, predicted, strict=True)], float)
    return share(measure, same, people, "higher")


def f_measure(measure: str | Measure, truth: Sequence | np.ndarray, predicted: Sequence | np.ndarray) -> Figure:
    """The mean over labels of the harmonic mean of precision and recall (CLEANIR, Section 4.3.2), by scikit-learn."""
    with needed("the F-measure"):
        from sklearn.metrics import f1_score
    if not len(truth):
        return as_measure(measure, SHARE, "higher").figure(float("nan"))
    value = f1_score(list(truth), list(predicted), average="macro", zero_division=0)
    return as_measure(measure, SHARE, "higher").figure(float(value), count=len(truth))


def emotion_error(before: np.ndarray, after: np.ndarray, people: Sequence | None = None) -> Figure:
    """Emotion mean squared error (EPD-Net, Table I) between the probabilities (n, classes) of a classifier."""
    squared = np.square(np.asarray(after, float) - np.asarray(before, float)).mean(axis=1)
    return average(results.EMOTION_ERROR, squared, people)


def difference(measure: str | Measure, before: np.ndarray, after: np.ndarray, people: Sequence | None = None) -> Figure:
    """The mean absolute difference of numbers (n,), like ages in years."""
    return average(measure, np.abs(np.asarray(after, float) - np.asarray(before, float)), people, "lower")


# --- Pose: which way a face looks, from its 68 landmarks, and how far that is from the way another one looks.
#
# The mean face gets a third dimension by the factorisation of Tomasi and Kanade (1992), a statistic of the landmarks of
# 3,473 faces of LFW's training people and their mirror images; the unit is the side of the face square. Contours slide
# around a head that turns, so the jaw comes out flatter than it is, and large rotations are underestimated by some
# degrees.

_HALF_JAW = (0.241, 0.238, 0.238, 0.236, 0.222, 0.198, 0.169, 0.140, 0.130)
_HALF_BROWS = (0.119, 0.091, 0.069, 0.052, 0.042)
_EYE = (0.103, 0.090, 0.086, 0.090, 0.090, 0.093)
_OTHER_EYE = (0.090, 0.086, 0.090, 0.103, 0.093, 0.090)
_NOSE = (0.044, 0.030, 0.015, 0.000, 0.054, 0.045, 0.039, 0.045, 0.054)
_LIPS = (0.120, 0.083, 0.062, 0.058, 0.062, 0.083, 0.120, 0.098, 0.081, 0.077, 0.081, 0.098)
_MOUTH = (0.115, 0.069, 0.064, 0.069, 0.115, 0.077, 0.073, 0.077)
# How far behind the tip of the nose each landmark lies.
DEPTH = np.array(
    [*_HALF_JAW, *_HALF_JAW[-2::-1], *_HALF_BROWS, *_HALF_BROWS[::-1], *_NOSE, *_EYE, *_OTHER_EYE, *_LIPS, *_MOUTH]
)
# A long focal length: landmarks are too imprecise to estimate the perspective of a face.
FOCAL = 20.0


def rotations(landmarks: np.ndarray) -> np.ndarray:
    """The turn (n, 3, 3) of each face from the frontal one, of landmarks (n, 68, 2); NaN where they are NaN.

    By OpenCV's solvePnP on all 68 points. A new nose or chin of another length shows as a turn of some degrees, too.
    """
    return np.array([_rotation(points) for points in landmarks]).reshape(-1, 3, 3)


def pose_difference(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Degrees (n,) between the ways that faces look, of landmarks (n, 68, 2) each; NaN where one has none."""
    relative = np.einsum("nij,nkj->nik", rotations(after), rotations(before))
    cosine = (np.trace(relative, axis1=1, axis2=2) - 1) / 2
    return np.degrees(np.arccos(np.clip(cosine, -1, 1)))


def _rotation(points: np.ndarray) -> np.ndarray:
    if not np.isfinite(points).all():
        return np.full((3, 3), np.nan)
    model = np.column_stack([MEAN_SHAPE - 0.5, DEPTH])
    seen = np.asarray(points, np.float64)
    # Position and size of a face do not depend on its pose.
    seen = (seen - seen.mean(axis=0)) / max(float(seen.std()), 1e-9) * float(model[:, :2].std())
    camera = np.array([[FOCAL, 0, 0], [0, FOCAL, 0], [0, 0, 1]])
    start = np.zeros(3), np.array([0, 0, FOCAL])
    _, turn, _ = cv2.solvePnP(model, seen, camera, None, *start, True, cv2.SOLVEPNP_ITERATIVE)
    return cv2.Rodrigues(turn)[0]


# --- Steadiness: whether a new face stays one face over the frames of a track. Pure functions of a track, in order.

STIRRING = 1e-3  # sides of the face square by which landmarks tremble where nothing moves
STILL = 4  # grey levels (of 255) by which a pixel that does not move may change: noise of camera and codec


def descriptor_steps(judge: Recogniser, descriptors: np.ndarray) -> np.ndarray:
    """The recogniser's distances (n - 1,) from each frame's face (n, d) to the next; large where identity flickers."""
    return np.asarray(judge.distance(descriptors[:-1], descriptors[1:]), float)


def landmark_shake(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """How much more (n - 1,) the new face's landmarks (n, 68, 2) move from frame to frame than the original's do.

    The mean length of the difference between the two motions, as a share of the distance between the eyes.
    """
    before, after = np.asarray(before, float), np.asarray(after, float)
    # A new face that moves as the old one did stands where the old one's motion took it.
    return landmark_error(before[1:], before[1:] + np.diff(after, axis=0) - np.diff(before, axis=0))


def motion(landmarks: np.ndarray) -> np.ndarray:
    """How a face moves, without what it looks like, as numbers (272,): how far and how fast each of its points goes.

    landmarks: (n, 68, 2), n from 2. Each frame is brought to the mean shape by a similarity, and what the frames have
    in common is taken off: left are expression, speech and the turns of the head. The logarithm of the standard
    deviation of each coordinate, and of its steps from frame to frame.
    """
    turned = ((similarity(points[INNER], MEAN_SHAPE[INNER]), points) for points in np.asarray(landmarks, float))
    rows = np.array([apply_affine(turn, points).ravel() for turn, points in turned])
    return np.log(np.concatenate([rows.std(axis=0), np.diff(rows, axis=0).std(axis=0)]) + STIRRING)


def flicker(before: np.ndarray, after: np.ndarray, region: np.ndarray | None = None) -> np.ndarray:
    """Mean change (n - 1,), in grey levels, of output pixels whose original does not change; NaN where none does.

    before, after: (n, h, w, 3) uint8. region: (h, w) bool, where to look; None for everywhere.
    """
    old = np.abs(np.diff(before.astype(np.int16), axis=0)).max(axis=-1)
    new = np.abs(np.diff(after.astype(np.int16), axis=0)).mean(axis=-1)
    still = old <= STILL
    if region is not None:
        still &= region
    counts = still.sum(axis=(1, 2))
    sums = np.where(still, new, 0.0).sum(axis=(1, 2))
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
