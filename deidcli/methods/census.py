"""The census: every face of a closed set, by person, as the engine's first pass hands it to a method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from deidcli.values import Box, Crop, Face


class Rows(Protocol):
    """An array that may lie on disk: `rows[numbers]` reads those rows and no others."""

    def __getitem__(self, numbers: np.ndarray) -> np.ndarray: ...

    def __len__(self) -> int: ...


@dataclass(frozen=True)
class Census:
    """One row a track: a face of a photograph, or one person's way through a video.

    keys: (n,) the names of the tracks, as `Crop.key` will bring them. pixels: (n, side, side, 3) uint8, the clearest
    crop of each track. landmarks: (n, 68, 2) float32, in coordinates of that crop. descriptors: (n, d) float32, of the
    recogniser. people: (n,) int, the person of each track, from 0 to `count` - 1 without a gap.
    """

    keys: Sequence[str]
    pixels: Rows
    landmarks: Rows
    descriptors: np.ndarray
    people: np.ndarray

    @property
    def count(self) -> int:
        """How many people there are."""
        return int(self.people.max()) + 1 if len(self.people) else 0

    def centres(self) -> np.ndarray:
        """The mean descriptor of each person, (count, d) float64."""
        sums = np.zeros((self.count, self.descriptors.shape[1]))
        np.add.at(sums, self.people, self.descriptors)
        return sums / np.bincount(self.people, minlength=self.count)[:, None]

    def typical(self) -> np.ndarray:
        """The row of each person's most typical face, (count,) int: the one nearest to the person's centre.

        A person counts once, with this face, however many pictures there are.
        """
        apart = np.linalg.norm(self.descriptors - self.centres()[self.people], axis=1)
        order = np.lexsort((np.arange(len(apart)), apart, self.people))
        return order[np.searchsorted(self.people[order], np.arange(self.count))]

    def crops(self, rows: np.ndarray) -> list[Crop]:
        """The faces of rows (n,) as they were cut out, each in the coordinates of its own pixels."""
        shown = zip(rows.tolist(), self.pixels[rows], self.landmarks[rows], strict=True)
        return [_whole(pixels, points, self.keys[row]) for row, pixels, points in shown]


def _whole(pixels: np.ndarray, landmarks: np.ndarray, key: str) -> Crop:
    face = Face(Box(0, 0, pixels.shape[1], pixels.shape[0]), landmarks=np.asarray(landmarks, np.float32))
    return Crop(pixels, np.eye(2, 3), face, key)
