"""Products of matrices when they are loaded: inner products, Gemm, transposed convolutions, attention.

Sources: `innerproduct_x86.cpp`, `innerproduct_fp.h`, `innerproduct_bf16s.h`, `gemm_x86.cpp`, `deconvolution_x86.cpp`,
`deconvolution_packed.h`, `deconvolutiondepthwise_x86.cpp`, `deformableconv2d_x86.cpp`, `convolution1d_packed.h`,
`multiheadattention_x86.cpp` in `src/layer/x86`, commit a4d2ea1d (2026-07-22); `sdpa_x86.cpp` and `matmul_x86.cpp`
thereafter (nihui/ncnn 9f13b3ed, Tencent/ncnn 0449e2e0).
"""

from __future__ import annotations

from peakmem.engines.ncnn import int8, tiles
from peakmem.engines.ncnn.arm import product_tiles
from peakmem.engines.ncnn.convolution import copy_if_padded, packed_weights
from peakmem.engines.ncnn.layers import STRUCTURES, Layer
from peakmem.engines.ncnn.load import PARAMETERS, WRAPPER, Held, Loader, Made, rule
from peakmem.engines.ncnn.window import Window, window_of


@rule("InnerProduct")
def _inner_product(loader: Loader, layer: Layer) -> Made:
    if layer.int8:
        return int8.load_inner_product(loader, layer)
    options = loader.options
    arrays = loader.read_all(layer)
    loader.helper("Flatten")
    out = layer.number("num_output")
    columns = layer.number("weight_data_size") // out
    short = options.bf16_storage or (options.half and options.fp16_storage)
    pack = options.pack(out)
    if pack > 1:
        loader.take("repacked weights", (out // pack, columns), (2 if short else 4) * pack)
        loader.original(arrays[0])
    elif short:
        held = WRAPPER + STRUCTURES["Cast"] + PARAMETERS
        loader.heap.take("objects", held)
        loader.take("repacked weights", (out, columns), 2)
        loader.parallel()
        loader.heap.take("objects", -held)
        loader.original(arrays[0])
    # else weight_data_tm is weight_data itself
    return Made()


def create_gemm(loader: Loader, m: int, n: int, k: int, a: Held | None, b: Held | None, *, scalar: int = 4) -> Made:
    """create_pipeline of Gemm_x86: constant matrices are tiled, C is kept."""
    options = loader.options
    if a is not None:
        tile_m, _, tile_k = product_tiles(m, 0, k, options, scalar=scalar)
        short = loader.take("workspace", (m, k), 2) if scalar == 2 else None
        loader.take("repacked weights", (tiles.parts(m, tile_m), tiles.parts(k, tile_k), tile_k * tile_m), scalar)
        loader.parallel()
        loader.original(a)
        loader.give(short)
    if b is not None:
        _, tile_n, tile_k = product_tiles(0, n, k, options, scalar=scalar)
        short = loader.take("workspace", (n, k), 2) if scalar == 2 else None
        loader.take("repacked weights", (tiles.parts(n, tile_n), tiles.parts(k, tile_k), tile_k * tile_n), scalar)
        loader.parallel()
        loader.original(b)
        loader.give(short)
    return Made("gemm", (m, n, k))


@rule("Gemm")
def _gemm(loader: Loader, layer: Layer) -> Made:
    if layer.int8:
        return int8.load_gemm(loader, layer)
    if layer.block_bits:
        return int8.load_blocks(loader, layer)
    given = iter(loader.read_all(layer))
    a, b = (next(given, None) if layer.values.get(f"constant{side}") else None for side in "AB")
    m, n, k = (layer.number(f"constant{side}") for side in "MNK")
    return create_gemm(loader, m, n, k, a, b, scalar=2 if loader.options.bf16_storage else 4)


@rule("Convolution1D")
def _convolution_1d(loader: Loader, layer: Layer) -> Made:
    arrays = loader.read_all(layer)
    if layer.values.get("dynamic_weight"):
        return Made("dynamic")
    window = window_of(layer)
    sizes = packed_weights(window.channels_in, window.channels_out, window.taps, loader.options.lanes)
    loader.take("repacked weights", sizes, 2 if loader.options.bf16_storage else 4)
    loader.original(arrays[0])
    return Made("packed")


@rule("DeformableConv2D")
def _deformable(loader: Loader, layer: Layer) -> Made:
    options = loader.options
    window = window_of(layer)
    arrays = loader.read_all(layer)
    loader.activation(window.activation)
    depth = window.channels_in * window.taps
    if not options.sgemm:
        into, out = options.pack(window.channels_in), options.pack(window.channels_out)
        loader.take("repacked weights", (depth * window.channels_out // (into * out),), 4 * into * out)
        loader.original(arrays[0])
        return Made("packed")
    loader.helper("Gemm")
    passing = loader.take("workspace", (window.channels_out, depth))
    view = copy_if_padded(loader, window)
    loader.give(view)
    loader.heap.burst(PARAMETERS)
    scalar = 2 if options.bf16_storage else 4
    made = create_gemm(loader, window.channels_out, 0, depth, Held("workspace", 0), None, scalar=scalar)
    if options.light:
        loader.give(passing)
    else:
        loader.heap.move("workspace", "weights", passing.nbytes)
    loader.original(arrays[0])
    return Made("gemm", gemm=made)


@rule("Deconvolution")
def _deconvolution(loader: Loader, layer: Layer) -> Made:
    arrays = loader.read_all(layer)
    if layer.values.get("dynamic_weight"):
        return Made("dynamic")
    return create_deconvolution(loader, window_of(layer), arrays[0])


def create_deconvolution(loader: Loader, window: Window, weights: Held) -> Made:
    """create_pipeline of Deconvolution_x86."""
    options = loader.options
    loader.activation(window.activation)
    rows = window.taps * window.channels_out
    if options.bf16_storage or not options.sgemm:
        turned = loader.take("workspace", (window.channels_in * rows,))
        view = copy_if_padded(loader, window)
        sizes = packed_weights(window.channels_in, window.channels_out, window.taps, options.lanes)
        loader.take("repacked weights", sizes, 2 if options.bf16_storage else 4)
        loader.give(view, turned)
        loader.original(weights)
        return Made("packed")
    loader.helper("Gemm")
    loader.heap.take("objects", PARAMETERS)
    view = copy_if_padded(loader, window)
    passing = loader.take("workspace", (window.channels_in, rows))
    loader.give(view)
    made = create_gemm(loader, rows, 0, window.channels_in, Held("workspace", 0), None)
    if options.light:
        loader.give(passing)
    else:
        # the product keeps what it was made of
        loader.heap.move("workspace", "weights", passing.nbytes)
    loader.heap.take("objects", -PARAMETERS)
    loader.original(weights)
    return Made("gemm", gemm=made)


@rule("DeconvolutionDepthWise")
def _deconvolution_depthwise(loader: Loader, layer: Layer) -> Made:
    window = window_of(layer)
    arrays = loader.read_all(layer)
    if layer.values.get("dynamic_weight"):
        return Made("dynamic")
    pack = loader.options.pack(window.group)
    if window.channels_in == window.group == window.channels_out:
        turned = loader.take("workspace", (window.group * window.taps,))
        if pack > 1:
            loader.heap.burst(2 * STRUCTURES["Packing"] + PARAMETERS)
            loader.take("repacked weights", (window.group // pack, window.taps), 4 * pack)
            loader.parallel()
            loader.give(turned)
        else:
            loader.heap.move("workspace", "repacked weights", turned.nbytes)
        loader.original(arrays[0])
        return Made("depthwise")
    loader.activation(window.activation)
    part = window.part
    loader.heap.take("objects", 8 * window.group)
    made = Made("groups")
    for _ in range(window.group):
        weights = loader.take("weights", (part.taps * part.channels_in * part.channels_out,))
        loader.heap.take("objects", STRUCTURES["Deconvolution"] + PARAMETERS)
        made.groups.append(create_deconvolution(loader, part, weights))
        loader.heap.take("objects", -PARAMETERS)
    loader.original(arrays[0])
    return made


@rule("MultiHeadAttention")
def _attention(loader: Loader, layer: Layer) -> Made:
    arrays = loader.read_all(layer)
    embedded = layer.number("embed_dim")
    query = layer.number("weight_data_size") // max(1, embedded)
    depths = (query, layer.number("kdim"), layer.number("vdim"))
    loader.helper("Softmax")
    made = Made("attention")
    if layer.int8:
        for m, n, k in [*((embedded, 0, depth) for depth in depths), (0, query, embedded)]:
            loader.heap.take("objects", STRUCTURES["Gemm"])
            int8.pack_gemm(loader, m, n, k)
        for _ in range(2):
            loader.helper("Gemm")
        for held in arrays[0:8:2]:
            loader.original(held)
        return made
    shapes = [(embedded, 0, depth) for depth in depths]
    for sizes, weights in zip([*shapes, (0, query, embedded)], arrays[0:8:2], strict=False):
        loader.heap.take("objects", STRUCTURES["Gemm"] + PARAMETERS)
        shared = Held(weights.category, 0)
        # the layer itself holds the array until all products are made
        first = sizes[0] > 0
        scalar = 2 if first and loader.options.bf16_storage else 4
        # the last product stays in single precision
        made.groups.append(
            create_gemm(loader, *sizes, shared if first else None, None if first else shared, scalar=scalar)
        )
        loader.heap.take("objects", -PARAMETERS)
    for _ in range(2):
        loader.helper("Gemm")
    for held in arrays[0:8:2]:
        loader.original(held)
    return made


@rule("SDPA")
def _scaled_dot_product(loader: Loader, layer: Layer) -> Made:
    loader.helper("Softmax")
    if layer.values.get("scale"):
        loader.helper("Gemm")
    loader.helper("Gemm")
    return Made("attention")


@rule("Spectrogram", "InverseSpectrogram")
def _spectrum(loader: Loader, layer: Layer) -> Made:
    """The window, and the sum of its squares where it is normalised by it."""
    loader.take("weights", (layer.number("n_fft") + (layer.number("normalized") == 2),))
    return Made()


@rule("MatMul")
def _matmul(loader: Loader, layer: Layer) -> Made:
    """A Gemm inside."""
    loader.read_all(layer)
    loader.helper("Gemm")
    return Made("gemm")
