"""Layers with int8 weights at work: the input quantised, sums in 32 bits, then floats or int8 again.

Sources: `forward_int8_x86` in `src/layer/x86/convolution_x86.cpp`, `convolutiondepthwise_x86.cpp` and
`innerproduct_x86.cpp`; `convolution_im2col_gemm_int8.h`, `convolution_3x3_winograd_int8.h`, `quantize_x86.cpp`,
`dequantize_x86.cpp`, `requantize_x86.cpp`; commit a4d2ea1d (2026-07-22).
"""

from __future__ import annotations

from collections.abc import Sequence

from peakmem.engines.ncnn import tiles
from peakmem.engines.ncnn.forward import forward
from peakmem.engines.ncnn.forward_convolution import bordered
from peakmem.engines.ncnn.int8 import WINOGRAD_INT8
from peakmem.engines.ncnn.layers import STRUCTURES
from peakmem.engines.ncnn.load import PARAMETERS, WRAPPER, Made
from peakmem.engines.ncnn.mat import Mat, Sizes
from peakmem.engines.ncnn.pools import Allocator
from peakmem.engines.ncnn.run import Call, release, share
from peakmem.engines.ncnn.window import Window, window_of


def eight(call: Call, count: int) -> int:
    """How many of `count` int8 channels stand side by side."""
    return 8 if call.options.packing and count % 8 == 0 else 1


def quantised(call: Call, mat: Mat, allocator: Allocator) -> Mat:
    """quantize_to_int8; the argument stays."""
    held = WRAPPER + STRUCTURES["Quantize"] + PARAMETERS
    call.heap.take("objects", held)
    made = call.new(mat.sizes, 1, eight(call, mat.sizes[0]), allocator)
    call.team()
    call.heap.take("objects", -held)
    return made


def _single(call: Call, mat: Mat) -> Mat:
    """bf16 becomes float first."""
    return call.cast(mat, 4, call.blob) if mat.scalar == 2 else share(mat)


def _fitting(call: Call, made: Mat, scalar: int, pack: int, allocator: Allocator) -> Mat:
    """Mat::create on a matrix that is there: another block where the elements are others."""
    if made.scalar == scalar and made.pack == pack:
        return made
    release(made)
    return call.new(made.sizes, scalar, pack, allocator)


@forward("Convolution int8")
def _convolution(call: Call, bottoms: Sequence[Mat]) -> list[Mat]:
    window, mat = window_of(call.layer), _single(call, bottoms[0])
    made = convolve(call, window, call.made, mat, call.top(), None, call.blob)
    release(mat)
    return [made]


