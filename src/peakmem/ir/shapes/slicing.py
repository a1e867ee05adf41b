"""The shape rule of Slice, and which indices a slice takes: its bounds reach beyond an axis as they like."""

from __future__ import annotations

from peakmem.ir.dims import Dim, Symbol
from peakmem.ir.shapes.call import Call, Specs, Unresolved, rule


@rule("Slice")
def slice_(call: Call) -> Specs:
    image = call.shape()
    if call.opset < 10:
        starts, ends = call.attr("starts", ()), call.attr("ends", ())
        axes, steps = call.attr("axes"), None
    else:
        axes = call.value(3)
        if axes is None and call.has(3):
            return [(call.open_axes(image), call.dtype())]
        steps = call.value(4) if call.has(4) else ()
        starts, ends = call.value(1), call.value(2)
        count = call.length(1) if axes is None else len(axes)
        count = call.length(2) if count is None else count
        if count is None:
            raise Unresolved("how many axes are sliced is computed while running")
        axes = range(count) if axes is None else axes
        if starts is None or ends is None or steps is None:
            # Without its bounds a slice still has the rank of its input.
            return [(call.open_axes(image, axes), call.dtype())]
    axes = range(len(starts)) if axes is None else axes
    dims = list(image)
    for start, end, axis, step in zip(starts, ends, axes, steps or (1,) * len(starts), strict=True):
        at = call.axis(axis, len(image))
        if step == 0:
            raise call.error("a slice step of 0")
        dims[at] = slice_size(dims[at], start, end, step)
    return [(tuple(dims), call.dtype())]


def slice_bounds(size: int, start: int, end: int, step: int) -> range:
    """The indices that ONNX's Slice takes of an axis of `size`."""
    return range(*_bounds(size, start, end, step))


def _bounds(size: int, start: int, end: int, step: int) -> tuple[int, int, int]:
    """First index, index to stop before, and step of a slice of an axis of `size`."""
    start = start + size if start < 0 else start
    end = end + size if end < 0 else end
    if step > 0:
        return min(max(start, 0), size), min(max(end, 0), size), step
    if size == 0:
        return 0, 0, step
    if far_end(end):
        # To the end, which backwards is the beginning; so the runtimes read it.
        end = -1
    return min(max(start, 0), size - 1), min(max(end, -1), size - 1), step


def far_end(end: Dim) -> bool:
    """Whether `end` is one of the numbers that stand for the end of an axis."""
    return isinstance(end, int) and end in (2**31 - 1, 2**63 - 1)


def slice_size(size: Dim, start: Dim, end: Dim, step: int) -> Dim:
    """How many indices a slice takes; a symbol where it depends on one."""
    if isinstance(size, int) and isinstance(start, int) and isinstance(end, int):
        first, stop, step = _bounds(size, start, end, step)
        return max(0, -((first - stop) // step))
    far = far_end(end)
    back = isinstance(end, int) and end <= -(2**31)
    if step == 1 and start == 0:
        if far:
            return size
        if isinstance(end, Symbol):
            return end  # as a rule what is asked for is there
        # A size of 1 or more is taken for granted where a symbol stands for it.
        return size + end if end < 0 else (end if end <= 1 else Symbol(f"min({size},{end})"))
    if step == 1 and far and isinstance(start, int):
        return size - start if start > 0 else Symbol(f"min({size},{-start})")
    if step == -1 and start == -1 and back:
        return size
    return Symbol(f"{size}[{start}:{'' if far else end}:{step}]")
