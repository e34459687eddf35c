"""A Keras network as a graph of ONNX operators, so that a processor runs it without Keras (`plan_of`).

Each kind of operation is written by one function, or one entry, as the operators that do the same. What is missing here
is added here: a function of the writer and of the call, in `_OPERATIONS` by the name of the class.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from deidcli.errors import PresetError
from deidcli.networks.backend import keras
from deidcli.networks.graph_writer import Call, Operation, Value, Writer, array, flat, layout
from deidcli.networks.graphs import Plan


def plan_of(model: keras.Model) -> Plan:
    """The graph of a network of one input, which is a float32 tensor. Raises PresetError for what cannot be written."""
    try:
        return Writer({kind: _with_activation(kind) for kind in _OPERATIONS}).plan(model)
    except (TypeError, ValueError, AttributeError, LookupError) as error:
        raise PresetError(f"{model.name} cannot be written as a graph: {error}", "see networks/export.py") from error


def _with_activation(kind: str) -> Operation:
    """The operation called `kind`, with the activation that a layer of that kind may carry."""

    def write(to: Writer, call: Call) -> Value:
        made = _OPERATIONS[kind](to, call)
        activation = getattr(call.of, "activation", None)
        return _activated(to, made, activation) if activation and kind != "Activation" else made

    return write


def _activated(to: Writer, value: Value, activation: Callable) -> Value:
    """The value after one of Keras' activations. Raises PresetError for one that is not known."""
    name = getattr(activation, "__name__", "")
    if name not in _ACTIVATIONS:
        raise PresetError(f"the activation {name} has no ONNX operator here", "add it to networks/export.py")
    kind, attributes = _ACTIVATIONS[name]
    value = to.last(value) if name == "softmax" else value
    return value if kind == "Identity" else Value(to.node(kind, value.name, **attributes), *layout(value))


def _same(to: Writer, call: Call) -> Value:
    return call.values[0]


def _unary(kind: str, **attributes: Any) -> Operation:
    def write(to: Writer, call: Call) -> Value:
        value = call.values[0]
        return Value(to.node(kind, value.name, **attributes), *layout(value))

    return write


def _binary(kind: str) -> Operation:
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
        raise PresetError(f"{layer.name}: it normalises other axes than the last", "add them to networks/export.py")
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
        raise PresetError(f"{layer.name}: a threshold is not written", "add it to networks/export.py")
    if getattr(layer, "max_value", None) is not None:
        made = to.node("Min", made, to.constant(float(layer.max_value)))
    return Value(made, *layout(value))


def _prelu(to: Writer, call: Call) -> Value:
    value = to.last(call.values[0])
    return Value(to.node("PRelu", value.name, to.constant(array(call.of.alpha))), value.shape)


def _activation(to: Writer, call: Call) -> Value:
    return _activated(to, call.values[0], call.of.activation)


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


def _reduce(kind: str) -> Operation:
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
            raise PresetError(f"the index {item!r} is not written", "add it to networks/export.py")
        if item != slice(None) and axis:
            start, end, step = item.indices(sizes[axis])
            if step < 0:
                raise PresetError("an index that runs backwards is not written", "add it to networks/export.py")
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
        raise PresetError("a repetition of more than one channel is not written", "add it to networks/export.py")
    return Value(to.node("Concat", *[value.name] * int(count), axis=-1), call.shape)


def _cast(to: Writer, call: Call) -> Value:
    value = call.values[0]
    return Value(to.node("Cast", value.name, to=1), *layout(value))


# --- convolutions, poolings, upsampling


def _window(size: int, kernel: int, stride: int, padding: str, dilation: int = 1) -> tuple[int, int]:
    """How many rows "same" adds before and after, as TensorFlow does it."""
    reach = (kernel - 1) * dilation + 1
    missing = max((math.ceil(size / stride) - 1) * stride + reach - size, 0) if padding == "same" else 0
    return missing // 2, missing - missing // 2


def _pads(shape: Sequence[int], kernel: Sequence[int], layer: Any, dilation: Sequence[int] = (1, 1)) -> list[int]:
    each = [_window(shape[i], kernel[i], layer.strides[i], layer.padding, dilation[i]) for i in range(2)]
    return [before for before, _ in each] + [after for _, after in each]


def _conv(to: Writer, call: Call) -> Value:
    """Conv2D and DepthwiseConv2D."""
    layer, value = call.of, to.first(call.values[0])
    depthwise = type(layer).__name__ == "DepthwiseConv2D"
    count = value.shape[-1]
    shape = (call.shape[-1], 1, *layer.kernel_size) if depthwise else ()
    kernel = to.constant(array(layer.kernel), [2, 3, 0, 1] if depthwise else [3, 2, 0, 1], shape)
    names = [kernel, to.constant(array(layer.bias))] if layer.use_bias else [kernel]
    said = {
        "kernel_shape": list(layer.kernel_size),
        "strides": list(layer.strides),
        "dilations": list(layer.dilation_rate),
        "pads": _pads(value.shape, layer.kernel_size, layer, layer.dilation_rate),
        "group": count if depthwise else int(layer.groups),
    }
    return Value(to.node("Conv", value.name, *names, **said), call.shape, True)


