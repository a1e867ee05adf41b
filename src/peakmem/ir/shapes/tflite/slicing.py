"""Shape rules of SLICE and STRIDED_SLICE, and which part of each axis they take."""

from __future__ import annotations

from dataclasses import dataclass

from peakmem.ir.dims import Dim, Shape
from peakmem.ir.shapes.call import Call, Specs, Unresolved, rule
from peakmem.ir.shapes.slicing import slice_size

_FAR, _BACK = 2**31 - 1, -(2**31)


@rule("tflite:SLICE")
def slice_(call: Call) -> Specs:
    given, begin, size = call.shape(), call.value(1), call.value(2)
    if size is None or (begin is None and -1 in size):
        return [(call.unknown_shape(len(given)), None)]
    dims: list[Dim] = []
    for axis, (dim, wanted) in enumerate(zip(given, size, strict=True)):
        if wanted == -1:
            assert begin is not None
            dims.append(dim - begin[axis])
        else:
            start = begin[axis] if begin is not None else 0
            if all(isinstance(one, int) for one in (dim, wanted, start)) and not 0 <= start <= start + wanted <= dim:
                raise call.error(f"{wanted} elements from {start} of axis {axis} run past its size")
            dims.append(wanted)
    return [(tuple(dims), None)]


@dataclass(frozen=True, slots=True)
class Taken:
    """What a strided slice takes of one axis of the input."""

    start: Dim
    stop: Dim
    step: int
    dropped: bool
    # one index is taken, and the axis goes


def strided(call: Call, rank: int) -> list[Taken | None]:
    """For each axis of the result in order what is taken; None for an axis of 1 that is put in.

    Raises:
        Unresolved: the bounds are computed while running.
    """
    begin, end, steps = call.known(1), call.known(2), call.known(3)
    offset = call.attr("offset", 0)
    masks = {name: call.attr(f"{name}_mask", 0) for name in ("begin", "end", "ellipsis", "new_axis", "shrink_axis")}
    count = len(begin)

    def has(name: str, at: int) -> bool:
        return bool(masks[name] >> at & 1)

    used = sum(1 for at in range(count) if not has("ellipsis", at) and not has("new_axis", at))
    found: list[Taken | None] = []
    axes = 0
    whole = Taken(0, _FAR, 1, False)
    for at in range(count):
        if has("ellipsis", at):
            skipped = max(0, rank - used)
            found += [whole] * skipped
            axes += skipped
            continue
        if has("new_axis", at):
            found.append(None)
            continue
        step = steps[at]
        if step == 0:
            raise call.error("a slice step of 0")
        start: Dim = begin[at]
        stop: Dim = start + end[at] if offset else end[at]
        if has("shrink_axis", at):
            found.append(Taken(start, start, 1, True))
        else:
            start = (0 if step > 0 else -1) if has("begin", at) else start
            stop = (_FAR if step > 0 else _BACK) if has("end", at) else stop
            found.append(Taken(start, stop, step, False))
        axes += 1
    if axes > rank:
        raise call.error(f"{axes} axes of an input of rank {rank} are sliced")
    return found + [whole] * (rank - axes)


@rule("tflite:STRIDED_SLICE")
def strided_slice(call: Call) -> Specs:
    given = call.shape()
    try:
        taken = strided(call, len(given))
    except Unresolved:
        if call.length(1) is None or call.attr("ellipsis_mask") or call.attr("new_axis_mask"):
            raise
        gone = sum(call.attr("shrink_axis_mask", 0) >> at & 1 for at in range(call.length(1) or 0))
        return [(_sliced_somewhere(call, given, gone), None)]
    dims: list[Dim] = []
    axis = 0
    for one in taken:
        if one is None:
            dims.append(1)
            continue
        if not one.dropped:
            dims.append(slice_size(given[axis], one.start, one.stop, one.step))
        axis += 1
    return [(tuple(dims), None)]


def _sliced_somewhere(call: Call, given: Shape, gone: int) -> Shape:
    """The shape of a slice whose bounds are not known: axes it does not reach stay."""
    count = call.length(1) or 0
    if len(given) < count:
        raise call.error(f"{count} axes of an input of rank {len(given)} are sliced")
    return (*call.unknown_shape(count - gone), *given[count:])
