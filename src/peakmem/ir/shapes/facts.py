"""What is known of one tensor while inferring."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from peakmem.dtypes import DType
from peakmem.ir.dims import Shape

LARGEST_TENSOR = 2**56
# bytes; beyond the address space of any machine a size is an overflow or an attack
NEWEST_OPSET = 28
# of ONNX's own domain; what a graph without a declared operator set is read as


@dataclass(frozen=True, slots=True)
class Fact:
    """What is known of one tensor while inferring."""

    shape: Shape | None
    dtype: DType | None
    values: tuple[Any, ...] | None = None
    # flat content, where it is small and follows from constants and shapes
    elements: tuple[Fact, ...] | None = None
    # of a sequence of tensors: what is known of each


NOTHING = Fact(None, None)
