"""What an XNNPACK operator holds from its creation on, and what its first reshape adds.

From src/operators/*.c of XNNPACK 75db3c0 (2026-08-21). Those with weights stand in `weighted`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from peakmem.engines.xnnpack.configs import EXTRA
from peakmem.engines.xnnpack.sizes import (
    COMPUTE,
    CONVOLUTION,
    OPERATOR,
    PAD,
    PARAMETERS,
    POINTER,
    REDUCE,
    Held,
    NoRule,
    Where,
    width,
)
from peakmem.engines.xnnpack.subgraph import Window
from peakmem.engines.xnnpack.weighted import batch_product, convolution, deconvolution, fully_connected
from peakmem.engines.xnnpack.work import Call


def operator(call: Call, where: Where) -> Held:
    """What `call` holds.

    Raises:
        NoRule: the operator or its types have no rule.
    """
    rule = RULES.get(call.type)
    if rule is None:
        raise NoRule("the operator has no rule")
    return rule(call, where)


def _plain(steps: int = 1) -> Callable[[Call, Where], Held]:
    def rule(_call: Call, _where: Where) -> Held:
        return Held(OPERATOR + steps * COMPUTE)

    return rule


def _unary(call: Call, where: Where) -> Held:
    """unary-elementwise-nc.c: 8-bit functions without a kernel of their own become a table of 256."""
    held = Held(OPERATOR + 2 * COMPUTE)
    given, out = where.work.values[call.inputs[0]], where.work.values[call.outputs[0]]
    eight = given.value.datatype in ("qint8", "quint8") and out.value.datatype in ("qint8", "quint8")
    if call.node.operator == "lut" or (eight and call.node.operator not in ("clamp", "convert", "leaky_relu")):
        held.buffers = 256
    return held


def _copies(call: Call, where: Where) -> Held:
    """concatenate.c and even-split.c: a copy for each part that somebody reads."""
    read = [one for one in call.outputs if where.work.values[one].valid]
    parts = len(call.inputs) if call.type == "concatenate" else len(read)
    return Held(parts * (OPERATOR + 2 * COMPUTE))


def _binary(_call: Call, _where: Where) -> Held:
    return Held(OPERATOR + COMPUTE + PARAMETERS)


def _softmax(call: Call, where: Where) -> Held:
    held = Held()
    if where.work.values[call.inputs[0]].value.datatype == "quint8":
        held.buffers = 256 * 4
    return held


def _pad(_call: Call, _where: Where) -> Held:
    return Held(OPERATOR + COMPUTE + PAD)


def _resize(call: Call, where: Where) -> Held:
    """resize-bilinear-nhwc.c: four pointers and two weights for each pixel of the result."""
    given = where.work.values[call.inputs[0]]
    pixels = math.prod(call.node.shape or where.work.values[call.outputs[0]].value.shape[1:3])
    weights = pixels * 2 * (4 if given.value.datatype == "fp32" else 2)
    held = Held(OPERATOR + 2 * COMPUTE + CONVOLUTION)
    if where.transient_indirection:
        held.workspace = pixels * 4 * POINTER + -(-weights // POINTER) * POINTER
    else:
        held.indirection, held.late = pixels * 4 * POINTER, weights
    return held


def _reduce(call: Call, where: Where) -> Held:
    """reduce-nd.c: zeros for a row where the last dimension stays; sums of other types than fp32 in a workspace."""
    given = where.work.values[call.inputs[0]]
    held = Held(OPERATOR + COMPUTE + REDUCE + PARAMETERS)
    shape, axes = normalised(given.value.shape, call.node.axes)
    last = bool(axes) and axes[-1] == len(shape) - 1
    if not last:
        held.late = shape[-1] * width(given) + EXTRA if shape else 0
    if given.value.datatype != "fp32":
        count = math.prod(size for at, size in enumerate(shape) if at not in axes)
        held.workspace = count * 4 + EXTRA
    return held


def normalised(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[list[int], list[int]]:
    """Runs of dimensions that are summed, and runs that stay, each as one (xnn_normalize_reduction)."""
    chosen = {axis % max(len(shape), 1) for axis in axes}
    sizes: list[int] = []
    found: list[int] = []
    for at, size in enumerate(shape):
        if at and (at in chosen) == (at - 1 in chosen):
            sizes[-1] *= size
        else:
            if at in chosen:
                found.append(len(sizes))
            sizes.append(size)
    return sizes, found


def _pooling(call: Call, where: Where) -> Held:
    """max-pooling-nhwc.c, average-pooling-nhwc.c, whose middle rows share their pointers."""
    window = call.node.window or Window()
    given, out = where.work.values[call.inputs[0]], where.work.values[call.outputs[0]]
    _, high, _, channels = given.value.shape
    out_high, out_wide = out.value.shape[1:3]
    size = math.prod(window.kernel)
    dilated = window.dilation[1] > 1 and call.type == "max_pooling_2d"
    step = window.kernel[1] if dilated else min(window.stride[1], window.kernel[1])
    row = size + (out_wide - 1) * step * window.kernel[0]
    held = Held(OPERATOR + COMPUTE + CONVOLUTION)
    rows = out_high
    if call.type == "average_pooling_2d":
        same = "tensorflow same padding" in call.node.flags
        top, _, bottom, _ = window.padding
        if same:
            total = max((out_high - 1) * window.stride[0] + window.kernel[0] - high, 0)
            top, bottom = total // 2, total - total // 2
        rows = -(-top // window.stride[0]) + -(-bottom // window.stride[0]) + 1
        held.late = channels * width(given) + EXTRA
        if same or any(window.padding):
            held.late += out_high * out_wide * width(given)
    held.indirection = (rows * row + size - 1) * POINTER
    return held


RULES: Mapping[str, Callable[[Call, Where], Held]] = {
    "unary": _unary,
    "binary": _binary,
    "copy": _plain(2),
    "static_reshape": _plain(2),
    "static_expand_dims": _plain(2),
    "fuse_dims": _plain(2),
    "split_dims": _plain(2),
    "concatenate": _copies,
    "even_split": _copies,
    "static_transpose": _plain(),
    "static_slice": _plain(),
    "depth_to_space_2d": _plain(),
    "space_to_depth_2d": _plain(),
    "rope": _plain(),
    "softmax": _softmax,
    "static_constant_pad": _pad,
    "static_resize_bilinear_2d": _resize,
    "static_reduce": _reduce,
    "max_pooling_2d": _pooling,
    "average_pooling_2d": _pooling,
    "convolution_2d": convolution,
    "depthwise_convolution_2d": convolution,
    "deconvolution_2d": deconvolution,
    "fully_connected": fully_connected,
    "batch_matrix_multiply": batch_product,
}
