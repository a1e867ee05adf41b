"""Shape rules of what moves elements: reshape, transpose, gather, pad, tile and their kin."""

from __future__ import annotations

from peakmem.ir.dims import Dim, Symbol, format_shape, product
from peakmem.ir.shapes.call import Call, Specs, Unresolved, rule
from peakmem.ir.shapes.tflite.elementwise import names


@rule("tflite:RESHAPE")
def reshape(call: Call) -> Specs:
    target: tuple[Dim, ...] | None = None
    if call.has(1):
        target = call.value(1)
        if target is None and (rank := call.length(1)) is not None:
            return [(call.unknown_shape(rank), None)]
    elif call.attr("new_shape") is not None:
        target = call.attr("new_shape")
        target = () if target == (0,) else target  # how files of old wrote a scalar
    if target is None:
        raise Unresolved("the shape is computed while running")
    given = call.shape()
    total = product(given)
    open_at = [axis for axis, dim in enumerate(target) if dim == -1]
    if len(open_at) > 1:
        raise call.error(f"{len(open_at)} sizes of the new shape are left open")
    if not open_at:
        asked = product(target)
        if isinstance(asked, int) and isinstance(total, int) and asked != total:
            raise call.error(f"{total} elements do not fit {format_shape(tuple(target))}")
        return [(tuple(target), None)]
    rest = [dim for axis, dim in enumerate(target) if axis != open_at[0]]
    left = list(given)
    for dim in [dim for dim in rest if dim in left]:
        # Sizes that stay cancel, so that a symbol keeps its name.
        left.remove(dim)
        rest.remove(dim)
    room, by = product(left), product(rest)
    if isinstance(room, int) and isinstance(by, int) and (by == 0 or room % by):
        raise call.error(f"{total} elements do not fit {format_shape(tuple(target))}")
    found = list(target)
    found[open_at[0]] = room // by if by != 0 else call.unknown_dim(open_at[0])
    return [(tuple(found), None)]


@rule("tflite:SQUEEZE")
def squeeze(call: Call) -> Specs:
    given, axes = call.shape(), call.attr("squeeze_dims") or ()
    if axes:
        gone = {call.axis(axis, len(given)) for axis in axes}
        for axis in gone:
            if isinstance(given[axis], int) and given[axis] != 1:
                raise call.error(f"axis {axis} has a size of {given[axis]}, not 1")
    else:
        if any(isinstance(dim, Symbol) for dim in given):
            raise Unresolved("which sizes are 1 is not known")
        gone = {axis for axis, dim in enumerate(given) if dim == 1}
    return [(tuple(dim for axis, dim in enumerate(given) if axis not in gone), None)]


@rule("tflite:EXPAND_DIMS")
def expand_dims(call: Call) -> Specs:
    given = call.shape()
    at = call.axis(call.known(1)[0], len(given) + 1)
    return [((*given[:at], 1, *given[at:]), None)]


@rule("tflite:TRANSPOSE")
def transpose(call: Call) -> Specs:
    given, order = call.shape(), call.value(1)
    if order is None:
        return [(call.unknown_shape(len(given)), None)]
    if sorted(call.axis(axis, len(given)) for axis in order) != list(range(len(given))):
        raise call.error(f"{order} is no order of {len(given)} axes")
    return [(tuple(given[axis] for axis in order), None)]


@rule("tflite:CONCATENATION")
def concatenation(call: Call) -> Specs:
    shapes = [call.shape(position) for position in range(len(call.op.inputs))]
    first = shapes[0]
    at = call.axis(call.attr("axis", 0), len(first))
    dims: list[Dim] = list(first)
    for shape in shapes[1:]:
        if len(shape) != len(first):
            raise call.error(f"ranks {len(first)} and {len(shape)} cannot be concatenated")
        for axis, dim in enumerate(shape):
            if axis == at:
                dims[axis] = dims[axis] + dim
            elif isinstance(dims[axis], Symbol):
                dims[axis] = dim
            elif isinstance(dim, int) and dim != dims[axis]:
                raise call.error(f"sizes {dims[axis]} and {dim} of axis {axis} differ")
    return [(tuple(dims), None)]


@rule("tflite:PACK")
def pack(call: Call) -> Specs:
    given = next((shape for shape in call.shapes if shape is not None), None)
    if given is None:
        raise Unresolved("no input has a known shape")
    at = call.axis(call.attr("axis", 0), len(given) + 1)
    return [((*given[:at], len(call.op.inputs), *given[at:]), None)]


@rule("tflite:UNPACK")
def unpack(call: Call) -> Specs:
    given = call.shape()
    at = call.axis(call.attr("axis", 0), len(given))
    count = len(call.op.outputs)
    if isinstance(given[at], int) and given[at] != count:
        raise call.error(f"{given[at]} slices do not make {count} outputs")
    return [((*given[:at], *given[at + 1 :]), None)] * count


