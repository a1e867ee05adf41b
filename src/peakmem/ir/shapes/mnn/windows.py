"""MNN operators that look through a window: source/shape/ShapeConvolution.cpp, ShapeDeconvolution.cpp, ShapePool.cpp,
ShapePool3D.cpp, ShapeInterp.cpp of 3.6.1.
"""

from __future__ import annotations

from peakmem.ir.dims import Dim, Shape, Symbol
from peakmem.ir.shapes.call import Call, Specs, ceil_div, rule

SAME, VALID = 2, 1
# PadMode; 0 takes the padding as it is given


def _image(call: Call) -> Shape:
    given = call.shape()
    if len(given) < 2:
        raise call.error("an image has at least two dimensions")
    # MNN reads what a matrix lacks as a height and width of 1 (adjustTensorForCompability)
    return given if len(given) >= 4 else (*given, *(1,) * (4 - len(given)))


@rule("mnn:Convolution", "mnn:ConvolutionDepthwise", "mnn:ConvInt8", "mnn:DepthwiseConvInt8")
def convolution(call: Call) -> Specs:
    image = _image(call)
    channels = call.attr("outputs")
    if not channels and call.has(1):
        channels = call.shape(1)[0]
    inside, group = call.attr("inputs"), call.attr("group")
    if inside and isinstance(image[1], int) and image[1] not in (inside, inside * group):
        raise call.error(f"{image[1]} channels meet a kernel for {inside}")
    pads, mode = call.attr("pads"), call.attr("pad_mode")
    sizes: list[Dim] = []
    for at in (0, 1):
        reach = call.attr("dilations")[at] * (call.attr("kernel")[at] - 1) + 1
        stride, size = call.attr("strides")[at], image[2 + at]
        if mode == SAME:
            sizes.append(ceil_div(size, stride))
        elif mode == VALID:
            sizes.append(ceil_div(size - (reach - 1), stride))
        else:
            whole = size + (pads[at] + pads[at + 2])
            sizes.append(0 if isinstance(whole, int) and whole < reach else (whole - reach) // stride + 1)
    shape = (image[0], channels, *sizes)
    return [(shape if len(call.shape()) >= 4 else shape[: len(call.shape())], call.dtype())]


@rule("mnn:Deconvolution", "mnn:DeconvolutionDepthwise")
def deconvolution(call: Call) -> Specs:
    image = _image(call)
    pads, more = call.attr("pads"), call.attr("out_pads") or (0, 0)
    sizes: list[Dim] = []
    for at in (0, 1):
        stride, size = call.attr("strides")[at], image[2 + at]
        if call.attr("pad_mode") == SAME:
            sizes.append(size * stride)
            continue
        reach = call.attr("dilations")[at] * (call.attr("kernel")[at] - 1) + 1
        sizes.append((size - 1) * stride + (reach - pads[at] - pads[at + 2] + more[at]))
    return [((image[0], call.attr("outputs"), *sizes), call.dtype())]


@rule("mnn:Pooling")
def pooling(call: Call) -> Specs:
    image = _image(call)
    if call.attr("global"):
        return [((*image[:2], 1, 1), call.dtype())] * len(call.op.outputs)
    pads, kind = call.attr("pads"), call.attr("pad_type")
    sizes: list[Dim] = []
    for at in (0, 1):
        stride = call.attr("strides")[at]
        size = image[2 + at] + (pads[at] + pads[at + 2])
        kernel = call.attr("kernel")[at]
        kernel = min(kernel, size) if isinstance(size, int) else kernel
        if kind == SAME:
            sizes.append(ceil_div(size, stride))
        elif kind == VALID:
            sizes.append(ceil_div(size - (kernel - 1), stride))
        elif call.attr("ceil"):
            sizes.append(ceil_div(size - kernel, stride) + 1)
        else:
            sizes.append((size - kernel) // stride + 1)
    return [((*image[:2], *sizes), call.dtype())] * len(call.op.outputs)


@rule("mnn:Pooling3D")
def pooling_3d(call: Call) -> Specs:
    image = call.shape()
    if call.attr("global"):
        return [((*image[:2], *(1,) * (len(image) - 2)), call.dtype())]
    sizes: list[Dim] = []
    for at, size in enumerate(image[2:]):
        kernel, stride = call.attr("kernel")[at], call.attr("strides")[at]
        if call.attr("pad_type") == SAME:
            sizes.append(ceil_div(size, stride))
        else:
            pad = 0 if call.attr("pad_type") == VALID else call.attr("pads")[at]
            sizes.append((size + (2 * pad - kernel)) // stride + 1)
    return [((*image[:2], *sizes), call.dtype())]


@rule("mnn:Interp")
def interp(call: Call) -> Specs:
    image = call.shape()
    if call.has(1):
        wanted = call.known(1)
        whole = all(isinstance(one, int) for one in wanted)
        if len(wanted) == len(image):
            sizes = wanted if whole else tuple(_times(size, by) for by, size in zip(wanted, image, strict=True))
            return [(tuple(sizes), call.dtype())]
        return [((*image[:2], *(int(one) for one in wanted)), call.dtype())]
    height, width = call.attr("height"), call.attr("width")
    if not height or not width:
        by = call.attr("scales")
        height, width = _times(image[2], by[0]), _times(image[3], by[1])
    return [((*image[:2], height, width), call.dtype())]


def _times(size: Dim, by: float) -> Dim:
    """The size times a factor, cut to a whole number."""
    if by == int(by):
        return size * int(by)
    return int(size * by) if isinstance(size, int) else Symbol(f"floor({size}*{by:g})")
