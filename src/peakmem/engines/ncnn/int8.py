"""Layers with int8 weights when they are loaded: quantised there where the file has floats, then packed.

Sources: `load_model` of `src/layer/convolution.cpp`, `convolutiondepthwise.cpp` and `innerproduct.cpp`; in
`src/layer/x86` `create_pipeline_int8_x86` of each, `convolution_im2col_gemm_int8.h`, `convolution_3x3_winograd_int8.h`
and `convolution_packed_int8.h`; commit a4d2ea1d (2026-07-22).
"""

from __future__ import annotations

from peakmem.engines.ncnn import tiles
from peakmem.engines.ncnn.layers import STRUCTURES, Layer
from peakmem.engines.ncnn.load import PARAMETERS, WRAPPER, Held, Loader, Made
from peakmem.engines.ncnn.options import Options
from peakmem.engines.ncnn.window import Window

WINOGRAD_INT8 = {"winograd43": (4, 36, 4), "winograd23": (2, 16, 2)}
# side of an output tile, elements of a transformed one, bytes of each


def wants_winograd(window: Window, options: Options) -> bool:
    """Whether an int8 convolution is computed through transformed weights; F(6,3) is not for int8."""
    large = window.channels_in > 8 or window.channels_out > 8
    return options.winograd and (options.winograd23 or options.winograd43) and large and window.three_by_three


def quantised(loader: Loader, weights: Held, sizes: tuple[int, ...]) -> Held:
    """Floats of a file become int8 (quantize_to_int8 in load_model); `sizes` as they are seen meanwhile."""
    count = 1
    for size in sizes:
        count *= size
    helper = WRAPPER + STRUCTURES["Quantize"] + PARAMETERS
    padded = len(sizes) > 2 and sizes[1] * sizes[2] * 4 % 16
    view = loader.take("workspace", sizes) if padded else None
    loader.heap.take("objects", helper)
    made = loader.take("weights", sizes, 1)
    loader.heap.team(1)
    loader.heap.take("objects", -helper)
    if len(sizes) > 2 and sizes[1] * sizes[2] % 16:
        # channels end on 16 bytes, so that the flat ones are a copy
        flat = loader.take("weights", (count,), 1)
        loader.give(made)
        made = flat
    loader.give(weights, view)
    return made


def create_convolution(loader: Loader, window: Window, weights: Held) -> Made:
    """create_pipeline_int8_x86 of Convolution_x86."""
    options = loader.options
    depth = window.channels_in * window.taps
    if wants_winograd(window, options):
        name = "winograd43" if options.winograd43 else "winograd23"
        _, elements, short = WINOGRAD_INT8[name]
        m, _, k = tiles.winograd_int8(window.channels_out, 0, window.channels_in, options)
        passing = loader.take("workspace", (options.threads, 1, elements * m * k), short)
        loader.take(
            "repacked weights",
            (tiles.parts(window.channels_out, m), tiles.parts(window.channels_in, k), elements, k * m),
            short,
        )
        loader.parallel()
        loader.give(passing)
    elif options.sgemm:
        name = "gemm"
        m, _, k = tiles.convolution_int8(window.channels_out, 0, depth, options)
        view = rows = None
        if window.taps > 1:
            if depth % 16:
                view = loader.take("workspace", (window.channels_out, window.channels_in, window.taps), 1)
            rows = loader.take("workspace", (window.channels_out, depth), 1)
        width = k + options.shift(m, k)
        loader.take("repacked weights", (tiles.parts(window.channels_out, m), tiles.parts(depth, k), width * m), 1)
        loader.parallel()
        loader.give(rows, view)
    else:
        name = "packed"
        loader.take("repacked weights", packed_int8(window, options), 1)
    loader.take("weights", (window.channels_out,))
    # scale_in_data
    loader.original(weights)
    return Made(f"int8 {name}")


def packed_int8(window: Window, options: Options) -> tuple[int, int, int]:
    """Sizes in bytes of the weights that convolution_transform_kernel_packed_int8 makes."""
    wide, inputs, outputs = options.lanes == 16, window.channels_in, window.channels_out
    steps = (16, 8, 4, 2) if wide else (8, 4, 2) if options.avx2 else (4, 2)
    out = next((step for step in steps if outputs >= step), 1)
    into = next((step for step in ((16, 8, 2) if wide else (8, 2)) if inputs >= step), 1)
    return (_blocks(outputs, (16, 8, 4, 2), out), _blocks(inputs, (16, 8, 2), into), out * into * window.taps)


def _blocks(count: int, steps: tuple[int, ...], largest: int) -> int:
    """How many blocks of `steps` channels, none larger than `largest`, and single ones at last."""
    total = 0
    for step in steps:
        if step <= largest:
            total, count = total + count // step, count % step
    return total + count


