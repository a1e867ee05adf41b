"""Shape rules of operators that move elements about: reshape, transpose, join, split, slice, pad."""

from __future__ import annotations

from peakmem.ir.dims import Dim, Shape, Symbol, product
from peakmem.ir.shapes.call import Call, Specs, Unresolved, broadcast, ceil_div, rule


@rule("Reshape")
def reshape(call: Call) -> Specs:
    image = call.shape()
    attribute = call.attr("shape")
    target = call.value(1) if attribute is None else tuple(attribute)
    if target is None:
        rank = call.length(1)
        if rank is None or not call.has(1):
            raise Unresolved("the target shape is computed while running")
        return [((product(image),) if rank == 1 else call.unknown_shape(rank), call.dtype())]
    return [(reshaped(call, image, target, allow_zero=bool(call.attr("allowzero", 0))), call.dtype())]


def reshaped(call: Call, image: Shape, target: tuple[Dim, ...], *, allow_zero: bool) -> Shape:
    """`target` with 0 (copy, unless zeros are allowed) and -1 (what is left) filled in from `image`."""
    dims: list[Dim] = list(target)
    if not allow_zero:
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
    return tuple(dims)


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
    given = call.attr("axis", 1)
    axis = given + len(image) if given < 0 else given
    if not 0 <= axis <= len(image):
        raise call.error(f"axis {given} is outside a shape of rank {len(image)}")
    return [((product(image[:axis]), product(image[axis:])), call.dtype())]


@rule("Squeeze")
def squeeze(call: Call) -> Specs:
    image = call.shape()
    try:
        axes = call.ints("axes", 1)
    except Unresolved:
        count = call.length(1)
        if not count:
            raise
        return [(call.unknown_shape(len(image) - count), call.dtype())]
    if not axes:
        if any(isinstance(dim, Symbol) for dim in image):
            raise Unresolved("which dimensions are 1 is not known")
        return [(tuple(dim for dim in image if dim != 1), call.dtype())]
    gone = {call.axis(axis, len(image)) for axis in axes}
    for axis in gone:
        if isinstance(image[axis], int) and image[axis] != 1:
            raise call.error(f"axis {axis} of size {image[axis]} cannot be squeezed")
    return [(tuple(dim for axis, dim in enumerate(image) if axis not in gone), call.dtype())]


@rule("Unsqueeze", "com.microsoft:ExpandDims")
def unsqueeze(call: Call) -> Specs:
    image = list(call.shape())
    try:
        axes = call.ints("axes", 1)
    except Unresolved:
        count = call.length(1)
        if count is None:
            raise
        return [(call.unknown_shape(len(image) + count), call.dtype())]
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
    # An empty tensor may differ on the other axes; engines skip it there.
    dims = list(next((shape for shape in shapes if 0 not in shape), shapes[0]))
    axis = call.axis(call.attr("axis", 1), len(dims))
    total: Dim = 0
    for shape in shapes:
        if len(shape) != len(dims):
            raise call.error("tensors of different rank cannot be concatenated")
        total = total + shape[axis]
        if 0 in shape:
            continue
        for i, dim in enumerate(shape):
            if dim == dims[i] or i == axis:
                continue
            if isinstance(dims[i], Symbol):
                dims[i] = dim if isinstance(dim, int) else dims[i]
            elif isinstance(dim, int):
                raise call.error(f"axis {i} differs: {dims[i]} and {dim}")
    dims[axis] = total
    return tuple(dims)


@rule("Split")
def split(call: Call) -> Specs:
    image = list(call.shape())
    axis = call.axis(call.attr("axis", 0), len(image))
    count = len(call.op.outputs)
    sizes: tuple[Dim, ...] | None
    try:
        sizes = call.ints("split", 1)
    except Unresolved:
        sizes = tuple(call.unknown_dim(axis, output) for output in range(count))
    if not sizes:
        # num_outputs (opset 18) or equal parts; the last part may be smaller.
        part = ceil_div(image[axis], count)
        sizes = (*([part] * (count - 1)), image[axis] - part * (count - 1) if count > 1 else image[axis])
        if isinstance(image[axis], Symbol) and call.attr("num_outputs") is None:
            sizes = (image[axis] // count,) * count
    elif not any(isinstance(dim, Symbol) for dim in (*sizes, image[axis])) and sum(sizes) != image[axis]:
        raise call.error(f"parts of {_text(sizes)} do not add up to {image[axis]}")
    if len(sizes) < count:
        raise call.error(f"{len(sizes)} parts for {count} outputs")
    return [((*image[:axis], size, *image[axis + 1 :]), call.dtype()) for size in sizes[:count]]


@rule("Expand")
def expand(call: Call) -> Specs:
    image, target = call.shape(), call.value(1)
    if target is None:
        rank = call.length(1)
        if rank is None:
            raise Unresolved("the target shape is computed while running")
        return [(call.unknown_shape(max(rank, len(image))), call.dtype())]
    return [(broadcast(call, image, tuple(target)), call.dtype())]


@rule("Tile")
def tile(call: Call) -> Specs:
    image, repeats = call.shape(), call.value(1)
    if repeats is None:
        return [(call.unknown_shape(len(image)), call.dtype())]
    return [(tuple(dim * times for dim, times in zip(image, repeats, strict=True)), call.dtype())]


@rule("Pad", "com.microsoft:Pad")
def pad(call: Call) -> Specs:
    image = call.shape()
    pads = call.attr("pads", call.attr("paddings"))
    if pads is None:
        pads = call.value(1)
    given = call.value(3) if call.has(3) else range(len(image))
    if pads is None or given is None:
        return [(call.open_axes(image, given), call.dtype())]
    dims, axes = list(image), [call.axis(axis, len(image)) for axis in given]
    if len(pads) != 2 * len(axes):
        raise call.error(f"pads has {len(pads)} entries, not {2 * len(axes)}")
    for i, axis in enumerate(axes):
        dims[axis] = dims[axis] + (pads[i] + pads[i + len(axes)])
    return [(tuple(dims), call.dtype())]


@rule("Crop")
def crop(call: Call) -> Specs:
    n, c, height, width = call.shape()
    left, top, right, bottom = call.attr("border")
    size = call.attr("scale") or (height - top - bottom, width - left - right)
    return [((n, c, *size), call.dtype())]


@rule("CenterCropPad")
def center_crop_pad(call: Call) -> Specs:
    dims = list(call.shape())
    target = call.value(1)
    for i, axis in enumerate(call.attr("axes") or range(len(dims))):
        at = call.axis(axis, len(dims))
        dims[at] = call.unknown_dim(at) if target is None else target[i]
    return [(tuple(dims), call.dtype())]


@rule("DepthToSpace")
def depth_to_space(call: Call) -> Specs:
    n, c, h, w = call.shape()
    block = call.attr("blocksize")
    return [((n, c // (block * block), h * block, w * block), call.dtype())]


@rule("SpaceToDepth")
def space_to_depth(call: Call) -> Specs:
    n, c, h, w = call.shape()
    block = call.attr("blocksize")
    return [((n, c * (block * block), h // block, w // block), call.dtype())]


@rule("ReverseSequence")
def reverse_sequence(call: Call) -> Specs:
    return [(call.shape(), call.dtype())]
