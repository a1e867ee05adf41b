"""Shape rules of the StableHLO operators that a file may hold beside TensorFlow Lite's own.

Those whose result only the file's declaration tells (reshape, broadcast, iota) have no rule.
"""

from __future__ import annotations

from peakmem.ir.dims import Dim
from peakmem.ir.shapes.call import Call, Specs, rule
from peakmem.ir.shapes.tflite.elementwise import names


@rule(
    *names(
        "STABLEHLO_ABS STABLEHLO_ADD STABLEHLO_AND STABLEHLO_CBRT STABLEHLO_COMPARE STABLEHLO_CONVERT STABLEHLO_COSINE",
        "STABLEHLO_DIVIDE STABLEHLO_DYNAMIC_UPDATE_SLICE STABLEHLO_EXPONENTIAL STABLEHLO_FLOOR STABLEHLO_LOG",
        "STABLEHLO_LOGISTIC STABLEHLO_MAXIMUM STABLEHLO_MINIMUM STABLEHLO_MULTIPLY STABLEHLO_NEGATE STABLEHLO_OR",
        "STABLEHLO_POWER STABLEHLO_REMAINDER STABLEHLO_RSQRT STABLEHLO_SHIFT_LEFT STABLEHLO_SUBTRACT STABLEHLO_TANH",
        "STABLEHLO_SCATTER",
    )
)
def same(call: Call) -> Specs:
    return [(call.shape(), None)]


@rule("tflite:STABLEHLO_SELECT", "tflite:STABLEHLO_CLAMP")
def second(call: Call) -> Specs:
    return [(call.shape(1), None)]


@rule("tflite:STABLEHLO_SORT")
def sort(call: Call) -> Specs:
    return [(call.shape(position), None) for position in range(len(call.op.outputs))]


@rule("tflite:STABLEHLO_CONCATENATE")
def concatenate(call: Call) -> Specs:
    shapes = [call.shape(position) for position in range(len(call.op.inputs))]
    at = call.axis(call.attr("dimension", 0), len(shapes[0]))
    total: Dim = 0
    for shape in shapes:
        total = total + shape[at]
    return [((*shapes[0][:at], total, *shapes[0][at + 1 :]), None)]


@rule("tflite:STABLEHLO_TRANSPOSE")
def transpose(call: Call) -> Specs:
    given = call.shape()
    return [(tuple(given[call.axis(axis, len(given))] for axis in call.attr("permutation", ())), None)]


@rule("tflite:STABLEHLO_SLICE")
def slice_(call: Call) -> Specs:
    bounds = zip(call.attr("start_indices"), call.attr("limit_indices"), call.attr("strides"), strict=True)
    return [(tuple(-((start - limit) // step) for start, limit, step in bounds), None)]


@rule("tflite:STABLEHLO_DYNAMIC_SLICE")
def dynamic_slice(call: Call) -> Specs:
    return [(tuple(call.attr("slice_sizes")), None)]


@rule("tflite:STABLEHLO_PAD")
def pad(call: Call) -> Specs:
    low, high, inner = (call.attr(f"{name}_padding{end}") for name, end in _PADDINGS)
    dims: list[Dim] = []
    for size, before, after, between in zip(call.shape(), low, high, inner, strict=True):
        gaps = (size - 1) * between if between else 0
        dims.append(size + gaps + (before + after))
    return [(tuple(dims), None)]


_PADDINGS = (("edge", "_low"), ("edge", "_high"), ("interior", ""))


@rule("tflite:STABLEHLO_REDUCE")
def reduce(call: Call) -> Specs:
    gone = set(call.attr("dimensions", ()))
    count = len(call.op.outputs)
    return [
        (tuple(dim for axis, dim in enumerate(call.shape(position)) if axis not in gone), None)
        for position in range(count)
    ]


@rule("tflite:STABLEHLO_DOT_GENERAL")
def dot_general(call: Call) -> Specs:
    left, right = call.shape(0), call.shape(1)
    shared = call.attr("lhs_batching_dimensions", ())
    left_gone = {*shared, *call.attr("lhs_contracting_dimensions", ())}
    right_gone = {*call.attr("rhs_batching_dimensions", ()), *call.attr("rhs_contracting_dimensions", ())}
    return [
        (
            (
                *(left[axis] for axis in shared),
                *(dim for axis, dim in enumerate(left) if axis not in left_gone),
                *(dim for axis, dim in enumerate(right) if axis not in right_gone),
            ),
            None,
        )
    ]


@rule("tflite:STABLEHLO_GATHER")
def gather(call: Call) -> Specs:
    indices = call.shape(1)
    at = call.attr("index_vector_dim", 0)
    rows = [dim for axis, dim in enumerate(indices) if axis != at]
    collapsed = set(call.attr("collapsed_slice_dims", ()))
    sizes = [size for axis, size in enumerate(call.attr("slice_sizes")) if axis not in collapsed]
    offsets = set(call.attr("offset_dims", ()))
    return [
        (tuple(sizes.pop(0) if axis in offsets else rows.pop(0) for axis in range(len(rows) + len(sizes))), None)
    ]  # fmt: skip
