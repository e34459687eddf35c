"""A Keras network as a graph of ONNX operators (`graphs.Plan`), so that a processor runs it without Keras.

Every operation of the network is written as the operators that do the same. A layer of this project, or a Lambda, is
called once with a symbol in place of its input, and the operations that it is made of are written. Batches are one row:
the rows of a batch are computed alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from deidcli.errors import PresetError
from deidcli.networks.backend import keras
from deidcli.networks.graph_values import Call, Value, flat
from deidcli.networks.graphs import ENTRY, Plan
from deidcli.networks.operators import OPERATIONS, activated


def plan_of(model: keras.Model) -> Plan:
    """The graph of a network of one input, which is a float32 tensor. Raises PresetError for what cannot be written."""
    try:
        return Writer().plan(model)
    except (TypeError, ValueError, AttributeError, LookupError) as error:
        raise PresetError(f"{model.name} cannot be written as a graph: {error}", "see networks/operators.py") from error


class Writer:
    """Writes one network. `node` and `constant` return the names of what they make."""

    def __init__(self) -> None:
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
        if kind in OPERATIONS:
            made = OPERATIONS[kind](self, Call(operation, given, kwargs, shapes[0]))
            activation = getattr(operation, "activation", None)
            return [activated(self, made, activation) if activation and kind != "Activation" else made]
        if isinstance(operation, keras.Layer):
            return self._traced(operation, args, given)
        raise PresetError(f"the operation {kind} has no ONNX operator here", "add it to networks/operators.py")

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
        array = np.asarray(values)
        array = array if array.dtype == np.int64 else array.astype(np.float32)
        self.made.constants.append((array, list(order), list(map(int, shape))))
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
