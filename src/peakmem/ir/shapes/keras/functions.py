"""Shape rules of what moves, joins, reduces or encodes: layers, and functions of keras.ops."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from peakmem import dtypes
from peakmem.ir.dims import Dim, Shape, Symbol, product
from peakmem.ir.shapes.call import Call, Specs, Unresolved, broadcast, ceil_div, rule

MOST_PIECES = 1024


@rule("keras:Flatten")
def flatten(call: Call) -> Specs:
    shape = call.shape()
    if len(shape) == 1:
        return [((shape[0], 1), call.dtype())]
    return [((shape[0], product(shape[1:])), call.dtype())]


def _filled(call: Call, wanted: Sequence[Dim], total: Dim) -> Shape:
    """`wanted` with its -1 replaced by what is left of `total` elements."""
    holes = [axis for axis, dim in enumerate(wanted) if dim == -1]
    rest = product([dim for dim in wanted if dim != -1])
    if not holes:
        if isinstance(total, int) and isinstance(rest, int) and total != rest:
            raise call.error(f"{total} elements do not fit a shape of {rest}")
        return tuple(wanted)
    if len(holes) > 1:
        raise call.error("two sizes are open")
    if isinstance(total, int) and isinstance(rest, int) and (rest == 0 or total % rest):
        raise call.error(f"{total} elements are not whole rows of {rest}")
    return tuple(total // rest if dim == -1 else dim for dim in wanted)


@rule("keras:Reshape")
def reshape(call: Call) -> Specs:
    shape = call.shape()
    target = call.attr("target_shape")
    if target is not None:
        return [((shape[0], *_filled(call, target, product(shape[1:]))), call.dtype())]
    wanted: tuple[Dim, ...] | None = call.ints("newshape")
    if wanted is None:
        raise Unresolved("the new shape is not a plain list")
    if -1 in wanted and shape and wanted[0] == -1 and isinstance(shape[0], Symbol):
        rest = product(wanted[1:])
        if rest == product(shape[1:]):
            return [((shape[0], *wanted[1:]), call.dtype())]
    return [(_filled(call, wanted, product(shape)), call.dtype())]


@rule("keras:Permute", "keras:Transpose")
def permute(call: Call) -> Specs:
    shape = call.shape()
    if call.attr("to") == "channels_last":
        return [((shape[0], *shape[2:], *shape[1:2]), call.dtype())]
    order = call.attr("perm") or call.attr("axes") or tuple(reversed(range(len(shape))))
    axes = [call.axis(axis, len(shape)) for axis in order]
    if sorted(axes) != list(range(len(shape))):
        raise call.error(f"the axes {tuple(order)[:10]} are no order of {len(shape)}")
    return [(tuple(shape[axis] for axis in axes), call.dtype())]


@rule("keras:Swapaxes")
def swap(call: Call) -> Specs:
    shape = list(call.shape())
    one, other = call.axis(call.attr("axis1"), len(shape)), call.axis(call.attr("axis2"), len(shape))
    shape[one], shape[other] = shape[other], shape[one]
    return [(tuple(shape), call.dtype())]


@rule("keras:Moveaxis")
def move(call: Call) -> Specs:
    shape = call.shape()
    sources = [call.axis(axis, len(shape)) for axis in call.ints("source") or ()]
    targets = [call.axis(axis, len(shape)) for axis in call.ints("destination") or ()]
    order = [axis for axis in range(len(shape)) if axis not in sources]
    for target, source in sorted(zip(targets, sources, strict=True)):
        order.insert(target, source)
    return [(tuple(shape[axis] for axis in order), call.dtype())]


@rule("keras:RepeatVector")
def repeat_vector(call: Call) -> Specs:
    shape = call.shape()
    if len(shape) != 2:
        raise call.error("a row of features is repeated, rank 2")
    return [((shape[0], call.attr("n"), shape[1]), call.dtype())]


@rule("keras:Repeat")
def repeat(call: Call) -> Specs:
    shape, times, axis = call.shape(), call.attr("repeats"), call.attr("axis")
    if not isinstance(times, int):
        raise Unresolved("repeats differ from row to row")
    if axis is None:
        return [((product(shape) * times,), call.dtype())]
    at = call.axis(axis, len(shape))
    return [(tuple(dim * times if place == at else dim for place, dim in enumerate(shape)), call.dtype())]


@rule("keras:Tile")
def tile(call: Call) -> Specs:
    shape, times = call.shape(), call.ints("repeats")
    if times is None:
        raise Unresolved("repeats are computed while running")
    rank = max(len(shape), len(times))
    sizes = (*(1,) * (rank - len(shape)), *shape)
    many = (*(1,) * (rank - len(times)), *times)
    return [(tuple(size * count for size, count in zip(sizes, many, strict=True)), call.dtype())]


@rule("keras:Concatenate")
def concatenate(call: Call) -> Specs:
    shapes = [call.shape(position) for position in range(len(call.op.inputs))]
    if not shapes or any(len(shape) != len(shapes[0]) for shape in shapes):
        raise call.error("tensors of different ranks cannot be joined")
    at = call.axis(call.attr("axis", -1), len(shapes[0]))
    out: list[Dim] = []
    for axis in range(len(shapes[0])):
        sizes = [shape[axis] for shape in shapes]
        if axis == at:
            total: Dim = 0
            for size in sizes:
                total = size if total == 0 else total + size
            out.append(total)
            continue
        numbers = {size for size in sizes if isinstance(size, int)}
        if len(numbers) > 1:
            raise call.error(f"sizes {sorted(numbers)} of axis {axis} cannot be joined along axis {at}")
        out.append(numbers.pop() if numbers else sizes[0])
    return [(tuple(out), call.dtype())]


@rule("keras:Stack")
def stack(call: Call) -> Specs:
    shape = list(call.shape())
    at = call.attr("axis", 0)
    shape.insert(call.axis(at, len(shape) + 1), len(call.op.inputs))
    return [(tuple(shape), call.dtype())]


@rule("keras:ExpandDims")
def expand(call: Call) -> Specs:
    shape: list[Dim] = list(call.shape())
    axes = call.ints("axis") or ()
    rank = len(shape) + len(axes)
    for at in sorted(call.axis(axis, rank) for axis in axes):
        shape.insert(at, 1)
    return [(tuple(shape), call.dtype())]


@rule("keras:Squeeze")
def squeeze(call: Call) -> Specs:
    shape, axes = call.shape(), call.ints("axis")
    if axes is None:
        if any(isinstance(dim, Symbol) for dim in shape):
            raise Unresolved("which axes are 1 is open")
        return [(tuple(dim for dim in shape if dim != 1), call.dtype())]
    dropped = {call.axis(axis, len(shape)) for axis in axes}
    return [(tuple(dim for axis, dim in enumerate(shape) if axis not in dropped), call.dtype())]


@rule("keras:BroadcastTo")
def broadcast_to(call: Call) -> Specs:
    wanted = call.ints("shape")
    if wanted is None:
        raise Unresolved("the shape is computed while running")
    return [(tuple(wanted), call.dtype())]


@rule("keras:GetItem")
def get_item(call: Call) -> Specs:
    shape, index = call.shape(), call.attr("index")
    if index is None:
        raise Unresolved("the index is a tensor")
    used = sum(1 for item in index if item not in ("new", "..."))
    out: list[Dim] = []
    at = 0
    items = list(index) if "..." in index else [*index, "..."]
    for item in items:
        if item == "new":
            out.append(1)
        elif item == "...":
            span = max(0, len(shape) - used)
            out += shape[at : at + span]
            at += span
        else:
            if at >= len(shape):
                raise call.error(f"an index of {used} entries is too long")
            if ":" in item:
                out.append(_sliced(shape[at], item))
            at += 1
    return [(tuple(out), call.dtype())]


def _sliced(size: Dim, text: str) -> Dim:
    start, stop, step = (int(part) if part else None for part in [*text.split(":"), "", ""][:3])
    if start is None and stop is None and step in (None, 1):
        return size
    if isinstance(size, int):
        return len(range(*slice(start, stop, step).indices(size)))
    if step in (None, 1) and start is not None and start < 0 and stop is None:
        return -start
    if step in (None, 1) and (start or 0) >= 0 and stop is None:
        return size - (start or 0)
    if step in (None, 1) and (start or 0) >= 0 and stop is not None and stop < 0:
        return size - ((start or 0) - stop)
    if (start or 0) >= 0 and stop is not None and stop >= 0 and (step or 1) > 0:
        return ceil_div(max(0, stop - (start or 0)), step or 1)  # as long as the axis reaches that far
    raise Unresolved("a slice of an open axis")


REDUCING = ("Sum", "Mean", "Max", "Min", "Prod", "Amax", "Amin", "Std", "Var", "All", "Any", "Logsumexp", "Median",
            "Norm", "CountNonzero")  # fmt: skip


@rule(*(f"keras:{name}" for name in REDUCING))
def reduce(call: Call) -> Specs:
    shape, axes = call.shape(), call.ints("axis")
    gone = set(range(len(shape))) if axes is None else {call.axis(axis, len(shape)) for axis in axes}
    dtype = dtypes.BOOL if call.op.op_type in ("All", "Any") else call.dtype()
    if call.attr("keepdims", 0):
        return [(tuple(1 if axis in gone else dim for axis, dim in enumerate(shape)), dtype)]
    return [(tuple(dim for axis, dim in enumerate(shape) if axis not in gone), dtype)]


@rule("keras:Argmax", "keras:Argmin")
def arg(call: Call) -> Specs:
    return [(reduce(call)[0][0], dtypes.INT32)]


COMPARING = ("Equal", "NotEqual", "Greater", "GreaterEqual", "Less", "LessEqual", "LogicalAnd", "LogicalOr",
             "LogicalXor")  # fmt: skip


@rule(*(f"keras:{name}" for name in COMPARING))
def compare(call: Call) -> Specs:
    return [(broadcast(call, *(call.shape(position) for position in range(len(call.op.inputs)))), dtypes.BOOL)]


@rule(*(f"keras:{name}" for name in ("Isnan", "Isfinite", "Isinf", "Signbit", "IsReal")))
def tested(call: Call) -> Specs:
    return [(call.shape(), dtypes.BOOL)]


@rule("keras:ops.Normalize")
def normalized(call: Call) -> Specs:
    return [(call.shape(), call.dtype())]


@rule("keras:Unstack")
def unstack(call: Call) -> Specs:
    shape = call.shape()
    at = call.axis(call.attr("axis", 0), len(shape))
    return [((*shape[:at], *shape[at + 1 :]), call.dtype())] * len(call.op.outputs)


@rule("keras:Divide", "keras:TrueDivide", "keras:Power", "keras:FloorDivide", "keras:Mod", "keras:Arctan2",
      "keras:Logaddexp", "keras:DivideNoNan")  # fmt: skip
def arithmetic(call: Call) -> Specs:
    return [(broadcast(call, *(call.shape(position) for position in range(len(call.op.inputs)))), call.dtype())]


@rule("keras:Where")
def where(call: Call) -> Specs:
    if len(call.op.inputs) < 2:
        raise Unresolved("how many places there are is known only while running")
    shape = broadcast(call, *(call.shape(position) for position in range(len(call.op.inputs))))
    return [(shape, call.dtype(len(call.op.inputs) - 1))]


@rule("keras:Pad")
def pad(call: Call) -> Specs:
    shape, pads = call.shape(), call.ints("pad_width")
    if pads is None or len(pads) not in (1, 2, 2 * len(shape)):
        raise Unresolved("the padding is no plain list")
    sides = pads if len(pads) == 2 * len(shape) else (pads * 2)[:2] * len(shape)
    return [(tuple(dim + (sides[2 * axis] + sides[2 * axis + 1]) for axis, dim in enumerate(shape)), call.dtype())]


@rule("keras:Split")
def split(call: Call) -> Specs:
    shape, cuts = call.shape(), call.attr("indices_or_sections")
    at = call.axis(call.attr("axis", 0), len(shape))
    size = shape[at]
    if isinstance(cuts, int):
        if not 0 < cuts <= MOST_PIECES or (isinstance(size, int) and size % cuts):
            raise call.error(f"{size} rows do not split into {cuts}")
        return [((*shape[:at], size // cuts, *shape[at + 1 :]), call.dtype())] * cuts
    if not isinstance(cuts, tuple) or not isinstance(size, int):
        raise Unresolved("where it is cut is known only while running")
    edges = [0, *cuts, size]
    return [
        ((*shape[:at], max(0, min(stop, size) - start), *shape[at + 1 :]), call.dtype())
        for start, stop in pairwise(edges)
    ]


@rule("keras:Take")
def take(call: Call) -> Specs:
    if len(call.op.inputs) < 2:
        raise Unresolved("the indices are no tensor")
    shape, axis = call.shape(0), call.attr("axis")
    if axis is None:
        return [(call.shape(1), call.dtype())]
    at = call.axis(axis, len(shape))
    return [((*shape[:at], *call.shape(1), *shape[at + 1 :]), call.dtype())]


@rule("keras:OneHot")
def one_hot(call: Call) -> Specs:
    shape: list[Dim] = list(call.shape())
    shape.insert(call.axis(call.attr("axis", -1), len(shape) + 1), call.attr("num_classes"))
    return [(tuple(shape), call.dtype_attr("dtype", dtypes.FLOAT32))]


@rule("keras:CategoryEncoding", "keras:Discretization", "keras:Hashing", "keras:HashedCrossing", "keras:StringLookup",
      "keras:IntegerLookup")  # fmt: skip
def encode(call: Call) -> Specs:
    shape, mode, depth = call.shape(), call.attr("mode", "int"), call.attr("depth")
    dtype = call.dtype_attr("dtype", call.dtype())
    if mode == "int":
        return [(shape, dtype)]
    if mode == "one_hot":
        kept = shape[:-1] if len(shape) > 1 and shape[-1] == 1 else shape
        return [((*kept, depth), dtype)]
    if call.op.op_type == "Discretization":
        return [((*shape[:1], *shape[2:], depth) if len(shape) >= 2 else (depth,), dtype)]
    return [((*shape[:-1], depth), dtype)]


@rule("keras:TextVectorization")
def text(call: Call) -> Specs:
    shape, depth = call.shape(), call.attr("depth")
    rows = shape[:-1] if len(shape) > 1 else shape
    last = call.unknown_dim(len(rows)) if depth is None else depth
    return [((*rows, last), call.dtype_attr("dtype", dtypes.INT64))]
