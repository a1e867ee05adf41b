"""Shape rules of the layers of neural networks: convolution, pooling, products, norms, RNNs."""

from __future__ import annotations

from collections.abc import Sequence

from peakmem.dtypes import FLOAT32, INT32, INT64
from peakmem.ir.dims import Dim, Shape, Symbol
from peakmem.ir.shapes.call import Call, Specs, broadcast, rule


def window(
    call: Call,
    size: Dim,
    kernel: Dim,
    stride: int,
    dilation: int,
    pads: tuple[int, int],
    *,
    ceil: bool = False,
) -> Dim:
    """Positions of a sliding window along one axis.

    floor((size + pads - dilation*(kernel-1) - 1) / stride) + 1, or the ceiling of it with `ceil`;
    a window that would start in the right padding is then dropped (ONNX MaxPool, opset 22).
    """
    if stride < 1:
        raise call.error(f"a stride of {stride} is not positive")
    room = size + pads[0] + pads[1] - dilation * (kernel - 1) - 1
    if isinstance(room, int) and room < 0:
        raise call.error(f"the kernel of {kernel} does not fit a padded size of {room + dilation * (kernel - 1) + 1}")
    if not ceil:
        return room // stride + 1
    count = (room + stride - 1) // stride + 1
    if isinstance(count, int) and isinstance(size, int) and (count - 1) * stride >= size + pads[0]:
        count -= 1
    return count


