"""Operators with weights: convolutions and matrix products, how they pack, and the pointers and zeros beside it.

From src/operators/*.c of XNNPACK 75db3c0 (2026-08-21).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from peakmem.engines.xnnpack.configs import EXTRA, MULTIPLY_ADD, Gemm, depthwise, few_columns, height
from peakmem.engines.xnnpack.products import fits_in_cache, packed_rows
from peakmem.engines.xnnpack.sizes import (
    COMPUTE,
    CONVOLUTION,
    DWCONV,
    GEMM,
    GEMM_KERNELS,
    IGEMM,
    IGEMM_KERNELS,
    OPERATOR,
    PARAMETERS,
    POINTER,
    SUBCONVOLUTION,
    Held,
    NoRule,
    Where,
    width,
)
from peakmem.engines.xnnpack.subgraph import Window
from peakmem.engines.xnnpack.work import Call


def _types(call: Call, where: Where) -> tuple[str, str, str]:
    """Datatypes of the image, as the operator takes it, of weights and of the result."""
    values = where.work.values
    image = call.assumed or values[call.inputs[0]].value.datatype
    return image, values[call.inputs[1]].value.datatype, values[call.outputs[0]].value.datatype


@dataclass(frozen=True, slots=True)
class Weights:
    """How a kind of product stores its weights."""

    kind: str
    bits: int
    bias: int = 4
    extra: int = 0


WEIGHTS: Mapping[tuple[str, str, str], Weights] = {
    ("fp32", "fp32", "fp32"): Weights("f32", 32),
    ("fp32", "fp16", "fp32"): Weights("f32", 32),
    ("fp16", "fp16", "fp16"): Weights("f16", 16, bias=2),
    ("fp16", "fp32", "fp16"): Weights("f16", 16, bias=2),
    ("bf16", "bf16", "fp32"): Weights("bf16-f32", 16),
    ("fp32", "qcint8", "fp32"): Weights("f32-qc8w", 8, extra=4),
    ("fp32", "qcint4", "fp32"): Weights("f32-qc4w", 4, extra=4),
    ("qdint8", "qcint8", "fp32"): Weights("qd8-f32-qc8w", 8, extra=8),
    ("qduint8", "qcint8", "fp32"): Weights("qdu8-f32-qc8w", 8, extra=8),
    ("qdint8", "qcint4", "fp32"): Weights("qd8-f32-qc4w", 4, extra=8),
    ("qduint8", "qcint4", "fp32"): Weights("qdu8-f32-qc4w", 4, extra=8),
    ("qdint8", "qbint4", "fp32"): Weights("qd8-f32-qb4w", 4, extra=4),
    ("qduint8", "qbint4", "fp32"): Weights("qdu8-f32-qb4w", 4, extra=4),
    ("qdint8", "qcint8", "fp16"): Weights("qd8-f16-qc8w", 8, extra=8),
    ("qduint8", "qcint8", "fp16"): Weights("qdu8-f16-qc8w", 8, extra=8),
    ("qint8", "qint8", "qint8"): Weights("qs8-qc8w", 8, extra=4),
    ("qint8", "qcint8", "qint8"): Weights("qs8-qc8w", 8, extra=4),
    ("qint8", "qcint4", "qint8"): Weights("qs8-qc4w", 4, extra=4),
    ("quint8", "quint8", "quint8"): Weights("qu8", 8),
}
# (image, weights, result)


def _weights(call: Call, where: Where) -> Weights:
    found = WEIGHTS.get(_types(call, where))
    if found is None:
        raise NoRule(f"a product of {' and '.join(_types(call, where)[:2])} to {_types(call, where)[2]}")
    return found


def _unpacked(call: Call, where: Where) -> int:
    """Weights in fp16 are widened for a product in fp32 before they are packed, bias as well."""
    image, _, _ = _types(call, where)
    tensors = [where.work.values[at] for at in call.inputs[1:]]
    return sum(4 * one.count for one in tensors if image == "fp32" and one.value.datatype == "fp16")


def convolution(call: Call, where: Where) -> Held:
    """convolution-nhwc.c: by kernel position, depthwise, or as a scale for each channel."""
    window = call.node.window or Window()
    weights = _weights(call, where)
    image, out = where.work.values[call.inputs[0]], where.work.values[call.outputs[0]]
    groups, inner, outer = window.groups, window.group_input_channels, window.group_output_channels
    if call.type == "depthwise_convolution_2d":
        groups, inner, outer = window.group_input_channels, 1, window.depth_multiplier
    size = math.prod(window.kernel)
    padded = any(window.padding) or ("tensorflow same padding" in call.node.flags and size != 1)
    held = Held(OPERATOR + 3 * COMPUTE + CONVOLUTION + IGEMM_KERNELS, transient=_unpacked(call, where))
    out_high, out_wide = out.value.shape[1:3]
    element = weights.bits // 8
    single = inner == outer == 1
    plain = size == 1 and window.stride == (1, 1) and not any(window.padding)
    if single and plain and weights.kind in MULTIPLY_ADD:
        channels = -(-groups // MULTIPLY_ADD[weights.kind]) * MULTIPLY_ADD[weights.kind]
        held.packed = where.up((element + weights.bias) * channels)
        return held
    tile = depthwise(weights.kind, size, where.processor) if single else None
    if tile is not None:
        positions, channels = tile
        wide = -(-groups // channels) * channels
        held.objects += DWCONV
        held.packed = where.up((positions * element + weights.bias + weights.extra) * wide)
        zeros = EXTRA + wide * width(image)
        step = min(window.stride[1], window.kernel[1]) if window.dilation[1] == 1 else window.kernel[1]
        row = size + (out_wide - 1) * step * window.kernel[0]
        pointers = where.up((out_high * row + positions - size) * POINTER)
    else:
        kernel = _indirect_kernel(weights, outer, where)
        depth = -(-inner // (kernel.kr * kernel.sr)) * kernel.kr * kernel.sr
        columns = -(-outer // kernel.nr) * kernel.nr
        held.objects += IGEMM
        held.packed = where.up((size * depth * element + weights.bias + weights.extra) * columns * groups)
        zeros = EXTRA + depth * width(image)
        rows = height(kernel, out_high * out_wide, kernel.rows)
        pointers = -(-out_high * out_wide // rows) * rows * size * POINTER
    held.buffers = zeros if padded else 0
    if where.transient_indirection:
        held.workspace = pointers
    else:
        held.indirection = pointers
    if weights.kind.startswith("qd"):
        # a row of zeros for each image of a batch, whose zero points differ
        batch = image.value.shape[0]
        held.late = POINTER * batch + (batch - 1) * zeros * padded
    return held


def _indirect_kernel(weights: Weights, columns: int, where: Where) -> Gemm:
    if weights.kind == "f32":
        kernel = where.kernel("f32 igemm")
        return where.kernel("f32 nr2") if kernel.nr > columns and where.processor.architecture == "x86_64" else kernel
    return where.kernel(_indirect_name(weights))


def deconvolution(call: Call, where: Where) -> Held:
    """deconvolution-nhwc.c: with a stride, one small convolution for each position in it."""
    window = call.node.window or Window()
    weights = _weights(call, where)
    image, out = where.work.values[call.inputs[0]], where.work.values[call.outputs[0]]
    kernel = where.kernel("f32 igemm" if weights.kind == "f32" else _indirect_name(weights))
    if weights.kind == "f32" and kernel.nr > window.group_output_channels and where.processor.architecture == "x86_64":
        kernel = where.kernel("f32 nr2")
    depth = -(-window.group_input_channels // (kernel.kr * kernel.sr)) * kernel.kr * kernel.sr
    columns = -(-window.group_output_channels // kernel.nr) * kernel.nr
    size = math.prod(window.kernel)
    batch = out.value.shape[0]
    out_high, out_wide = out.value.shape[1:3]
    held = Held(OPERATOR + 3 * COMPUTE + CONVOLUTION + IGEMM_KERNELS, transient=_unpacked(call, where))
    tail = weights.bias + weights.extra
    parts = 1
    if (
        max(window.stride) > 1
        and max(window.dilation) == 1
        and window.stride[0] <= window.kernel[0]
        and window.stride[1] <= window.kernel[1]
    ):
        parts = math.prod(window.stride)
        held.objects += SUBCONVOLUTION * parts
        rows = height(kernel, batch, kernel.rows)
        positions = -(-out_wide // window.stride[1])
        wide = -(-positions // rows) * rows
        held.indirection = size * out_high * window.stride[1] * wide * POINTER
    else:
        held.objects += IGEMM
        rows = height(kernel, out_high * out_wide, kernel.rows)
        held.indirection = size * -(-out_high * out_wide // rows) * rows * POINTER
    element = weights.bits // 8
    held.packed = where.up(columns * (size * depth * element + tail * parts) * window.groups)
    held.buffers = depth * width(image) + EXTRA
    if weights.kind.startswith("qd"):
        held.late = POINTER * image.value.shape[0] + (image.value.shape[0] - 1) * held.buffers
    return held


def _indirect_name(weights: Weights) -> str:
    return f"{weights.kind} igemm" if weights.kind == "qdu8-f32-qc8w" else weights.kind


def _direct_kernel(weights: Weights, columns: int, where: Where) -> Gemm:
    if weights.kind == "f32":
        kernel, narrow = where.kernel("f32 gemm"), where.kernel("f32 nr2")
        return narrow if few_columns(kernel.nr, narrow.nr, columns) else kernel
    return where.kernel(f"{weights.kind} gemm" if weights.kind == "qdu8-f32-qc8w" else weights.kind)


def stride_of(weights: Weights, kernel: Gemm, depth: int, block: int = 0) -> int:
    """Bytes of a packed column: its weights, padded, bias and scales (weights_stride)."""
    group = kernel.kr * kernel.sr
    if weights.bits < 8:
        group *= kernel.planes
        depth = -(-depth // kernel.planes) * kernel.planes
    padded = -(-depth // group) * group
    scales = depth // block * 2 if block else 0
    return -(-padded * weights.bits // 8) + weights.bias + weights.extra + scales


def fully_connected(call: Call, where: Where) -> Held:
    """fully-connected-nc.c; with weights that are no constants dynamic-fully-connected-nc.c."""
    weights = _weights(call, where)
    filters, image = where.work.values[call.inputs[1]], where.work.values[call.inputs[0]]
    shape = filters.value.shape
    columns, depth = (
        (shape[1], shape[0]) if "transpose weights" in call.node.flags else (shape[0], math.prod(shape[1:]))
    )
    kernel = _direct_kernel(weights, columns, where)
    stride = stride_of(weights, kernel, depth, filters.value.block)
    nbytes = -(-columns // kernel.nr) * kernel.nr * stride
    rows = image.count // depth if depth else 0
    if not filters.value.static or any(not where.work.values[at].value.static for at in call.inputs[2:]):
        held = Held(OPERATOR + 2 * COMPUTE + GEMM_KERNELS + GEMM + PARAMETERS)
        held.workspace = nbytes
        return held
    held = Held(OPERATOR + 2 * COMPUTE + CONVOLUTION + GEMM_KERNELS + GEMM, transient=_unpacked(call, where))
    held.packed = where.up(nbytes)
    if weights.kind == "qs8-qc8w" and filters.value.datatype == "qcint8":
        held.transient += 4 * columns
    if call.assumed is not None:
        held.workspace = _quantised_rows(kernel, rows, depth, columns, stride, where)
    return held


def _quantised_rows(kernel: Gemm, rows: int, depth: int, columns: int, stride: int, where: Where) -> int:
    """Rows that a product quantises by itself: a tile for each thread, or all of them."""
    tile = 1 if rows == 1 else kernel.height
    own = packed_rows(tile, depth, tile if rows == 1 else kernel.height, kernel.kr * kernel.sr)
    fits = fits_in_cache(min(kernel.height, rows), columns, -(-own // tile), stride, 4, where.processor.l2_bytes)
    if not fits or where.threads * tile > -(-rows // tile) * tile:
        return packed_rows(rows, depth, tile, kernel.kr * kernel.sr)
    return where.threads * own


def batch_product(call: Call, where: Where) -> Held:
    """batch-matrix-multiply-nc.c: constants are packed once, other right sides in the workspace at every run."""
    weights = _weights(call, where)
    left, right = where.work.values[call.inputs[0]], where.work.values[call.inputs[1]]
    shape = right.value.shape
    turned = "transpose weights" in call.node.flags
    columns, depth = (shape[-2], shape[-1]) if turned else (shape[-1], shape[-2])
    kernel = where.kernel("f32 gemm") if weights.kind == "f32" else _direct_kernel(weights, columns, where)
    if weights.kind == "f32":
        narrow = where.kernel("f32 nr2")
        kernel = narrow if kernel.nr > columns and where.processor.architecture == "x86_64" else kernel
    stride = stride_of(weights, kernel, depth)
    batch = math.prod(shape[:-2])
    nbytes = batch * -(-columns // kernel.nr) * kernel.nr * stride
    held = Held(OPERATOR + 3 * COMPUTE + GEMM_KERNELS + GEMM)
    if right.value.static:
        held.packed = where.up(nbytes)
    else:
        held.workspace = nbytes
        held.objects += PARAMETERS if weights.bits == 8 else 0
    if call.assumed is not None:
        rows = left.value.shape[-2]
        batches = math.prod(left.value.shape[:-2])
        one = packed_rows(rows, depth, 1 if rows == 1 else kernel.height, kernel.kr * kernel.sr)
        tile = 1 if rows == 1 else kernel.height
        own = packed_rows(tile, depth, tile, kernel.kr * kernel.sr)
        fits = fits_in_cache(min(kernel.height, rows), columns, -(-own // tile), stride, 4, where.processor.l2_bytes)
        result = math.prod(where.work.values[call.outputs[0]].value.shape[:-2])
        before = where.up(held.workspace)
        if batches < result or not fits or where.threads * tile > -(-batches // tile) * tile:
            held.workspace = before + batches * one
        else:
            held.workspace = before + where.threads * own
    return held
