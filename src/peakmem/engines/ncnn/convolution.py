"""Convolutions when they are loaded: which algorithm, and which weights stay.

Sources: `src/layer/x86/convolution_x86.cpp`, `convolution_im2col_gemm.h`, `convolution_im2col_gemm_bf16s.h`,
`convolution_3x3_winograd.h`, `convolution_packed.h`, `convolutiondepthwise_x86.cpp`, commit a4d2ea1d (2026-07-22).
"""

from __future__ import annotations

from dataclasses import replace

from peakmem.engines.ncnn import arm, int8, tiles
from peakmem.engines.ncnn.layers import STRUCTURES, Layer
from peakmem.engines.ncnn.load import PARAMETERS, Held, Loader, Made, rule
from peakmem.engines.ncnn.options import Options
from peakmem.engines.ncnn.window import Window, window_of


def wants_winograd(window: Window, options: Options) -> bool:
    """Whether a convolution is computed through transformed weights."""
    any_tile = options.winograd23 or options.winograd43 or options.winograd63
    large = window.channels_in > 8 or window.channels_out > 8
    return options.winograd and any_tile and large and window.three_by_three


def wants_gemm(window: Window, options: Options, scalar: int) -> bool:
    """Whether a convolution is computed as a product of matrices."""
    product = window.channels_in * window.channels_out * window.taps * scalar * 2
    for factor in (*window.dilation, *window.stride):
        product *= factor
    preferred = product > options.l2_bytes or window.channels_in > 16 or window.channels_out > 16
    return (options.sgemm and preferred) or window.taps == 1


def preferred_tile(window: Window, side: int, options: Options, made: str = "") -> str:
    """The Winograd tile for an input whose smaller side, with its padding, is `side`.

    `made` is what was transformed when the layer was created; empty while it is being created.
    """
    allowed = {"winograd23": options.winograd23, "winograd43": options.winograd43, "winograd63": options.winograd63}
    if made:
        allowed = {name: flag and name == made for name, flag in allowed.items()}
    if tiles.prefers("63", window.channels_in, window.channels_out, side) and allowed["winograd63"]:
        return "winograd63"
    if tiles.prefers("23", window.channels_in, window.channels_out, side) and allowed["winograd23"]:
        return "winograd23"
    if allowed["winograd43"]:
        return "winograd43"
    return "winograd63" if allowed["winograd63"] else "winograd23"


def packed_weights(channels_in: int, channels_out: int, taps: int, lanes: int) -> tuple[int, int, int]:
    """The sizes of weights that convolution_transform_kernel_packed makes, outermost first."""

    def rest(count: int, step: int) -> int:
        total = count // step
        while step > 1:
            count, step = count % step, step // 2 if step > 2 else 1
            total += count // step
        return total

    out = next((step for step in (16, 8, 4, 2, 1) if step <= lanes and channels_out >= step), 1)
    into = next((step for step in (16, 8, 4, 2, 1) if step <= lanes and channels_in >= step), 1)
    return (rest(channels_out, out), rest(channels_in, into), out * into * taps)


