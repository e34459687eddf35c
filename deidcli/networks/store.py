"""Weights on disk: Keras' `.weights.h5` in half precision, and networks that run on batches of any size."""

from __future__ import annotations

from pathlib import Path

import h5py
import keras
import numpy as np

# A batch is padded to the next of these, so that a graph is traced a few times and not for every size.
BATCHES = (1, 4, 16, 64)
# The last bits of a row depend on the size of the batch it stands in, not on its neighbours. What is written has to be
# the same whatever came before it (a run that is resumed, one picture alone), so it is made in batches of one size.
STEADY = (8,)


def save_half(model: keras.Model, path: Path) -> None:
    """Write the weights of `model` as float16. Keras reads the file like any other and widens what it reads."""
    model.save_weights(path)
    with h5py.File(path, "r+") as file:
        names: list[str] = []
        file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        halves = {name: file[name][()].astype(np.float16) for name in names}
    # A new file: HDF5 does not give back the room of what is deleted in an old one.
    with h5py.File(path, "r") as old, h5py.File(path.with_suffix(".half"), "w") as new:
        _copy_tree(old, new, halves)
    path.with_suffix(".half").replace(path)


def _copy_tree(old: h5py.Group, new: h5py.Group, halves: dict[str, np.ndarray]) -> None:
    for key, value in old.attrs.items():
        new.attrs[key] = value
    for key, item in old.items():
        if isinstance(item, h5py.Group):
            _copy_tree(item, new.create_group(key), halves)
        else:
            new.create_dataset(key, data=halves[item.name.lstrip("/")], compression="gzip", shuffle=True)


def run(model: keras.Model, batch: np.ndarray, sizes: tuple[int, ...] = BATCHES) -> list[np.ndarray]:
    """The outputs of `model` for (n, ...) as a list of arrays of n rows, for any n including 0.

    sizes: of the batches it is run on, rising. With STEADY a row comes out the same in whatever company.
    """
    parts = [_run(model, batch[i : i + sizes[-1]], sizes) for i in range(0, max(len(batch), 1), sizes[-1])]
    return [np.concatenate(rows) for rows in zip(*parts, strict=True)]


def _run(model: keras.Model, batch: np.ndarray, sizes: tuple[int, ...]) -> list[np.ndarray]:
    count = len(batch)
    size = next(b for b in sizes if b >= count)
    padded = np.concatenate([batch, np.zeros((size - count, *batch.shape[1:]), batch.dtype)])
    made = model.predict_on_batch(padded)
    return [np.asarray(rows, np.float32)[:count] for rows in (made if isinstance(made, (list, tuple)) else [made])]
