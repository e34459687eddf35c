"""Weights on disk: Keras' `.weights.h5` in half precision, and networks that run on batches of any size.

A network of a preset is a `Network`: on the processor it runs by its graph (`graphs.py`) in ONNX Runtime, and Keras is
never imported; on a GPU it is built and run in Keras. A graph lies beside the weights, where `deid models export` puts
it; where it is missing, the first run makes it from Keras and keeps it in the user's cache.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from deidcli.errors import PresetError
from deidcli.networks import graphs
from deidcli.networks.backend import keras, on_gpu
from deidcli.presets import Preset, cache_folder

if TYPE_CHECKING:
    import h5py
    from onnxruntime import InferenceSession

# A batch is padded to the next of these, so that a graph is traced a few times and not for every size.
BATCHES = (1, 4, 16, 64)
TOLERANCE = 1e-3  # by which a graph may differ from Keras, of the largest number that comes out, at least of 1
TRIES = 4  # rows on which they are compared
_T = TypeVar("_T")
_U = TypeVar("_U")


def save_half(model: keras.Model, path: Path) -> None:
    """Write the weights of `model` as float16. Keras reads the file like any other and widens what it reads."""
    import h5py

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
    import h5py

    for key, value in old.attrs.items():
        new.attrs[key] = value
    for key, item in old.items():
        if isinstance(item, h5py.Group):
            _copy_tree(item, new.create_group(key), halves)
        else:
            new.create_dataset(key, data=halves[item.name.lstrip("/")], compression="gzip", shuffle=True)


def loaded(model: keras.Model, path: Path) -> keras.Model:
    """The network with the weights of a file."""
    model.load_weights(path)
    return model


def save_bytes(weights: Sequence[np.ndarray], path: Path, **further: np.ndarray) -> None:
    """Write arrays as one byte a number: each column of a matrix, and each channel of a filter, has a scale of its own.

    Vectors are few and stay float32. further: arrays by name that are written as they are.
    """
    held: dict[str, np.ndarray] = dict(further)
    for number, weight in enumerate(weights):
        if weight.ndim < 2:
            held[f"{number}"] = weight.astype(np.float32)
            continue
        scale = np.maximum(np.abs(weight).max(axis=tuple(range(weight.ndim - 1))), 1e-12) / 127
        held[f"{number}"] = np.round(weight / scale).astype(np.int8)
        held[f"{number}{graphs.SCALE}"] = scale.astype(np.float32)
    np.savez_compressed(path, **held)  # type: ignore[arg-type]


def load_bytes(path: Path) -> tuple[list[np.ndarray], dict[str, np.ndarray]]:
    """What `save_bytes` wrote: the arrays as float32, and the further ones by name. Nothing in it is pickled."""
    with np.load(path, allow_pickle=False) as stored:
        held = graphs.unscaled({name: stored[name] for name in stored.files})
    numbers = sorted((name for name in held if name.isdigit()), key=int)
    return [held.pop(number) for number in numbers], held


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


def alone(model: keras.Model) -> keras.Model:
    """`model`, a network of one input, made to compute each row of a batch by itself (`Alone`); outputs are a list."""
    from deidcli.networks.own_layers import Alone

    rows = keras.Input(model.inputs[0].shape[1:])
    return keras.Model(rows, Alone(model)(rows))


def run_alone(model: keras.Model, batch: np.ndarray) -> list[np.ndarray]:
    """The outputs of a network that `alone` made for (n, ...) as a list of arrays of n rows, for any n including 0."""
    made = model.predict_on_batch(batch if len(batch) else np.zeros((1, *batch.shape[1:]), batch.dtype))
    return [np.asarray(rows, np.float32)[: len(batch)] for rows in _listed(made)]


def _listed(made) -> list:
    return list(made) if isinstance(made, (list, tuple)) else [made]


class Network:
    """A network of one input, ready to run: each row of a batch is computed alone and has the same bits whatever else
    is in its batch.

    build: makes it in Keras, with its weights. It is called on a GPU, for training, and where no graph is there.
    preset: whose files hold the weights, None for a network that exists in memory only and runs in Keras. name: of the
    graph, `NAME.graph.json`; one for each network of a preset.
    """

    def __init__(self, build: Callable[[], keras.Model], preset: Preset | None = None, name: str = ""):
        self._build, self.preset, self.name = build, preset, name
        self._lock = threading.RLock()

    @classmethod
    def of(cls, model: keras.Model) -> Network:
        """A network that is there already, as in training."""
        return cls(lambda: model)

    def __call__(self, batch: np.ndarray) -> list[np.ndarray]:
        """The outputs for (n, ...) as a list of float32 arrays of n rows, for any n including 0.

        Raises PresetError where weights are missing or damaged.
        """
        with self._lock:
            session, model = self._ready
        return run_alone(model, batch) if session is None else run_rows(session, batch)

    @functools.cached_property
    def model(self) -> keras.Model:
        """The network in Keras."""
        with self._lock:
            return self._build()

    @functools.cached_property
    def _ready(self) -> tuple[InferenceSession | None, Any]:
        plan = None if self.preset is None or on_gpu() else self._stored() or self._made()
        return (None, alone(self.model)) if plan is None else (graphs.session(plan.onnx()), None)

    def _stored(self) -> graphs.Plan | None:
        assert self.preset is not None
        sums = self.preset.config.get("files", {})
        plans = (graphs.read(path, self.preset.file, sums) for path in (self.place, self.cached))
        return next((plan for plan in plans if plan is not None), None)

    def _made(self) -> graphs.Plan | None:
        """The graph as it is made now, and kept for the next run; None for a network that has none."""
        try:
            plan = self.export(self.cached)
        except PresetError:
            return None
        except OSError:  # a cache that may not be written
            from deidcli.networks.export import plan_of

            return plan_of(self.model)
        return plan

    @property
    def place(self) -> Path:
        """Where the graph lies beside the weights."""
        assert self.preset is not None
        return self.preset.folder / f"{self.name}.graph.json"

    @property
    def cached(self) -> Path:
        """Where the graph lies in the user's cache."""
        assert self.preset is not None
        return cache_folder() / "graphs" / f"{self.preset.checksum[:16]}-{self.name}.graph.json"

    def export(self, path: Path | None = None) -> graphs.Plan:
        """Write the graph to `path`, or beside the weights, and return it.

        Raises PresetError for a network that cannot be written, or whose graph does not do what Keras does; OSError.
        """
        from deidcli.networks.export import plan_of

        assert self.preset is not None
        plan, sums = plan_of(self.model), self.preset.config.get("files", {})
        self._compare(plan)
        files = {name: self.preset.file(name) for name in sums if Path(name).suffix in graphs.WEIGHTS}
        graphs.write(plan, files, sums, path or self.place)
        return plan

    def _compare(self, plan: graphs.Plan) -> None:
        """Raises PresetError where Keras and the graph differ by more than TOLERANCE on what is no face."""
        rows = np.random.default_rng(0).random((TRIES, *plan.shape[1:]), np.float32)
        outputs = zip(run_alone(alone(self.model), rows), run_rows(graphs.session(plan.onnx()), rows), strict=True)
        apart = max(float(np.abs(a - b).max() / max(1.0, np.abs(a).max())) for a, b in outputs)
        if not apart <= TOLERANCE:
            raise PresetError(f"{self.name}: the graph is {apart:.2g} off Keras", "report this")


