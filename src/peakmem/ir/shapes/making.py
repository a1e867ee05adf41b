"""Shape rules of operators that make a tensor out of sizes: constants, ranges, random numbers."""

from __future__ import annotations

from math import ceil
from typing import Any

from peakmem.dtypes import FLOAT32, INT32, INT64
from peakmem.ir.dims import Dim, Symbol
from peakmem.ir.shapes.call import Call, Specs, Unresolved, ceil_div, rule
from peakmem.ir.shapes.resize import float32


@rule("Shape")
def shape_of(call: Call) -> Specs:
    rank = len(call.shape())
    return [((len(range(rank)[call.attr("start", 0) : call.attr("end", rank)]),), INT64)]


@rule("Size")
def size_of(_: Call) -> Specs:
    return [((), INT64)]


@rule("ConstantOfShape")
def constant_of_shape(call: Call) -> Specs:
    dtype, target = call.dtype_attr("value_dtype", FLOAT32), call.value(0)
    if target is None:
        rank = call.length(0)
        if rank is None:
            raise Unresolved("the shape is computed while running")
        return [(call.unknown_shape(rank), dtype)]
    return [(tuple(target), dtype)]


@rule("Range", "com.microsoft:Range")
def range_(call: Call) -> Specs:
    start, limit, delta = call.value(0), call.value(1), call.value(2) if call.has(2) else (1,)
    if not start or not limit or not delta:
        return [((call.unknown_dim(0),), call.dtype())]
    return [((range_length(start[0], limit[0], delta[0], single=call.dtype() is FLOAT32),), call.dtype())]


def range_length(first: Any, last: Any, step: Any, *, single: bool) -> Dim:
    """max(0, ceil((last - first) / step)), the difference rounded to 32 bits when `single`."""
    if isinstance(step, Symbol) or step == 0:
        raise Unresolved("the step of the range is not known")
    if isinstance(first, Symbol) or isinstance(last, Symbol):
        open_span: Dim = last - first
        return open_span if step == 1 else ceil_div(open_span, int(step))
    if isinstance(first, int) and isinstance(last, int) and isinstance(step, int):
        return max(0, -((first - last) // step))
    span = float32(last - first) if single else last - first
    count: int = ceil(span / step)
    return max(0, count)


@rule("EyeLike")
def eye_like(call: Call) -> Specs:
    return [(call.shape(), call.dtype_attr("dtype", call.dtype()))]


@rule("RandomNormal", "RandomUniform")
def random(call: Call) -> Specs:
    return [(tuple(call.attr("shape")), call.dtype_attr("dtype", FLOAT32))]


@rule("RandomNormalLike", "RandomUniformLike", "Bernoulli")
def random_like(call: Call) -> Specs:
    return [(call.shape(), call.dtype_attr("dtype", call.dtype()))]


@rule("Multinomial")
def multinomial(call: Call) -> Specs:
    return [((call.shape()[0], call.attr("sample_size", 1)), call.dtype_attr("dtype", INT32))]
