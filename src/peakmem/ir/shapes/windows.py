"""Shape rules of what slides a window over space: convolution, pooling, and their inverses."""

from __future__ import annotations

from collections.abc import Sequence

from peakmem.dtypes import INT32, INT64
from peakmem.ir.dims import Dim, Shape, product
from peakmem.ir.shapes.call import Call, Specs, Unresolved, ceil_div, rule


def slide(
    call: Call, sizes: Sequence[Dim], kernel: Sequence[Dim], *, ceil: bool = False, pooling: bool = False
) -> list[Dim]:
    """Output sizes of a convolution or pooling over the spatial `sizes`.

    floor((size + pads - dilation*(kernel-1) - 1) / stride) + 1, or the ceiling of it with `ceil`;
    a window that would start in the padding at the end is then dropped.
    """
    rank = len(sizes)
    if len(kernel) != rank:
        raise call.error(f"a kernel of rank {len(kernel)} cannot slide over {rank} spatial axes")
    strides = spatial(call, "strides", rank, 1)
    mode = call.op.attributes.get("auto_pad", "NOTSET")
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        return [ceil_div(size, stride) for size, stride in zip(sizes, strides, strict=True)]
    dilations = spatial(call, "dilations", rank, 1)
    pads = spatial(call, "pads", 2 * rank, 0) if mode != "VALID" else (0,) * (2 * rank)
    out: list[Dim] = []
    for i, (size, extent, stride) in enumerate(zip(sizes, kernel, strides, strict=True)):
        if stride < 1:
            raise call.error(f"a stride of {stride} is not positive")
        room = size + (pads[i] + pads[i + rank] - 1) - dilations[i] * (extent - 1)
        if ceil:
            # No more windows than start before the padding at the end.
            within = isinstance(extent, int) and pads[i + rank] + stride <= dilations[i] * (extent - 1) + 1
            count = ceil_div(room, stride) + 1 if within else ceil_div(size + pads[i], stride)
        elif isinstance(room, int) and room < 0:
            if not pooling:
                raise call.error(f"the kernel of {extent} does not fit the padded size of axis {i + 2}")
            # Engines pool with a window that sticks out; they divide as C++ does, towards zero.
            count = 1 - -room // stride
        else:
            count = room // stride + 1
        out.append(count)
    return out


def spatial(call: Call, name: str, length: int, default: int) -> tuple[int, ...]:
    """An attribute with one integer per spatial axis (or two, for pads)."""
    value = call.op.attributes.get(name)
    if not value:
        return (default,) * length
    if len(value) != length:
        raise call.error(f"{name} has {len(value)} entries, not {length}")
    return tuple(value)


def conv_shape(call: Call, image: Shape, weight: Shape, *, channels_last: bool = False) -> Shape:
    """Output shape of a convolution of `image` (N, C, …) with `weight` (M, C/group, …)."""
    if len(image) != len(weight) or len(image) < 3:
        raise call.error(f"an input of rank {len(image)} and a kernel of rank {len(weight)} do not go together")
    inside = image[-1] if channels_last else image[1]
    channels = weight[1] * call.attr("group", 1)
    if isinstance(channels, int) and isinstance(inside, int) and channels != inside:
        raise call.error(f"the kernel takes {channels} channels, the input has {inside}")
    sizes = slide(call, image[1:-1] if channels_last else image[2:], weight[2:])
    return (image[0], *sizes, weight[0]) if channels_last else (image[0], weight[0], *sizes)


@rule("Conv", "DeformConv", "com.microsoft:FusedConv")
def conv(call: Call) -> Specs:
    return [(conv_shape(call, call.shape(0), call.shape(1)), call.dtype())]


@rule("com.microsoft:NhwcConv", "com.microsoft:NhwcFusedConv")
def conv_channels_last(call: Call) -> Specs:
    return [(conv_shape(call, call.shape(0), call.shape(1), channels_last=True), call.dtype())]


@rule("ConvInteger")
def conv_integer(call: Call) -> Specs:
    return [(conv_shape(call, call.shape(0), call.shape(1)), INT32)]


