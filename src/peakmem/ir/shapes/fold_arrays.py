"""The part of constant folding that needs arrays: NumPy does what ONNX's operators say.

Imported by `fold` when there is work. An element without a value is a Symbol in an object array;
only operators that know what to do with one accept it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from peakmem.dtypes import DType
from peakmem.ir.dims import Shape, Symbol, bare, element_count, remembers
from peakmem.ir.shapes.call import Call
from peakmem.ir.shapes.fold_symbols import SYMBOLIC
from peakmem.ir.shapes.fold_work import Array, Fold, Work, reduction
from peakmem.ir.shapes.slicing import slice_bounds

NUMPY_NAMES = frozenset(
    ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64", "bool")
)
MOVES = frozenset(
    ("Concat", "Expand", "Gather", "GatherElements", "GatherND", "ScatterND", "ScatterElements", "Slice", "Split",
     "Tile", "Transpose", "Where", "Compress", "Trilu")
)  # fmt: skip
# the operators that compute nothing, and so take any type and symbols


def fold(call: Call, outputs: list[tuple[Shape | None, DType | None]]) -> list[tuple[Any, ...] | None]:
    """Contents of the outputs, None where they cannot be computed."""
    nothing: list[tuple[Any, ...] | None] = [None] * len(outputs)
    op_type = call.op.op_type
    if op_type not in MOVES and any(dtype is not None and dtype.name not in NUMPY_NAMES for dtype in call.dtypes):
        return nothing
    result = _result(call)
    if result is None and any(remembers(value) for values in call.values for value in values or ()):
        bare_values = [None if values is None else tuple(map(_forgotten, values)) for values in call.values]
        result = _result(Call(call.op, call.shapes, call.dtypes, bare_values, call.opset))
    if result is None:
        return nothing
    results = result if isinstance(result, list) else [result]
    folded: list[tuple[Any, ...] | None] = []
    for (shape, dtype), value in zip(outputs, results, strict=False):
        array = np.asarray(value)
        count = element_count(shape)
        if shape is None or count is None or array.size != bare(count):
            folded.append(None)
            continue
        if array.dtype != object and dtype is not None and dtype.name in NUMPY_NAMES:
            array = array.astype(dtype.name)
        folded.append(tuple(array.reshape(-1).tolist()))
    return folded + [None] * (len(outputs) - len(folded))


def _result(call: Call) -> Any:
    """What the operator makes of the contents, None where that cannot be computed."""
    op_type = call.op.op_type
    try:
        work = Work(call, [_array(call, position) for position in range(len(call.op.inputs))])
        if work.symbolic and op_type not in MOVES and op_type not in SYMBOLIC:
            return None
        with np.errstate(all="ignore"):
            return (SYMBOLIC.get(op_type, FOLDS[op_type]) if work.symbolic else FOLDS[op_type])(work)
    except (ValueError, TypeError, IndexError, KeyError, ZeroDivisionError, OverflowError, AttributeError):
        return None


def _forgotten(value: Any) -> Any:
    return int(value) if remembers(value) else value


def _array(call: Call, position: int) -> Array | None:
    values, shape = call.values[position], call.shapes[position]
    if values is None or shape is None:
        return None
    dtype = call.dtypes[position]
    if any(isinstance(value, Symbol) or remembers(value) for value in values):
        array = np.empty(len(values), dtype=object)
        array[:] = values
    elif dtype is not None and dtype.name in NUMPY_NAMES:
        array = np.array(values, dtype=dtype.name)
    else:
        array = np.array(values)
    return array.reshape(shape)


# -- moving elements ---------------------------------------------------------------------


def _gather_nd(work: Work) -> Array:
    data, indices = work.x
    batch = work.attr("batch_dims", 0)
    out = [data[(*at[:batch], *indices[at])] for at in np.ndindex(*indices.shape[:-1])]
    return np.array(out, dtype=data.dtype)


def _scatter_nd(work: Work) -> Array | None:
    data, indices, updates = work.x
    if work.attr("reduction", "none") != "none":
        return None
    out = data.astype(object) if updates.dtype == object else data.copy()
    for at in np.ndindex(*indices.shape[:-1]):
        out[tuple(indices[at])] = updates[at]
    return out


def _scatter_elements(work: Work) -> Array | None:
    data, indices, updates = work.x
    if work.attr("reduction", "none") != "none" or updates.dtype == object:
        return None
    out = data.copy()
    np.put_along_axis(out, indices, updates, axis=work.attr("axis", 0))
    return out


def _slice(work: Work) -> Array:
    data = work.x[0]
    if work.call.opset < 10:
        starts, ends, axes, steps = work.attr("starts"), work.attr("ends"), work.attr("axes"), None
    else:
        starts, ends, axes, steps = work.x[1], work.x[2], work.given(3), work.given(4)
    axes = range(len(starts)) if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        bounds = slice_bounds(data.shape[axis], int(start), int(end), int(step))
        data = np.take(data, np.array(bounds, dtype=np.int64), axis=int(axis))
    return data


def _split(work: Work) -> list[Array]:
    data, axis = work.x[0], work.attr("axis", 0)
    sizes = work.attr("split", work.given(1))
    if sizes is None:
        count = len(work.call.op.outputs)
        sizes = [-(-data.shape[axis] // count)] * count
    return list(np.split(data, np.cumsum(sizes)[:-1], axis=axis))


def _expand(work: Work) -> Array:
    data, target = work.x
    shape = tuple(bare(dim) for dim in target.tolist())
    return np.broadcast_to(data, np.broadcast_shapes(data.shape, shape))


def _trilu(work: Work) -> Array:
    k = work.given(1)
    return (np.triu if work.attr("upper", 1) else np.tril)(work.x[0], 0 if k is None else int(k.reshape(-1)[0]))


def _compress(work: Work) -> Array:
    return np.compress(work.x[1], work.x[0], axis=work.attr("axis"))


# -- computing ---------------------------------------------------------------------------


def _divide(work: Work) -> Array | None:
    a, b = work.x
    if a.dtype.kind == "f":
        return a / b
    if not b.all():
        return None
    # ONNX integer division truncates towards zero.
    return np.abs(a) // np.abs(b) * (np.sign(a) * np.sign(b))


def _mod(work: Work) -> Array | None:
    a, b = work.x
    if a.dtype.kind != "f" and not b.all():
        return None
    return np.fmod(a, b) if work.attr("fmod", 0) else np.mod(a, b)


def _cast(work: Work) -> Array | None:
    have = work.x[0]
    want = work.call.dtype_attr("to") if work.call.op.op_type == "Cast" else work.call.dtype(1)
    if want is None or want.name not in NUMPY_NAMES:
        return None
    if have.dtype.kind == "f" and want.kind in ("int", "uint"):
        return np.trunc(have).astype(np.int64)
    return have.astype(want.name)


def _clip(work: Work) -> Array:
    out = work.x[0]
    low = work.attr("min") if work.given(1) is None else work.x[1]
    high = work.attr("max") if work.given(2) is None else work.x[2]
    out = out if low is None else np.maximum(out, low)
    return out if high is None else np.minimum(out, high)


def _arange(work: Work) -> Array:
    start, limit, delta = (bound.reshape(-1)[0] for bound in work.x)
    count = max(0, int(np.ceil(np.float64(limit - start) / np.float64(delta))))
    return start + delta * np.arange(count).astype(start.dtype)


def _cumulative_sum(work: Work) -> Array | None:
    if work.attr("exclusive", 0) or work.attr("reverse", 0):
        return None
    return np.cumsum(work.x[0], axis=int(work.x[1].reshape(-1)[0]))


def _one_hot(work: Work) -> Array:
    indices, depth, (off, on) = work.x[0], int(work.x[1].reshape(-1)[0]), work.x[2]
    indices = indices.astype(np.int64)
    indices = np.where(indices < 0, indices + depth, indices)
    axis = work.attr("axis", -1)
    axis = axis + indices.ndim + 1 if axis < 0 else axis
    shape = [1] * (indices.ndim + 1)
    shape[axis] = depth
    return np.where(np.expand_dims(indices, axis) == np.arange(depth).reshape(shape), on, off)


def _arg(name: str) -> Fold:
    def run(work: Work) -> Array | None:
        if work.attr("select_last_index", 0):
            return None
        found = getattr(np, name)(work.x[0], axis=work.attr("axis", 0))
        return np.asarray(found)

    return run


def _variadic(name: str) -> Fold:
    def run(work: Work) -> Array:
        out = work.x[0]
        for other in work.x[1:]:
            out = getattr(np, name)(out, other)
        return out

    return run


def _elementwise(name: str) -> Fold:
    return lambda work: getattr(np, name)(*work.x)


FOLDS: dict[str, Fold] = {
    "Abs": _elementwise("abs"),
    "Add": _elementwise("add"),
    "And": _elementwise("logical_and"),
    "ArgMax": _arg("argmax"),
    "ArgMin": _arg("argmin"),
    "Cast": _cast,
    "CastLike": _cast,
    "Ceil": _elementwise("ceil"),
    "Clip": _clip,
    "Compress": _compress,
    "Concat": lambda work: np.concatenate(work.x, axis=work.attr("axis", 1)),
    "CumSum": _cumulative_sum,
    "Div": _divide,
    "Equal": _elementwise("equal"),
    "Expand": _expand,
    "Floor": _elementwise("floor"),
    "Gather": lambda work: np.take(work.x[0], work.x[1].astype(np.int64), axis=work.attr("axis", 0)),
    "GatherElements": lambda work: np.take_along_axis(work.x[0], work.x[1], axis=work.attr("axis", 0)),
    "GatherND": _gather_nd,
    "Greater": _elementwise("greater"),
    "GreaterOrEqual": _elementwise("greater_equal"),
    "Less": _elementwise("less"),
    "LessOrEqual": _elementwise("less_equal"),
    "Max": _variadic("maximum"),
    "Min": _variadic("minimum"),
    "Mod": _mod,
    "Mul": _elementwise("multiply"),
    "Neg": _elementwise("negative"),
    "NonZero": lambda work: np.stack(np.nonzero(work.x[0])) if work.x[0].ndim else None,
    "Not": _elementwise("logical_not"),
    "OneHot": _one_hot,
    "Or": _elementwise("logical_or"),
    "Pow": _elementwise("power"),
    "Range": _arange,
    "ReduceMax": reduction("max"),
    "ReduceMean": reduction("mean"),
    "ReduceMin": reduction("min"),
    "ReduceProd": reduction("prod"),
    "ReduceSum": reduction("sum"),
    "Relu": lambda work: np.maximum(work.x[0], np.zeros_like(work.x[0])),
    "Round": _elementwise("round"),
    "ScatterElements": _scatter_elements,
    "ScatterND": _scatter_nd,
    "Sign": _elementwise("sign"),
    "Slice": _slice,
    "Split": _split,
    "Sqrt": _elementwise("sqrt"),
    "Sub": _elementwise("subtract"),
    "Sum": _variadic("add"),
    "Tile": lambda work: np.tile(work.x[0], tuple(bare(times) for times in work.x[1].tolist())),
    "Transpose": lambda work: np.transpose(work.x[0], work.attr("perm")),
    "Trilu": _trilu,
    "Where": lambda work: np.where(*work.x),
    "Xor": _elementwise("logical_xor"),
}
