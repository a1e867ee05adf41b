"""Shape rules of Keras layers that work in space: convolutions, pools, padding, enlarging, cropping."""

from __future__ import annotations

from peakmem.ir.dims import Dim, Shape
from peakmem.ir.shapes.call import Call, Specs, rule
from peakmem.ir.shapes.windows import slide, spatial


def _first(call: Call) -> bool:
    return bool(call.attr("data_format", "channels_last") == "channels_first")


def _space(call: Call, shape: Shape, least: int = 3) -> tuple[Shape, Dim]:
    """(spatial sizes, channels) of an image."""
    if len(shape) < least:
        raise call.error(f"an input of rank {len(shape)} has no spatial axes")
    return (shape[2:], shape[1]) if _first(call) else (shape[1:-1], shape[-1])


def _image(call: Call, batch: Dim, sizes: list[Dim] | Shape, channels: Dim) -> Shape:
    return (batch, channels, *sizes) if _first(call) else (batch, *sizes, channels)


def _slid(call: Call, kernel: Shape, channels: Dim, *, pooling: bool = False) -> Shape:
    image = call.shape()
    sizes, _ = _space(call, image)
    return _image(call, image[0], slide(call, sizes, kernel, pooling=pooling), channels)


def _matches(call: Call, weight: Shape, inside: Dim) -> None:
    """Refuse a kernel made for other channels."""
    _, channels = _space(call, call.shape())
    if isinstance(inside, int) and isinstance(channels, int) and inside != channels:
        raise call.error(f"the kernel takes {inside} channels, the input has {channels}")
    if len(weight) != len(call.shape()):
        raise call.error(f"an input of rank {len(call.shape())} and a kernel of rank {len(weight)} do not go together")


@rule("keras:Conv1D", "keras:Conv2D", "keras:Conv3D", "keras:Conv")
def conv(call: Call) -> Specs:
    weight = call.shape(1)
    if call.op.op_type != "Conv":  # the function finds its groups by itself
        _matches(call, weight, weight[-2] * call.attr("group", 1))
    return [(_slid(call, weight[:-2], weight[-1]), call.dtype())]


@rule("keras:DepthwiseConv1D", "keras:DepthwiseConv2D", "keras:DepthwiseConv")
def depthwise(call: Call) -> Specs:
    weight = call.shape(1)
    _matches(call, weight, weight[-2])
    return [(_slid(call, weight[:-2], weight[-2] * weight[-1]), call.dtype())]


@rule("keras:Conv1DTranspose", "keras:Conv2DTranspose", "keras:Conv3DTranspose")
def transposed(call: Call) -> Specs:
    image, weight = call.shape(), call.shape(1)
    _matches(call, weight, weight[-1])
    sizes, _ = _space(call, image)
    rank = len(sizes)
    strides, dilations = spatial(call, "strides", rank, 1), spatial(call, "dilations", rank, 1)
    extra = call.attr("output_padding")
    same = call.attr("padding", "valid") == "same"
    out: list[Dim] = []
    for axis, size in enumerate(sizes):
        extent = weight[axis] + (weight[axis] - 1) * (dilations[axis] - 1)
        if extra is not None:
            shrunk = 2 * (extent // 2) if same else 0
            out.append((size - 1) * strides[axis] + extent - shrunk + extra[axis])
        elif same:
            out.append(size * strides[axis])
        else:
            room = extent - strides[axis]
            out.append(size * strides[axis] + (max(room, 0) if isinstance(room, int) else room))
    return [(_image(call, image[0], out, weight[-2]), call.dtype())]


@rule("keras:MaxPool", "keras:AveragePool")
@rule(*(f"keras:{form}Pooling{rank}D" for form in ("Max", "Average") for rank in (1, 2, 3)))
def pool(call: Call) -> Specs:
    _, channels = _space(call, call.shape())
    return [(_slid(call, call.attr("kernel_shape"), channels), call.dtype())]


@rule(*(f"keras:Global{form}Pooling{rank}D" for form in ("Max", "Average") for rank in (1, 2, 3)))
def global_pool(call: Call) -> Specs:
    image = call.shape()
    sizes, channels = _space(call, image)
    if call.attr("keepdims", 0):
        return [(_image(call, image[0], (1,) * len(sizes), channels), call.dtype())]
    return [((image[0], channels), call.dtype())]


@rule(*(f"keras:Adaptive{form}Pooling{rank}D" for form in ("Max", "Average") for rank in (1, 2, 3)))
def adaptive_pool(call: Call) -> Specs:
    image = call.shape()
    sizes, channels = _space(call, image)
    wanted = call.attr("output_size")
    if len(wanted) != len(sizes):
        raise call.error(f"{len(wanted)} sizes for {len(sizes)} spatial axes")
    return [(_image(call, image[0], wanted, channels), call.dtype())]


@rule(*(f"keras:{form}{rank}D" for form in ("ZeroPadding", "Cropping") for rank in (1, 2, 3)))
def pad(call: Call) -> Specs:
    image = call.shape()
    sizes, channels = _space(call, image)
    rank = len(sizes)
    pads = spatial(call, "pads", 2 * rank, 0)
    sign = -1 if call.op.op_type.startswith("Cropping") else 1
    out = [size + sign * (pads[axis] + pads[axis + rank]) for axis, size in enumerate(sizes)]
    if any(isinstance(size, int) and size < 0 for size in out):
        raise call.error("more is cropped than there is")
    return [(_image(call, image[0], out, channels), call.dtype())]


@rule(*(f"keras:UpSampling{rank}D" for rank in (1, 2, 3)))
def enlarge(call: Call) -> Specs:
    image = call.shape()
    sizes, channels = _space(call, image)
    factors = spatial(call, "size", len(sizes), 1)
    out = [size * factor for size, factor in zip(sizes, factors, strict=True)]
    return [(_image(call, image[0], out, channels), call.dtype())]


@rule("keras:Resizing", "keras:CenterCrop", "keras:RandomCrop", "keras:ops.Resize")
def resized(call: Call) -> Specs:
    image = call.shape()
    wanted = call.attr("size")
    if len(image) == 3:
        shape = (image[0], *wanted) if _first(call) else (*wanted, image[-1])
    else:
        shape = _image(call, image[0], wanted, _space(call, image, 4)[1])
    return [(shape, call.dtype_attr("dtype", call.dtype()))]


@rule("keras:STFTSpectrogram")
def spectrogram(call: Call) -> Specs:
    signal = call.shape()
    sizes, channels = _space(call, signal)
    (frames,) = slide(call, sizes, call.attr("kernel_shape"))
    bins = call.attr("bins")
    dtype = call.dtype_attr("dtype", call.dtype())
    if call.attr("expand_dims", 0):
        shape = (signal[0], channels, frames, bins) if _first(call) else (signal[0], frames, bins, channels)
        return [(shape, dtype)]
    return [(_image(call, signal[0], [frames], channels * bins), dtype)]


@rule("keras:MelSpectrogram")
def mel_spectrogram(call: Call) -> Specs:
    signal, stride = call.shape(), call.attr("stride")
    frames = (signal[-1] + (stride + 1)) // stride
    return [((*signal[:-1], call.attr("bins"), frames), call.dtype_attr("dtype", call.dtype()))]
