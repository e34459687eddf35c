"""The operations of Keras networks, written as ONNX operators: one function, or one entry, for each kind.

What is missing here is added here: a function of the writer and of the call, in `OPERATIONS` by the name of the class.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from deidcli.errors import PresetError
from deidcli.networks import windows
from deidcli.networks.graph_values import Call, Value, array, flat, layout

if TYPE_CHECKING:
    from deidcli.networks.export import Writer


def activated(to: Writer, value: Value, activation: Callable) -> Value:
    """The value after one of Keras' activations. Raises PresetError for one that is not known."""
    name = getattr(activation, "__name__", "")
    if name not in _ACTIVATIONS:
        raise PresetError(f"the activation {name} has no ONNX operator here", "add it to networks/operators.py")
    kind, attributes = _ACTIVATIONS[name]
    value = to.last(value) if name == "softmax" else value
    return value if kind == "Identity" else Value(to.node(kind, value.name, **attributes), *layout(value))


def _same(to: Writer, call: Call) -> Value:
    return call.values[0]


def _unary(kind: str, **attributes: Any) -> Callable[[Writer, Call], Value]:
    def write(to: Writer, call: Call) -> Value:
        value = call.values[0]
        return Value(to.node(kind, value.name, **attributes), *layout(value))

    return write


def _binary(kind: str) -> Callable[[Writer, Call], Value]:
    """An operator of two tensors, or numbers, applied from left to right; layers may have more than two inputs."""

    def write(to: Writer, call: Call) -> Value:
        items = call.values[: 2 if len(call.given) > 1 else None]
        first = all(isinstance(item, Value) and item.first and item.shape == call.shape for item in items)
        # A tensor with one channel, or a number, fits in both layouts; anything else is taken as Keras has it.
        names = [
            (item if first else to.last(item)).name if isinstance(item, Value) else to.constant(array(item))
            for item in items
        ]
        made = names[0]
        for name in names[1:]:
            made = to.node(kind, made, name)
        return Value(made, call.shape, first)

    return write


def _dense(to: Writer, call: Call) -> Value:
    layer, value = call.of, to.last(call.values[0])
    made = to.node("MatMul", value.name, to.constant(array(layer.kernel)))
    return Value(to.node("Add", made, to.constant(array(layer.bias))) if layer.use_bias else made, call.shape)


def _batch_norm(to: Writer, call: Call) -> Value:
    layer, value = call.of, to.first(call.values[0])
    count = value.shape[-1]
    scale = array(layer.gamma) if layer.scale else np.ones(count, np.float32)
    shift = array(layer.beta) if layer.center else np.zeros(count, np.float32)
    names = [to.constant(row) for row in (scale, shift, array(layer.moving_mean), array(layer.moving_variance))]
    made = to.node("BatchNormalization", value.name, *names, epsilon=float(layer.epsilon))
    return Value(made, *layout(value))


def _layer_norm(to: Writer, call: Call) -> Value:
    layer, value = call.of, to.last(call.values[0])
    if list(np.ravel(layer.axis)) not in ([-1], [len(value.shape)]):
        raise PresetError(f"{layer.name}: it normalises other axes than the last", "add them to networks/operators.py")
    less = to.node("Sub", value.name, to.node("ReduceMean", value.name, axes=[-1]))
    spread = to.node("ReduceMean", to.node("Mul", less, less), axes=[-1])
    made = to.node("Div", less, to.node("Sqrt", to.node("Add", spread, to.constant(float(layer.epsilon)))))
    made = to.node("Mul", made, to.constant(array(layer.gamma))) if layer.scale else made
    made = to.node("Add", made, to.constant(array(layer.beta))) if layer.center else made
    return Value(made, value.shape)


def _leaky(to: Writer, call: Call) -> Value:
    value = call.values[0]
    return Value(to.node("LeakyRelu", value.name, alpha=float(call.argument(1, "negative_slope"))), *layout(value))


def _relu(to: Writer, call: Call) -> Value:
    value, layer = call.values[0], call.of
    made = to.node("LeakyRelu", value.name, alpha=float(layer.negative_slope)) if getattr(
        layer, "negative_slope", 0) else to.node("Relu", value.name)  # fmt: skip
    if getattr(layer, "threshold", 0):
        raise PresetError(f"{layer.name}: a threshold is not written", "add it to networks/operators.py")
    if getattr(layer, "max_value", None) is not None:
        made = to.node("Min", made, to.constant(float(layer.max_value)))
    return Value(made, *layout(value))


