"""Whether a result lies in memory row by row: some operators copy what does not.

Views that permute or cut do not, and arithmetic keeps the order of its first operand (TensorIterator,
compute_strides).
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

PERMUTING = frozenset({"transpose", "permute", "t", "swapaxes", "swapdims", "movedim", "numpy_T", "mT"})
CUTTING = frozenset({"slice", "select", "narrow", "unbind", "split", "split_with_sizes", "chunk"})
SPREADING = frozenset({"expand", "expand_as", "broadcast_to", "unfold", "diagonal", "as_strided"})
KEEPING = frozenset(
    {
        "add", "sub", "mul", "div", "relu", "gelu", "silu", "sigmoid", "tanh", "hardswish", "hardsigmoid", "exp",
        "sqrt", "neg", "pow", "clamp", "leaky_relu", "elu", "dropout", "to", "where", "clone", "abs", "relu6",
    }
)  # fmt: skip


def lies_dense(
    kind: str, attributes: Mapping[str, Any], before: tuple[int, ...], dense: bool, after: tuple[int, ...], *, own: bool
) -> bool:
    """Whether the result is row by row, from its first operand of sizes `before`; `own`: it has its own storage."""
    if own:
        return dense or kind not in KEEPING or before != after
    if kind in PERMUTING:
        order = attributes.get("perm")
        if not isinstance(order, tuple) or len(order) != len(before):
            return False
        moved = [axis for axis in order if before[axis] > 1]
        return dense and moved == sorted(moved)
    if kind in CUTTING:
        axis = int(attributes.get("axis", 0))
        axis += len(before) if axis < 0 else 0
        return dense and prod(before[:axis]) == 1 and int(attributes.get("step", 1)) == 1
    if kind in SPREADING:
        return dense and prod(before) == prod(after)
    return dense