def transposed_shape(call: Call, image: Shape, weight: Shape, pads: Sequence[int] | None = None) -> Shape:
    """Output shape of a transposed convolution with `weight` (C, M/group, …)."""
    rank = len(image) - 2
    if rank < 1 or len(weight) != len(image):
        raise call.error(f"an input of rank {len(image)} and a kernel of rank {len(weight)} do not go together")
    head: Shape = (image[0], weight[1] * call.attr("group", 1))
    given = call.attr("output_shape")
    if given:
        return (*head, *given[-rank:])
    strides = spatial(call, "strides", rank, 1)
    mode = call.attr("auto_pad", "NOTSET")
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        return (*head, *(size * stride for size, stride in zip(image[2:], strides, strict=True)))
    dilations = spatial(call, "dilations", rank, 1)
    extra = spatial(call, "output_padding", rank, 0)
    if pads is None:
        pads = spatial(call, "pads", 2 * rank, 0) if mode != "VALID" else (0,) * (2 * rank)
    sizes = [
        (image[2 + i] - 1) * strides[i] + (weight[2 + i] - 1) * dilations[i] + (1 + extra[i] - pads[i] - pads[i + rank])
        for i in range(rank)
    ]
    return (*head, *sizes)


@rule("ConvTranspose")
def conv_transpose(call: Call) -> Specs:
    return [(transposed_shape(call, call.shape(0), call.shape(1)), call.dtype())]


@rule("com.microsoft:ConvTransposeWithDynamicPads")
def conv_transpose_dynamic_pads(call: Call) -> Specs:
    image, weight = call.shape(0), call.shape(1)
    if call.has(2) and call.value(2) is None:
        return [((image[0], weight[1] * call.attr("group", 1), *call.unknown_shape(len(image))[2:]), call.dtype())]
    return [(transposed_shape(call, image, weight, call.value(2)), call.dtype())]


def pool_shape(call: Call, *, channels_last: bool = False) -> Shape:
    """Output shape of a pooling of the first input."""
    image = call.shape()
    kernel = call.attr("kernel_shape")
    if not kernel:
        raise call.error("kernel_shape is missing")
    ceil = bool(call.attr("ceil_mode", 0))
    if channels_last:
        return (image[0], *slide(call, image[1:-1], kernel, ceil=ceil, pooling=True), image[-1])
    return (*image[:2], *slide(call, image[2:], kernel, ceil=ceil, pooling=True))


@rule("MaxPool", "com.microsoft:MaxpoolWithMask")
def max_pool(call: Call) -> Specs:
    shape = pool_shape(call)
    return [(shape, call.dtype()), (shape, INT64)]


@rule("AveragePool", "LpPool")
def pool(call: Call) -> Specs:
    return [(pool_shape(call), call.dtype())]


@rule("com.microsoft:NhwcMaxPool")
def pool_channels_last(call: Call) -> Specs:
    return [(pool_shape(call, channels_last=True), call.dtype())]


@rule("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")
def global_pool(call: Call) -> Specs:
    image = call.shape()
    return [((*image[:2], *([1] * (len(image) - 2))), call.dtype())]


@rule("MaxUnpool")
def max_unpool(call: Call) -> Specs:
    image, kernel = call.shape(), call.attr("kernel_shape")
    rank = len(image) - 2
    if call.has(2):
        target = call.value(2)
        return [(call.unknown_shape(len(image)) if target is None else tuple(target), call.dtype())]
    strides, pads = spatial(call, "strides", rank, 1), spatial(call, "pads", 2 * rank, 0)
    sizes = [(image[2 + i] - 1) * strides[i] + (kernel[i] - pads[i] - pads[i + rank]) for i in range(rank)]
    return [((*image[:2], *sizes), call.dtype())]


@rule("MaxRoiPool")
def max_roi_pool(call: Call) -> Specs:
    image, regions = call.shape(0), call.shape(1)
    return [((regions[0], image[1], *call.attr("pooled_shape")), call.dtype())]


@rule("RoiAlign")
def roi_align(call: Call) -> Specs:
    image, regions = call.shape(0), call.shape(1)
    size = (call.attr("output_height", 1), call.attr("output_width", 1))
    return [((regions[0], image[1], *size), call.dtype())]


@rule("Col2Im")
def column_to_image(call: Call) -> Specs:
    columns = call.shape()
    size, block = call.value(1), call.value(2)
    if size is None:
        rank = call.length(1) or call.length(2)
        if rank is None:
            raise Unresolved("the rank of the image is computed while running")
        size = call.unknown_shape(rank + 2)[2:]
    channels = call.unknown_dim(1) if block is None else columns[1] // product(block)
    return [((columns[0], channels, *size), call.dtype())]