def _prelu(to: Writer, call: Call) -> Value:
    value = to.last(call.values[0])
    return Value(to.node("PRelu", value.name, to.constant(array(call.of.alpha))), value.shape)


def _activation(to: Writer, call: Call) -> Value:
    return activated(to, call.values[0], call.of.activation)


def _softmax(to: Writer, call: Call) -> Value:
    value = to.last(call.values[0])
    axis = call.argument(1, "axis", -1)
    return Value(to.node("Softmax", value.name, axis=int(axis)), value.shape)


def _pad(to: Writer, call: Call) -> Value:
    value, around = to.last(call.values[0]), call.of.padding
    (top, bottom), (left, right) = around
    return Value(to.node("Pad", value.name, to.whole(0, top, left, 0, 0, bottom, right, 0)), call.shape)


def _crop(to: Writer, call: Call) -> Value:
    value, ((top, bottom), (left, right)) = to.last(call.values[0]), call.of.cropping
    ends = value.shape[0] - bottom, value.shape[1] - right
    return Value(to.node("Slice", value.name, to.whole(top, left), to.whole(*ends), to.whole(1, 2)), call.shape)


def _rescale(to: Writer, call: Call) -> Value:
    value, layer = to.last(call.values[0]), call.of
    made = to.node("Mul", value.name, to.constant(array(layer.scale)))
    return Value(to.node("Add", made, to.constant(array(layer.offset))), value.shape)


def _reshape(to: Writer, call: Call) -> Value:
    return to.shaped(call.values[0], call.shape)


def _transpose(to: Writer, call: Call) -> Value:
    axes = [0, *call.of.dims] if hasattr(call.of, "dims") else list(call.argument(1, "axes"))
    return Value(to.node("Transpose", to.last(call.values[0]).name, perm=axes), call.shape)


def _concatenate(to: Writer, call: Call) -> Value:
    values, axis = flat(call.given[:1]), int(call.argument(1, "axis", -1))
    maps = len(call.shape) == 3
    if maps and axis in (-1, 3):
        return Value(to.node("Concat", *(to.first(value).name for value in values), axis=1), call.shape, True)
    return Value(to.node("Concat", *(to.last(value).name for value in values), axis=axis), call.shape)


def _reduce(kind: str) -> Callable[[Writer, Call], Value]:
    def write(to: Writer, call: Call) -> Value:
        value = to.last(call.values[0])
        axes = [int(axis) for axis in np.ravel(call.argument(1, "axis"))]
        kept = int(bool(call.argument(2, "keepdims", False)))
        if kind == "ReduceSum":  # its axes are an input since operator set 13, those of the others an attribute
            return Value(to.node(kind, value.name, to.whole(*axes), keepdims=kept), call.shape)
        return Value(to.node(kind, value.name, axes=axes, keepdims=kept), call.shape)

    return write


def _get_item(to: Writer, call: Call) -> Value:
    """Slices and single places; what else an index says (new axes, ...) the shape of the result says, too."""
    value, key = to.last(call.values[0]), call.given[1] if len(call.given) > 1 else call.kwargs["key"]
    key = list(key) if isinstance(key, (tuple, list)) else [key]
    sizes = [1, *value.shape]
    if Ellipsis in key:
        place, given = key.index(Ellipsis), sum(item is not None for item in key) - 1
        key[place : place + 1] = [slice(None)] * (len(sizes) - given)
    cuts: list[tuple[int, int, int, int]] = []
    for axis, item in enumerate(item for item in key if item is not None):
        if isinstance(item, int):
            item = slice(item, item + 1 or None)
        if not isinstance(item, slice):
            raise PresetError(f"the index {item!r} is not written", "add it to networks/operators.py")
        if item != slice(None) and axis:
            start, end, step = item.indices(sizes[axis])
            if step < 0:
                raise PresetError("an index that runs backwards is not written", "add it to networks/operators.py")
            cuts.append((start, end, axis, step))
    made = value.name
    if cuts:
        made = to.node("Slice", made, *(to.whole(*row) for row in zip(*cuts, strict=True)))
    return Value(to.node("Reshape", made, to.whole(1, *call.shape)), call.shape)


