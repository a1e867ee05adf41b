"""What makes fewer elements, or picks and sorts them."""

from __future__ import annotations

from collections.abc import Mapping

from peakmem.conversion.torch_source.names import literal
from peakmem.conversion.torch_source.writer import Call, Many, Refused, rule

REDUCTIONS: Mapping[str, str] = {
    "ReduceMean": "{x}.mean({axes}{keep})", "ReduceSum": "{x}.sum({axes}{keep}{typed})",
    "ReduceMax": "{x}.amax({axes}{keep})", "ReduceMin": "{x}.amin({axes}{keep})",
    "ReduceL1": "{x}.abs().sum({axes}{keep}{typed})", "ReduceSumSquare": "{x}.square().sum({axes}{keep}{typed})",
    "ReduceL2": "torch.linalg.vector_norm({x}, 2, {axes}{keep})",
    "ReduceLogSum": "{x}.sum({axes}{keep}).log()", "ReduceLogSumExp": "torch.logsumexp({x}, {axes}{keep})",
}  # fmt: skip


@rule(*REDUCTIONS, "ReduceProd")
def reduce(call: Call) -> str:
    rank = call.rank()
    axes = call.ints(1, "axes")
    if not axes:
        if call.attr("noop_with_empty_axes", 0):
            return call.read()
        axes = tuple(range(rank))
    axes = tuple(sorted({axis + rank if axis < 0 else axis for axis in axes}))
    keep = ", keepdim=True" if call.attr("keepdims", 1) else ""
    if not axes:
        return call.read()
    if call.operator.op_type == "ReduceProd":
        x = call.read()
        for axis in reversed(axes):
            x = f"{x}.prod({axis}{keep}, dtype={call.dtype()})"
        return x
    typed = "" if call.kind() == "float" else f", dtype={call.dtype()}"
    return REDUCTIONS[call.operator.op_type].format(x=call.read(), axes=literal(axes), keep=keep, typed=typed)


@rule("ArgMax", "ArgMin")
def arg(call: Call) -> str:
    if call.attr("select_last_index", 0):
        raise Refused("which takes the last of equals")
    keep = ", keepdim=True" if call.attr("keepdims", 1) else ""
    return f"{call.read()}.{call.operator.op_type.lower()}({call.axis('axis', 0)}{keep})"


@rule("TopK")
def top_k(call: Call) -> Many:
    count = call.ints(1, "k") or (int(call.attr("k", 1)),)
    largest = "" if call.attr("largest", 1) else ", largest=False"
    ordered = "" if call.attr("sorted", 1) else ", sorted=False"
    return Many(f"torch.topk({call.read()}, {count[0]}, {call.axis('axis', -1)}{largest}{ordered})")


@rule("CumSum")
def cum_sum(call: Call) -> str:
    axis = int(call.values(1)[0])
    if call.attr("exclusive", 0):
        raise Refused("without the element itself")
    if call.attr("reverse", 0):
        return f"{call.read()}.flip({axis}).cumsum({axis}).flip({axis})"
    typed = "" if call.kind() == "float" else f", dtype={call.dtype()}"
    return f"{call.read()}.cumsum({axis}{typed})"


@rule("NonZero")
def non_zero(call: Call) -> str:
    return f"torch.nonzero({call.read()}).t()"
