"""Workspace of convolutions: the padded input, then the tiles of the algorithm that was chosen when it was loaded.

Sources: `src/layer/x86/convolution_x86.cpp` (forward, forward_bf16s), `convolution_im2col_gemm.h`,
`convolution_3x3_winograd.h`, `convolutiondepthwise_x86.cpp`, `deconvolution_x86.cpp`, `deconvolutiondepthwise_x86.cpp`
and `src/layer/convolution.cpp` (make_padding), commit a4d2ea1d (2026-07-22).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from peakmem.engines.ncnn import arm, tiles
from peakmem.engines.ncnn.convolution import preferred_tile
from peakmem.engines.ncnn.forward import forward, padded, same
from peakmem.engines.ncnn.forward_products import multiply
from peakmem.engines.ncnn.layers import STRUCTURES
from peakmem.engines.ncnn.load import PARAMETERS, WRAPPER, Made
from peakmem.engines.ncnn.mat import Mat, Sizes
from peakmem.engines.ncnn.pools import Allocator
from peakmem.engines.ncnn.run import Call, release, share
from peakmem.engines.ncnn.window import Window, window_of


def bordered(call: Call, mat: Mat, window: Window) -> Mat:
    """Convolution::make_padding."""
    pads = call.layer.values.get("pads", (0, 0, 0, 0))
    mode = call.layer.values.get("auto_pad", "")
    if any(pad > 0 for pad in pads):
        return padded(call, mat, pads)
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        extent = [step * (size - 1) + 1 for step, size in zip(window.dilation, window.kernel, strict=True)]
        more = [same(mat.sizes[axis - 2], extent[axis], window.stride[axis]) for axis in range(2)]
        if any(more):
            return padded(call, mat, (0, 0, *more))
    return share(mat)


@forward("Convolution")
def _convolution(call: Call, bottoms: Sequence[Mat]) -> list[Mat]:
    mat, window, top = bottoms[0], window_of(call.layer), call.top()
    border = bordered(call, mat, window)
    made = call.new(top, mat.scalar, call.options.pack(window.channels_out), call.blob)
    compute(call, window, call.made, border, top)
    release(border)
    return [made]


def compute(call: Call, window: Window, made: Made, border: Mat, top: Sizes) -> None:
    """The workspace of one convolution; `border` is its padded input."""
    options = call.options
    rows, columns = top[-2:]
    if made.algorithm == "dilated" and min(rows, columns) >= window.dilation[0]:
        _dilated(call, window, made.groups[0], border, top)
    elif made.algorithm in tiles.WINOGRAD:
        chosen = made.algorithm
        if not options.arm:
            chosen = preferred_tile(window, min(border.sizes[-2:]), options, made.algorithm)
        side, elements = tiles.WINOGRAD[chosen]
        places = tiles.parts(rows, side) * tiles.parts(columns, side)
        tiled = arm.winograd if options.arm else tiles.winograd
        m, n, k = tiled(window.channels_out, places, window.channels_in, options)
        scalar = 2 if options.arithmetic else 4
        count_n, count_k = tiles.parts(places, n), tiles.parts(window.channels_in, k)
        inputs = call.raw(count_n, count_k, elements, k * n, scalar=scalar)
        if options.threads > 1 and count_n * count_k < options.threads:
            release(call.raw(n * elements * k, scalar=scalar))
        else:
            release(call.raw(options.threads, 1, n * elements * k, scalar=scalar))
        release(call.raw(options.threads, 1, n * elements * m, scalar=scalar))
        release(inputs)
    elif made.algorithm == "gemm":
        depth = window.channels_in * window.taps
        places = rows * columns
        if options.arm:
            m, n, k = arm.convolution(window.channels_out, places, depth, options)
        else:
            m, n, k = tiles.convolution(window.channels_out, places, depth, options, scalar=border.scalar)
        inputs = call.raw(tiles.parts(places, n), tiles.parts(depth, k), k * n, scalar=border.scalar)
        if depth > k:
            release(call.raw(options.threads, 1, n * m, scalar=2 if options.arithmetic else 4))
        release(inputs)
    else:
        call.heap.burst(4 * window.taps)


def _dilated(call: Call, window: Window, inner: Made, border: Mat, top: Sizes) -> None:
    """forwardDilation_x86: for each place of the dilation a part of the input, convolved and spread."""
    step, kernel = window.dilation[0], window.kernel[0]
    plain = replace(window, dilation=(1, 1))
    inputs: Mat | None = None
    made: Mat | None = None
    for row in range(step):
        for column in range(step):
            part = (border.sizes[0], -(-(border.sizes[1] - row) // step), -(-(border.sizes[2] - column) // step))
            inputs = _again(call, inputs, part, border.scalar)
            made = _again(call, made, (top[0], part[1] - kernel + 1, part[2] - kernel + 1), border.scalar)
            compute(call, plain, inner, inputs, made.sizes)
    release(made)
    release(inputs)


def _again(call: Call, old: Mat | None, sizes: Sizes, scalar: int) -> Mat:
    """Mat::create on a matrix that may have these sizes already."""
    if old is not None and old.sizes == sizes:
        return old
    release(old)
    return call.new(sizes, scalar, 1, call.work)


@forward("Convolution1D")
def _convolution_1d(call: Call, bottoms: Sequence[Mat]) -> list[Mat]:
    mat, top, values = bottoms[0], call.top(), call.layer.values
    before, after = (*values.get("pads", (0, 0)), 0, 0)[:2]
    border = padded(call, mat, (0, before, 0, after)) if before > 0 or after > 0 else share(mat)
    made = call.new(top, mat.scalar, call.options.pack(top[0]), call.blob)
    release(border)
    return [made]


@forward("ConvolutionDepthWise")
def _depthwise(call: Call, bottoms: Sequence[Mat]) -> list[Mat]:
    mat, window, top = bottoms[0], window_of(call.layer), call.top()
    options = call.options
    border = bordered(call, mat, window)
    made = call.new(top, mat.scalar, options.pack(window.channels_out), call.blob)
    if call.made.algorithm == "depthwise":
        call.heap.burst(4 * window.taps)
        release(border)
        return [made]
    part = window.part
    into, out = options.pack(part.channels_in), options.pack(part.channels_out)
    loose = call.packing(border, into, call.work) if mat.pack > into else share(border)
    spread = call.new(top, mat.scalar, out, call.work) if out < made.pack else share(made)
    for one in call.made.groups:
        compute(call, part, one, Mat((part.channels_in, *border.sizes[1:]), mat.scalar, into, None), top)
    if out < made.pack:
        call.heap.burst(2 * WRAPPER + STRUCTURES["Packing"] + PARAMETERS)
        # packed into the top that is there
    release(spread)
    release(loose)
    release(border)
    return [made]


@forward("Deconvolution", "DeconvolutionDepthWise")
def _deconvolution(call: Call, bottoms: Sequence[Mat]) -> list[Mat]:
    mat, window, top = bottoms[0], window_of(call.layer), call.top()
    values = call.layer.values
    more = (call.layer.number("output_pad_bottom"), call.layer.number("output_pad_right"))
    sizes = tuple(
        (mat.sizes[axis + 1] - 1) * window.stride[axis]
        + window.dilation[axis] * (window.kernel[axis] - 1)
        + 1
        + more[axis]
        for axis in range(2)
    )
    cut = any(pad > 0 for pad in values.get("pads", ())) or bool(values.get("output_w") and values.get("output_h"))
    pack = call.options.pack(window.channels_out)
    where = call.work if cut else call.blob
    full = call.new((window.channels_out, *sizes), mat.scalar, pack, where)
    if call.made.groups:
        full = _deconvolved_groups(call, window, mat, full)
    else:
        _product(call, call.made, mat, pack, where)
    if not cut:
        return [full]
    held = WRAPPER + STRUCTURES["Crop"] + PARAMETERS
    call.heap.take("objects", held)
    made = call.new(top, mat.scalar, pack, call.blob)
    call.heap.take("objects", -held)
    release(full)
    return [made]


def _product(call: Call, how: Made, mat: Mat, pack: int, where: Allocator) -> None:
    """The product of a transposed convolution, before its columns are added up."""
    if how.gemm is not None:
        m, _, k = how.gemm.tiles
        columns = mat.sizes[1] * mat.sizes[2]
        product = call.new((m, columns), 4, pack, where)
        multiply(call, m, columns, k, constant_a=True)
        release(product)


def _deconvolved_groups(call: Call, window: Window, mat: Mat, full: Mat) -> Mat:
    """Group by group; what is packed at last lies among the blobs, whatever it was to replace."""
    part = window.part
    into, out = call.options.pack(part.channels_in), call.options.pack(part.channels_out)
    loose = call.packing(mat, into, call.work) if mat.pack > into else share(mat)
    unpacked = out < full.pack
    spread = call.new(full.sizes, mat.scalar, out, call.work) if unpacked else share(full)
    whose = full.memory.allocator if full.memory is not None else call.work
    for one in call.made.groups:
        _product(call, one, mat, out, call.work if unpacked or whose is None else whose)
    if unpacked and whose is not call.blob:
        packed = call.new(full.sizes, mat.scalar, full.pack, call.blob)
        release(full)
        full = packed
    if unpacked:
        call.heap.burst(2 * WRAPPER + STRUCTURES["Packing"] + PARAMETERS)
    release(spread)
    release(loose)
    return full
