"""Sampling: the batches that training takes from a pack, the same for the same seed, epoch and step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from deidcli.methods.labels import MISSING
from deidcli.training.data import Pack


@dataclass(frozen=True)
class Augment:
    """How crops are varied. mirror: turn half of them over; a face's descriptor hardly changes in a mirror.

    shift: largest move on either axis as a share of the side; what comes in repeats the border. colour: standard
    deviation of the gain of each channel and of the whole picture's brightness, as a share of the range.
    """

    mirror: bool = True
    shift: float = 0.0
    colour: float = 0.0

    def __call__(self, crops: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """A varied copy of (n, side, side, 3) uint8."""
        made = crops.copy()
        if self.mirror:
            flip = random.random(len(made)) < 0.5
            made[flip] = made[flip, :, ::-1]
        if self.shift:
            moves = random.uniform(-self.shift, self.shift, (len(made), 2)) * made.shape[1]
            made = np.stack([_moved(crop, move) for crop, move in zip(made, moves, strict=True)])
        if self.colour:
            gain = 1 + self.colour * random.standard_normal((len(made), 1, 1, 3))
            light = 255 * self.colour * random.standard_normal((len(made), 1, 1, 1))
            made = np.clip(made * gain + light + 0.5, 0, 255).astype(np.uint8)
        return made


def batches(
    pack: Pack, size: int, seed: int, epoch: int, steps: int, augment: Augment | None = None, balance: str = ""
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield `steps` batches (crops uint8, rows of the pack) of `size`, the same for an epoch.

    augment: by default half of the crops are mirrored. Rows are drawn without repetition until all were seen; the order
    goes on over the epochs. balance: a label; then rows are drawn with repetition, every value of it equally often, and
    faces without that label never. Raises UsageError for a label that the pack does not have.
    """
    augment = augment or Augment()
    chances = _chances(pack, balance) if balance else None
    for step in range(epoch * steps, (epoch + 1) * steps):
        if chances is None:
            rows = _rows(len(pack), size, seed, step)
        else:
            rows = np.random.default_rng([seed, 2, step]).choice(len(pack), size, p=chances)
        yield augment(pack.crops[rows], np.random.default_rng([seed, 1, step])), rows


def _rows(count: int, size: int, seed: int, step: int) -> np.ndarray:
    """The rows of batch `step` in an endless chain of permutations."""
    places = np.arange(step * size, (step + 1) * size)
    rounds = places // count
    order = {r: np.random.default_rng([seed, 0, r]).permutation(count) for r in np.unique(rounds)}
    return np.array([order[r][p % count] for r, p in zip(rounds, places, strict=True)])


def _chances(pack: Pack, column: str) -> np.ndarray:
    """How likely each row is drawn, so that all values of a label come equally often."""
    values, index, count = np.unique(pack.label(column), return_inverse=True, return_counts=True)
    share = np.where(values == MISSING, 0.0, 1.0 / count)
    return share[index] / share[index].sum()


def _moved(crop: np.ndarray, move: np.ndarray) -> np.ndarray:
    side = crop.shape[0]
    shift = np.array([[1, 0, move[0]], [0, 1, move[1]]])
    return cv2.warpAffine(crop, shift, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
