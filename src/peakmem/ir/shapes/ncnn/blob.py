"""A blob as ncnn sees it: w, h, d, c and how many of them count; and C++'s division."""

from __future__ import annotations

from dataclasses import dataclass

from peakmem.dtypes import DType
from peakmem.ir.dims import Dim, Shape, format_shape
from peakmem.ir.shapes.call import Call, Spec, Unresolved


@dataclass(frozen=True, slots=True)
class Blob:
    """The sizes of a blob; those beyond its `dims` are 1."""

    dims: int
    w: Dim = 1
    h: Dim = 1
    d: Dim = 1
    c: Dim = 1

    @property
    def shape(self) -> Shape:
        """Outermost axis first."""
        if self.dims == 1:
            return (self.w,)
        if self.dims == 2:
            return (self.h, self.w)
        return (self.c, self.h, self.w) if self.dims == 3 else (self.c, self.d, self.h, self.w)


def blob(call: Call, position: int = 0) -> Blob:
    """The blob at an input; a scalar is a blob of one element."""
    shape = call.shape(position)
    if len(shape) > 4:
        raise call.error(f"a tensor of ncnn has up to 4 dimensions, not {len(shape)}")
    return of(shape)


def of(shape: Shape) -> Blob:
    """The blob of a shape of up to four dimensions."""
    if len(shape) < 2:
        return Blob(1, *shape)
    if len(shape) == 2:
        return Blob(2, shape[1], shape[0])
    if len(shape) == 3:
        return Blob(3, shape[2], shape[1], 1, shape[0])
    return Blob(4, shape[3], shape[2], shape[1], shape[0])


def whole_shape(call: Call, *dims: Dim) -> Shape:
    """`dims` as a shape; ncnn refuses one without elements."""
    for dim in dims:
        if isinstance(dim, int) and dim < 1:
            raise call.error(f"the output would be {format_shape(dims)}")
    return dims


def made(call: Call, result: Blob, dtype: DType | None = None) -> list[Spec]:
    """The one output of a layer; its dtype is the first input's unless given."""
    return [(whole_shape(call, *result.shape), dtype or call.dtype())]


def quotient(left: Dim, right: Dim, call: Call) -> Dim:
    """left / right towards zero, as C++ divides."""
    if right == 0:
        raise call.error("a size or a parameter of 0 is divided by")
    if isinstance(left, int) and isinstance(right, int) and (left < 0) != (right < 0):
        return -(abs(left) // abs(right))
    return left // right


def larger(left: Dim, right: Dim) -> Dim:
    """The larger size; of a symbol and a number other than 1, the number."""
    if left == right or right == 1:
        return left
    if left == 1:
        return right
    if isinstance(left, int) and isinstance(right, int):
        return max(left, right)
    return left if isinstance(left, int) else right


def number(dim: Dim) -> int:
    """A size that has to be known."""
    if not isinstance(dim, int):
        raise Unresolved(f"the size {dim} has no value yet")
    return dim