def _clip(to: Writer, call: Call) -> Value:
    value = call.values[0]
    limits = [to.constant(float(call.argument(i, name))) for i, name in ((1, "x_min"), (2, "x_max"))]
    return Value(to.node("Clip", value.name, *limits), *layout(value))


def _square(to: Writer, call: Call) -> Value:
    value = call.values[0]
    return Value(to.node("Mul", value.name, value.name), *layout(value))


def _rsqrt(to: Writer, call: Call) -> Value:
    value = call.values[0]
    return Value(to.node("Reciprocal", to.node("Sqrt", value.name)), *layout(value))


def _repeat(to: Writer, call: Call) -> Value:
    """`ops.repeat` along the last axis of what has one channel."""
    value, count, axis = to.last(call.values[0]), call.argument(1, "repeats"), call.argument(2, "axis")
    if value.shape[-1] != 1 or axis not in (-1, len(value.shape)):
        raise PresetError("a repetition of more than one channel is not written", "add it to networks/operators.py")
    return Value(to.node("Concat", *[value.name] * int(count), axis=-1), call.shape)


def _cast(to: Writer, call: Call) -> Value:
    value = call.values[0]
    return Value(to.node("Cast", value.name, to=1), *layout(value))


_ACTIVATIONS: dict[str, tuple[str, dict]] = {
    "linear": ("Identity", {}),
    "relu": ("Relu", {}),
    "sigmoid": ("Sigmoid", {}),
    "tanh": ("Tanh", {}),
    "softplus": ("Softplus", {}),
    "elu": ("Elu", {"alpha": 1.0}),
    "leaky_relu": ("LeakyRelu", {"alpha": 0.2}),
    "softmax": ("Softmax", {"axis": -1}),
}
# Operations of one and of two tensors, element by element, and the operators that are the same.
_ONE = {"Sigmoid": "Sigmoid", "Tanh": "Tanh", "Exp": "Exp", "Log": "Log", "Sqrt": "Sqrt", "Absolute": "Abs",
        "Negative": "Neg", "Softplus": "Softplus"}  # fmt: skip
_TWO = {"Subtract": "Sub", "Multiply": "Mul", "Maximum": "Max", "Minimum": "Min", "Power": "Pow", "Matmul": "MatMul",
        "GreaterEqual": "GreaterOrEqual", "Greater": "Greater", "Less": "Less"}  # fmt: skip
OPERATIONS: dict[str, Callable[[Writer, Call], Value]] = {
    **dict.fromkeys(("Dropout", "SpatialDropout2D", "GaussianNoise", "GaussianDropout", "Identity"), _same),
    **dict.fromkeys(("Conv2D", "DepthwiseConv2D"), windows.conv),
    **dict.fromkeys(("Add",), _binary("Add")),
    **dict.fromkeys(("Divide", "TrueDivide"), _binary("Div")),
    **dict.fromkeys(("Flatten", "Reshape", "ExpandDims", "Squeeze"), _reshape),
    **dict.fromkeys(("Permute", "Transpose"), _transpose),
    **dict.fromkeys(("LeakyReLU", "LeakyRelu"), _leaky),
    **dict.fromkeys(("ReLU", "Relu"), _relu),
    "SeparableConv2D": windows.separable,
    "Conv2DTranspose": windows.conv_transpose,
    "Dense": _dense,
    "BatchNormalization": _batch_norm,
    "LayerNormalization": _layer_norm,
    "PReLU": _prelu,
    "Activation": _activation,
    "Softmax": _softmax,
    "AveragePooling2D": windows.pool("AveragePool"),
    "MaxPooling2D": windows.pool("MaxPool"),
    "GlobalAveragePooling2D": windows.global_pool("ReduceMean"),
    "GlobalMaxPooling2D": windows.global_pool("ReduceMax"),
    "UpSampling2D": windows.upsample,
    "ZeroPadding2D": _pad,
    "Cropping2D": _crop,
    "Rescaling": _rescale,
    "Concatenate": _concatenate,
    "GetItem": _get_item,
    "Clip": _clip,
    "Square": _square,
    "Rsqrt": _rsqrt,
    "Repeat": _repeat,
    "Cast": _cast,
    **{name: _unary(kind) for name, kind in _ONE.items()},
    **{name: _binary(kind) for name, kind in _TWO.items()},
    **{name: _reduce(f"Reduce{name}") for name in ("Mean", "Max", "Min", "Sum")},
}
