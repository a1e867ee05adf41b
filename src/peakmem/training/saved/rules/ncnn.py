"""Layers of ncnn that do several things, by their parameters (ncnn's docs/developer-guide/operators.md)."""

from __future__ import annotations

from collections.abc import Sequence

from peakmem.training.saved import movement, pointwise
from peakmem.training.saved.eager import Value
from peakmem.training.saved.rules.call import RULES, Call, rule, unknown

BINARY = ("Add", "Sub", "Mul", "Div", "Max", "Min", "Pow", "Sub", "Div")
ELTWISE = ("Mul", "Add", "Max")
# what the number `op_type` means


@rule("ncnn:BinaryOp", "ncnn:Eltwise", "mnn:BinaryOp", "mnn:Eltwise")
def _binary(call: Call) -> Sequence[Value | None]:
    """A sum, a product and the like, of two tensors or of a tensor and a number."""
    names = ELTWISE if call.kind.endswith("Eltwise") else BINARY
    number = call.attribute("op_type", 0)
    if not isinstance(number, int) or number >= len(names):
        return unknown(call)
    return RULES[names[number]](call)


@rule("ncnn:ShuffleChannel")
def _shuffle(call: Call) -> Sequence[Value | None]:
    """Channels of the groups by turns: a view, turned, and copied."""
    x = call.x()
    batch, channels, *image = x.shape
    groups = int(call.attribute("group", 2))
    parts = movement.reshape(call.e, x, (batch, groups, channels // groups, *image))
    turned = movement.permute(call.e, parts, (0, 2, 1, *range(3, len(parts.shape))))
    return [movement.reshape(call.e, turned, x.shape)]


@rule("ncnn:UnaryOp")
def _unary(call: Call) -> Sequence[Value | None]:
    """A function of each element; which one hardly matters to what is kept."""
    return [pointwise.unary(call.e, "Square", call.x())]