def _separable(to: Writer, call: Call) -> Value:
    """SeparableConv2D."""
    layer, value = call.of, to.first(call.values[0])
    count = value.shape[-1] * layer.depth_multiplier
    kernel = to.constant(array(layer.depthwise_kernel), [2, 3, 0, 1], (count, 1, *layer.kernel_size))
    sizes = {"kernel_shape": list(layer.kernel_size), "strides": list(layer.strides)}
    pads = _pads(value.shape, layer.kernel_size, layer, layer.dilation_rate)
    each = {"pads": pads, "dilations": list(layer.dilation_rate), "group": value.shape[-1]}
    made = to.node("Conv", value.name, kernel, **sizes, **each)
    names = [to.constant(array(layer.pointwise_kernel), [3, 2, 0, 1])]
    names += [to.constant(array(layer.bias))] if layer.use_bias else []
    return Value(to.node("Conv", made, *names, kernel_shape=[1, 1]), call.shape, True)


def _conv_transpose(to: Writer, call: Call) -> Value:
    """Conv2DTranspose."""
    layer, value = call.of, to.first(call.values[0])
    if any(rate != 1 for rate in layer.dilation_rate) or layer.output_padding is not None:
        raise PresetError(f"{layer.name}: dilation and output padding are not written", "add them")
    names = [to.constant(array(layer.kernel), [3, 2, 0, 1])]
    names += [to.constant(array(layer.bias))] if layer.use_bias else []
    sizes = {"kernel_shape": list(layer.kernel_size), "strides": list(layer.strides)}
    pads = _pads(call.shape, layer.kernel_size, layer)
    return Value(to.node("ConvTranspose", value.name, *names, **sizes, pads=pads), call.shape, True)


def _pool(kind: str) -> Operation:
    """MaxPooling2D or AveragePooling2D, by the ONNX operator `kind`."""

    def write(to: Writer, call: Call) -> Value:
        layer, value = call.of, to.first(call.values[0])
        sizes = {"kernel_shape": list(layer.pool_size), "strides": list(layer.strides)}
        made = to.node(kind, value.name, **sizes, pads=_pads(value.shape, layer.pool_size, layer))
        return Value(made, call.shape, True)

    return write


def _global_pool(kind: str) -> Operation:
    """A pooling over all rows and columns, by the ONNX operator `kind`."""

    def write(to: Writer, call: Call) -> Value:
        value = to.first(call.values[0])
        made = to.node(kind, value.name, axes=[2, 3], keepdims=int(call.of.keepdims))
        return Value(made, call.shape, bool(call.of.keepdims))

    return write


def _upsample(to: Writer, call: Call) -> Value:
    """UpSampling2D."""
    layer, value = call.of, to.first(call.values[0])
    scales = to.constant(np.array([1, 1, *layer.size], np.float32))
    said = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    if layer.interpolation == "bilinear":
        said = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
    elif layer.interpolation != "nearest":
        raise PresetError(f"{layer.name}: {layer.interpolation} is not written", "add it to networks/export.py")
    return Value(to.node("Resize", value.name, "", scales, **said), call.shape, True)


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
_OPERATIONS: dict[str, Operation] = {
    **dict.fromkeys(("Dropout", "SpatialDropout2D", "GaussianNoise", "GaussianDropout", "Identity"), _same),
    **dict.fromkeys(("Conv2D", "DepthwiseConv2D"), _conv),
    **dict.fromkeys(("Add",), _binary("Add")),
    **dict.fromkeys(("Divide", "TrueDivide"), _binary("Div")),
    **dict.fromkeys(("Flatten", "Reshape", "ExpandDims", "Squeeze"), _reshape),
    **dict.fromkeys(("Permute", "Transpose"), _transpose),
    **dict.fromkeys(("LeakyReLU", "LeakyRelu"), _leaky),
    **dict.fromkeys(("ReLU", "Relu"), _relu),
    "SeparableConv2D": _separable,
    "Conv2DTranspose": _conv_transpose,
    "Dense": _dense,
    "BatchNormalization": _batch_norm,
    "LayerNormalization": _layer_norm,
    "PReLU": _prelu,
    "Activation": _activation,
    "Softmax": _softmax,
    "AveragePooling2D": _pool("AveragePool"),
    "MaxPooling2D": _pool("MaxPool"),
    "GlobalAveragePooling2D": _global_pool("ReduceMean"),
    "GlobalMaxPooling2D": _global_pool("ReduceMax"),
    "UpSampling2D": _upsample,
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
