"""Shape arithmetic on small constants, so that Shape → Gather → Concat → Reshape chains resolve.

Values are flat tuples of numbers, with symbols passing through. What is common and small is done
in plain Python here; the rest by NumPy in `fold_arrays`, imported only when there is work for it.
Weights are never here: only contents a front end kept.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from peakmem.dtypes import DType
from peakmem.ir.dims import Shape, Symbol, bare, element_count, product
from peakmem.ir.shapes.call import Call
from peakmem.ir.shapes.slicing import slice_bounds

LARGEST_FOLD = 16384
# elements; contents beyond this are not shape arithmetic and are not followed

Values: TypeAlias = tuple[Any, ...]
Outputs: TypeAlias = list[tuple[Shape | None, DType | None]]
Plain: TypeAlias = Callable[[Call, Shape, DType | None], Values | None]
# (call, shape and dtype of the output) -> its content, or None when it takes arrays to tell

ALWAYS = frozenset(("Shape", "Size"))
# the operators whose result follows from shapes alone
WHOLE = ("int", "uint")
# the kinds of dtype of whole numbers
SAME_VALUES = frozenset(("Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze"))
# the operators that leave the flat content as it is


def fold(call: Call, outputs: Outputs) -> list[Values | None]:
    """Contents of the outputs that follow from known inputs; None where they do not."""
    nothing: list[Values | None] = [None] * len(outputs)
    op_type = call.op.op_type
    if op_type in ALWAYS:
        shape = call.shapes[0] if call.shapes else None
        if shape is None:
            return nothing
        if op_type == "Shape":
            return [shape[call.attr("start", 0) : call.attr("end", len(shape))]]
        return [(product(shape),)]
    for position, name in enumerate(call.op.inputs):
        if name and call.values[position] is None:
            return nothing
    if call.opset < 7 and call.attr("axis") is not None and call.attr("broadcast"):
        return nothing  # the second operand is placed by `axis`, not by its end
    counts = [element_count(shape) for shape, _ in outputs]
    if any(count is None or count > LARGEST_FOLD for count in counts):
        return nothing
    if op_type in SAME_VALUES:
        values = call.values[0]
        return [values if values is not None and _as_many(values, counts[0]) else None]
    plain = PLAIN.get(op_type)
    shape, dtype = outputs[0]
    if plain is not None and shape is not None:
        try:
            found = plain(call, shape, dtype)
        except (TypeError, ValueError, IndexError):
            return nothing
        if found is not None:
            return [found if _as_many(found, counts[0]) else None]
    if not call.op.inputs:
        return nothing
    from peakmem.ir.shapes import fold_arrays

    return fold_arrays.fold(call, outputs) if op_type in fold_arrays.FOLDS else nothing


def _as_many(values: Values, count: int | None) -> bool:
    return count is not None and len(values) == bare(count)


def equal(left: Any, right: Any) -> bool | None:
    """Whether two dimensions are equal; None when that depends on a symbol. No size is negative."""
    if isinstance(left, Symbol) or isinstance(right, Symbol):
        if left == right:
            return True
        other = right if isinstance(left, Symbol) else left
        return False if isinstance(other, int) and other < 0 else None
    return bool(left == right)


# -- plain Python ------------------------------------------------------------------------


def _is_list(call: Call, position: int) -> bool:
    shape = call.shapes[position]
    return shape is not None and len(shape) == 1


def _concat(call: Call, shape: Shape, _: object) -> Values | None:
    return None if len(shape) != 1 else tuple(item for values in call.values for item in values or ())


def _gather(call: Call, *_: object) -> Values | None:
    data, indices = call.values[0], call.values[1]
    if data is None or indices is None or not _is_list(call, 0):
        return None
    if not all(isinstance(index, int) and -len(data) <= index < len(data) for index in indices):
        return None
    return tuple(data[index] for index in indices)


def _slice(call: Call, *_: object) -> Values | None:
    data = call.values[0]
    if data is None or not _is_list(call, 0):
        return None
    if call.opset < 10:
        starts, ends, steps = call.attr("starts"), call.attr("ends"), None
    else:
        starts, ends, steps = call.value(1), call.value(2), call.value(4)
    steps = steps or (1,)
    if not starts or not ends or len(starts) != 1:
        return None
    return tuple(data[index] for index in slice_bounds(len(data), starts[0], ends[0], steps[0]))


def _cast(call: Call, _: object, dtype: DType | None) -> Values | None:
    have, values = call.dtype(), call.values[0]
    if values is None or dtype is None or have is None or dtype.kind not in WHOLE:
        return None
    if have.kind == "bool":
        return tuple(int(value) for value in values)
    return values if have.kind in WHOLE and _fit(values, dtype) else None


def _fit(values: Values, dtype: DType) -> bool:
    bits = dtype.bits or 0
    low, high = (0, 2**bits) if dtype.kind == "uint" else (-(2 ** (bits - 1)), 2 ** (bits - 1))
    return all(isinstance(value, Symbol) or low <= value < high for value in values)


def _arithmetic(compute: Callable[[Any, Any], Any]) -> Plain:
    """Element by element on whole numbers, two operands of one length or one of them single."""

    def run(call: Call, shape: Shape, dtype: DType | None) -> Values | None:
        if len(call.values) != 2 or len(shape) > 1:
            return None
        if any(given is None or given.kind not in WHOLE for given in call.dtypes):
            return None
        left, right = call.values[0] or (), call.values[1] or ()
        if any(isinstance(value, float) for value in (*left, *right)):
            return None
        if len(left) == 1:
            left = left * len(right)
        elif len(right) == 1:
            right = right * len(left)
        out = tuple(compute(a, b) for a, b in zip(left, right, strict=True))
        if any(value is None for value in out):
            return None
        return out if dtype is None or dtype.kind not in WHOLE or _fit(out, dtype) else None

    return run


def divided(left: Any, right: Any) -> Any:
    """ONNX's division of whole numbers, towards zero."""
    if isinstance(left, Symbol) or isinstance(right, Symbol):
        return None if right == 0 else left // right
    if right == 0:
        return None
    return abs(left) // abs(right) * (1 if (left < 0) == (right < 0) else -1)


def _constant_of_shape(call: Call, shape: Shape, _: object) -> Values | None:
    value = call.attr("value", (0,))
    value = value[0] if isinstance(value, tuple | list) else value
    return (value,) * (element_count(shape) or 0)


def _range(call: Call, *_: object) -> Values | None:
    bounds = [(values or (None,))[0] for values in call.values]
    if len(bounds) != 3 or not all(isinstance(bound, int) for bound in bounds):
        return None
    return tuple(range(*bounds))


def _where(call: Call, shape: Shape, _: object) -> Values | None:
    if len(shape) > 1 or any(isinstance(choice, Symbol) for choice in call.values[0] or ()):
        return None
    length = element_count(shape) or 0
    columns = [values * length if len(values) == 1 else values for values in call.values if values is not None]
    return tuple(a if choice else b for choice, a, b in zip(*columns, strict=True))


PLAIN: dict[str, Plain] = {
    "Add": _arithmetic(lambda a, b: a + b),
    "Cast": _cast,
    "Concat": _concat,
    "ConstantOfShape": _constant_of_shape,
    "Div": _arithmetic(divided),
    "Equal": _arithmetic(equal),
    "Gather": _gather,
    "Mul": _arithmetic(lambda a, b: a * b),
    "Range": _range,
    "Slice": _slice,
    "Sub": _arithmetic(lambda a, b: a - b),
    "Where": _where,
}