def load_convolution(loader: Loader, layer: Layer, window: Window) -> Made:
    """load_model and create_pipeline of a Convolution with int8_scale_term."""
    arrays = loader.read_all(layer)
    weights = arrays[0]
    if loader.floats(layer):
        weights = quantised(loader, weights, (window.channels_out, window.channels_in, window.taps))
    loader.activation(window.activation)
    return create_convolution(loader, window, weights)


def load_depthwise(loader: Loader, layer: Layer, window: Window) -> Made:
    """The same of a ConvolutionDepthWise: scales are spread over the groups."""
    arrays = loader.read_all(layer)
    weights = arrays[0]
    for at, weight in enumerate(layer.weights):
        if weight.name.endswith("_scale") and (weight.name != "weight_scale" or weight.count == 1):
            spread = loader.take("weights", (window.group,))
            loader.give(arrays[at])
            arrays[at] = spread
    if loader.floats(layer):
        count = layer.number("weight_data_size")
        made = loader.take("weights", (count,), 1)
        loader.heap.take("objects", WRAPPER + STRUCTURES["Quantize"] + PARAMETERS)
        loader.heap.team(1)
        loader.heap.take("objects", -WRAPPER - STRUCTURES["Quantize"] - PARAMETERS)
        loader.give(weights)
        weights = made
    loader.activation(window.activation)
    if window.channels_in == window.group == window.channels_out:
        if loader.options.packing and window.group % 8 == 0:
            loader.heap.burst(2 * STRUCTURES["Packing"] + PARAMETERS)
            loader.take("repacked weights", (window.group // 8, window.taps), 8)
            loader.parallel()
            loader.original(weights)
        return Made("int8 depthwise")
    part = window.part
    loader.heap.take("objects", 8 * window.group)
    made_groups = Made("int8 groups")
    for _ in range(window.group):
        copy = loader.take("weights", (part.taps * part.channels_in * part.channels_out,), 1)
        loader.heap.take("objects", STRUCTURES["Convolution"] + PARAMETERS)
        loader.take("weights", (part.channels_out,))
        # the scale of the group, for each of its channels
        loader.activation(window.activation)
        made_groups.groups.append(create_convolution(loader, part, copy))
        loader.heap.take("objects", -PARAMETERS)
    loader.original(weights)
    return made_groups


def load_inner_product(loader: Loader, layer: Layer) -> Made:
    """The same of an InnerProduct."""
    arrays = loader.read_all(layer)
    weights = arrays[0]
    out = layer.number("num_output")
    columns = layer.number("weight_data_size") // out
    if loader.floats(layer):
        weights = quantised(loader, weights, (out, columns))
    loader.helper("Flatten")
    pack = 8 if loader.options.packing and out % 8 == 0 else 1
    loader.take("repacked weights", (out // pack, columns), pack)
    loader.take("weights", (out,))
    # scale_in_data
    loader.original(weights)
    return Made("int8")


def load_gemm(loader: Loader, layer: Layer) -> Made:
    """create_pipeline_int8 of Gemm_x86."""
    arrays = {weight.name: loader.read(weight) for weight in layer.weights}
    m, n, k = (layer.number(f"constant{side}") for side in "MNK")
    loader.give(arrays.get("B_scale"))
    if "A" in arrays:
        pack_gemm(loader, m, 0, k)
        loader.original(arrays["A"])
    if "B" in arrays:
        pack_gemm(loader, 0, n, k)
        loader.original(arrays["B"])
    return Made("int8")


def pack_gemm(loader: Loader, m: int, n: int, k: int) -> None:
    """A constant operand in tiles: the first where `n` is 0, the second where `m` is."""
    tile_m, tile_n, tile_k = tiles.gemm(m, n, k, loader.options, scalar=1)
    rows, tile = (m, tile_m) if m else (n, tile_n)
    width = tile_k + (loader.options.shift(tile_m, tile_k) if m else 0)
    loader.take("repacked weights", (tiles.parts(rows, tile), tiles.parts(k, tile_k), width * tile), 1)
    loader.parallel()


def load_blocks(loader: Loader, layer: Layer) -> Made:
    """A Gemm with weights in blocks: those of 8 bits are packed, those of 4 and 6 stay; from 1.0.20261020's counts."""
    options = loader.options
    n, k = layer.number("constantN"), layer.number("constantK")
    scales = (n, tiles.parts(k, layer.block_size))
    width = tiles.parts(k * layer.block_bits, 8)
    if loader.mapped:
        weights = Held("weights", 0)
    else:
        passing = tiles.up(n * width, 4)
        loader.heap.take("workspace", passing)
        weights = loader.take("weights", (n, width), 1)
        loader.heap.take("workspace", -passing)
    for weight in layer.weights:
        if weight.name != "B":
            loader.read(weight)
    if layer.block_bits == 8:
        copy = loader.take("weights", scales)
        loader.take("repacked weights", (n, k), 1)
        if options.shifted:
            loader.take("repacked weights", scales)
            # sums of the weights of each block
        loader.parallel()
        loader.original(copy)
        loader.original(weights)
    return Made(f"blocks of {layer.block_bits} bits")