@rule("tflite:SPLIT")
def split(call: Call) -> Specs:
    given, count = call.shape(1), len(call.op.outputs)
    at = call.axis(call.known(0)[0], len(given))
    size = given[at]
    if isinstance(size, int) and size % count:
        raise call.error(f"a size of {size} cannot be split in {count} equal parts")
    return [((*given[:at], size // count, *given[at + 1 :]), None)] * count


@rule("tflite:SPLIT_V")
def split_sizes(call: Call) -> Specs:
    given, sizes = call.shape(0), call.value(1)
    at = call.axis(call.known(2)[0], len(given))
    count = len(call.op.outputs)
    if sizes is None:
        return [((*given[:at], call.unknown_dim(at, output), *given[at + 1 :]), None) for output in range(count)]
    rest: Dim = given[at]
    for size in sizes:
        rest = rest - size if size != -1 else rest
    parts = [rest if size == -1 else size for size in sizes]
    return [((*given[:at], part, *given[at + 1 :]), None) for part in parts]


@rule("tflite:GATHER")
def gather(call: Call) -> Specs:
    table, indices = call.shape(0), call.shape(1)
    at = call.axis(call.attr("axis", 0), max(len(table), 1))
    shared = call.attr("batch_dims", 0)
    shared = shared + len(indices) if shared < 0 else shared
    return [((*table[:at], *indices[shared:], *table[at + 1 :]), None)]


@rule("tflite:GATHER_ND")
def gather_nd(call: Call) -> Specs:
    table, indices = call.shape(0), call.shape(1)
    if not indices or not isinstance(indices[-1], int):
        raise Unresolved("how many axes are indexed is not known")
    if indices[-1] > len(table):
        raise call.error(f"{indices[-1]} axes are indexed")
    return [((*indices[:-1], *table[indices[-1] :]), None)]


@rule("tflite:EMBEDDING_LOOKUP")
def embedding(call: Call) -> Specs:
    indices, table = call.shape(0), call.shape(1)
    return [((*indices[:1], *table[1:]), None)]


@rule("tflite:HASHTABLE_LOOKUP")
def hashtable_lookup(call: Call) -> Specs:
    wanted, table = call.shape(0), call.shape(2)
    return [((*wanted[:1], *table[1:]), None), (wanted[:1], None)]


@rule("tflite:TILE")
def tile(call: Call) -> Specs:
    given, times = call.shape(), call.value(1)
    if times is None:
        return [(call.unknown_shape(len(given)), None)]
    return [(tuple(dim * many for dim, many in zip(given, times, strict=True)), None)]


@rule(*names("PAD PADV2 MIRROR_PAD"))
def pad(call: Call) -> Specs:
    given, pads = call.shape(), call.value(1)
    if pads is None:
        return [(call.unknown_shape(len(given)), None)]
    if len(pads) != 2 * len(given):
        raise call.error(f"{len(pads)} paddings for {len(given)} axes")
    return [(tuple(dim + pads[2 * axis] + pads[2 * axis + 1] for axis, dim in enumerate(given)), None)]


@rule("tflite:SPACE_TO_DEPTH")
def space_to_depth(call: Call) -> Specs:
    batch, height, width, channels = call.shape()
    block = call.attr("blocksize")
    return [((batch, height // block, width // block, channels * (block * block)), None)]


@rule("tflite:DEPTH_TO_SPACE")
def depth_to_space(call: Call) -> Specs:
    batch, height, width, channels = call.shape()
    block = call.attr("blocksize")
    return [((batch, height * block, width * block, channels // (block * block)), None)]


@rule("tflite:SPACE_TO_BATCH_ND")
def space_to_batch(call: Call) -> Specs:
    given, block, pads = call.shape(), call.value(1), call.value(2)
    if block is None or pads is None:
        return [(call.unknown_shape(len(given)), None)]
    inner = len(block)
    sizes = [
        (given[1 + axis] + pads[2 * axis] + pads[2 * axis + 1]) // block[axis] for axis in range(inner)
    ]  # fmt: skip
    return [((given[0] * product(block), *sizes, *given[1 + inner :]), None)]


@rule("tflite:BATCH_TO_SPACE_ND")
def batch_to_space(call: Call) -> Specs:
    given, block, crops = call.shape(), call.value(1), call.value(2)
    if block is None or crops is None:
        return [(call.unknown_shape(len(given)), None)]
    inner = len(block)
    sizes = [given[1 + axis] * block[axis] - crops[2 * axis] - crops[2 * axis + 1] for axis in range(inner)]
    return [((given[0] // product(block), *sizes, *given[1 + inner :]), None)]


@rule("tflite:MATRIX_DIAG")
def matrix_diag(call: Call) -> Specs:
    given = call.shape()
    return [((*given, given[-1]), None)]
