"""Contents that follow from shapes and known inputs, so that Rank → BinaryOp → SliceTf → Concat → Reshape resolves.

The converter writes such chains for the shape that a product gives back (tools/converter, onnx Gemm, MNN 3.6.1).
"""

from __future__ import annotations

from typing import Any, TypeAlias

from peakmem.dtypes import DType
from peakmem.ir.dims import product
from peakmem.ir.graph import Operator
from peakmem.ir.shapes.call import Call, Specs, contents
from peakmem.ir.shapes.facts import NEWEST_OPSET
from peakmem.ir.shapes.fold import WHOLE, fold
from peakmem.ir.shapes.mnn.elementwise import names
from peakmem.ir.shapes.mnn.movement import told

Values: TypeAlias = tuple[Any, ...]
MOST = 4096
# elements
_BINARY = {
    0: "Add", 1: "Sub", 2: "Mul", 3: "Div", 7: "Div", 8: "Min", 9: "Max", 10: "Greater", 11: "GreaterOrEqual",
    12: "Less", 13: "Div", 15: "Equal", 16: "LessOrEqual", 17: "Mod", 19: "Mod",
}  # fmt: skip
# of BinaryOpOperation


def _as_onnx(
    call: Call, specs: Specs, op_type: str, dtype: DType | None, attributes: dict[str, Any], inputs: int
) -> list[Values | None]:
    twin = Operator(call.op.name, op_type, call.op.inputs[:inputs], call.op.outputs, attributes)
    seen = Call(twin, call.shapes[:inputs], call.dtypes[:inputs], call.values[:inputs], NEWEST_OPSET)
    return fold(seen, [(shape, dtype) for shape, _ in specs])


@contents("mnn:Shape")
def shape(call: Call, _: Specs) -> list[Values | None]:
    return [tuple(told(call))]


@contents("mnn:Rank")
def rank(call: Call, _: Specs) -> list[Values | None]:
    return [(len(call.shape()),)]


@contents("mnn:Size")
def size(call: Call, _: Specs) -> list[Values | None]:
    return [(product(call.shape()),)]


@contents(*names("Reshape Flatten Squeeze Unsqueeze ExpandDims Identity Copy"))
def unchanged(call: Call, _: Specs) -> list[Values | None]:
    return [call.value(0)]


@contents("mnn:BinaryOp")
def binary(call: Call, specs: Specs) -> list[Values | None]:
    op_type = _BINARY.get(call.attr("kind"))
    dtype = call.dtype()
    if op_type is None or dtype is None or dtype.kind not in WHOLE:
        return [None]
    return _as_onnx(call, specs, op_type, dtype, {}, 2)


@contents("mnn:Cast")
def cast(call: Call, specs: Specs) -> list[Values | None]:
    return _as_onnx(call, specs, "Cast", specs[0][1], {}, 1)


@contents("mnn:Concat")
def concat(call: Call, _: Specs) -> list[Values | None]:
    parts = [call.value(at) for at in range(len(call.op.inputs))]
    if any(part is None for part in parts) or any(len(call.shape(at)) != 1 for at in range(len(parts))):
        return [None]
    found = tuple(one for part in parts for one in part or ())
    return [found if len(found) <= MOST else None]


@contents("mnn:SliceTf")
def slice_tf(call: Call, _: Specs) -> list[Values | None]:
    data, start, many = call.value(0), call.value(1), call.value(2)
    if data is None or start is None or many is None or len(call.shape()) != 1:
        return [None]
    first, count = start[0], many[0]
    first = first + len(data) if first < 0 else first
    return [data[first : len(data) if count == -1 else first + count]]


@contents("mnn:StridedSlice")
def strided_slice(call: Call, specs: Specs) -> list[Values | None]:
    data, start, end = call.value(0), call.value(1), call.value(2)
    step = (call.value(4) if call.attr("source") == 1 else call.value(3)) or (1,)
    if data is None or start is None or end is None or len(call.shape()) != 1:
        return [None]
    if call.attr("shrink_axis_mask"):
        return [(data[start[0]],)]
    first = None if call.attr("begin_mask") else start[0]
    last = None if call.attr("end_mask") else end[0]
    found = data[first : last : step[0]]
    shape = specs[0][0]
    return [found if shape == (len(found),) else None]


@contents("mnn:Gather", "mnn:GatherV2")
def gather(call: Call, _: Specs) -> list[Values | None]:
    data, wanted = call.value(0), call.value(1)
    if data is None or wanted is None or len(call.shape()) != 1:
        return [None]
    return [tuple(data[at] for at in wanted)]


@contents("mnn:Reduction")
def reduction(call: Call, _: Specs) -> list[Values | None]:
    """Sums (0) and products (6) of a list."""
    data, kind = call.value(0), call.attr("kind")
    if data is None or len(call.shape()) != 1 or kind not in (0, 6):
        return [None]
    total: Any = 0 if kind == 0 else 1
    for one in data:
        total = total + one if kind == 0 else total * one
    return [(total,)]
