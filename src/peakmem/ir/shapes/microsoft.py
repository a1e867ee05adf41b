"""Shape rules of onnxruntime's other operators: fused layers (com.microsoft) and blocked layouts.

The blocked layout (com.microsoft.nchwc) holds channels in groups of 8 or 16, whichever the
machine that wrote the file preferred; a file does not say, so weights are asked where there are.
"""

from __future__ import annotations

from peakmem.dtypes import BOOL, FLOAT32
from peakmem.ir.dims import Dim, Shape
from peakmem.ir.shapes.call import Call, Specs, broadcast, ceil_div, rule
from peakmem.ir.shapes.products import matmul_shape
from peakmem.ir.shapes.windows import pool_shape, slide

SAME_AS_INPUT = (
    "BiasAdd", "BiasGelu", "BiasSoftmax", "BranchwiseRMSNorm", "FastGelu", "Gelu", "GroupNorm",
    "Inverse", "MoE", "QMoE", "QuickGelu", "ScaledSiLU", "Trilu",
)  # fmt: skip


@rule(*(f"com.microsoft:{op_type}" for op_type in SAME_AS_INPUT))
def same_as_input(call: Call) -> Specs:
    return [(call.shape(), call.dtype())]


@rule("com.microsoft:SkipGroupNorm")
def skip_group_norm(call: Call) -> Specs:
    return [(call.shape(), call.dtype())] * 2


@rule(
    "com.microsoft:SkipLayerNormalization", "com.microsoft:SkipSimplifiedLayerNormalization",
    "com.microsoft:SimplifiedLayerNormalization", "com.microsoft:LayerNormalization",
)  # fmt: skip
def skip_layer_norm(call: Call) -> Specs:
    shape, dtype = call.shape(), call.dtype()
    statistics: Shape = (*shape[:-1], 1)
    return [(shape, dtype), (statistics, FLOAT32), (statistics, FLOAT32), (shape, dtype)]


@rule("com.microsoft:NGramRepeatBlock")
def repeat_block(call: Call) -> Specs:
    return [(call.shape(1), call.dtype(1))]


@rule("com.microsoft:BiasDropout")
def bias_dropout(call: Call) -> Specs:
    return [(call.shape(), call.dtype()), (call.shape(), BOOL)]


@rule("com.microsoft:BiasSplitGelu")
def bias_split_gelu(call: Call) -> Specs:
    shape = call.shape()
    return [((*shape[:-1], shape[-1] // 2), call.dtype())]


@rule("com.microsoft:ComplexMul", "com.microsoft:ComplexMulConj")
def complex_multiply(call: Call) -> Specs:
    return [(broadcast(call, call.shape(0), call.shape(1)), call.dtype())]


@rule("com.microsoft:CDist")
def distances(call: Call) -> Specs:
    return [((call.shape(0)[0], call.shape(1)[0]), call.dtype())]


@rule("com.microsoft:TorchEmbedding")
def embedding(call: Call) -> Specs:
    return [((*call.shape(1), call.shape(0)[1]), call.dtype())]


@rule("com.microsoft:IsAllFinite")
def all_finite(_: Call) -> Specs:
    return [((), BOOL)]


@rule("com.microsoft:FusedMatMul", "com.microsoft:TransposeMatMul", "com.microsoft:FusedMatMulActivation")
def fused_matmul(call: Call) -> Specs:
    left, right = _transposed(call, 0, "A"), _transposed(call, 1, "B")
    return [(matmul_shape(call, left, right), call.dtype())]


def _transposed(call: Call, position: int, letter: str) -> Shape:
    """A factor as it is multiplied; transBatch moves its first axis next to the last."""
    shape = call.shape(position)
    if len(shape) < 2:
        return shape
    if call.attr(f"transBatch{letter}", 0):
        shape = (*shape[1:-1], shape[0], shape[-1])
    return (*shape[:-2], shape[-1], shape[-2]) if call.attr(f"trans{letter}", 0) else shape


# -- blocked layout ----------------------------------------------------------------------


@rule("com.microsoft.nchwc:ReorderInput")
def reorder_input(call: Call) -> Specs:
    image = call.shape()
    last = bool(call.attr("channels_last", 0))
    channels = image[-1] if last else image[1]
    wide, narrow = ceil_div(channels, 16) * 16, ceil_div(channels, 8) * 8
    blocked: Dim = wide if wide == narrow else call.unknown_dim(1)
    return [((image[0], blocked, *(image[1:-1] if last else image[2:])), call.dtype())]


@rule("com.microsoft.nchwc:ReorderOutput")
def reorder_output(call: Call) -> Specs:
    image, channels = call.shape(), call.attr("channels")
    if call.attr("channels_last", 0):
        return [((image[0], *image[2:], channels), call.dtype())]
    return [((image[0], channels, *image[2:]), call.dtype())]


@rule("com.microsoft.nchwc:Conv")
def blocked_conv(call: Call) -> Specs:
    image, weight = call.shape(0), call.shape(1)
    return [((image[0], weight[0], *slide(call, image[2:], weight[2:])), call.dtype())]


@rule("com.microsoft.nchwc:MaxPool", "com.microsoft.nchwc:AveragePool")
def blocked_pool(call: Call) -> Specs:
    return [(pool_shape(call), call.dtype())]


@rule("com.microsoft.nchwc:GlobalAveragePool", "com.microsoft.nchwc:GlobalMaxPool")
def blocked_global_pool(call: Call) -> Specs:
    image = call.shape()
    return [((*image[:2], *([1] * (len(image) - 2))), call.dtype())]


@rule("com.microsoft.nchwc:Upsample")
def blocked_upsample(call: Call) -> Specs:
    scales = call.attr("scales", (1,) * len(call.shape()))
    return [(tuple(dim * scale for dim, scale in zip(call.shape(), scales, strict=True)), call.dtype())]
