"""What the method autoencoder learns from: faces with labels, and the targets to which its shifts move them.

Faces are packed crops, or the bank of a face model. Targets are where "Deep Autoencoders" (Nousi et al. 2020) moves
each code, Equations 7 to 11. A row of the attraction matrix P spreads its weight evenly over the samples that a sample
is drawn to (Equation 8), a row of the repulsion matrix Q over those that it is pushed away from (Equation 10). Both are
sparse. A sample that nothing is known of has an empty row, and stays where it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from scipy import sparse

from deidcli.errors import UsageError
from deidcli.faces.attributes import MISSING
from deidcli.faces.face_model import FaceModel
from deidcli.faces.people import Neighbours
from deidcli.methods.autoencoder import identity_rows
from deidcli.networks import classifiers
from deidcli.networks.autoencoder import LUMA, AutoencoderConfig
from deidcli.presets import load_preset
from deidcli.training.cleanir_latent import mouths
from deidcli.training.data import Pack

NOBODY = -1  # in a list of neighbours: a place that no sample fills
KINDS = ("cluster", "neighbor", "nth", "cells", "attribute")


@dataclass(frozen=True)
class Shift:
    """What an encoder is fine-tuned for.

    kind: "cluster" (the centre of the own one of `clusters`), "neighbor" (that of the `neighbors` nearest that lies
    nearest to the mean), "nth" (the `neighbors`-th nearest itself), "cells" (the same for each cell of a convolutional
    code by itself) or "attribute" (the `neighbors` nearest that are alike, one attribute after the other). alpha, beta:
    of Equations 7 and 9. beyond: how much farther than these equations a target lies, as a share of the way to it.
    """

    kind: str = "cluster"
    clusters: int = 180
    neighbors: int = 9
    alpha: float = 0.8
    beta: float = 0.0
    beyond: float = 0.0
    attributes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Its name in a preset, in which whatever decides the targets but beta and beyond stands."""
        if self.kind == "cluster":
            return f"cluster-{self.clusters}"
        if self.kind == "attribute":
            return "-".join(["attribute", *self.attributes, str(self.neighbors)])
        return f"{self.kind}-{self.neighbors}-{self.alpha:g}"


@dataclass(frozen=True)
class Samples:
    """Codes (n, d) float32 of the training faces. people: (n,) whose faces they are, as numbers; faces of unknown
    people have numbers of their own, and a mirrored face has its face's. labels: columns of (n,) str, "" where unknown.
    """

    codes: np.ndarray
    people: np.ndarray
    labels: dict[str, np.ndarray]


def weights(members: np.ndarray, count: int) -> sparse.csr_matrix:
    """Equations 8 and 10: (n, count); in row i each of members[i] (n, k) that is not NOBODY has the same weight."""
    known = members != NOBODY
    shares = np.repeat(1 / np.maximum(known.sum(axis=1), 1), known.sum(axis=1))
    starts = np.concatenate([[0], np.cumsum(known.sum(axis=1))])
    return sparse.csr_matrix((shares.astype(np.float32), members[known], starts), shape=(len(members), count))


def attracted(codes: np.ndarray, attraction: sparse.csr_matrix, alpha: float) -> np.ndarray:
    """Equation 7: (1 - alpha) X + alpha P X. A row of P without members leaves its code as it is."""
    return _moved(codes, codes, attraction, alpha)


def repelled(targets: np.ndarray, repulsion: sparse.csr_matrix, beta: float) -> np.ndarray:
    """Equation 9: (1 + beta) Y - beta Q Y. A row of Q without members leaves its target as it is."""
    return _moved(targets, targets, repulsion, -beta)


def _moved(start: np.ndarray, others: np.ndarray, matrix: sparse.csr_matrix, share: float) -> np.ndarray:
    known = np.diff(matrix.indptr) > 0
    moved = np.asarray(start, np.float32).copy()
    moved[known] += share * ((matrix @ others)[known] - moved[known])
    return moved