def run_rows(session: InferenceSession, batch: np.ndarray) -> list[np.ndarray]:
    """The outputs of a network of batches of one for (n, ...) as a list of arrays of n rows, for any n including 0."""
    entry = session.get_inputs()[0].name
    given = np.ascontiguousarray(batch if len(batch) else np.zeros((1, *batch.shape[1:])), np.float32)

    def one(row: np.ndarray) -> list[np.ndarray]:
        return session.run(None, {entry: row[None]})

    return [np.concatenate(rows)[: len(batch)] for rows in zip(*in_threads(one, given), strict=True)]


def in_threads(do: Callable[[_T], _U], items: Iterable[_T]) -> list[_U]:
    """What `do` makes of each item, in order, as many at a time as there are cores. `do` may not call this itself."""
    items = list(items)
    return [do(item) for item in items] if len(items) == 1 else list(_threads().map(do, items))


@functools.cache
def _threads() -> ThreadPoolExecutor:
    """As many threads as this process may use cores, for the rows of all networks."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return ThreadPoolExecutor(cores, thread_name_prefix="deid-network")


# By the method of a preset: the module whose `load(preset)` returns what holds its networks.
_LOADERS = {
    "autoencoder": "autoencoder",
    "classifier": "classifiers",
    "cleanir": "cleanir",
    "epdnet": "epd_net",
    "fatm": "fatm",
}


def networks_of(preset: Preset) -> list[Network]:
    """Every `Network` that the loaded preset holds, as an attribute or in a mapping. Raises PresetError."""
    if preset.method not in _LOADERS or "network" not in preset.config:
        return []
    held = import_module(f"deidcli.networks.{_LOADERS[preset.method]}").load(preset)
    parts = [
        each for value in vars(held).values() for each in (value.values() if isinstance(value, Mapping) else [value])
    ]
    return [part for part in parts if isinstance(part, Network)]
