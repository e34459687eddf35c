"""Weights on disk: Keras' `.weights.h5` in half precision, and networks that run on batches of any size."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from deidcli.networks.backend import keras

# A batch is padded to the next of these, so that a graph is traced a few times and not for every size.
BATCHES = (1, 4, 16, 64)


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

    sizes: of the batches it is run on, rising.
    """
    parts = [_run(model, batch[i : i + sizes[-1]], sizes) for i in range(0, max(len(batch), 1), sizes[-1])]
    return [np.concatenate(rows) for rows in zip(*parts, strict=True)]


def _run(model: keras.Model, batch: np.ndarray, sizes: tuple[int, ...]) -> list[np.ndarray]:
    count = len(batch)
    size = next(b for b in sizes if b >= count)
    padded = np.concatenate([batch, np.zeros((size - count, *batch.shape[1:]), batch.dtype)])
    made = model.predict_on_batch(padded)
    return [np.asarray(rows, np.float32)[:count] for rows in _listed(made)]


class Alone(keras.layers.Layer):
    """Runs a network on one row of a batch at a time, in a loop inside the graph.

    The last bits of a convolution depend on the size of the batch, and where several threads share a batch of one fixed
    size, on the place of a row in it. A row that is computed alone has the same bits in any batch and order. They may
    still differ between processors and between numbers of threads.
    """

    def __init__(self, model: keras.Model):
        super().__init__()
        self.model = model

    def call(self, batch):
        return keras.ops.map(self._one, batch)

    def _one(self, row):
        made = self.model(row[None], training=False)
        return [rows[0] for rows in _listed(made)]

    def compute_output_spec(self, batch):
        outputs = self.model.outputs
        return [keras.KerasTensor((batch.shape[0], *out.shape[1:]), out.dtype) for out in outputs]


def alone(model: keras.Model) -> keras.Model:
    """`model`, a network of one input, made to compute each row of a batch by itself (`Alone`); outputs are a list."""
    rows = keras.Input(model.inputs[0].shape[1:])
    return keras.Model(rows, Alone(model)(rows))


def run_alone(model: keras.Model, batch: np.ndarray) -> list[np.ndarray]:
    """The outputs of a network that `alone` made for (n, ...) as a list of arrays of n rows, for any n including 0."""
    made = model.predict_on_batch(batch if len(batch) else np.zeros((1, *batch.shape[1:]), batch.dtype))
    return [np.asarray(rows, np.float32)[: len(batch)] for rows in _listed(made)]


def _listed(made) -> list:
    return list(made) if isinstance(made, (list, tuple)) else [made]
