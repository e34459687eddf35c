"""A graph of ONNX operators in the making (`graphs.Plan`): its tensors, uses of Keras operations, and the writer.

The writer follows a Keras network and has each operation written by a function of `export.py`. A layer of this project,
or a Lambda, is called once with a symbol in place of its input, and the operations that it is made of are written.
Batches are one row: the rows of a batch are computed alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from deidcli.errors import PresetError
from deidcli.networks.backend import keras
from deidcli.networks.graphs import ENTRY, Plan


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


class Writer:
    """Writes one network. `node` and `constant` return the names of what they make.

    operations: for each kind of operation, by the name of its class, the function that writes it.
    """

    def __init__(self, operations: Mapping[str, Operation]) -> None:
        self._operations = operations
        self.made = Plan((), [], [], [])
        self._known: dict[int, Value] = {}
        self._turned: dict[Value, Value] = {}

    def plan(self, model: keras.Model) -> Plan:
        shape = tuple(int(side) for side in model.inputs[0].shape[1:])
        self._follow(model, [Value(ENTRY, shape)])
        outputs = [self.last(self._known[id(tensor)]) for tensor in model.outputs]
        return Plan((1, *shape), self.made.constants, self.made.nodes, [value.name for value in outputs])

    def _follow(self, function: Any, inputs: Sequence[Value]) -> list[Value]:
        """Write the operations of a functional network in their order."""
        function = getattr(function, "_functional", None) or function  # what a Sequential holds
        self._known.update({id(tensor): value for tensor, value in zip(function.inputs, inputs, strict=True)})
        for depth in sorted(function._nodes_by_depth, reverse=True):
            for node in function._nodes_by_depth[depth]:
                if not node.is_input:
                    made = self._operation(node.operation, node.arguments.args, node.arguments.kwargs, node.outputs)
                    self._known.update({id(tensor): value for tensor, value in zip(node.outputs, made, strict=True)})
        return [self._known[id(tensor)] for tensor in function.outputs]

    def _operation(self, operation: Any, args: Sequence, kwargs: dict, outputs: Sequence) -> list[Value]:
        given = [self._given(arg) for arg in args]
        kind = type(operation).__name__
        if hasattr(operation, "_nodes_by_depth") or kind == "Sequential":
            return self._follow(operation, flat(given))
        shapes = [tuple(int(side) for side in tensor.shape[1:]) for tensor in outputs]
        if kind in self._operations:
            return [self._operations[kind](self, Call(operation, given, kwargs, shapes[0]))]
        if isinstance(operation, keras.Layer):
            return self._traced(operation, args, given)
        raise PresetError(f"the operation {kind} has no ONNX operator here", "add it to networks/export.py")

    def _given(self, arg: Any) -> Any:
        """An argument with the values in place of Keras' symbols."""
        if isinstance(arg, keras.KerasTensor):
            return self._known[id(arg)]
        return [self._given(each) for each in arg] if isinstance(arg, list) else arg

    def _traced(self, layer: keras.Layer, args: Sequence, given: Sequence) -> list[Value]:
        """The operations that a layer is made of."""
        symbols = [keras.KerasTensor(tensor.shape, tensor.dtype) for tensor in flat(args)]
        rest = iter(symbols)
        renamed = [[next(rest) for _ in arg] if isinstance(arg, list) else next(rest) for arg in args]
        made = layer.call(*renamed)
        return self._follow(keras.Function(symbols, made if isinstance(made, list) else [made]), flat(given))

    # --- what operations are written with

    def node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        self.made.nodes.append([kind, list(inputs), attributes])
        return f"n{len(self.made.nodes) - 1}"

    def constant(self, values: Any, order: Sequence[int] = (), shape: Sequence[int] = ()) -> str:
        """A constant; its axes in another order, then in another shape, where those are given."""
        numbers = np.asarray(values)
        numbers = numbers if numbers.dtype == np.int64 else numbers.astype(np.float32)
        self.made.constants.append((numbers, list(order), list(map(int, shape))))
        return f"c{len(self.made.constants) - 1}"

    def whole(self, *numbers: int) -> str:
        return self.constant(np.array(numbers, np.int64))

    def first(self, value: Value) -> Value:
        """The value with its channels first."""
        return value if value.first or len(value.shape) != 3 else self._turn(value, [0, 3, 1, 2])

    def last(self, value: Value) -> Value:
        """The value as Keras has it."""
        return self._turn(value, [0, 2, 3, 1]) if value.first else value

    def _turn(self, value: Value, order: list[int]) -> Value:
        if value not in self._turned:
            other = Value(self.node("Transpose", value.name, perm=order), value.shape, not value.first)
            self._turned |= {value: other, other: value}
        return self._turned[value]

    def shaped(self, value: Value, shape: tuple[int, ...]) -> Value:
        return Value(self.node("Reshape", self.last(value).name, self.whole(1, *shape)), shape)


Operation = Callable[[Writer, Call], Value]
