"""Shape rules of operators that move, select or make elements without computing on them."""

from __future__ import annotations

from peakmem.dtypes import DTYPES, FLOAT32, INT64
from peakmem.ir.dims import Dim, Shape, Symbol, product
from peakmem.ir.shapes.call import Call, Specs, Unresolved, broadcast, rule


@rule("Shape")
def shape_of(call: Call) -> Specs:
    rank = len(call.shape())
    return [((len(range(rank)[call.attr("start", 0) : call.attr("end", rank)]),), INT64)]


@rule("Size")
def size_of(call: Call) -> Specs:
    return [((), INT64)]


@rule("Reshape")
def reshape(call: Call) -> Specs:
    image = call.shape()
    target = call.ints("shape", 1)
    if target is None:
        raise call.error("the target shape is missing")
    dims: list[Dim] = list(target)
    if not call.attr("allowzero", 0):
        for axis, dim in enumerate(dims):
            if dim == 0:
                if axis >= len(image):
                    raise call.error(f"target dimension {axis} is 0 (copy), the input has only {len(image)}")
                dims[axis] = image[axis]
    total = product(image)
    if -1 in dims:
        open_axis = dims.index(-1)
        rest = product(dims[:open_axis] + dims[open_axis + 1 :])
        if rest == total and isinstance(total, Symbol):
            dims[open_axis] = 1
        elif rest == 0:
            dims[open_axis] = 0
        elif isinstance(total, int) and isinstance(rest, int):
            if total % rest:
                raise call.error(f"{total} elements cannot be reshaped to {_text(target)}")
            dims[open_axis] = total // rest
        else:
            dims[open_axis] = _cancel(image, dims[:open_axis] + dims[open_axis + 1 :])
    else:
        count = product(dims)
        if isinstance(count, int) and isinstance(total, int) and count != total:
            raise call.error(f"{total} elements cannot be reshaped to {_text(target)}, which holds {count}")
    if any(isinstance(dim, int) and dim < 0 for dim in dims):
        raise call.error(f"the target shape {_text(target)} has a negative dimension")
    return [(tuple(dims), call.dtype())]


