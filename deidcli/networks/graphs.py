"""Graphs of networks on disk: what a network computes, in ONNX's operators, without its weights.

A graph is a small JSON file beside the weights, and its constants are places in them, so that weights exist once. It is
made from the Keras network (`export.py`), and read without Keras. It holds checksums of the weights and of
itself: a graph of other weights is not used, and a damaged one is an error.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from deidcli.errors import PresetError
from deidcli.networks.onnx_files import Graph

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, RunOptions


ENTRY = "rows"  # name of a graph's one input
WEIGHTS = (".h5", ".npz")  # files that constants are looked for in
INLINE = 4096  # numbers of a constant that may stand in the graph itself; more have to lie in the weights

Constant = tuple[np.ndarray, list[int], list[int]]


@dataclass(frozen=True)
class Plan:
    """A network as a graph. shape: of the input, the batch of 1 included. outputs: names.

    constants: (values, order of their axes, shape) each, [] for as they are; called c0, c1, ... in this order. nodes:
    [operator, names of its inputs, attributes] each; what they make is called n0, n1, ...
    """

    shape: tuple[int, ...]
    constants: list[Constant]
    nodes: list[list[Any]]
    outputs: list[str]

    def onnx(self) -> bytes:
        """The model that ONNX Runtime reads."""
        graph = Graph(ENTRY, self.shape)
        for values, order, shape in self.constants:
            turned = values.transpose(order) if order else values
            graph.constant(turned.reshape(shape) if shape else turned)
        for kind, inputs, attributes in self.nodes:
            graph.add(kind, *inputs, **attributes)
        return graph.model(*self.outputs)


def arrays(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Every array of a file of weights (`.h5`, or `.npz`) by name, as float32, those that were made smaller as read."""
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as stored:
            yield from unscaled({name: stored[name] for name in stored.files}).items()
        return
    import h5py  # not at the top: runs without such weights start sooner

    with h5py.File(path, "r") as file:
        names: list[str] = []
        file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        yield from ((name, file[name][()].astype(np.float32)) for name in names)


SCALE = "_scale"  # behind the name of an array of bytes in an `.npz`: what its columns are multiplied by


def unscaled(held: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Arrays by name, those that have a scale multiplied by it, as float32; the others as they are."""
    whole = {name: values for name, values in held.items() if not name.endswith(SCALE)}
    return {
        name: values.astype(np.float32) * held[name + SCALE] if name + SCALE in held else values
        for name, values in whole.items()
    }


def write(plan: Plan, files: Mapping[str, Path], sums: Mapping[str, str], path: Path) -> None:
    """Write a graph to `path`, its constants as places in `files`, by name. sums: the sha256 of each.

    A constant is found by its values, so nobody has to say how a network took its weights. Raises PresetError for a
    large one that lies in none of the files.
    """
    places = {_key(values): (name, key) for name, file in files.items() for key, values in arrays(file)}
    constants: list[Any] = []
    for values, order, shape in plan.constants:
        if values.dtype != np.int64 and (place := places.get(_key(values))):
            constants.append([*place, order, shape])
        elif values.size <= INLINE and not order:
            kind = "whole" if values.dtype == np.int64 else "real"
            constants.append([kind, values.ravel().tolist(), list(values.shape)])
        else:
            hint = "write all its weights into the files of the preset"
            raise PresetError(f"a weight of shape {values.shape} lies in none of {', '.join(files) or 'no file'}", hint)
    used = {each[0] for each in constants} & set(files)
    said = {"shape": list(plan.shape), "outputs": plan.outputs, "weights": {name: sums[name] for name in sorted(used)},
            "constants": constants, "nodes": plan.nodes}  # fmt: skip
    text = json.dumps({"sha256": _sum(said), **said}, separators=(",", ":"))
    path.parent.mkdir(parents=True, exist_ok=True)
    # Two runs may write at once; each puts a whole file in place.
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf-8") as file:
        file.write(text + "\n")
    os.chmod(file.name, 0o644)
    os.replace(file.name, path)


def read(path: Path, verified: Callable[[str], Path], sums: Mapping[str, str]) -> Plan | None:
    """The graph at `path` with its weights; None where it was made from other weights, or does not exist.

    verified: the path of a file of weights, its sum compared. sums: as config.json has them. Raises PresetError for a
    damaged graph, and what `verified` raises.
    """
    if not path.is_file():
        return None
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        whole = said.pop("sha256") == _sum(said)
        fits = all(sums.get(name) == digest for name, digest in said["weights"].items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise PresetError(f"{path} cannot be read: {error}", "delete it, or fetch the preset again") from error
    if not whole:
        raise PresetError(f"{path} is damaged: its sha256 is not the one in it", "delete it, or fetch the preset again")
    if not fits:
        return None
    held = {name: dict(arrays(verified(name))) for name in said["weights"]}
    constants: list[Constant] = []
    for first, second, *rest in said["constants"]:
        if first in held:
            constants.append((held[first][second], *rest))
        else:
            kind = np.int64 if first == "whole" else np.float32
            constants.append((np.array(second, kind).reshape(rest[0]), [], []))
    return Plan(tuple(said["shape"]), constants, said["nodes"], said["outputs"])


def session(model: bytes | str, widened: bool = False) -> InferenceSession:
    """A network that ONNX Runtime holds ready, for one thread at a time or many. model: its bytes, or its path.

    widened: whether weights of few bits are made float32 once, and not in every run.

    Each call computes in the thread that makes it: rows are spread over threads and not a row's own sums, so that what
    comes out depends neither on the number of threads nor on the other rows of the batch.
    """
    onnxruntime = _runtime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    # A plan of the memory is made and kept for each size of the input, and pictures come in many sizes.
    options.enable_mem_pattern = False
    if widened:
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    # What is reported are optimisations that do not apply.
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _runtime() -> ModuleType:
    """ONNX Runtime, which is told once more to report nothing: a program that uses the library may have imported it
    before `deidcli`, which tells it so by the environment.
    """
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    return onnxruntime


def shrinking() -> RunOptions:
    """Options of a run after which the session frees the memory that it took: for large inputs."""
    options = _runtime().RunOptions()
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    return options


def _key(values: np.ndarray) -> tuple[tuple[int, ...], bytes]:
    rows = np.ascontiguousarray(values, np.float32)
    return rows.shape, hashlib.sha256(rows.tobytes()).digest()


def _sum(said: dict) -> str:
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
