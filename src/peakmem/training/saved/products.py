"""Fully connected layers, matrix products and attention (derivatives.yaml and the sources named, PyTorch 2.13)."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from peakmem.dtypes import FLOAT32, INT64
from peakmem.training.saved import movement
from peakmem.training.saved.eager import Dims, Eager, Value, broadcast
from peakmem.training.saved.kernels import took


def linear(
    e: Eager, x: Value, weight: Value, bias: Value | None, *, rows_first: bool = True, module: bool = True
) -> Value:
    """A fully connected layer on any rank: addmm on the rows (Linear.cpp); `rows_first`: weight is output × input."""
    inside, outside = (weight.shape[1], weight.shape[0]) if rows_first else weight.shape
    shape = x.shape
    matrix = movement.permute(e, weight, (1, 0)) if rows_first else weight
    flat = movement.reshape(e, x, (prod(shape[:-1]), inside)) if len(shape) != 2 else x
    y = addmm(e, flat, matrix, bias, module=module)
    return movement.reshape(e, y, (*shape[:-1], outside)) if len(shape) != 2 else y


def addmm(e: Eager, x: Value, matrix: Value, bias: Value | None, *, module: bool = False) -> Value:
    """x · matrix + bias: each factor is kept if the other wants a gradient; the bias's is a sum of the result's.

    `module`: torch.nn.Linear would hold the matrix the other way round, and compute its gradient so.
    """
    name = "aten::addmm" if bias is not None else "aten::mm"
    y = e.new((x.shape[0], matrix.shape[1]), x.dtype, name)
    took(e, name, (bias, x, matrix) if bias is not None else (x, matrix), y)
    if e.wants(x, matrix, bias):
        kept_x = e.keep(x) if matrix.wants else None
        kept_m = e.keep(matrix) if x.wants else None
        wants_bias = bias is not None and bias.wants
        shape_x, shape_m, turned = x.shape, matrix.shape, not matrix.is_contiguous

        def run(given: Sequence[Value | None]) -> list[Value | None]:
            grad = given[0]
            assert grad is not None
            held = [kept.get() if kept is not None else None for kept in (kept_m, kept_x)]
            first = e.new(shape_x, grad.dtype, "aten::mm") if kept_m is not None else None
            if first is not None:
                took(e, "aten::mm", (grad, _turned(held[0])), first)
            second = None
            if kept_x is not None:
                made = e.new(shape_m[::-1] if turned else shape_m, grad.dtype, "aten::mm")
                took(e, "aten::mm", (_turned(grad), held[1]) if turned or module else (_turned(held[1]), grad), made)
                second = made.seen(shape_m, made.strides[::-1]) if turned else made
            del held
            return [first, second, grad if wants_bias else None]

        e.link(name, [x, matrix, bias], [y], run)
    return y


def matmul(e: Eager, a: Value, b: Value) -> Value:
    """A product of any ranks (LinearAlgebra.cpp, `_matmul_impl`): folded into one matrix, or batched on copies."""
    if len(b.shape) == 2 and len(a.shape) >= 2:
        if len(a.shape) == 2:
            return addmm(e, a, b, None)
        flat = movement.reshape(e, a, (prod(a.shape[:-1]), a.shape[-1]))
        return movement.reshape(e, addmm(e, flat, b, None), (*a.shape[:-1], b.shape[-1]))
    if len(b.shape) == 1:
        b = movement.reshape(e, b, (b.shape[0], 1))
        y = matmul(e, a, b)
        return movement.reshape(e, y, y.shape[:-1])
    if len(a.shape) == 1:
        y = matmul(e, movement.reshape(e, a, (1, a.shape[0])), b)
        return movement.reshape(e, y, (*y.shape[:-2], y.shape[-1]))
    lead = broadcast(a.shape[:-2], b.shape[:-2])
    parts = []
    for value in (a, b):
        wide = movement.expand(e, value, (*lead, *value.shape[-2:]))
        parts.append(movement.reshape(e, wide, (prod(lead), *value.shape[-2:])))
        del wide, value
    del a, b
    y = bmm(e, *parts)
    return movement.reshape(e, y, (*lead, *y.shape[-2:]))


def bmm(e: Eager, a: Value, b: Value) -> Value:
    """A batch of products; each factor is kept if the other wants a gradient."""
    y = e.new((a.shape[0], a.shape[1], b.shape[2]), a.dtype, "aten::bmm")
    took(e, "aten::bmm", (a, b), y)
    if e.wants(a, b):
        kept_b = e.keep(b) if a.wants else None
        kept_a = e.keep(a) if b.wants else None
        shape_a, shape_b = a.shape, b.shape

        def run(given: Sequence[Value | None]) -> list[Value | None]:
            grad = given[0]
            assert grad is not None
            held = [kept.get() if kept is not None else None for kept in (kept_a, kept_b)]
            first = e.new(shape_a, grad.dtype, "aten::bmm") if kept_b is not None else None
            if first is not None:
                took(e, "aten::bmm", (grad, _turned(held[1])), first)
            second = e.new(shape_b, grad.dtype, "aten::bmm") if kept_a is not None else None
            if second is not None:
                took(e, "aten::bmm", (_turned(held[0]), grad), second)
            del held
            return [first, second]

        e.link("aten::bmm", [a, b], [y], run)
    return y


def attention(e: Eager, query: Value, key: Value, value: Value, mask: Value | None = None) -> Value:
    """softmax(query · keyᵀ) · value of (batch, heads, tokens, size) in one kernel.

    Kept are query, key, value, the result and the logarithm of each row's sum. On the processor
    `_scaled_dot_product_flash_attention_for_cpu`; on cuda flash attention for two-byte dtypes without a mask, else the
    memory-efficient one, whose sums are rounded up to 32 rows (sdp_utils.cpp, attention.cu).
    """
    batch, heads, rows = query.shape[:3]
    sums: Dims = (batch, heads, rows)
    if e.device == "cpu":
        name = "aten::_scaled_dot_product_flash_attention_for_cpu"
    elif (query.dtype.bits or 0) <= 16 and mask is None:
        name = "aten::_scaled_dot_product_flash_attention"
    else:
        name, sums = "aten::_scaled_dot_product_efficient_attention", (batch, heads, -(-rows // 32) * 32)
        if key.shape[1] != heads:  # the others read one key for several heads as it is
            key, value = (_grouped(e, part, heads // part.shape[1]) for part in (key, value))
    shape = (batch, rows, heads, value.shape[-1])
    made = e.new(shape, query.dtype, name)
    y = made.seen((batch, heads, rows, value.shape[-1]), _swapped(made.strides))
    total = e.new(sums, FLOAT32, name)
    took(e, name, (query, key, value), [made, total])
    # the state of the random numbers, whether there is dropout or not
    extra = [] if e.device == "cpu" else [e.new((2,) if "flash" in name else (), INT64, name), e.new((), INT64, name)]
    if e.wants(query, key, value):
        kept = [e.keep(item) for item in (query, key, value, y, total, *extra)]
        if mask is not None:
            kept.append(e.keep(mask))
        shapes = [item.shape for item in (query, key, value)]

        def run(given: Sequence[Value | None]) -> list[Value | None]:
            grad = given[0]
            assert grad is not None
            held = [saved.get() for saved in kept]
            found: list[Value | None] = []
            for shape in shapes:
                turned = e.new((shape[0], shape[2], shape[1], shape[3]), grad.dtype, f"{name}_backward")
                found.append(turned.seen(shape, _swapped(turned.strides)))
            took(e, f"{name}_backward", (given[0], *held), found)
            del held, turned
            return found

        e.link(name, [query, key, value], [y], run)
    return y


def _turned(matrix: Value | None) -> Value | None:
    """A matrix, or a batch of them, with rows and columns exchanged: for the time of one question."""
    if matrix is None:
        return None
    *lead, rows, columns = matrix.shape
    *before, step, stride = matrix.strides
    return matrix.seen((*lead, columns, rows), (*before, stride, step))


def _swapped(strides: Dims) -> Dims:
    return (strides[0], strides[2], strides[1], strides[3])


def _grouped(e: Eager, x: Value, times: int) -> Value:
    """Keys or values written out for each head that reads them (repeat_kv of transformers; repeat_interleave here)."""
    batch, heads, tokens, size = x.shape
    wide = movement.expand(
        e, movement.reshape(e, x, (batch, heads, 1, tokens, size)), (batch, heads, times, tokens, size)
    )
    return movement.reshape(e, wide, (batch, heads * times, tokens, size))
