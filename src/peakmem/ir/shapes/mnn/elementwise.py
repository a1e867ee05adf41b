"""MNN operators that keep the shape, combine tensors element by element, reduce or multiply them.

source/shape of MNN 3.6.1: SizeComputer.cpp (an operator without a rule keeps the shape), ShapeBinaryOp.cpp,
ShapeReduction.cpp, ShapeMatMul.cpp, ShapeLSTM.cpp, ShapeCast.cpp.
"""

from __future__ import annotations

from collections.abc import Iterable

from peakmem import dtypes
from peakmem.dtypes import FLOAT32, INT32, DType
from peakmem.ir.dims import Dim
from peakmem.ir.shapes.call import Call, Specs, broadcast, rule

_DTYPES: dict[int, DType] = {
    1: FLOAT32, 2: dtypes.FLOAT64, 3: INT32, 4: dtypes.UINT8, 5: dtypes.INT16, 6: dtypes.INT8, 9: dtypes.INT64,
    10: dtypes.BOOL, 14: dtypes.BFLOAT16, 17: dtypes.UINT16, 19: dtypes.FLOAT16,
}  # fmt: skip
# enum DataType of schema/default/Type.fbs
_COMPARISONS = frozenset((10, 11, 12, 15, 16, 26))
# of BinaryOpOperation: their results are int32


def names(*op_types: str) -> Iterable[str]:
    """Op types with MNN's domain, as rules are registered."""
    return [f"mnn:{name}" for op_type in op_types for name in op_type.split()]


@rule(
    *names(
        "AbsVal BatchNorm Bnll Copy CumProd CumSum Dropout ELU Exp GatedRMSNorm GroupNorm Identity InstanceNorm LRN",
        "LayerNorm Log Normalize PReLU Power ReLU ReLU6 Reverse ReverseSequence Scale Selu Sigmoid Softmax Softplus",
        "TanH Threshold UnaryOp ZerosLike",
    )
)
def same(call: Call) -> Specs:
    return [(call.shape(), call.dtype())] * len(call.op.outputs)


@rule("mnn:Cast")
def cast(call: Call) -> Specs:
    return [(call.shape(), _DTYPES.get(call.attr("to"), call.dtype()))]


@rule("mnn:BinaryOp")
def binary(call: Call) -> Specs:
    dtype = INT32 if call.attr("kind") in _COMPARISONS else call.dtype()
    return [(broadcast(call, call.shape(0), call.shape(1)), dtype)]


@rule("mnn:Eltwise")
def eltwise(call: Call) -> Specs:
    return [(broadcast(call, *(call.shape(at) for at in range(len(call.op.inputs)))), call.dtype())]


@rule("mnn:Select")
def select(call: Call) -> Specs:
    return [(broadcast(call, call.shape(0), call.shape(1), call.shape(2)), call.dtype(1))]


@rule("mnn:Reduction")
def reduction(call: Call) -> Specs:
    given = call.shape()
    axes = call.ints("axes", 1)
    gone = set(range(len(given))) if axes is None else {call.axis(axis, len(given)) for axis in axes}
    keep = call.attr("keepdims", False)
    dims = [1 if at in gone else dim for at, dim in enumerate(given) if keep or at not in gone]
    return [(tuple(dims), call.dtype())]


@rule("mnn:ArgMax", "mnn:ArgMin")
def arg(call: Call) -> Specs:
    given = call.shape()
    at = call.axis(call.attr("axis", 0), len(given))
    return [(given[:at] + given[at + 1 :], INT32)]


@rule("mnn:MatMul", "mnn:BatchMatMul")
def matmul(call: Call) -> Specs:
    left, right = call.shape(0), call.shape(1)
    if len(left) < 2 or len(right) < 2:
        raise call.error("vectors are multiplied")
    rows, shared = (left[-1], left[-2]) if call.attr("transpose_a") else (left[-2], left[-1])
    other, columns = (right[-1], right[-2]) if call.attr("transpose_b") else (right[-2], right[-1])
    if isinstance(shared, int) and isinstance(other, int) and shared != other:
        raise call.error(f"{shared} columns meet {other} rows")
    outer: tuple[Dim, ...] = broadcast(call, left[:-2], right[:-2])
    return [((*outer, rows, columns), call.dtype())]


@rule("mnn:LSTM")
def lstm(call: Call) -> Specs:
    given, hidden = call.shape(), call.attr("outputs")
    if len(call.op.outputs) == 1:
        return [((*given[:2], 1, hidden), FLOAT32)]
    ways = call.shape(1)[0]
    state = (ways, given[1], hidden)
    return [((given[0], ways, given[1], hidden), FLOAT32), (state, FLOAT32), (state, FLOAT32)]
