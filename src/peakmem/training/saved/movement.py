"""Views, copies, slices and what puts parts together (derivatives.yaml, PyTorch 2.13)."""

from __future__ import annotations

from collections.abc import Sequence

from peakmem.training.saved.eager import Dims, Eager, Value, contiguous, view_strides


def reshape(e: Eager, x: Value, shape: Dims, *, copies: bool = False) -> Value:
    """A view where the layout permits, else a copy (`at::reshape`)."""
    if x.shape == shape and not copies:
        return x
    strides = view_strides(x.shape, x.strides, shape)
    if strides is None:
        return _viewed(e, clone(e, x), shape, contiguous(shape), "aten::_unsafe_view")
    return _viewed(e, x, shape, strides, "aten::view")


def permute(e: Eager, x: Value, order: Sequence[int]) -> Value:
    """Axes in another order: a view."""
    order = tuple(order)
    shape = tuple(x.shape[axis] for axis in order)
    y = x.seen(shape, tuple(x.strides[axis] for axis in order))
    if e.wants(x):
        back = tuple(order.index(axis) for axis in range(len(order)))

        def run(given: Sequence[Value | None]) -> list[Value | None]:
            grad = given[0]
            if grad is None:
                return [None]
            return [grad.seen(tuple(grad.shape[a] for a in back), tuple(grad.strides[a] for a in back))]

        e.link("aten::permute", [x], [y], run)
    return y


def expand(e: Eager, x: Value, shape: Dims) -> Value:
    """More of the same without a copy; the gradient is summed."""
    if x.shape == shape:
        return x
    lead = len(shape) - len(x.shape)
    strides = tuple(
        0 if at < lead or x.shape[at - lead] != size else x.strides[at - lead] for at, size in enumerate(shape)
    )
    y = x.seen(shape, strides)
    if e.wants(x):
        e.link("aten::expand", [x], [y], lambda given: [given[0]])  # summed where it arrives
    return y


def clone(e: Eager, x: Value) -> Value:
    """A contiguous copy."""
    y = e.new(x.shape, x.dtype, "aten::clone")
    if e.wants(x):
        e.link("aten::clone", [x], [y], lambda given: [given[0]])
    return y


def repeat(e: Eager, x: Value, times: int) -> Value:
    """A vector written out several times."""
    y = e.new((times * x.shape[0],), x.dtype, "aten::repeat")
    if e.wants(x):
        shape, dtype = x.shape, x.dtype

        def run(_given: Sequence[Value | None]) -> list[Value | None]:
            return [e.new(shape, dtype, "aten::sum")]

        e.link("aten::repeat", [x], [y], run)
    return y


def cut(e: Eager, x: Value, shape: Dims) -> Value:
    """A part of a tensor, as a view; its gradient is written into zeros of the whole (slice_backward)."""
    if x.shape == shape:
        return x
    y = x.seen(shape, x.strides if len(shape) == len(x.shape) else contiguous(shape))
    if e.wants(x):
        whole, dtype = x.shape, x.dtype

        def run(_given: Sequence[Value | None]) -> list[Value | None]:
            return [e.new(whole, dtype, "aten::slice_backward")]

        e.link("aten::slice", [x], [y], run)
    return y


def select(e: Eager, x: Value, axis: int) -> Value:
    """One row along an axis, as a view; its gradient is written into zeros of the whole (select_backward)."""
    axis %= len(x.shape)
    y = x.seen((*x.shape[:axis], *x.shape[axis + 1 :]), (*x.strides[:axis], *x.strides[axis + 1 :]))
    if e.wants(x):
        whole, dtype = x.shape, x.dtype

        def run(_given: Sequence[Value | None]) -> list[Value | None]:
            return [e.new(whole, dtype, "aten::select_backward")]

        e.link("aten::select", [x], [y], run)
    return y


def split(e: Eager, x: Value, shapes: Sequence[Dims]) -> list[Value]:
    """All parts along an axis, as views of one operator; missing gradients are zeros, then all are put together."""
    parts = [x.seen(shape, x.strides) for shape in shapes]
    if e.wants(x):
        whole, dtype = x.shape, x.dtype

        def run(given: Sequence[Value | None]) -> list[Value | None]:
            filled = [
                item if item is not None else e.new(shape, dtype, "aten::zeros")
                for item, shape in zip(given, shapes, strict=True)
            ]
            found: list[Value | None] = [e.new(whole, dtype, "aten::cat")]
            del filled
            return found

        e.link("aten::split", [x], parts, run)
    return parts


def cat(e: Eager, parts: Sequence[Value], shape: Dims) -> Value:
    """Parts in one new tensor; the gradients of the parts are views of its own."""
    y = e.new(shape, parts[0].dtype, "aten::cat")
    if e.wants(*parts):
        shapes = [part.shape if part.wants else None for part in parts]

        def run(given: Sequence[Value | None]) -> list[Value | None]:
            grad = given[0]
            assert grad is not None
            return [grad.seen(part, grad.strides) if part is not None else None for part in shapes]

        e.link("aten::cat", parts, [y], run)
    return y


def rows(e: Eager, table: Value, indices: Value | None, shape: Dims, *, embedding: bool) -> Value:
    """Rows by number: the numbers are kept, the gradient is as large as the table."""
    name = "aten::embedding" if embedding else "aten::index_select"
    y = e.new(shape, table.dtype, name)
    if e.wants(table):
        kept = e.keep(indices) if indices is not None else None
        whole, dtype = table.shape, table.dtype
        back = "aten::embedding_dense_backward" if embedding else "aten::new_zeros"

        def run(_given: Sequence[Value | None]) -> list[Value | None]:
            held = kept.get() if kept is not None else None
            found: list[Value | None] = [e.new(whole, dtype, back)]
            del held
            return found

        e.link(name, [table], [y], run)
    return y


def mean(e: Eager, x: Value, shape: Dims, *, name: str = "aten::mean") -> Value:
    """A mean or a sum over axes: only sizes are kept. A sum's gradient is a view, a mean's is divided."""
    y = e.new(shape, x.dtype, name)
    if e.wants(x):
        whole, dtype = x.shape, x.dtype
        divided = name == "aten::mean"

        def run(given: Sequence[Value | None]) -> list[Value | None]:
            grad = given[0]
            assert grad is not None
            if divided:
                return [e.new(whole, dtype, "aten::div")]
            return [grad.seen(whole, (0,) * len(whole))]

        e.link(name, [x], [y], run)
    return y


def _viewed(e: Eager, x: Value, shape: Dims, strides: Dims, name: str) -> Value:
    y = x.seen(shape, strides)
    if e.wants(x):
        before = x.shape

        def run(given: Sequence[Value | None]) -> list[Value | None]:
            grad = given[0]
            if grad is None:
                return [None]
            back = view_strides(grad.shape, grad.strides, before)
            if back is not None:
                return [grad.seen(before, back)]
            return [e.new(before, grad.dtype, "aten::clone")]

        e.link(name, [x], [y], run)
    return y