def create_convolution(loader: Loader, window: Window, weights: Held, side: int) -> Made:
    """create_pipeline of Convolution_x86 after its activation; `side` is 0 where sizes are not known yet."""
    options = loader.options
    if options.arm and (options.packing or options.bf16_storage or not window.dilated):
        return arm.create_convolution(loader, window, weights)
    scalar = 2 if options.bf16_storage else 4
    if not options.packing and window.dilated and not options.bf16_storage:
        # a convolution without dilation inside, computed place by place
        loader.helper("Convolution")
        inner = create_convolution(loader, replace(window, dilation=(1, 1), activation=0), weights, 0)
        return Made("dilated", groups=[inner])
    if wants_winograd(window, options):
        small = window.channels_in <= 32 and window.channels_out <= 32
        if side:
            name = preferred_tile(window, side, options)
        elif options.winograd63 and small:
            name = "winograd63"
        else:
            name = "winograd43" if options.winograd43 else "winograd23"
        elements = tiles.WINOGRAD[name][1]
        m, _, k = tiles.winograd(window.channels_out, 0, window.channels_in, options)
        passing = loader.take("workspace", (options.threads, 1, elements * m * k))
        loader.take(
            "repacked weights",
            (tiles.parts(window.channels_out, m), tiles.parts(window.channels_in, k), elements, k * m),
        )
        loader.parallel()
        loader.give(passing)
        loader.original(weights)
        return Made(name)
    if wants_gemm(window, options, scalar):
        depth = window.channels_in * window.taps
        m, _, k = tiles.convolution(window.channels_out, 0, depth, options, scalar=scalar)
        rows = None
        if window.taps > 1:
            # the weights as (out, in, taps), a copy where a channel is no multiple of 16 bytes
            view = copy_if_padded(loader, window)
            rows = loader.take("workspace", (window.channels_out, depth))
            loader.give(view)
        loader.take("repacked weights", (tiles.parts(window.channels_out, m), tiles.parts(depth, k), k * m), scalar)
        loader.parallel()
        loader.give(rows)
        loader.original(weights)
        return Made("gemm")
    view = copy_if_padded(loader, window)
    into, out = options.pack(window.channels_in), options.pack(window.channels_out)
    if scalar == 4 and _has_kernel(window, into, out, options):
        sizes = (window.channels_out // out, window.channels_in // into, window.taps)
        loader.take("repacked weights", sizes, 4 * into * out)
        # by hand for this window: the reshaped weights go first
    else:
        loader.take(
            "repacked weights",
            packed_weights(window.channels_in, window.channels_out, window.taps, options.lanes),
            scalar,
        )
    loader.give(view)
    loader.original(weights)
    return Made("packed")


def copy_if_padded(loader: Loader, window: Window) -> Held | None:
    """Weights reshaped to (out, in, taps): a copy where channels do not end on 16 bytes."""
    if window.channels_in * window.taps * 4 % 16 == 0:
        return None
    return loader.take("workspace", (window.channels_out, window.channels_in, window.taps))


def _has_kernel(window: Window, into: int, out: int, options: Options) -> bool:
    """Whether convolution_x86.cpp has a kernel written for this window and these packings."""
    three, two = window.three_by_three, window.kernel == (2, 2) and window.stride == window.dilation == (1, 1)
    strided = window.kernel == (3, 3) and window.dilation == (1, 1) and window.stride == (2, 2)
    return (
        ((into, out) in ((16, 1), (8, 8), (1, 8), (8, 1)) and three and options.lanes >= max(into, out))
        or ((into, out) == (8, 8) and two)
        or ((into, out) == (1, 8) and strided)
        or ((into, out) == (1, 4) and (three or strided))
    )


@rule("Convolution")
def _convolution(loader: Loader, layer: Layer) -> Made:
    window = window_of(layer)
    if layer.int8:
        return int8.load_convolution(loader, layer, window)
    arrays = loader.read_all(layer)
    if layer.values.get("dynamic_weight"):
        return Made("dynamic")
    loader.activation(window.activation)
    top = loader.hints.get(layer.tops[0], ())
    side = min(top[-2:]) + 2 if len(top) == 3 else 0
    return create_convolution(loader, window, arrays[0], side)


@rule("ConvolutionDepthWise")
def _depthwise(loader: Loader, layer: Layer) -> Made:
    window = window_of(layer)
    if layer.int8:
        return int8.load_depthwise(loader, layer, window)
    arrays = loader.read_all(layer)
    if layer.values.get("dynamic_weight"):
        return Made("dynamic")
    loader.activation(window.activation)
    if window.channels_in == window.group == window.channels_out:
        pack = loader.options.pack(window.group)
        if loader.options.arm:
            made = arm.create_depthwise(loader, window, arrays[0])
            return made or _groups(loader, window, arrays)
        if pack > 1:
            loader.heap.burst(2 * STRUCTURES["Packing"] + PARAMETERS)
            loader.take("repacked weights", (window.group // pack, window.taps), 4 * pack)
            loader.parallel()
            loader.original(arrays[0])
            return Made("depthwise")
        if window.kernel == (3, 3) and window.dilation == (1, 1) and window.stride in ((1, 1), (2, 2)):
            return Made("depthwise")
            # the weights as they are
    return _groups(loader, window, arrays)


def _groups(loader: Loader, window: Window, arrays: list[Held]) -> Made:
    """create_group_ops: a convolution for each group, with a copy of its weights."""
    part = window.part
    loader.heap.take("objects", 8 * window.group)
    made = Made("groups")
    for _ in range(window.group):
        weights = loader.take("weights", (part.taps * part.channels_in * part.channels_out,))
        # range().clone(), given to the group's convolution
        loader.heap.take("objects", STRUCTURES["Convolution"] + PARAMETERS)
        loader.activation(window.activation)
        made.groups.append(create_convolution(loader, part, weights, 0))
        loader.heap.take("objects", -PARAMETERS)
    loader.original(arrays[0])
    return made
