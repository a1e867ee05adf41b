"""Convolutions, products, attention, recurrent layers, poolings and norms."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from peakmem.training.saved import movement, norms, products, recurrent, windows
from peakmem.training.saved.eager import Dims, Value
from peakmem.training.saved.rules.call import Call, rule, same, unknown


@rule(
    "Conv",
    "ConvTranspose",
    "com.microsoft:FusedConv",
    "DeformConv",
    "tflite:TRANSPOSE_CONV",
    "tflite:CONV_3D_TRANSPOSE",
)
def _conv(call: Call) -> Sequence[Value | None]:
    places = {"tflite:TRANSPOSE_CONV": (2, 1, 3), "tflite:CONV_3D_TRANSPOSE": (2, 1, 3)}.get(call.kind, (0, 1, 2))
    x, weight, bias = call.product(*(call.maybe(at) for at in places))
    assert x is not None
    assert weight is not None
    return [windows.convolution(call.e, x, weight, bias, call.shape(), _window(call, len(x.shape) - 2))]


def _window(call: Call, rank: int) -> windows.Window:
    """Strides, pads and groups as the operator has them; unequal pads as their larger side."""

    def of(name: str, default: int) -> Dims:
        found = call.attribute(name)
        return tuple(map(int, found)) if isinstance(found, list | tuple) else (default,) * rank

    pads = of("pads", 0)
    both = tuple(map(max, pads[:rank], pads[rank:])) if len(pads) == 2 * rank else (0,) * rank
    return windows.Window(
        of("strides", 1), both, of("dilations", 1), call.kind == "ConvTranspose", of("output_padding", 0),
        int(call.attribute("group", 1)),
    )  # fmt: skip


@rule("Gemm", "torch:linear", "keras:Dense", "aten:linear")
def _gemm(call: Call) -> Sequence[Value | None]:
    x, weight, bias = call.product(call.x(), call.x(1), call.maybe(2))
    assert x is not None
    assert weight is not None
    if call.attribute("transA"):
        x = movement.permute(call.e, x, (1, 0))
    if len(x.shape) > 2 and prod(call.shape()[:-1]) == x.shape[0]:
        x = movement.reshape(call.e, x, (x.shape[0], prod(x.shape[1:])))
    first = weight.shape[0] == call.shape()[-1] and weight.shape[-1] == x.shape[-1]
    y = products.linear(call.e, x, weight, bias, rows_first=first, module=call.native != "peakmem:Conv1D")
    return [movement.reshape(call.e, y, call.shape())]


@rule("MatMul", "com.microsoft:FusedMatMul")
def _matmul(call: Call) -> Sequence[Value | None]:
    a, b = call.product(call.x(), call.x(1))
    assert a is not None
    assert b is not None
    return [products.matmul(call.e, a, b)]


@rule("aten:addmm")
def _addmm(call: Call) -> Sequence[Value | None]:
    bias, x, matrix = call.product(call.maybe(0), call.x(1), call.x(2))
    assert x is not None
    assert matrix is not None
    return [products.addmm(call.e, x, matrix, bias)]


@rule("torch:attention", "Attention", "aten:scaled_dot_product_attention")
def _attention(call: Call) -> Sequence[Value | None]:
    query, key, value, mask = call.product(call.x(), call.x(1), call.x(2), call.maybe(3))
    assert query is not None
    assert key is not None
    assert value is not None
    if call.attribute("turned"):
        key = movement.permute(call.e, key, (0, 1, 3, 2))
    if len(query.shape) != 4:
        return unknown(call)
    return [products.attention(call.e, query, key, value, mask)]


@rule("peakmem:Scores")
def _scores(call: Call) -> Sequence[Value | None]:
    query, key = call.product(call.x(), call.x(1))
    assert query is not None
    assert key is not None
    rank = len(key.shape)
    return [products.matmul(call.e, query, movement.permute(call.e, key, (*range(rank - 2), rank - 1, rank - 2)))]


@rule("LSTM", "GRU", "RNN")
def _recurrent(call: Call) -> Sequence[Value | None]:
    return recurrent.layer(call)


@rule("MaxPool", "GlobalMaxPool")
def _max_pool(call: Call) -> Sequence[Value | None]:
    x = call.x()
    return [windows.max_pool(call.e, x, call.shape(), len(x.shape) - 2), *[None] * (len(call.operator.outputs) - 1)]


@rule("AveragePool", "ncnn:Pooling", "ncnn:Pooling1D", "mnn:Pooling", "aten:adaptive_avg_pool2d")
def _average_pool(call: Call) -> Sequence[Value | None]:
    x = call.x()
    if call.kind.startswith("aten") and prod(call.shape()[2:]) == 1:
        return [movement.mean(call.e, x, call.shape())]
    if call.kind.startswith("ncnn") and call.attribute("pooling_type", 0) == 0:
        return [windows.max_pool(call.e, x, call.shape(), max(len(x.shape) - 2, 1))]
    return [windows.average_pool(call.e, x, call.shape(), max(len(x.shape) - 2, 1))]


@rule("GlobalAveragePool", "ReduceMean", "aten:mean", "tflite:MEAN", "keras:Mean")
def _mean(call: Call) -> Sequence[Value | None]:
    return [movement.mean(call.e, call.x(), call.shape())]


@rule("ReduceSum", "aten:sum", "tflite:SUM", "keras:Sum")
def _sum(call: Call) -> Sequence[Value | None]:
    return [movement.mean(call.e, call.wide(call.x(), "sum"), call.shape(), name="aten::sum")]


@rule(
    "Resize",
    "Upsample",
    "tflite:RESIZE_BILINEAR",
    "tflite:RESIZE_NEAREST_NEIGHBOR",
    "ncnn:Interp",
    "keras:UpSampling2D",
)
def _resize(call: Call) -> Sequence[Value | None]:
    mode = str(call.attribute("mode", "nearest")).strip("b'")
    form = "bilinear" if "linear" in mode or "BILINEAR" in call.kind else "bicubic" if "cubic" in mode else "nearest"
    return [windows.resize(call.e, call.x(), call.shape(), f"aten::upsample_{form}{len(call.shape()) - 2}d")]


@rule("Pad", "tflite:PAD", "tflite:PADV2", "tflite:MIRROR_PAD", "ncnn:Padding")
def _pad(call: Call) -> Sequence[Value | None]:
    if call.shape() == call.x().shape:
        return [same(call.x())]
    mode = "reflect" if call.kind == "tflite:MIRROR_PAD" else str(call.attribute("mode", "constant")).strip("b'")
    return [windows.pad(call.e, call.x(), call.shape(), mode)]


@rule("BatchNormalization", "ncnn:BatchNorm")
def _batch_norm(call: Call) -> Sequence[Value | None]:
    weight = call.maybe(1)
    channels = weight.count if weight is not None else call.x().shape[1]
    y = norms.batch_norm(call.e, call.x(), weight, call.maybe(2), channels)
    return [y, *[None] * (len(call.operator.outputs) - 1)]


@rule("LayerNormalization")
def _layer_norm(call: Call) -> Sequence[Value | None]:
    x, weight = call.wide(call.x(), "layer_norm"), call.maybe(1)
    axis = call.attribute("axis", -1)
    axes = -axis if axis < 0 else len(x.shape) - axis
    y = norms.layer_norm(call.e, x, weight, call.maybe(2), axes)
    return [y, *[None] * (len(call.operator.outputs) - 1)]


@rule("RMSNormalization", "SimplifiedLayerNormalization", "com.microsoft:SimplifiedLayerNormalization")
def _rms_norm(call: Call) -> Sequence[Value | None]:
    y = norms.rms_norm(call.e, call.x(), call.maybe(1), written=call.graph.format == "hf_config")
    return [y, *[None] * (len(call.operator.outputs) - 1)]


@rule("GroupNormalization")
def _group_norm(call: Call) -> Sequence[Value | None]:
    groups = call.attribute("num_groups") or call.attribute("groups") or call.attribute("group") or 1
    return [norms.group_norm(call.e, call.wide(call.x(), "group_norm"), call.maybe(1), call.maybe(2), groups)]


@rule("InstanceNormalization")
def _instance_norm(call: Call) -> Sequence[Value | None]:
    return [norms.instance_norm(call.e, call.x(), call.maybe(1), call.maybe(2))]


@rule("LRN", "ncnn:LRN", "tflite:LOCAL_RESPONSE_NORMALIZATION")
def _local_response(call: Call) -> Sequence[Value | None]:
    if len(call.x().shape) != 4:
        return unknown(call)
    return [norms.local_response(call.e, call.x(), call.attribute("size", 5))]
