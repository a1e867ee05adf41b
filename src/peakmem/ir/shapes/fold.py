"""Shape arithmetic on small constants, so that Shape → Gather → Concat → Reshape chains resolve.

Values are flat tuples; NumPy does the work and is imported only when there is work to do.
Symbols pass through as objects. Weights are never here: only contents a front end kept.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from peakmem.dtypes import DType
from peakmem.ir.dims import Shape, Symbol, element_count
from peakmem.ir.shapes.call import Call

LARGEST_FOLD = 65536
# elements; contents beyond this are not shape arithmetic and are not followed

Array: TypeAlias = Any
Fold: TypeAlias = Callable[[Any, Call, list[Array]], Any]
# (numpy, call, inputs) -> one array, or a list of them; None when it cannot


def fold(call: Call, outputs: list[tuple[Shape | None, DType | None]]) -> list[tuple[Any, ...] | None]:
    """Contents of the outputs that follow from known inputs; None where they do not."""
    nothing: list[tuple[Any, ...] | None] = [None] * len(outputs)
    op_type = call.op.op_type
    if call.op.domain:
        return nothing
    if op_type == "Shape":
        shape = call.shapes[0]
        if shape is None:
            return nothing
        return [shape[call.attr("start", 0) : call.attr("end", len(shape))]]
    if op_type == "Size":
        count = element_count(call.shapes[0])
        return [None if count is None else (count,)]
    function = FOLDS.get(op_type)
    if function is None:
        return nothing
    for position, name in enumerate(call.op.inputs):
        if name and call.values[position] is None:
            return nothing
    counts = [element_count(shape) for shape, _ in outputs]
    if any(count is None or count > LARGEST_FOLD for count in counts):
        return nothing
    import numpy as np

    try:
        arrays = [_array(np, call, i) for i in range(len(call.op.inputs))]
        with np.errstate(all="ignore"):
            result = function(np, call, arrays)
    except (ValueError, TypeError, IndexError, KeyError, ZeroDivisionError, OverflowError, AttributeError):
        return nothing
    if result is None:
        return nothing
    results = result if isinstance(result, list) else [result]
    folded: list[tuple[Any, ...] | None] = []
    for (shape, dtype), count, value in zip(outputs, counts, results, strict=False):
        array = np.asarray(value)
        if array.size != count or shape is None:
            folded.append(None)
            continue
        if dtype is not None and array.dtype != object and dtype.kind in ("int", "uint") and array.dtype.kind == "f":
            array = np.trunc(array).astype(np.int64)
        folded.append(tuple(array.reshape(-1).tolist()))
    return folded + [None] * (len(outputs) - len(folded))


def _array(np: Any, call: Call, position: int) -> Array:
    values = call.values[position] if position < len(call.values) else None
    if values is None:
        return None
    dtype = call.dtypes[position]
    shape = call.shapes[position] or ()
    if any(isinstance(value, Symbol) for value in values):
        array = np.empty(len(values), dtype=object)
        array[:] = values
    else:
        array = np.array(values, dtype=_numpy_dtype(np, dtype))
    return array.reshape(tuple(shape)) if len(values) == element_count(shape) else array


def _numpy_dtype(np: Any, dtype: DType | None) -> Any:
    if dtype is None or dtype.kind == "string":
        return None
    if dtype.kind == "float":
        # Sub-32-bit floats are kept as their float32 values.
        return np.float64 if dtype.bits == 64 else np.float32
    if dtype.kind == "bool":
        return np.bool_
    return np.uint64 if dtype.name == "uint64" else np.int64


def _divide(np: Any, call: Call, x: list[Array]) -> Any:
    a, b = x
    if a.dtype.kind in "iu" and b.dtype.kind in "iu":
        if not b.all():
            return None
        # ONNX integer division truncates towards zero.
        return (np.abs(a) // np.abs(b)) * (np.sign(a) * np.sign(b))
    if object in (a.dtype, b.dtype):
        return a // b
    return a / b


def _axes(call: Call, x: list[Array]) -> tuple[int, ...] | None:
    given = call.attr("axes")
    if given is None and len(x) > 1 and x[1] is not None:
        given = [int(axis) for axis in x[1].reshape(-1)]
    return None if given is None else tuple(given)


def _reduce(name: str) -> Fold:
    def run(np: Any, call: Call, x: list[Array]) -> Any:
        axes = _axes(call, x)
        if not axes and call.attr("noop_with_empty_axes"):
            return x[0]
        return getattr(np, name)(x[0], axis=axes or None, keepdims=bool(call.attr("keepdims", 1)))

    return run


def _unsqueeze(np: Any, call: Call, x: list[Array]) -> Any:
    return x[0].reshape(-1)


def _slice(np: Any, call: Call, x: list[Array]) -> Any:
    data = x[0]
    if call.opset < 10:
        starts, ends, axes, steps = call.attr("starts"), call.attr("ends"), call.attr("axes"), None
    else:
        starts, ends = x[1].tolist(), x[2].tolist()
        axes = x[3].tolist() if len(x) > 3 and x[3] is not None else None
        steps = x[4].tolist() if len(x) > 4 and x[4] is not None else None
    axes = range(len(starts)) if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    index = [slice(None)] * data.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        stop = None if step < 0 and end < -data.shape[axis] else end
        index[axis] = slice(start, stop, step)
    return data[tuple(index)]


def _split(np: Any, call: Call, x: list[Array]) -> Any:
    axis = call.attr("axis", 0)
    sizes = call.attr("split")
    if sizes is None and len(x) > 1 and x[1] is not None:
        sizes = x[1].tolist()
    if sizes is None:
        part = -(-x[0].shape[axis] // len(call.op.outputs))
        sizes = [part] * (len(call.op.outputs) - 1)
        return np.split(x[0], np.cumsum(sizes), axis=axis)
    return np.split(x[0], np.cumsum(sizes)[:-1], axis=axis)


def _cast(np: Any, call: Call, x: list[Array]) -> Any:
    if x[0].dtype == object:
        return x[0]
    to = call.attr("to", "")
    if to == "bool":
        return x[0].astype(np.bool_)
    if to.startswith(("int", "uint")):
        return np.trunc(x[0].astype(np.float64)).astype(np.int64) if x[0].dtype.kind == "f" else x[0].astype(np.int64)
    return x[0].astype(np.float64 if to == "float64" else np.float32)


def _arange(np: Any, call: Call, x: list[Array]) -> Any:
    return np.arange(x[0].item(), x[1].item(), x[2].item())


def _constant_of_shape(np: Any, call: Call, x: list[Array]) -> Any:
    return np.full(tuple(int(dim) for dim in x[0].reshape(-1)), call.attr("value", (0,))[0])


def _scatter_nd(np: Any, call: Call, x: list[Array]) -> Any:
    data, indices, updates = x
    if call.attr("reduction", "none") != "none":
        return None
    out = data.copy()
    for at in np.ndindex(*indices.shape[:-1]):
        out[tuple(indices[at])] = updates[at]
    return out


def _clip(np: Any, call: Call, x: list[Array]) -> Any:
    low = x[1] if len(x) > 1 and x[1] is not None else call.attr("min")
    high = x[2] if len(x) > 2 and x[2] is not None else call.attr("max")
    out = x[0]
    out = out if low is None else np.maximum(out, low)
    return out if high is None else np.minimum(out, high)


def _gather(np: Any, call: Call, x: list[Array]) -> Any:
    return np.take(x[0], x[1].astype(np.int64), axis=call.attr("axis", 0))


def _mod(np: Any, call: Call, x: list[Array]) -> Any:
    return np.fmod(x[0], x[1]) if call.attr("fmod", 0) else np.mod(x[0], x[1])


def _variadic(name: str) -> Fold:
    def run(np: Any, call: Call, x: list[Array]) -> Any:
        out = x[0]
        for other in x[1:]:
            out = getattr(np, name)(out, other)
        return out

    return run


def _ufunc(name: str) -> Fold:
    return lambda np, call, x: getattr(np, name)(*x)


FOLDS: dict[str, Fold] = {
    "Abs": _ufunc("abs"),
    "Add": _ufunc("add"),
    "And": _ufunc("logical_and"),
    "Cast": _cast,
    "CastLike": lambda np, call, x: x[0],
    "Ceil": _ufunc("ceil"),
    "Clip": _clip,
    "Concat": lambda np, call, x: np.concatenate(x, axis=call.attr("axis", 1)),
    "ConstantOfShape": _constant_of_shape,
    "Div": _divide,
    "Equal": _ufunc("equal"),
    "Expand": lambda np, call, x: np.broadcast_to(
        x[0], np.broadcast_shapes(x[0].shape, tuple(int(dim) for dim in x[1]))
    ),
    "Flatten": lambda np, call, x: x[0],
    "Floor": _ufunc("floor"),
    "Gather": _gather,
    "GatherElements": lambda np, call, x: np.take_along_axis(x[0], x[1], axis=call.attr("axis", 0)),
    "Greater": _ufunc("greater"),
    "GreaterOrEqual": _ufunc("greater_equal"),
    "Identity": lambda np, call, x: x[0],
    "Less": _ufunc("less"),
    "LessOrEqual": _ufunc("less_equal"),
    "Max": _variadic("maximum"),
    "Min": _variadic("minimum"),
    "Mod": _mod,
    "Mul": _ufunc("multiply"),
    "Neg": _ufunc("negative"),
    "NonZero": lambda np, call, x: np.stack(np.nonzero(x[0])) if x[0].ndim else None,
    "Not": _ufunc("logical_not"),
    "Or": _ufunc("logical_or"),
    "Pow": _ufunc("power"),
    "Range": _arange,
    "ReduceMax": _reduce("max"),
    "ReduceMin": _reduce("min"),
    "ReduceProd": _reduce("prod"),
    "ReduceSum": _reduce("sum"),
    "Reshape": lambda np, call, x: x[0],
    "Round": _ufunc("round"),
    "ScatterND": _scatter_nd,
    "Slice": _slice,
    "Split": _split,
    "Sqrt": _ufunc("sqrt"),
    "Squeeze": lambda np, call, x: x[0].reshape(-1),
    "Sub": _ufunc("subtract"),
    "Sum": _variadic("add"),
    "Tile": lambda np, call, x: np.tile(x[0], tuple(int(times) for times in x[1])),
    "Transpose": lambda np, call, x: np.transpose(x[0], call.attr("perm")),
    "Unsqueeze": _unsqueeze,
    "Where": lambda np, call, x: np.where(*x),
}
