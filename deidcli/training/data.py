"""Packed faces: one .npz file of aligned crops with their descriptors, and the batches that training takes from it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from zipfile import BadZipFile

import numpy as np

from deidcli.errors import UsageError


@dataclass(frozen=True)
class Pack:
    """Aligned crops and what is known of them; all rows belong together.

    crops: (n, side, side, 3) uint8 RGB. descriptors: (n, 128) float32 of dlib's recogniser. names: (n,) str, the file
    of each crop relative to the folder that was packed.
    """

    crops: np.ndarray
    descriptors: np.ndarray
    names: np.ndarray

    @property
    def side(self) -> int:
        return self.crops.shape[1]

    def __len__(self) -> int:
        return len(self.crops)

    def save(self, place: Path | BinaryIO) -> None:
        """Write the pack to a path or an open file. Nothing in it is pickled, so that loading runs no code."""
        np.savez(place, crops=self.crops, descriptors=self.descriptors.astype(np.float32), names=self.names)


def load_pack(*paths: Path) -> Pack:
    """Read one or more packs as one. Raises UsageError for a file that is not a pack or whose crops differ in size."""
    parts = [_load(Path(p)) for p in paths]
    if len({p.side for p in parts}) != 1:
        raise UsageError(f"packs of different sizes: {sorted({p.side for p in parts})} pixels", "pack them alike")
    columns = zip(*((p.crops, p.descriptors, p.names) for p in parts), strict=True)
    return Pack(*(np.concatenate(rows) for rows in columns))


def _load(path: Path) -> Pack:
    try:
        with np.load(path, allow_pickle=False) as stored:
            pack = Pack(stored["crops"], stored["descriptors"], stored["names"])
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise UsageError(f"{path} is not a pack of faces: {error}", "make one with `deid align --pack`") from error
    if not len(pack.crops) == len(pack.descriptors) == len(pack.names):
        raise UsageError(f"{path} is damaged: its rows do not belong together", "make it again")
    return pack


def batches(pack: Pack, size: int, seed: int, epoch: int, steps: int):
    """Yield `steps` batches (crops uint8, rows of the pack) of `size`, half of them mirrored, the same for an epoch.

    A face's descriptor hardly changes in a mirror, so a mirrored crop keeps its target. Rows are drawn without
    repetition until all were seen; the order goes on over the epochs.
    """
    for step in range(epoch * steps, (epoch + 1) * steps):
        rows = _rows(len(pack), size, seed, step)
        flip = np.random.default_rng([seed, 1, step]).random(size) < 0.5
        crops = pack.crops[rows]
        crops[flip] = crops[flip, :, ::-1]
        yield crops, rows


def _rows(count: int, size: int, seed: int, step: int) -> np.ndarray:
    """The rows of batch `step` in an endless chain of permutations."""
    places = np.arange(step * size, (step + 1) * size)
    rounds = places // count
    order = {r: np.random.default_rng([seed, 0, r]).permutation(count) for r in np.unique(rounds)}
    return np.array([order[r][p % count] for r, p in zip(rounds, places, strict=True)])