def _cancel(have: Shape, rest: list[Dim]) -> Dim:
    """product(have) / product(rest) with equal symbols cancelled first."""
    left, right = list(have), []
    for dim in rest:
        if isinstance(dim, Symbol) and dim in left:
            left.remove(dim)
        else:
            right.append(dim)
    numbers = product([dim for dim in left if isinstance(dim, int)])
    symbols = [dim for dim in left if isinstance(dim, Symbol)]
    divisor = product(right)
    if isinstance(numbers, int) and isinstance(divisor, int) and divisor and numbers % divisor == 0:
        return product([*symbols, numbers // divisor])
    return product(left) // divisor


def _text(dims: tuple[Dim, ...]) -> str:
    return "x".join(str(dim) for dim in dims)


@rule("Flatten")
def flatten(call: Call) -> Specs:
    image = call.shape()
    axis = call.attr("axis", 1)
    axis = axis + len(image) if axis < 0 else axis
    return [((product(image[:axis]), product(image[axis:])), call.dtype())]


@rule("Squeeze")
def squeeze(call: Call) -> Specs:
    image = call.shape()
    axes = call.ints("axes", 1)
    if axes is None:
        if any(isinstance(dim, Symbol) for dim in image):
            raise Unresolved("which dimensions are 1 is not known")
        return [(tuple(dim for dim in image if dim != 1), call.dtype())]
    gone = {call.axis(axis, len(image)) for axis in axes}
    for axis in gone:
        if isinstance(image[axis], int) and image[axis] != 1:
            raise call.error(f"axis {axis} of size {image[axis]} cannot be squeezed")
    return [(tuple(dim for axis, dim in enumerate(image) if axis not in gone), call.dtype())]


@rule("Unsqueeze")
def unsqueeze(call: Call) -> Specs:
    image = list(call.shape())
    axes = call.ints("axes", 1)
    if axes is None:
        raise call.error("axes are missing")
    rank = len(image) + len(axes)
    for axis in sorted(call.axis(axis, rank) for axis in axes):
        image.insert(axis, 1)
    return [(tuple(image), call.dtype())]


@rule("Transpose")
def transpose(call: Call) -> Specs:
    image = call.shape()
    order = call.attr("perm") or tuple(reversed(range(len(image))))
    if sorted(order) != list(range(len(image))):
        raise call.error(f"perm {order} does not permute {len(image)} axes")
    return [(tuple(image[axis] for axis in order), call.dtype())]


@rule("Concat")
def concat(call: Call) -> Specs:
    return [(concat_shape(call, [call.shape(i) for i in range(len(call.op.inputs))]), call.dtype())]


def concat_shape(call: Call, shapes: list[Shape]) -> Shape:
    """The shapes laid one after the other along the attribute `axis`."""
    if not shapes:
        raise call.error("nothing to concatenate")
    first = list(shapes[0])
    axis = call.axis(call.attr("axis", 1), len(first))
    for shape in shapes[1:]:
        if len(shape) != len(first):
            raise call.error("tensors of different rank cannot be concatenated")
        for i, dim in enumerate(shape):
            if i == axis:
                first[i] = first[i] + dim
            elif isinstance(first[i], Symbol):
                first[i] = dim
            elif isinstance(dim, int) and dim != first[i]:
                raise call.error(f"axis {i} differs: {first[i]} and {dim}")
    return tuple(first)


@rule("Split")
def split(call: Call) -> Specs:
    image = list(call.shape())
    axis = call.axis(call.attr("axis", 0), len(image))
    count = len(call.op.outputs)
    sizes = call.ints("split", 1)
    if not sizes:
        # num_outputs (opset 18) or equal parts; the last part may be smaller.
        part = -(-image[axis] // count)
        sizes = tuple([part] * (count - 1) + [image[axis] - part * (count - 1)]) if count > 1 else (image[axis],)
    elif sum(sizes) != image[axis] and not any(isinstance(dim, Symbol) for dim in (*sizes, image[axis])):
        raise call.error(f"parts of {_text(sizes)} do not add up to {image[axis]}")
    if len(sizes) < count:
        raise call.error(f"{len(sizes)} parts for {count} outputs")
    return [((*image[:axis], size, *image[axis + 1 :]), call.dtype()) for size in sizes[:count]]


@rule("Slice")
def slice_(call: Call) -> Specs:
    image = call.shape()
    if call.opset < 10:
        starts, ends = call.attr("starts", ()), call.attr("ends", ())
        axes, steps = call.attr("axes"), None
    else:
        # Without its bounds a slice still has the rank of its input.
        axes = call.known(3) if call.has(3) else None
        steps = call.known(4) if call.has(4) else None
        starts, ends = call.value(1), call.value(2)
        if starts is None or ends is None:
            if axes is None:
                axes = tuple(range((call.shapes[1] or call.shapes[2] or (len(image),))[0]))
            dims = list(image)
            for axis in axes:
                dims[call.axis(axis, len(image))] = call.unknown_dim(call.axis(axis, len(image)))
            return [(tuple(dims), call.dtype())]
    axes = tuple(range(len(starts))) if axes is None else axes
    steps = (1,) * len(starts) if steps is None else steps
    dims = list(image)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        axis = call.axis(axis, len(image))
        if step == 0:
            raise call.error("a slice step of 0")
        size = dims[axis]
        if isinstance(size, int) and isinstance(start, int) and isinstance(end, int):
            dims[axis] = len(range(*slice(start, _end(end, size, step), step).indices(size)))
        elif start == 0 and step == 1 and isinstance(end, int) and end >= 2**31 - 1:
            pass  # all of it, whatever that is
        elif start == 0 and step == 1 and isinstance(end, Symbol):
            dims[axis] = end
        else:
            dims[axis] = Symbol(f"{size}[{start}:{end}:{step}]")
    return [(tuple(dims), call.dtype())]


def _end(end: int, size: int, step: int) -> int | None:
    """ONNX's end of a slice as Python's: below -size with a negative step means through 0."""
    return None if step < 0 and end < -size else end


@rule("Gather")
def gather(call: Call) -> Specs:
    data, indices = call.shape(0), call.shape(1)
    axis = call.axis(call.attr("axis", 0), len(data))
    return [((*data[:axis], *indices, *data[axis + 1 :]), call.dtype())]


@rule("GatherElements")
def gather_elements(call: Call) -> Specs:
    return [(call.shape(1), call.dtype(0))]


@rule("GatherND")
def gather_nd(call: Call) -> Specs:
    data, indices = call.shape(0), call.shape(1)
    batch, depth = call.attr("batch_dims", 0), indices[-1]
    if not isinstance(depth, int):
        raise Unresolved("the depth of the indices is not known")
    return [((*indices[:-1], *data[batch + depth :]), call.dtype())]


@rule("Scatter", "ScatterElements", "ScatterND", "TensorScatter", "ReverseSequence")
def scatter(call: Call) -> Specs:
    return [(call.shape(), call.dtype())]


@rule("Expand")
def expand(call: Call) -> Specs:
    return [(broadcast(call, call.shape(), tuple(call.known(1))), call.dtype())]


@rule("Tile")
def tile(call: Call) -> Specs:
    image, repeats = call.shape(), call.known(1)
    return [(tuple(dim * times for dim, times in zip(image, repeats, strict=True)), call.dtype())]


@rule("Pad")
def pad(call: Call) -> Specs:
    image = call.shape()
    pads = call.attr("paddings") if call.attr("paddings") else call.ints("pads", 1)
    if pads is None:
        raise call.error("pads are missing")
    axes = call.known(3) if call.has(3) else tuple(range(len(image)))
    if len(pads) != 2 * len(axes):
        raise call.error(f"pads has {len(pads)} entries, not {2 * len(axes)}")
    dims = list(image)
    for i, axis in enumerate(axes):
        at = call.axis(axis, len(image))
        dims[at] = dims[at] + pads[i] + pads[i + len(axes)]
    return [(tuple(dims), call.dtype())]


@rule("ConstantOfShape")
def constant_of_shape(call: Call) -> Specs:
    dtype = DTYPES.get(call.attr("value_dtype", FLOAT32.name))
    return [(tuple(call.known(0)), dtype)]


@rule("Range")
def range_(call: Call) -> Specs:
    start, limit, delta = (call.value(i) for i in range(3))
    if start is None or limit is None or delta is None:
        return [((call.unknown_dim(0),), call.dtype())]
    first, last, step = start[0], limit[0], delta[0]
    if isinstance(first, Symbol) or isinstance(last, Symbol):
        span: Dim = last - first
        return [((span if step == 1 else -(-span // step),), call.dtype())]
    if step == 0:
        raise call.error("a range step of 0")
    return [((max(0, -int((first - last) // step)),), call.dtype())]


@rule("NonZero")
def non_zero(call: Call) -> Specs:
    return [((len(call.shape()), call.unknown_dim(1)), INT64)]


@rule("TopK")
def top_k(call: Call) -> Specs:
    image = list(call.shape())
    axis = call.axis(call.attr("axis", -1), len(image))
    k = call.attr("k")
    if k is None:
        value = call.value(1)
        k = value[0] if value else call.unknown_dim(axis)
    image[axis] = k
    return [(tuple(image), call.dtype()), (tuple(image), INT64)]


@rule("OneHot")
def one_hot(call: Call) -> Specs:
    indices = list(call.shape(0))
    axis = call.axis(call.attr("axis", -1), len(indices) + 1)
    depth = call.value(1)
    indices.insert(axis, int(depth[0]) if depth else call.unknown_dim(axis))
    return [(tuple(indices), call.dtype(2))]


@rule("EyeLike")
def eye_like(call: Call) -> Specs:
    return [(call.shape(), DTYPES.get(call.attr("dtype", "")) or call.dtype())]
