"""What kernels take inside an operator, asked of the table of workspaces with operands that are only shapes.

The rows of `training.workspaces` read shapes, strides and dtypes as torch's tensors give them; an Operand answers the
same questions. What has no row, or whose row asks for more than that, is a doubt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from peakmem.dtypes import DType
from peakmem.training import workspaces
from peakmem.training.saved.eager import Dims, Eager, Value
from peakmem.training.workspaces.found import Call


@dataclass(frozen=True, slots=True)
class _Kind:
    """A dtype, as torch names it."""

    name: str
    itemsize: int
    is_floating_point: bool

    def __str__(self) -> str:
        return f"torch.{self.name}"


class Operand:
    """A tensor's shape, strides and dtype under torch's names."""

    __slots__ = ("dtype", "shape", "strides")

    def __init__(self, shape: Dims, strides: Dims, dtype: DType) -> None:
        self.shape, self.strides = shape, strides
        self.dtype = _Kind(dtype.name, (dtype.bits or 0) // 8, dtype.kind == "float")

    def stride(self) -> Dims:
        """Strides in elements."""
        return self.strides

    def size(self, axis: int | None = None) -> Any:
        """The shape, or one of its sizes."""
        return self.shape if axis is None else self.shape[axis]

    def dim(self) -> int:
        """Dimensions."""
        return len(self.shape)

    def numel(self) -> int:
        """Elements."""
        return prod(self.shape)

    def element_size(self) -> int:
        """Bytes of one."""
        return self.dtype.itemsize

    def untyped_storage(self) -> Operand:
        """Something that has bytes, which is all that is asked of a storage."""
        return self

    def nbytes(self) -> int:
        """Bytes of all."""
        return self.numel() * self.dtype.itemsize


def took(e: Eager, operator: str, args: Sequence[Any], result: Sequence[Value | None] | Value) -> int:
    """Write down what the kernel of an operator that has just made its results took besides them.

    Returns:
        Bytes that its results hold on to and no shape tells.
    """
    e.recorder.work(_operations(operator, args, result))
    for kept in workspaces.taken(e.kept, operator, backward=e.recorder.phase == "backward"):
        e.recorder.allocate(kept.nbytes, operator, category="kernel workspace", module="", source=kept.source)
    row = workspaces.rows().get((operator, e.device))
    made = [result] if isinstance(result, Value) else [item for item in result if item is not None]
    asked = [_operand(item) for item in args]
    answer: Any = None
    if row is not None:
        given = _operand(result) if isinstance(result, Value) else tuple(_operand(item) for item in result)
        call = Call(asked, {}, given, e.machine)
        try:
            answer = row.rule(call)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError):
            answer = None
    if row is None or answer is None:
        there = [item for item in asked if isinstance(item, Operand)]
        at_most = sum(item.nbytes() for item in there) + sum(item.block.nbytes for item in made)
        e.doubt(at_most, operator, "no row in the table of workspaces can be asked from a graph")
        return 0
    if isinstance(answer, list):  # several blocks, one after the other
        e.recorder.workspace(tuple(part for part in answer if part), operator, source=row.name)
        return 0
    if isinstance(answer, int):
        answer = (0, answer)
    before, nbytes, most, left = (*answer, 0, 0)[:4]
    results = sum(item.block.nbytes for item in made)
    e.recorder.workspace(max(nbytes, before - results), operator, source=row.name)
    if most > nbytes:
        e.doubt(most - nbytes, operator, row.name)
    return sum(left) if isinstance(left, tuple) else left


def _operand(item: Any) -> Any:
    return Operand(item.shape, item.strides, item.dtype) if isinstance(item, Value) else item


def _operations(operator: str, args: Sequence[Any], result: Sequence[Value | None] | Value) -> int:
    """Multiplications and additions, of products and convolutions (torch/utils/flop_counter.py, PyTorch 2.13).

    The weight's gradient of a convolution in groups is counted in its groups, which torch's formula leaves out.
    """
    if operator in ("aten::mm", "aten::bmm", "aten::addmm") and isinstance(result, Value):
        return 2 * result.count * int(args[1 if operator == "aten::addmm" else 0].shape[-1])
    if operator == "aten::convolution" and isinstance(result, Value):
        return int(2 * (args[0] if args[6] else result).count * prod(args[1].shape[1:]))
    if operator == "aten::convolution_backward":
        once = 2 * (args[1] if args[7] else args[0]).count * prod(args[2].shape[1:])
        return int(once * sum(args[10][:2]))
    return 0