def slide(call: Call, sizes: Sequence[Dim], kernel: Sequence[Dim], *, ceil: bool = False) -> list[Dim]:
    """Output sizes of a convolution or pooling over the spatial `sizes`."""
    rank = len(sizes)
    if len(kernel) != rank:
        raise call.error(f"a kernel of rank {len(kernel)} cannot slide over {rank} spatial axes")
    strides = spatial(call, "strides", rank, 1)
    dilations = spatial(call, "dilations", rank, 1)
    mode = call.attr("auto_pad", "NOTSET")
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        return [-(-size // stride) for size, stride in zip(sizes, strides, strict=True)]
    pads = spatial(call, "pads", 2 * rank, 0) if mode != "VALID" else (0,) * (2 * rank)
    return [
        window(call, sizes[i], kernel[i], strides[i], dilations[i], (pads[i], pads[i + rank]), ceil=ceil)
        for i in range(rank)
    ]


def spatial(call: Call, name: str, length: int, default: int) -> tuple[int, ...]:
    """An attribute with one integer per spatial axis (or two, for pads)."""
    value = call.attr(name)
    if value is None or len(value) == 0:
        return (default,) * length
    if len(value) != length:
        raise call.error(f"{name} has {len(value)} entries, not {length}")
    return tuple(value)


def conv_shape(call: Call, image: Shape, weight: Shape) -> Shape:
    """Output shape of a convolution of `image` (N, C, …) with `weight` (M, C/group, …)."""
    if len(image) != len(weight) or len(image) < 3:
        raise call.error(f"an input of rank {len(image)} and a kernel of rank {len(weight)} do not go together")
    group = call.attr("group", 1)
    channels = weight[1] * group
    if isinstance(channels, int) and isinstance(image[1], int) and channels != image[1]:
        raise call.error(f"the kernel takes {channels} channels, the input has {image[1]}")
    return (image[0], weight[0], *slide(call, image[2:], weight[2:]))


@rule("Conv")
def conv(call: Call) -> Specs:
    return [(conv_shape(call, call.shape(0), call.shape(1)), call.dtype())]


@rule("ConvInteger")
def conv_integer(call: Call) -> Specs:
    return [(conv_shape(call, call.shape(0), call.shape(1)), INT32)]


@rule("ConvTranspose")
def conv_transpose(call: Call) -> Specs:
    image, weight = call.shape(0), call.shape(1)
    rank = len(image) - 2
    channels = weight[1] * call.attr("group", 1)
    given = call.attr("output_shape")
    strides = spatial(call, "strides", rank, 1)
    if given:
        return [((image[0], channels, *given[-rank:]), call.dtype())]
    mode = call.attr("auto_pad", "NOTSET")
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        sizes = tuple(size * stride for size, stride in zip(image[2:], strides, strict=True))
        return [((image[0], channels, *sizes), call.dtype())]
    dilations = spatial(call, "dilations", rank, 1)
    extra = spatial(call, "output_padding", rank, 0)
    pads = spatial(call, "pads", 2 * rank, 0) if mode != "VALID" else (0,) * (2 * rank)
    dims = [
        strides[i] * (image[2 + i] - 1) + extra[i] + (weight[2 + i] - 1) * dilations[i] + 1 - pads[i] - pads[i + rank]
        for i in range(rank)
    ]
    return [((image[0], channels, *dims), call.dtype())]


@rule("MaxPool", "AveragePool", "LpPool")
def pool(call: Call) -> Specs:
    image = call.shape()
    kernel = call.attr("kernel_shape")
    if not kernel:
        raise call.error("kernel_shape is missing")
    sizes = slide(call, image[2:], kernel, ceil=bool(call.attr("ceil_mode", 0)))
    out = (image[0], image[1], *sizes)
    return [(out, call.dtype()), (out, INT64)]


@rule("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")
def global_pool(call: Call) -> Specs:
    image = call.shape()
    return [((*image[:2], *([1] * (len(image) - 2))), call.dtype())]


@rule("BatchNormalization")
def batch_norm(call: Call) -> Specs:
    channels = call.shape(1)
    return [(call.shape(), call.dtype())] + [(channels, call.dtype(1))] * (len(call.op.outputs) - 1)


@rule("InstanceNormalization", "GroupNormalization", "LpNormalization", "MeanVarianceNormalization", "LRN")
def normalization(call: Call) -> Specs:
    return [(call.shape(), call.dtype())]


@rule("LayerNormalization")
def layer_norm(call: Call) -> Specs:
    shape = call.shape()
    axis = call.axis(call.attr("axis", -1), len(shape))
    statistics: Shape = (*shape[:axis], *([1] * (len(shape) - axis)))
    return [(shape, call.dtype()), (statistics, FLOAT32), (statistics, FLOAT32)]


@rule("RMSNormalization")
def rms_norm(call: Call) -> Specs:
    return [(call.shape(), call.dtype())]


@rule("Gemm")
def gemm(call: Call) -> Specs:
    left, right = call.shape(0), call.shape(1)
    if len(left) != 2 or len(right) != 2:
        raise call.error("Gemm multiplies two matrices")
    rows, inner = reversed(left) if call.attr("transA", 0) else left
    depth, columns = reversed(right) if call.attr("transB", 0) else right
    _same(call, inner, depth)
    return [((rows, columns), call.dtype())]


def matmul_shape(call: Call, left: Shape, right: Shape) -> Shape:
    """NumPy's matmul: vectors are promoted, leading axes broadcast."""
    if not left or not right:
        raise call.error("a scalar cannot be multiplied as a matrix")
    a: Shape = left if len(left) > 1 else (1, *left)
    b: Shape = right if len(right) > 1 else (*right, 1)
    _same(call, a[-1], b[-2])
    dims = list(broadcast(call, a[:-2], b[:-2])) if len(a) > 2 or len(b) > 2 else []
    if len(left) > 1:
        dims.append(a[-2])
    if len(right) > 1:
        dims.append(b[-1])
    return tuple(dims)


@rule("MatMul")
def matmul(call: Call) -> Specs:
    return [(matmul_shape(call, call.shape(0), call.shape(1)), call.dtype())]


@rule("MatMulInteger")
def matmul_integer(call: Call) -> Specs:
    return [(matmul_shape(call, call.shape(0), call.shape(1)), INT32)]


def _same(call: Call, left: Dim, right: Dim) -> None:
    if isinstance(left, int) and isinstance(right, int) and left != right:
        raise call.error(f"inner dimensions {left} and {right} differ")


@rule("LSTM", "GRU", "RNN")
def recurrent(call: Call) -> Specs:
    sequence, recurrence = call.shape(0), call.shape(2)
    directions, hidden = recurrence[0], call.attr("hidden_size") or recurrence[2]
    if call.attr("layout", 0):
        batch, length = sequence[0], sequence[1]
        every: Shape = (batch, length, directions, hidden)
        last: Shape = (batch, directions, hidden)
    else:
        length, batch = sequence[0], sequence[1]
        every, last = (length, directions, batch, hidden), (directions, batch, hidden)
    dtype = call.dtype()
    return [(every, dtype), (last, dtype), (last, dtype)]


@rule("Dropout")
def dropout(call: Call) -> Specs:
    from peakmem.dtypes import BOOL

    shape = call.shape()
    # The mask was of the data's type before operator set 10.
    return [(shape, call.dtype()), (shape, BOOL if call.opset >= 10 else call.dtype())]


@rule("Resize", "Upsample")
def resize(call: Call) -> Specs:
    image = call.shape()
    upsample = call.op.op_type == "Upsample" or call.opset < 11
    scales = call.attr("scales") or _content(call, 1 if upsample else 2)
    sizes = None if upsample else _content(call, 3)
    axes = [call.axis(axis, len(image)) for axis in call.attr("axes") or range(len(image))]
    dims = list(image)
    if sizes:
        target = [size for size in sizes]
        policy = call.attr("keep_aspect_ratio_policy", "stretch")
        if policy != "stretch":
            ratios = [size / image[axis] for size, axis in zip(sizes, axes, strict=True)]
            ratio = min(ratios) if policy == "not_larger" else max(ratios)
            target = [int(ratio * image[axis] + 0.5) for axis in axes]
        for axis, size in zip(axes, target, strict=True):
            dims[axis] = size
    elif scales:
        for axis, scale in zip(axes, scales, strict=True):
            size = image[axis]
            dims[axis] = size if scale == 1 else _scaled(size, scale)
    else:
        # Both come from the graph: the sizes are open, the rank is not.
        call.known(1 if upsample else (3 if call.has(3) else 2))
    return [(tuple(dims), call.dtype())]


def _scaled(size: Dim, scale: float) -> Dim:
    if isinstance(size, Symbol):
        return Symbol(f"({size}*{scale:g})")
    return int(size * scale)


def _content(call: Call, position: int) -> tuple[float, ...] | None:
    """Content of an optional input; an empty constant counts as absent."""
    if not call.has(position):
        return None
    value = call.value(position)
    return value if value is None or len(value) else None


@rule("DepthToSpace")
def depth_to_space(call: Call) -> Specs:
    n, c, h, w = call.shape()
    block = call.attr("blocksize")
    return [((n, c // (block * block), h * block, w * block), call.dtype())]


@rule("SpaceToDepth")
def space_to_depth(call: Call) -> Specs:
    n, c, h, w = call.shape()
    block = call.attr("blocksize")
    return [((n, c * block * block, h // block, w // block), call.dtype())]