def targets(samples: Samples, shift: Shift, cells: tuple[int, ...] | None = None, seed: int = 1) -> np.ndarray:
    """z (n, d) of Equation 6 for every sample. cells: the shape (height, width, d) of a convolutional code.

    Raises UsageError for a shift that the samples or the network do not allow.
    """
    moved = _targets(samples, shift, cells, seed)
    return moved + np.float32(shift.beyond) * (moved - samples.codes)


def _targets(samples: Samples, shift: Shift, cells: tuple[int, ...] | None, seed: int) -> np.ndarray:
    """As the paper has them."""
    if shift.kind == "cluster":
        return towards_centres(samples.codes, shift, seed)
    if shift.kind == "attribute":
        return successive(samples, shift)
    if shift.kind != "cells":
        return towards_neighbour(samples, shift)
    if cells is None or len(cells) != 3:
        raise UsageError("--shift cells needs a convolutional network", "give another shift, or another --start")
    parts = samples.codes.reshape(len(samples.codes), -1, cells[-1])
    moved = [
        towards_neighbour(Samples(np.ascontiguousarray(parts[:, n]), samples.people, samples.labels), shift)
        for n in range(parts.shape[1])
    ]
    return np.stack(moved, axis=1).reshape(samples.codes.shape)


# --- Unsupervised: clusters and neighbours.


def towards_centres(codes: np.ndarray, shift: Shift, seed: int) -> np.ndarray:
    """Towards the mean of the own cluster of k-means, and away from the means of the others.

    P is the product of two matrices, membership (n, K) and means (K, n), because P itself would not be sparse. The set
    of Equation 10 is every sample of another cluster.
    """
    cluster = clustered(codes, shift.clusters, seed)
    size = np.bincount(cluster, minlength=shift.clusters)
    rows = np.arange(len(codes))
    membership = sparse.csr_matrix((np.ones(len(codes), np.float32), (rows, cluster)))
    attraction = membership.multiply(1 / size[None]).tocsr()
    centres = attraction.T @ codes
    moved = codes + shift.alpha * (centres[cluster] - codes)
    sums = membership.T @ moved
    others = (sums.sum(axis=0)[None] - sums) / (len(codes) - size)[:, None]
    return (moved + shift.beta * (moved - others[cluster])).astype(np.float32)


def clustered(codes: np.ndarray, count: int, seed: int) -> np.ndarray:
    """The cluster (n,) of each code by k-means, counted from 0. Raises UsageError for fewer codes than two each."""
    from sklearn.cluster import KMeans, MiniBatchKMeans

    if len(codes) < 2 * count:
        raise UsageError(f"--clusters {count}: there are {len(codes)} faces", "give fewer clusters, or more faces")
    many = len(codes) > 20_000
    found = (MiniBatchKMeans(count, random_state=seed, n_init=3, batch_size=4096) if many else
             KMeans(count, random_state=seed, n_init=1)).fit(codes)  # fmt: skip
    # k-means in small batches can leave a cluster empty; numbers are closed up.
    return np.unique(found.labels_, return_inverse=True)[1]


def towards_neighbour(samples: Samples, shift: Shift) -> np.ndarray:
    """Equation 11: towards one of the neighbours, the mirrored face and the face itself not counted."""
    near = _others(samples, shift.neighbors, samples.people)
    if shift.kind == "neighbor":
        apart = np.linalg.norm(samples.codes - samples.codes.mean(axis=0), axis=1)
        order = np.where(near == NOBODY, np.inf, apart[near]).argmin(axis=1)
        chosen = near[np.arange(len(near)), order]
    else:
        chosen = near[:, -1]
    return attracted(samples.codes, weights(chosen[:, None], len(near)), shift.alpha)


# --- Supervised: attributes, one after the other.


