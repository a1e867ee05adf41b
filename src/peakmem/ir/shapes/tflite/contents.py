"""Contents that follow from known inputs, so that SHAPE → STRIDED_SLICE → PACK → RESHAPE chains resolve.

Operators that ONNX has as well are folded by ONNX's rules; the rest stands here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from peakmem.dtypes import BOOL, DType
from peakmem.ir.dims import Symbol, element_count
from peakmem.ir.graph import Operator
from peakmem.ir.shapes.call import Call, Specs, contents
from peakmem.ir.shapes.facts import NEWEST_OPSET
from peakmem.ir.shapes.fold import WHOLE, Values, fold
from peakmem.ir.shapes.slicing import slice_bounds
from peakmem.ir.shapes.tflite.elementwise import names
from peakmem.ir.shapes.tflite.slicing import strided

MOST = 4096
# elements

_Attributes: TypeAlias = Callable[[Call], dict[str, Any]]


def _none(_: Call) -> dict[str, Any]:
    return {}


def _axis(call: Call) -> dict[str, Any]:
    return {"axis": call.attr("axis", 0)}


_ARITHMETIC = {
    "ADD": "Add", "SUB": "Sub", "MUL": "Mul", "DIV": "Div", "MAXIMUM": "Max", "MINIMUM": "Min", "FLOOR_MOD": "Mod",
    "NEG": "Neg", "ABS": "Abs", "SIGN": "Sign", "FLOOR": "Floor", "CEIL": "Ceil", "ROUND": "Round", "POW": "Pow",
    "TILE": "Tile", "BROADCAST_TO": "Expand", "RANGE": "Range",
}  # fmt: skip
_COMPARISONS = {
    "EQUAL": "Equal", "GREATER": "Greater", "GREATER_EQUAL": "GreaterOrEqual", "LESS": "Less",
    "LESS_EQUAL": "LessOrEqual", "LOGICAL_AND": "And", "LOGICAL_OR": "Or", "LOGICAL_NOT": "Not",
}  # fmt: skip
_REDUCTIONS = {"SUM": "ReduceSum", "REDUCE_PROD": "ReduceProd", "REDUCE_MAX": "ReduceMax", "REDUCE_MIN": "ReduceMin"}


def _as_onnx(
    call: Call, specs: Specs, op_type: str, dtype: DType | None, attributes: dict[str, Any], inputs: int | None = None
) -> list[Values | None]:
    """What ONNX's folding makes of the first `inputs` inputs."""
    count = len(call.op.inputs) if inputs is None else inputs
    twin = Operator(call.op.name, op_type, call.op.inputs[:count], call.op.outputs, attributes)
    seen = Call(twin, call.shapes[:count], call.dtypes[:count], call.values[:count], NEWEST_OPSET)
    return fold(seen, [(shape, dtype) for shape, _ in specs])


@contents(*names(*_ARITHMETIC, "SELECT_V2 SELECT"))
def arithmetic(call: Call, specs: Specs) -> list[Values | None]:
    op_type = _ARITHMETIC.get(call.op.op_type, "Where")
    return _as_onnx(call, specs, op_type, call.dtype(1 if op_type == "Where" else 0), {})


@contents(*names(*_COMPARISONS))
def comparison(call: Call, specs: Specs) -> list[Values | None]:
    return _as_onnx(call, specs, _COMPARISONS[call.op.op_type], BOOL, {})


@contents(*names(*_REDUCTIONS))
def reduction(call: Call, specs: Specs) -> list[Values | None]:
    axes = call.value(1)
    if axes is None:
        return [None]
    if not axes:
        return [call.value(0)]
    found = {"axes": axes, "keepdims": call.attr("keepdims", 0)}
    return _as_onnx(call, specs, _REDUCTIONS[call.op.op_type], call.dtype(), found, 1)


@contents("tflite:CAST")
def cast(call: Call, specs: Specs) -> list[Values | None]:
    return _as_onnx(call, specs, "Cast", call.dtype_attr("to"), {"to": call.attr("to")})


@contents("tflite:CONCATENATION")
def concatenation(call: Call, specs: Specs) -> list[Values | None]:
    return _as_onnx(call, specs, "Concat", call.dtype(), _axis(call))


@contents("tflite:GATHER")
def gather(call: Call, specs: Specs) -> list[Values | None]:
    if call.attr("batch_dims", 0):
        return [None]
    return _as_onnx(call, specs, "Gather", call.dtype(), _axis(call))


@contents("tflite:TRANSPOSE")
def transpose(call: Call, specs: Specs) -> list[Values | None]:
    order = call.value(1)
    return [None] if order is None else _as_onnx(call, specs, "Transpose", call.dtype(), {"perm": order}, 1)


