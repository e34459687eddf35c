"""Sampling: the batches that training takes from a pack, the same for the same seed, epoch and step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from deidcli.faces.attributes import MISSING
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


# --- Augment: aligned crops as they could have come out otherwise: moved, turned, lit, coloured and blurred a little.


@dataclass(frozen=True)
class StrongAugment(Augment):
    """As if every face had been photographed and aligned again.

    shift, scale: largest move and change of size, as shares of the side. turn: largest, in degrees. light: largest
    change of brightness and of contrast, as a share. colour: largest change of each channel, as a share. blur: largest
    standard deviation as a share of the side, for half of the faces; generated faces are soft by about 0.02. gray: how
    often a face loses its colour.
    """

    shift: float = 0.04
    scale: float = 0.06
    turn: float = 7.0
    light: float = 0.25
    colour: float = 0.08
    blur: float = 0.025
    gray: float = 0.1

    def __call__(self, crops: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """A varied copy of (n, side, side, 3) uint8."""
        return np.stack([self._retaken(crop, random) for crop in crops])

    def _retaken(self, crop: np.ndarray, random: np.random.Generator) -> np.ndarray:
        if random.random() < 0.5 and self.mirror:
            crop = np.ascontiguousarray(crop[:, ::-1])
        crop = self._moved(crop, random)
        if random.random() < 0.5 and self.blur:
            crop = cv2.GaussianBlur(crop, (0, 0), random.uniform(0.2, 1) * self.blur * len(crop))
        return self._lit(crop, random)

    def _moved(self, crop: np.ndarray, random: np.random.Generator) -> np.ndarray:
        middle = (len(crop) - 1) / 2
        turn, scale = random.uniform(-1, 1) * self.turn, 1 + random.uniform(-1, 1) * self.scale
        affine = cv2.getRotationMatrix2D((middle, middle), turn, scale)
        moved = np.array(affine, np.float64)
        moved[:, 2] += random.uniform(-1, 1, 2) * self.shift * len(crop)
        return cv2.warpAffine(crop, moved, crop.shape[:2], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)

    def _lit(self, crop: np.ndarray, random: np.random.Generator) -> np.ndarray:
        contrast, brightness = random.uniform(-1, 1, 2) * self.light
        channels = 1 + random.uniform(-1, 1, 3) * self.colour
        colours = crop.astype(np.float32)
        if random.random() < self.gray:
            colours = np.repeat(colours.mean(axis=-1, keepdims=True), 3, axis=-1)
        mean = colours.mean()
        changed = (mean + (colours - mean) * (1 + contrast)) * (1 + brightness) * channels
        return np.clip(changed + 0.5, 0, 255).astype(np.uint8)
