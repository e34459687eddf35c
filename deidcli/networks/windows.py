"""Convolutions, poolings and upsampling of Keras, written as ONNX operators."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from deidcli.errors import PresetError
from deidcli.networks.graph_values import Call, Value, array

if TYPE_CHECKING:
    from deidcli.networks.export import Writer


def _window(size: int, kernel: int, stride: int, padding: str, dilation: int = 1) -> tuple[int, int]:
    """How many rows "same" adds before and after, as TensorFlow does it."""
    reach = (kernel - 1) * dilation + 1
    missing = max((math.ceil(size / stride) - 1) * stride + reach - size, 0) if padding == "same" else 0
    return missing // 2, missing - missing // 2


def _pads(shape: Sequence[int], kernel: Sequence[int], layer: Any, dilation: Sequence[int] = (1, 1)) -> list[int]:
    each = [_window(shape[i], kernel[i], layer.strides[i], layer.padding, dilation[i]) for i in range(2)]
    return [before for before, _ in each] + [after for _, after in each]


def conv(to: Writer, call: Call) -> Value:
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


def separable(to: Writer, call: Call) -> Value:
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


def conv_transpose(to: Writer, call: Call) -> Value:
    """Conv2DTranspose."""
    layer, value = call.of, to.first(call.values[0])
    if any(rate != 1 for rate in layer.dilation_rate) or layer.output_padding is not None:
        raise PresetError(f"{layer.name}: dilation and output padding are not written", "add them")
    names = [to.constant(array(layer.kernel), [3, 2, 0, 1])]
    names += [to.constant(array(layer.bias))] if layer.use_bias else []
    sizes = {"kernel_shape": list(layer.kernel_size), "strides": list(layer.strides)}
    pads = _pads(call.shape, layer.kernel_size, layer)
    return Value(to.node("ConvTranspose", value.name, *names, **sizes, pads=pads), call.shape, True)


def pool(kind: str) -> Callable[[Writer, Call], Value]:
    """MaxPooling2D or AveragePooling2D, by the ONNX operator `kind`."""

    def write(to: Writer, call: Call) -> Value:
        layer, value = call.of, to.first(call.values[0])
        sizes = {"kernel_shape": list(layer.pool_size), "strides": list(layer.strides)}
        made = to.node(kind, value.name, **sizes, pads=_pads(value.shape, layer.pool_size, layer))
        return Value(made, call.shape, True)

    return write


def global_pool(kind: str) -> Callable[[Writer, Call], Value]:
    """A pooling over all rows and columns, by the ONNX operator `kind`."""

    def write(to: Writer, call: Call) -> Value:
        value = to.first(call.values[0])
        made = to.node(kind, value.name, axes=[2, 3], keepdims=int(call.of.keepdims))
        return Value(made, call.shape, bool(call.of.keepdims))

    return write


def upsample(to: Writer, call: Call) -> Value:
    """UpSampling2D."""
    layer, value = call.of, to.first(call.values[0])
    scales = to.constant(np.array([1, 1, *layer.size], np.float32))
    said = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    if layer.interpolation == "bilinear":
        said = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
    elif layer.interpolation != "nearest":
        raise PresetError(f"{layer.name}: {layer.interpolation} is not written", "add it to networks/operators.py")
    return Value(to.node("Resize", value.name, "", scales, **said), call.shape, True)
