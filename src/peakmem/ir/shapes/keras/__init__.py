"""Keras 3 layers: shapes without declared ones, channels last unless told.

The families stand in files of their own; this one loads them and holds what keeps a shape.
"""

from __future__ import annotations

from peakmem.ir.kinds.keras import ACTIVATIONS, IDENTITIES, KEEPING, UNARY
from peakmem.ir.shapes.call import Call, Specs, broadcast, rule
from peakmem.ir.shapes.keras import functions, products, recurrent, windows

FAMILIES = (functions, products, recurrent, windows)
# imported for the rules they register


def names(*op_types: str) -> tuple[str, ...]:
    """The op types as the registry knows them."""
    return tuple(f"keras:{op_type}" for op_type in op_types)


@rule(
    *names(
        *sorted(ACTIVATIONS | IDENTITIES | KEEPING | UNARY | {"Softmax", "LogSoftmax", "Masking", "UnitNormalization"})
    )
)
def same(call: Call) -> Specs:
    return [(call.shape(), call.dtype())]


@rule(*names("BatchNormalization", "LayerNormalization", "GroupNormalization", "RMSNormalization", "Flip", "Sparsemax"))
def kept(call: Call) -> Specs:
    return [(call.shape(), call.dtype())]


@rule(*names("Rescaling", "Normalization", "Cast"))
def converted(call: Call) -> Specs:
    return [(call.shape(), call.dtype_attr("dtype", call.dtype()))]


@rule(*names("Subtract", "Multiply", "Average", "Maximum", "Minimum", "Add"))
def merged(call: Call) -> Specs:
    shapes = [call.shape(position) for position in range(len(call.op.inputs))]
    return [(broadcast(call, *shapes), call.dtype())]