@contents("tflite:SHAPE")
def shape_of(call: Call, _: Specs) -> list[Values | None]:
    return [call.shapes[0] if call.shapes else None]


@contents("tflite:RANK")
def rank_of(call: Call, _: Specs) -> list[Values | None]:
    shape = call.shapes[0] if call.shapes else None
    return [None if shape is None else (len(shape),)]


@contents(*names("RESHAPE SQUEEZE EXPAND_DIMS"))
def unchanged(call: Call, specs: Specs) -> list[Values | None]:
    values = call.value(0)
    return [values if values is not None and len(values) == element_count(specs[0][0]) else None]


@contents("tflite:PACK")
def pack(call: Call, specs: Specs) -> list[Values | None]:
    """Of scalars, or of lists put one after the other."""
    if any(values is None for values in call.values) or call.attr("axis", 0) % len(specs[0][0] or (1,)):
        return [None]
    return [tuple(value for values in call.values for value in values or ())]


@contents("tflite:UNPACK")
def unpack(call: Call, specs: Specs) -> list[Values | None]:
    values, shape = call.value(0), call.shapes[0]
    if values is None or shape is None or len(shape) != 1:
        return [None] * len(specs)
    return [(value,) for value in values]


@contents("tflite:SLICE")
def slice_(call: Call, specs: Specs) -> list[Values | None]:
    values, begin = call.value(0), call.value(1)
    count = element_count(specs[0][0])
    if values is None or not begin or count is None or len(call.shape()) != 1 or isinstance(begin[0], Symbol):
        return [None]
    return [values[begin[0] : begin[0] + count]]


@contents("tflite:STRIDED_SLICE")
def strided_slice(call: Call, specs: Specs) -> list[Values | None]:
    values = call.value(0)
    if values is None or len(call.shape()) != 1:
        return [None]
    taken = [one for one in strided(call, 1) if one is not None]
    if len(taken) != 1:
        return [None]
    start, stop, step = taken[0].start, taken[0].stop, taken[0].step
    if isinstance(start, Symbol) or isinstance(stop, Symbol):
        return [None]
    if taken[0].dropped:
        return [(values[start],)]
    found = tuple(values[at] for at in slice_bounds(len(values), start, stop, step))
    return [found if len(found) == element_count(specs[0][0]) else None]


@contents("tflite:SPLIT")
def split(call: Call, specs: Specs) -> list[Values | None]:
    values, count = call.value(1), len(specs)
    if values is None or len(call.shape(1)) != 1 or len(values) % count:
        return [None] * count
    size = len(values) // count
    return [values[at * size : (at + 1) * size] for at in range(count)]


@contents("tflite:FILL")
def fill(call: Call, specs: Specs) -> list[Values | None]:
    value, count = call.value(1), element_count(specs[0][0])
    return [value * count if value is not None and len(value) == 1 and count is not None and count <= MOST else None]


@contents("tflite:ZEROS_LIKE")
def zeros(call: Call, specs: Specs) -> list[Values | None]:
    count, dtype = element_count(specs[0][0]), call.dtype()
    small = count is not None and count <= MOST and dtype is not None and dtype.kind in WHOLE and dtype.bits in (32, 64)
    return [(0,) * count if small and count is not None else None]


@contents("tflite:FLOOR_DIV")
def floor_div(call: Call, specs: Specs) -> list[Values | None]:
    left, right, dtype = call.value(0), call.value(1), call.dtype()
    if left is None or right is None or dtype is None or dtype.kind not in WHOLE or len(specs[0][0] or ()) > 1:
        return [None]
    count = max(len(left), len(right))
    left, right = (side * count if len(side) == 1 else side for side in (left, right))
    if len(left) != len(right) or any(one == 0 for one in right):
        return [None]
    return [tuple(a // b for a, b in zip(left, right, strict=True))]


@contents("tflite:BROADCAST_ARGS")
def broadcast_args(call: Call, _: Specs) -> list[Values | None]:
    first, second = call.value(0), call.value(1)
    if first is None or second is None:
        return [None]
    count = max(len(first), len(second))
    pairs = zip((1,) * (count - len(first)) + first, (1,) * (count - len(second)) + second, strict=True)
    return [tuple(b if a == 1 else a for a, b in pairs)]


@contents("tflite:REVERSE_V2")
def reverse(call: Call, _: Specs) -> list[Values | None]:
    values = call.value(0)
    return [values[::-1] if values is not None and len(call.shape()) == 1 else None]