def successive(samples: Samples, shift: Shift) -> np.ndarray:
    """For each attribute in order, towards the nearest who have the same and away from the nearest who have another.

    The neighbours are those of the codes as the attributes before have left them, and nobody is drawn to a face of the
    same person.
    """
    codes = samples.codes
    for name in shift.attributes:
        if name not in samples.labels:
            raise UsageError(f"--attributes {name}: the faces have no such label", f"give some of {_known(samples)}")
        same, other = alike(Samples(codes, samples.people, samples.labels), name, shift.neighbors)
        count = len(codes)
        codes = repelled(attracted(codes, weights(same, count), shift.alpha), weights(other, count), shift.beta)
    return codes


def _known(samples: Samples) -> str:
    return ", ".join(sorted(samples.labels)) or "none"


def alike(samples: Samples, column: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The `count` nearest other people whose label is the same, and the `count` nearest whose label is another.

    Two (n, count) of rows, NOBODY where there is none and for a face without a label.
    """
    labels, size = samples.labels[column], len(samples.codes)
    same, other = (np.full((size, count), NOBODY) for _ in range(2))
    for value in np.unique(labels[labels != MISSING]):
        have = np.flatnonzero(labels == value)
        part = Samples(samples.codes[have], samples.people[have], {})
        same[have] = _renumbered(_others(part, count, part.people), have)
        lack = np.flatnonzero((labels != value) & (labels != MISSING))
        if len(lack):
            _, near = Neighbours(samples.codes[lack]).nearest(samples.codes[have], count)
            other[have, : near.shape[1]] = _renumbered(near, lack)
    return same, other


def _renumbered(near: np.ndarray, rows: np.ndarray) -> np.ndarray:
    return np.where(near == NOBODY, NOBODY, rows[near])


def _others(samples: Samples, count: int, people: np.ndarray) -> np.ndarray:
    """The `count` nearest samples (n, count) of other people, the nearest first; NOBODY where there are too few."""
    most = int(np.bincount(np.unique(people, return_inverse=True)[1]).max())
    _, near = Neighbours(samples.codes).nearest(samples.codes, count + min(most, 4 * count))
    strange = (people[near] != people[:, None]) & (near != NOBODY)
    order = np.argsort(~strange, axis=1, kind="stable")[:, :count]
    found = np.take_along_axis(np.where(strange, near, NOBODY), order, axis=1)
    return np.pad(found, ((0, 0), (0, count - found.shape[1])), constant_values=NOBODY)


# --- What a code may lie about its target: for methods that draw it.


def spread(codes: np.ndarray, given: np.ndarray) -> np.ndarray:
    """(d, d) float32; d standard normal numbers times it lie about a fine-tuned code as faces lie about it.

    codes: of the training faces as the plain encoder gives them. given: (n, d), what the fine-tuned one gives them.
    """
    rest = (codes - given).astype(np.float64)
    values, vectors = np.linalg.eigh(rest.T @ rest / len(rest))
    return (np.sqrt(np.maximum(values, 0))[:, None] * vectors.T).astype(np.float32)


def columns(labels: Sequence[str]) -> tuple[str, ...]:
    """The attributes of --attributes as they are asked for. Raises UsageError for one that is named twice."""
    names = tuple(label.strip() for label in labels)
    if len(set(names)) != len(names) or "" in names:
        raise UsageError(f"--attributes {','.join(labels)}: not understood", "give names with commas, each once")
    return names


READERS = ("attributes", "expression")  # classifiers that say what nobody has labelled, as the paper's do
AGES = (13, 20, 30, 45, 60)  # years at which a group of age ends
OPEN = 0.1  # gap of the lips, as a share of the distance between the eyes, of an open mouth
MIXTURES = 6000  # of two faces of the bank each, beside the faces
GROUPS = 3  # of a trait that the bank knows as a number


@dataclass(frozen=True)
class Faces:
    """given: (n, ...) float32, what the encoder takes. people: (n,) int, labels: as in `autoencoder_targets.Samples`.

    count: how many faces there are without the mirrored and the mixed ones. crops: (m, side, side, 3) uint8, to be
    shown.
    """

    given: np.ndarray
    people: np.ndarray
    labels: dict[str, np.ndarray]
    count: int
    crops: np.ndarray = field(default_factory=lambda: np.zeros((0, 1, 1, 3), np.uint8))


def pack_faces(pack: Pack, config: AutoencoderConfig, labelled: bool) -> Faces:
    """The faces of a pack, and every one mirrored. labelled: whether labels are needed; reading them takes time."""
    if pack.side != config.size:
        raise UsageError(f"the packs are of {pack.side} pixels, the networks of {config.size}", "pack them alike")
    both = np.concatenate([pack.crops, pack.crops[:, :, ::-1]])
    pictures = both.astype(np.float32) / 255
    if config.channels == 1:
        pictures = (pictures @ np.array(LUMA, np.float32))[..., None]
    whose = [name.split("/")[0] if "/" in name else f"#{row}" for row, name in enumerate(pack.names)]
    people = np.unique(whose, return_inverse=True)[1]
    labels = {name: np.tile(column, 2) for name, column in (_labels(pack) if labelled else {}).items()}
    return Faces(pictures, np.tile(people, 2), labels, len(pack), pack.crops)


def _labels(pack: Pack) -> dict[str, np.ndarray]:
    """What people said of the faces, and where they said nothing what the classifiers READERS read; and the mouth."""
    labels = {name: column.astype("<U16") for name, column in pack.labels.items()}
    for reader in READERS:
        classifier = classifiers.load(reader)
        side = classifier.config.size
        small = np.stack([cv2.resize(c, (side, side), interpolation=cv2.INTER_AREA) for c in pack.crops])
        for name, said in classifier.read(small).items():
            words = np.array([str(word) for word in said], "<U16")
            known = labels.get(name, np.full(len(pack), MISSING, "<U16"))
            labels[name] = np.where(known == MISSING, words, known)
    if "age" in labels:
        years = np.array([float(word) for word in labels["age"]])
        labels["age"] = np.searchsorted(AGES, years, side="right").astype(str)
    if pack.landmarks is not None:
        gaps = mouths(pack.landmarks)[:, 0]
        labels["mouth"] = np.where(np.isnan(gaps), MISSING, np.where(gaps > OPEN, "open", "closed"))
    return labels


def bank_faces(name: str, seed: int = 1) -> Faces:
    """The identities of a face model's bank and mixtures of two each, by weights whose squares sum to 1.

    Labels: groups of equal size of gender, age and lightness of the skin. The last is called "race", because there are
    no labels of race.
    """
    model = FaceModel(load_preset(name, "face-model").file("face_model.npz"))
    random = np.random.default_rng(seed)
    pairs = random.integers(0, model.faces, (MIXTURES, 2))
    turn = random.uniform(0, np.pi / 2, (MIXTURES, 1)).astype(np.float32)
    parts = model.bank_texture, model.bank_shape, model.bank_kept
    texture, shape, kept = (
        np.concatenate([part, part[pairs[:, 0]] * np.cos(turn) + part[pairs[:, 1]] * np.sin(turn)]) for part in parts
    )
    # The second half of the bank is the first, mirrored.
    people = np.concatenate([np.arange(model.faces) % (model.faces // 2), model.faces + np.arange(MIXTURES)])
    traits = {"gender": kept[:, 0], "age": kept[:, 1], "race": kept[:, 2:5].mean(axis=1)}
    labels = {trait: _grouped(values, 2 if trait == "gender" else GROUPS) for trait, values in traits.items()}
    given = identity_rows(model, texture, shape, kept)
    return Faces(given, people, labels, model.faces // 2)


def _grouped(values: np.ndarray, count: int) -> np.ndarray:
    bounds = np.quantile(values, np.arange(1, count) / count)
    return np.searchsorted(bounds, values).astype(str)
