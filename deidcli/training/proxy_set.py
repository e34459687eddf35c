"""The proxy set of k-Same-Net: every proxy of a gallery with every expression and mouth, and mixes of several.

The gallery's faces are averages of 50 people and more, so no real person is in the set. A gallery has a picture for
each mouth (closed, teeth, open); the expressions are made by bending: how brows, eyes and corners of the mouth of
people lie with an expression, beyond what their open or closed mouth explains, is learnt from labelled faces.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from deidcli.errors import UsageError
from deidcli.faces.pose import mouth_gap, upright
from deidcli.faces.warp import bend
from deidcli.methods.ksame_m import STEPS
from deidcli.methods.proxies import Gallery, mouth_mix
from deidcli.training.data import Pack

MOUTHS = len(STEPS) + 1
ENOUGH = 50  # faces that an expression is learnt from, at least
FINE = 1.5  # how much larger faces are mixed than the set's are


@dataclass(frozen=True)
class Frontal:
    """Where a face lies in the set's pictures: `size` pixels, `margin` around the face square."""

    size: int = 96
    margin: float = 0.04

    def points(self, shape: np.ndarray) -> np.ndarray:
        """From the unit of the face square (..., 2) to pixels; pixel (0, 0) covers [-0.5, 0.5]."""
        return (shape + self.margin) * self.size / (1 + 2 * self.margin) - 0.5

    def larger(self, factor: float) -> Frontal:
        return Frontal(round(self.size * factor), self.margin)


def expression_moves(pack: Pack, expressions: tuple[str, ...], strength: float = 1.0) -> np.ndarray:
    """How 68 points move from the first expression to each: (e, 68, 2) in the unit of the face square.

    strength: by how much more than people's. Least squares over the upright shapes of the pack: a shape is what its
    mouth (`mouth_mix`) brings plus what its expression brings. Raises UsageError for a pack without landmarks, or fewer
    than 50 faces of an expression.
    """
    if pack.landmarks is None:
        raise UsageError("the pack has no landmarks", "make it with this version's `deid align --pack`")
    said = pack.label("expression")
    seen = np.isfinite(pack.landmarks).all(axis=(1, 2))
    rows = [np.flatnonzero(seen & (said == word)) for word in expressions]
    for word, found in zip(expressions, rows, strict=True):
        if len(found) < ENOUGH:
            raise UsageError(f"{len(found)} faces of {word} are too few", f"{ENOUGH} and more show what is common")
    points = pack.landmarks[np.concatenate(rows)].astype(np.float64)
    words = np.repeat(np.eye(len(expressions)), [len(found) for found in rows], axis=0)[:, 1:]
    mouths = np.stack([mouth_mix(mouth_gap(face), STEPS) for face in points])
    shapes = np.stack([upright(face) for face in points]).reshape(len(points), -1)
    moves = np.linalg.lstsq(np.column_stack([words, mouths]), shapes, rcond=None)[0][: len(expressions) - 1]
    return strength * np.concatenate([np.zeros((1, 68, 2)), moves.reshape(-1, 68, 2)])


@dataclass(frozen=True)
class ProxySet:
    """The faces that mixes are made of.

    shapes: (p, m, 68, 2) of each proxy and mouth, upright. moves: (e, 68, 2) of each expression. laid: (p, m, side,
    side, 3) uint8, every face laid on the mean shape of its mouth, FINE times as large as `frontal`.
    """

    shapes: np.ndarray
    moves: np.ndarray
    laid: np.ndarray
    frontal: Frontal

    @classmethod
    def of(cls, gallery: Gallery, moves: np.ndarray, frontal: Frontal) -> ProxySet:
        """The set of a gallery's proxies."""
        shapes = np.stack([[upright(points) for points in proxy] for proxy in gallery.landmarks])
        large = frontal.larger(FINE)
        size = (large.size, large.size)
        common = large.points(shapes.mean(axis=0))
        laid = [
            [bend(gallery.picture(p, m), gallery.landmarks[p, m], common[m], size) for m in range(MOUTHS)]
            for p in range(len(shapes))
        ]
        return cls(shapes, moves, np.array(laid), frontal)

    @property
    def identities(self) -> int:
        return len(self.shapes)

    @property
    def appearances(self) -> int:
        return len(self.moves) + MOUTHS

    def appearance(self, expression: int, mouth: int) -> np.ndarray:
        """y (e + m,): one-hot for the expression, then one-hot for the mouth."""
        return np.concatenate([np.eye(len(self.moves))[expression], np.eye(MOUTHS)[mouth]])

    def picture(self, weights: np.ndarray, expression: int, mouth: int) -> np.ndarray:
        """The face (size, size, 3) uint8 that mixes the proxies by `weights` (p,), sum 1."""
        mixed = np.flatnonzero(weights)
        pixels = np.tensordot(weights[mixed], self.laid[mixed, mouth].astype(np.float32), 1)
        shape = np.tensordot(weights, self.shapes[:, mouth], 1) + self.moves[expression]
        source = self.frontal.larger(FINE).points(self.shapes[:, mouth].mean(axis=0))
        wanted = self.frontal.larger(FINE).points(shape)
        bent = bend(np.clip(pixels + 0.5, 0, 255).astype(np.uint8), source, wanted, pixels.shape[:2])
        return cv2.resize(bent, (self.frontal.size, self.frontal.size), interpolation=cv2.INTER_AREA)


@dataclass(frozen=True)
class Samples:
    """x and y side by side (n, p + e + m) float32, and the faces (n, size, size, 3) uint8 that belong to them."""

    inputs: np.ndarray
    pictures: np.ndarray

    def __len__(self) -> int:
        return len(self.inputs)


def pure(known: ProxySet) -> Samples:
    """Every proxy with every expression and every mouth, as the paper's network is trained."""
    rows = [(np.eye(known.identities)[p], e, m)
            for p in range(known.identities) for e in range(len(known.moves)) for m in range(MOUTHS)]  # fmt: skip
    return _samples(known, rows)


def mixed(known: ProxySet, count: int, largest: int, random: np.random.Generator) -> Samples:
    """Mixes of 2 to `largest` proxies, alike in every second one, by drawn weights in the others."""
    rows = []
    for number in range(count):
        k = int(random.integers(2, min(largest, known.identities) + 1))
        weights = np.zeros(known.identities)
        shares = np.full(k, 1 / k) if number % 2 else random.dirichlet(np.ones(k))
        weights[random.choice(known.identities, k, replace=False)] = shares
        rows.append((weights, int(random.integers(len(known.moves))), int(random.integers(MOUTHS))))
    return _samples(known, rows)


def _samples(known: ProxySet, rows: list[tuple[np.ndarray, int, int]]) -> Samples:
    inputs = np.stack([np.concatenate([x, known.appearance(e, m)]) for x, e, m in rows]).astype(np.float32)
    return Samples(inputs, np.stack([known.picture(*row) for row in rows]))