def convolve(
    call: Call, window: Window, how: Made, mat: Mat, top: Sizes, given: Mat | None, blob: Allocator
) -> Mat:  # fmt: skip
    """Convolution_x86::forward_int8_x86; `given` is where a group is to write its result."""
    options, out = call.options, window.channels_out
    small = quantised(call, mat, call.work) if mat.scalar != 1 else share(mat)
    border = bordered(call, small, window) if given is None else share(small)
    again = call.layer.number("int8_scale_term") > 100
    scalar, pack = (1, eight(call, out)) if again else (4, options.pack(out))
    made = call.new(top, scalar, pack, blob) if given is None else _fitting(call, share(given), scalar, pack, blob)
    sums = options.pack(out)
    if again and options.packing:
        step = 8 if options.lanes >= 8 else 4
        sums = step if out % step == 0 else 1
    if options.packing and not how.algorithm.endswith("gemm"):
        sums = 4 if out % 4 == 0 else 1
    whole = call.new(top, 4, sums, call.work)
    _compute(call, window, how, top)
    if sums == 4 and again:
        whole = _exchanged(whole, call.packing(whole, 1 if out // 4 % 2 else 8, blob))
    elif sums == 4 and options.lanes >= 8 and out % 8 == 0:
        whole = _exchanged(whole, call.packing(whole, 8, blob))
    held = WRAPPER + STRUCTURES["Requantize" if again else "Dequantize"] + PARAMETERS
    call.heap.take("objects", held)
    made = _fitting(call, made, 2 if options.bf16_storage and not again else scalar, whole.pack, blob)
    call.team()
    call.heap.take("objects", -held)
    release(whole)
    release(border)
    release(small)
    return made


def _exchanged(old: Mat, new: Mat) -> Mat:
    release(old)
    return new


def _compute(call: Call, window: Window, how: Made, top: Sizes) -> None:
    """The tiles of one int8 convolution."""
    options, (rows, columns) = call.options, top[-2:]
    name = how.algorithm.removeprefix("int8 ")
    if name in WINOGRAD_INT8:
        side, elements, short = WINOGRAD_INT8[name]
        places = tiles.parts(rows, side) * tiles.parts(columns, side)
        m, n, k = tiles.winograd_int8(window.channels_out, places, window.channels_in, options)
        count_n, count_k = tiles.parts(places, n), tiles.parts(window.channels_in, k)
        inputs = call.raw(count_n, count_k, elements, k * n, scalar=short)
        if options.threads > 1 and count_n * count_k < options.threads:
            release(call.raw(n * elements * k, scalar=short))
        else:
            release(call.raw(options.threads, 1, n * elements * k, scalar=short))
        release(call.raw(options.threads, 1, n * elements * m))
        release(inputs)
    elif name == "gemm":
        depth, places = window.channels_in * window.taps, rows * columns
        m, n, k = tiles.convolution_int8(window.channels_out, places, depth, options)
        inputs = call.raw(tiles.parts(places, n), tiles.parts(depth, k), k * n, scalar=1)
        release(call.raw(options.threads, 1, n * m))
        release(inputs)
    else:
        call.heap.burst(4 * window.taps)


@forward("ConvolutionDepthWise int8")
def _depthwise(call: Call, bottoms: Sequence[Mat]) -> list[Mat]:
    window, top = window_of(call.layer), call.top()
    mat = _single(call, bottoms[0])
    if mat.scalar != 1:
        call.heap.block("workspace", 4 * mat.sizes[0] + 4)
        small = quantised(call, mat, call.work)
        call.heap.block("workspace", 4 * mat.sizes[0] + 4, -1)
    else:
        small = share(mat)
    border = bordered(call, small, window)
    again = call.layer.number("int8_scale_term") > 100
    out = window.channels_out
    if call.made.algorithm == "int8 depthwise":
        made = call.new(top, 1 if again else 4, eight(call, out), call.blob)
        call.heap.burst(4 * window.taps)
    else:
        made = _groups(call, window, border, again=again)
    for one in (border, small, mat):
        release(one)
    return [made]


def _groups(call: Call, window: Window, border: Mat, *, again: bool) -> Mat:
    """A convolution for each group, in a part of the top or of an unpacked one."""
    part = window.part
    top, scalar = call.top(), 1 if again else 4

    def pack(count: int) -> int:
        return eight(call, count) if again else 4 if call.options.packing and count % 4 == 0 else 1

    made = call.new(top, scalar, pack(window.channels_out), call.blob)
    into, out = eight(call, part.channels_in), pack(part.channels_out)
    loose = call.packing(border, into, call.work) if border.pack > into else share(border)
    unpacked = out < made.pack
    spread = call.new(top, scalar, out, call.work) if unpacked else share(made)
    for one in call.made.groups:
        bottom = Mat((part.channels_in, *border.sizes[1:]), 1, into, None)
        place = Mat((part.channels_out, *top[1:]), scalar, out, None)
        release(convolve(call, part, one, bottom, place.sizes, place, call.work if unpacked else call.blob))
    if unpacked:
        call.heap.burst(2 * WRAPPER + STRUCTURES["Packing"] + PARAMETERS)
    release(spread)
    release(loose)
    return made


@forward("InnerProduct int8")
def _inner_product(call: Call, bottoms: Sequence[Mat]) -> list[Mat]:
    layer = call.layer
    out = layer.number("num_output")
    columns = layer.number("weight_data_size") // out
    mat = _single(call, bottoms[0])
    small = quantised(call, mat, call.work) if mat.scalar != 1 else share(mat)
    if len(small.sizes) == 2 and small.sizes[1] == columns:
        loose = call.packing(small, 1, call.work)
        rows = small.sizes[0]
        made = call.new((rows, out), 4, 4 if call.options.packing and rows % 4 == 0 else 1, call.blob)
    else:
        loose = _flat(call, small)
        made = call.new((out,), 4, eight(call, out), call.blob)
    for one in (loose, small, mat):
        release(one)
    return [made]


def _flat(call: Call, mat: Mat) -> Mat:
    """Flatten_x86::forward_int8, into workspace."""
    if len(mat.sizes) == 1:
        return share(mat)
    pack = eight(call, mat.count)
    if pack > 1 and len(mat.sizes) == 2 and mat.pack == 1:
        view = share(mat, pack=pack)
        view.sizes = (mat.count,)
        return view
    return call.new((mat.count,), 1, pack, call.work)


@forward("Quantize")
def _quantize(call: Call, bottoms: Sequence[Mat]) -> list[Mat]:
    mat = bottoms[0]
    return [call.new(mat.sizes, 1, eight(call, mat.sizes[0]), call.blob)]


@forward("Dequantize")
def _dequantize(call: Call, bottoms: Sequence[Mat]) -> list[Mat]:
    mat = bottoms[0]
    return [call.new(mat.sizes, 2 if call.options.bf16_storage else mat.scalar, mat.pack, call.blob)]


@forward("Requantize")
def _requantize(call: Call, bottoms: Sequence[Mat]) -> list[Mat]:
    mat = bottoms[0]
    return [call.new(mat.sizes, 1, mat.pack, call.blob)]
