"""Tensors of a graph in the making, and uses of Keras operations: what the functions that write are given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from deidcli.networks.backend import keras


@dataclass(frozen=True)
class Value:
    """A tensor of the graph. shape: as Keras has it, without the batch. first: whether its channels lie before rows and
    columns, as ONNX has them, and not behind them as in Keras."""

    name: str
    shape: tuple[int, ...]
    first: bool = False


@dataclass(frozen=True)
class Call:
    """One use of an operation. given: its arguments. shape: of what it makes, without the batch."""

    of: Any
    given: list
    kwargs: dict
    shape: tuple[int, ...]

    @property
    def values(self) -> list:
        """The arguments one after the other, lists opened."""
        return flat(self.given)

    def argument(self, place: int, name: str, default: Any = None) -> Any:
        """An argument that is no tensor: by its place in the call, its name, or as an attribute of the operation."""
        if len(self.given) > place:
            return self.given[place]
        return self.kwargs.get(name, getattr(self.of, name, default))


def flat(items: Sequence) -> list:
    """Items one after the other, those of lists among them."""
    return [each for item in items for each in (item if isinstance(item, list) else [item])]


def layout(value: Value) -> tuple[tuple[int, ...], bool]:
    """Shape and order of the axes of a value, for one that is like it."""
    return value.shape, value.first


def array(item: Any) -> np.ndarray:
    """A number, an array or a weight of Keras as float32."""
    return np.asarray(keras.ops.convert_to_numpy(item) if isinstance(item, keras.Variable) else item, np.float32)
