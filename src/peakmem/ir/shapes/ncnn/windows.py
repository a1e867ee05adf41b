"""ncnn layers that slide a window over space: convolution, pooling, their inverses, spectrograms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from peakmem.dtypes import FLOAT32, INT8, DType
from peakmem.ir.dims import Dim
from peakmem.ir.shapes.call import Call, Specs, rule
from peakmem.ir.shapes.ncnn.blob import Blob, blob, made, quotient

_SAME = ("SAME_UPPER", "SAME_LOWER")


def _extents(call: Call, kernel: Sequence[Dim]) -> list[Dim]:
    dilations = call.attr("dilations", (1,) * len(kernel))
    return [dilation * (size - 1) + 1 for size, dilation in zip(kernel, dilations, strict=True)]


def _slide(call: Call, sizes: Sequence[Dim], kernel: Sequence[Dim]) -> list[Dim]:
    """Sizes after a convolution over the axes `sizes`, outermost first."""
    strides, pads = call.attr("strides"), call.attr("pads")
    rank = len(sizes)
    out: list[Dim] = []
    for axis, (size, extent, stride) in enumerate(zip(sizes, _extents(call, kernel), strides, strict=True)):
        if call.attr("auto_pad") in _SAME:
            more = extent + quotient(size - 1, stride, call) * stride - size
            padded = size + (max(more, 0) if isinstance(more, int) else more)
        else:
            padded = size + (pads[axis] + pads[rank + axis])
        if isinstance(padded, int) and isinstance(extent, int) and padded < extent:
            raise call.error(f"a window of {extent} does not fit a size of {padded}")
        out.append(quotient(padded - extent, stride, call) + 1)
    return out


def _spread(call: Call, sizes: Sequence[Dim], kernel: Sequence[Dim]) -> list[Dim]:
    """Sizes after a transposed convolution over the axes `sizes`, outermost first."""
    names = ("w", "h", "d")[: len(sizes)][::-1]
    sides = {"w": "right", "h": "bottom", "d": "behind"}
    strides, pads = call.attr("strides"), call.attr("pads")
    asked = [call.attr(f"output_{axis}", 0) for axis in names]
    rank = len(sizes)
    out: list[Dim] = []
    extents = _extents(call, kernel)
    for at, (size, extent, stride, axis) in enumerate(zip(sizes, extents, strides, names, strict=True)):
        full = (size - 1) * stride + extent + call.attr(f"output_pad_{sides[axis]}", 0)
        if any(pads):
            full = full - (pads[at] + pads[rank + at])
        elif all(want > 0 for want in asked):
            if call.attr("auto_pad") not in _SAME:
                raise call.error("an output size is asked for, but no padding to cut it from")
            full = asked[at]
        out.append(full)
    return out


def _filtered(call: Call, axes: int, *, transposed: bool = False) -> Specs:
    image = blob(call)
    if call.attr("dynamic_weight"):
        kernel, outputs = _dynamic(call, axes, transposed=transposed)
    else:
        kernel, outputs = call.attr("kernel_shape"), call.attr("num_output")
    dtype = _result_dtype(call)
    if image.dims == 1 and axes == 2 and not transposed and tuple(kernel) == (1, 1) and _is_matrix(call, image):
        return made(call, Blob(1, outputs), dtype)
    sizes: Sequence[Dim] = {1: (image.w,), 2: (image.h, image.w), 3: (image.d, image.h, image.w)}[axes]
    channels = image.h if axes == 1 else image.c
    _same_channels(call, channels, transposed=transposed)
    out = (_spread if transposed else _slide)(call, sizes, kernel)
    if axes == 1:
        return made(call, Blob(2, out[0], outputs), dtype)
    if axes == 2:
        return made(call, Blob(3, out[1], out[0], 1, outputs), dtype)
    return made(call, Blob(4, out[2], out[1], out[0], outputs), dtype)


def _is_matrix(call: Call, image: Blob) -> bool:
    """Whether a pointwise convolution meets a vector of the size of its inputs and works as a matrix."""
    weight = call.shape(1)
    return "group" not in call.op.attributes and image.w == weight[1]


def _same_channels(call: Call, channels: Dim, *, transposed: bool) -> None:
    if call.attr("dynamic_weight"):
        return
    weight = call.shape(1)
    takes = weight[0] if transposed else weight[1] * call.attr("group", 1)
    if isinstance(channels, int) and isinstance(takes, int) and channels != takes:
        raise call.error(f"the kernel takes {takes} channels, the input has {channels}")


def _dynamic(call: Call, axes: int, *, transposed: bool) -> tuple[Sequence[Dim], Dim]:
    """Kernel and outputs of a layer whose weight is a blob."""
    weight = blob(call, 1)
    if axes == 1:
        return (weight.w,), weight.h * call.attr("group", 1) if transposed else weight.c
    return (weight.h, weight.w), weight.d * call.attr("group", 1) if transposed else weight.c


def _result_dtype(call: Call) -> DType | None:
    term = call.attr("int8_scale_term", 0)
    return INT8 if term > 100 else FLOAT32 if term else None


@rule("ncnn:Convolution1D", "ncnn:ConvolutionDepthWise1D")
def convolution_1d(call: Call) -> Specs:
    return _filtered(call, 1)


@rule("ncnn:Convolution", "ncnn:ConvolutionDepthWise")
def convolution(call: Call) -> Specs:
    return _filtered(call, 2)


@rule("ncnn:Convolution3D", "ncnn:ConvolutionDepthWise3D")
def convolution_3d(call: Call) -> Specs:
    return _filtered(call, 3)


@rule("ncnn:DeformableConv2D")
def deformable(call: Call) -> Specs:
    image = blob(call)
    _same_channels(call, image.c, transposed=False)
    height, width = _slide(call, (image.h, image.w), call.attr("kernel_shape"))
    return made(call, Blob(3, width, height, 1, call.attr("num_output")))


@rule("ncnn:Deconvolution1D", "ncnn:DeconvolutionDepthWise1D")
def deconvolution_1d(call: Call) -> Specs:
    return _filtered(call, 1, transposed=True)


@rule("ncnn:Deconvolution", "ncnn:DeconvolutionDepthWise")
def deconvolution(call: Call) -> Specs:
    return _filtered(call, 2, transposed=True)


@rule("ncnn:Deconvolution3D", "ncnn:DeconvolutionDepthWise3D")
def deconvolution_3d(call: Call) -> Specs:
    return _filtered(call, 3, transposed=True)


def _pooled(call: Call, axes: str) -> list[Dim]:
    """Sizes after pooling over `axes`, outermost first."""
    image = blob(call)
    sizes = [getattr(image, axis) for axis in axes]
    if call.attr("adaptive_pooling"):
        # "as it is" is not known to the one-dimensional layer
        wanted = [call.attr(f"out_{axis}") for axis in axes]
        return [size if want == -233 and axes != "w" else want for size, want in zip(sizes, wanted, strict=True)]
    kernel, strides, pads = call.attr("kernel_shape"), call.attr("strides"), call.attr("pads")
    mode = call.attr("pad_mode")
    out: list[Dim] = []
    for at, (size, extent, stride) in enumerate(zip(sizes, kernel, strides, strict=True)):
        padded = size
        if mode in (0, 1):
            padded = size + (pads[at] + pads[len(axes) + at])
        elif mode in (2, 3):
            more = extent + quotient(size - 1, stride, call) * stride - size
            padded = size + (max(more, 0) if isinstance(more, int) else more)
        if mode == 0:
            # Up to the end of the last window that begins inside.
            tail = padded - extent - quotient(padded - extent, stride, call) * stride
            padded = padded + (stride - 1 if not isinstance(tail, int) else stride - tail if tail else 0)
        if isinstance(padded, int) and padded < extent:
            raise call.error(f"a window of {extent} does not fit a size of {padded}")
        out.append(quotient(padded - extent, stride, call) + 1)
    return out


@rule("ncnn:Pooling")
def pooling(call: Call) -> Specs:
    image = blob(call)
    if call.attr("global_pooling"):
        return made(call, Blob(1, image.c))
    height, width = _pooled(call, "hw")
    return made(call, Blob(3, width, height, 1, image.c))


@rule("ncnn:Pooling1D")
def pooling_1d(call: Call) -> Specs:
    image = blob(call)
    if call.attr("global_pooling"):
        return made(call, Blob(1, image.h))
    return made(call, Blob(2, _pooled(call, "w")[0], image.h))


@rule("ncnn:Pooling3D")
def pooling_3d(call: Call) -> Specs:
    image = blob(call)
    if call.attr("global_pooling"):
        return made(call, Blob(1, image.c))
    depth, height, width = _pooled(call, "dhw")
    return made(call, Blob(4, width, height, depth, image.c))


@rule("ncnn:StatisticsPooling")
def statistics_pooling(call: Call) -> Specs:
    return made(call, Blob(1, blob(call).c * (2 if call.attr("include_stddev") else 1)))


@rule("ncnn:SPP")
def pyramid_pooling(call: Call) -> Specs:
    height = call.attr("pyramid_height")
    if not 0 < height <= 15:
        raise call.error(f"a pyramid of height {height}")
    return made(call, Blob(3, ((1 << (2 * height)) - 1) // 3, 1, 1, 2))


@rule("ncnn:Unfold")
def unfold(call: Call) -> Specs:
    image = blob(call)
    kernel = call.attr("kernel_shape")
    height, width = _slide(call, (image.h, image.w), kernel)
    return made(call, Blob(2, height * width, image.c * kernel[0] * kernel[1]))


@rule("ncnn:Fold")
def fold(call: Call) -> Specs:
    kernel = call.attr("kernel_shape")
    channels = quotient(blob(call).h, kernel[0] * kernel[1], call)
    return made(call, Blob(3, call.attr("output_w"), call.attr("output_h"), 1, channels))


@rule("ncnn:Spectrogram")
def spectrogram(call: Call) -> Specs:
    size, points = blob(call).w, call.attr("n_fft")
    if call.attr("center") == 1:
        size = size + points // 2 * 2
    frames = quotient(size - points, call.attr("hoplen"), call) + 1
    rows = points // 2 + 1 if call.attr("onesided") else points
    result = Blob(2, frames, rows)
    return made(call, result if call.attr("power") else replace(result, dims=3, w=2, h=frames, c=rows))


@rule("ncnn:InverseSpectrogram")
def inverse_spectrogram(call: Call) -> Specs:
    points = call.attr("n_fft")
    edge = points % 2 if call.attr("center") else points
    size = (blob(call).h - 1) * call.attr("hoplen") + edge
    return made(call, Blob(1, size) if call.attr("returns") else Blob(2, 2, size))
