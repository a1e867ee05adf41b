"""Layers that slide a window over space, and those that pad, crop and enlarge it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from peakmem.frontends.keras.graph import LayerCall
from peakmem.frontends.keras.layers.registry import layer

PADS: Mapping[str, str] = {"same": "SAME_UPPER", "valid": "VALID", "causal": "SAME_LOWER"}
# Keras "same" pads the odd row at the end; "causal" pads in front alone and gives the same size


def spatial_rank(name: str) -> int:
    """The 2 of Conv2D."""
    return next(int(letter) for letter in reversed(name) if letter.isdigit())


def sliding(call: LayerCall, kernel: tuple[int, ...]) -> dict[str, Any]:
    """The attributes that all sliding windows share."""
    padding = call.settings.word("padding", "valid").lower()
    if padding not in PADS:
        raise call.settings.error(f"padding is {padding[:40]!r}", "same, valid or causal")
    return {
        "kernel_shape": kernel,
        "auto_pad": PADS[padding],
        "padding": padding,
        "data_format": "channels_first" if call.channels_first else "channels_last",
    }


def _prepared(call: LayerCall, rank: int) -> tuple[str, int]:
    """The input in the compute dtype, and its channels."""
    found = call.rank(least=rank + 2)
    if found != rank + 2:
        raise call.settings.error(f"its input has rank {found}", f"{rank + 2}")
    return call.cast(call.inputs[0]), call.dim(call.channels_axis)


@layer("Conv1D", "Conv2D", "Conv3D", "Convolution1D", "Convolution2D", "Convolution3D")
def conv(call: LayerCall) -> str:
    rank = spatial_rank(call.op_type)
    x, inside = _prepared(call, rank)
    kernel, filters = call.settings.window("kernel_size", rank), call.settings.whole("filters")
    group = call.settings.whole("groups", 1)
    if inside % group or filters % group:
        raise call.settings.error(f"{inside} and {filters} channels do not split into {group} groups")
    inputs = [x, call.weight("kernel", (*kernel, inside // group, filters))]
    if call.settings.flag("use_bias", True):
        inputs.append(call.weight("bias", (filters,)))
    out = call.op(
        f"Conv{rank}D", inputs, strides=call.settings.window("strides", rank, 1),
        dilations=call.settings.window("dilation_rate", rank, 1), group=group, **sliding(call, kernel),
    )  # fmt: skip
    return call.activated(out)


@layer("DepthwiseConv1D", "DepthwiseConv2D")
def depthwise_conv(call: LayerCall) -> str:
    rank = spatial_rank(call.op_type)
    x, inside = _prepared(call, rank)
    kernel, many = call.settings.window("kernel_size", rank), call.settings.whole("depth_multiplier", 1)
    inputs = [x, call.weight("kernel", (*kernel, inside, many))]
    if call.settings.flag("use_bias", True):
        inputs.append(call.weight("bias", (inside * many,)))
    out = call.op(
        call.op_type, inputs, strides=call.settings.window("strides", rank, 1),
        dilations=call.settings.window("dilation_rate", rank, 1), **sliding(call, kernel),
    )  # fmt: skip
    return call.activated(out)


@layer("SeparableConv1D", "SeparableConv2D", "SeparableConvolution1D", "SeparableConvolution2D")
def separable_conv(call: LayerCall) -> str:
    """A depthwise convolution, then a pointwise one: two operators, as every backend runs it."""
    rank = spatial_rank(call.op_type)
    x, inside = _prepared(call, rank)
    kernel, many = call.settings.window("kernel_size", rank), call.settings.whole("depth_multiplier", 1)
    filters = call.settings.whole("filters")
    common = sliding(call, kernel)
    deep = call.weight("depthwise_kernel", (*kernel, inside, many))
    point = call.weight("pointwise_kernel", (*(1,) * rank, inside * many, filters))
    between = call.op(
        f"DepthwiseConv{rank}D", [x, deep], part="depthwise", strides=call.settings.window("strides", rank, 1),
        dilations=call.settings.window("dilation_rate", rank, 1), **common,
    )  # fmt: skip
    inputs = [between, point]
    if call.settings.flag("use_bias", True):
        inputs.append(call.weight("bias", (filters,)))
    ones = (1,) * rank
    common.update(kernel_shape=ones, auto_pad="VALID", padding="valid")
    return call.activated(call.op(f"Conv{rank}D", inputs, part="pointwise", strides=ones, dilations=ones, **common))


@layer(
    "Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose",
    "Convolution1DTranspose", "Convolution2DTranspose", "Convolution3DTranspose",
)  # fmt: skip
def conv_transpose(call: LayerCall) -> str:
    rank = spatial_rank(call.op_type)
    x, inside = _prepared(call, rank)
    kernel, filters = call.settings.window("kernel_size", rank), call.settings.whole("filters")
    inputs = [x, call.weight("kernel", (*kernel, filters, inside))]
    if call.settings.flag("use_bias", True):
        inputs.append(call.weight("bias", (filters,)))
    extra = call.settings.window("output_padding", rank, least=0) if call.settings.has("output_padding") else None
    out = call.op(
        f"Conv{rank}DTranspose", inputs, strides=call.settings.window("strides", rank, 1),
        dilations=call.settings.window("dilation_rate", rank, 1), output_padding=extra, **sliding(call, kernel),
    )  # fmt: skip
    return call.activated(out)


@layer(
    "MaxPooling1D", "MaxPooling2D", "MaxPooling3D", "AveragePooling1D", "AveragePooling2D", "AveragePooling3D",
    "MaxPool1D", "MaxPool2D", "MaxPool3D", "AvgPool1D", "AvgPool2D", "AvgPool3D",
)  # fmt: skip
def pool(call: LayerCall) -> str:
    rank = spatial_rank(call.op_type)
    kernel = call.settings.window("pool_size", rank, 2)
    strides = call.settings.window("strides", rank) if call.settings.has("strides") else kernel
    name = ("Max" if call.op_type.startswith("Max") else "Average") + f"Pooling{rank}D"
    return call.op(name, [call.cast(call.inputs[0])], strides=strides, **sliding(call, kernel))


@layer(
    "GlobalMaxPooling1D", "GlobalMaxPooling2D", "GlobalMaxPooling3D", "GlobalAveragePooling1D",
    "GlobalAveragePooling2D", "GlobalAveragePooling3D", "GlobalMaxPool1D", "GlobalMaxPool2D", "GlobalMaxPool3D",
    "GlobalAvgPool1D", "GlobalAvgPool2D", "GlobalAvgPool3D",
)  # fmt: skip
def global_pool(call: LayerCall) -> str:
    name = ("GlobalMax" if "Max" in call.op_type else "GlobalAverage") + f"Pooling{spatial_rank(call.op_type)}D"
    return call.op(
        name, [call.cast(call.inputs[0])], keepdims=int(call.settings.flag("keepdims", False)),
        data_format="channels_first" if call.channels_first else "channels_last",
    )  # fmt: skip


@layer(
    "AdaptiveAveragePooling1D", "AdaptiveAveragePooling2D", "AdaptiveAveragePooling3D", "AdaptiveMaxPooling1D",
    "AdaptiveMaxPooling2D", "AdaptiveMaxPooling3D",
)  # fmt: skip
def adaptive_pool(call: LayerCall) -> str:
    return call.op(
        call.op_type, [call.cast(call.inputs[0])],
        output_size=call.settings.window("output_size", spatial_rank(call.op_type)),
        data_format="channels_first" if call.channels_first else "channels_last",
    )  # fmt: skip


@layer("ZeroPadding1D", "ZeroPadding2D", "ZeroPadding3D", "Cropping1D", "Cropping2D", "Cropping3D")
def pad(call: LayerCall) -> str:
    rank = spatial_rank(call.op_type)
    pairs = call.settings.pairs("padding" if call.op_type.startswith("Zero") else "cropping", rank)
    return call.op(
        call.op_type, call.inputs[:1], pads=(*(pair[0] for pair in pairs), *(pair[1] for pair in pairs)),
        data_format="channels_first" if call.channels_first else "channels_last",
    )  # fmt: skip


@layer("UpSampling1D", "UpSampling2D", "UpSampling3D")
def enlarge(call: LayerCall) -> str:
    return call.op(
        call.op_type, call.inputs[:1], size=call.settings.window("size", spatial_rank(call.op_type), 2),
        interpolation=call.settings.word("interpolation", "nearest"),
        data_format="channels_first" if call.channels_first else "channels_last",
    )  # fmt: skip
