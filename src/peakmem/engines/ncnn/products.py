"""Products of matrices when they are loaded: inner products, Gemm, transposed convolutions, attention, LSTM.

Sources: `src/layer/x86/innerproduct_x86.cpp`, `innerproduct_fp.h`, `innerproduct_bf16s.h`, `gemm_x86.cpp`,
`deconvolution_x86.cpp`, `deconvolutiondepthwise_x86.cpp`, `multiheadattention_x86.cpp`, `lstm_x86.cpp`, commit
a4d2ea1d (2026-07-22).
"""

from __future__ import annotations

from peakmem.engines.ncnn import tiles
from peakmem.engines.ncnn.convolution import packed_weights, window_of
from peakmem.engines.ncnn.layers import STRUCTURES, Layer
from peakmem.engines.ncnn.load import PARAMETERS, Held, Loader, Made, rule


@rule("InnerProduct")
def _inner_product(loader: Loader, layer: Layer) -> Made:
    options = loader.options
    arrays = loader.read_all(layer)
    loader.helper("Flatten")
    out = layer.number("num_output")
    columns = layer.number("weight_data_size") // out
    short = options.bf16_storage or (options.half and options.fp16_storage)
    pack = options.pack(out)
    if pack > 1 or short:
        loader.take("repacked weights", (out // pack, columns), (2 if short else 4) * pack)
        loader.original(arrays[0], stays=False)
    # else weight_data_tm is weight_data itself
    return Made()


def create_gemm(
    loader: Loader, m: int, n: int, k: int, a: Held | None, b: Held | None, c: Held | None, *, scalar: int = 4
) -> Made:
    """create_pipeline of Gemm_x86: constant matrices are tiled, C is kept."""
    options = loader.options
    if a is not None:
        tile_m, _, tile_k = tiles.gemm(m, 0, k, options)
        loader.take("repacked weights", (tiles.parts(m, tile_m), tiles.parts(k, tile_k), tile_k * tile_m), scalar)
        loader.parallel()
        loader.original(a, stays=False)
    if b is not None:
        _, tile_n, tile_k = tiles.gemm(0, n, k, options)
        loader.take("repacked weights", (tiles.parts(n, tile_n), tiles.parts(k, tile_k), tile_k * tile_n), scalar)
        loader.parallel()
        loader.original(b, stays=False)
    return Made("gemm", (m, n, k))


@rule("Gemm")
def _gemm(loader: Loader, layer: Layer) -> Made:
    given = iter(loader.read_all(layer))
    a, b, c = (next(given, None) if layer.values.get(f"constant{side}") else None for side in "ABC")
    m, n, k = (layer.number(f"constant{side}") for side in "MNK")
    return create_gemm(loader, m, n, k, a, b, c)


@rule("Deconvolution")
def _deconvolution(loader: Loader, layer: Layer) -> Made:
    options = loader.options
    window = window_of(layer)
    arrays = loader.read_all(layer)
    if layer.values.get("dynamic_weight"):
        return Made("dynamic")
    loader.activation(window.activation)
    rows = window.taps * window.channels_out
    if options.bf16_storage or not options.sgemm:
        sizes = packed_weights(window.channels_in, window.channels_out, window.taps, options.lanes)
        loader.take("repacked weights", sizes, 2 if options.bf16_storage else 4)
        loader.original(arrays[0], stays=False)
        return Made("packed")
    loader.helper("Gemm")
    view = None
    if window.channels_in * window.taps * 4 % 16:
        view = loader.take("workspace", (window.channels_out, window.channels_in, window.taps))
    passing = loader.take("workspace", (window.channels_in, rows))
    loader.give(view)
    made = create_gemm(loader, rows, 0, window.channels_in, Held("workspace", 0), None, None)
    if options.light:
        loader.give(passing)
    else:
        # the product keeps what it was made of
        loader.heap.move("workspace", "weights", passing.nbytes)
    loader.original(arrays[0], stays=False)
    return Made("gemm", gemm=made)


@rule("DeconvolutionDepthWise")
def _deconvolution_depthwise(loader: Loader, layer: Layer) -> Made:
    window = window_of(layer)
    arrays = loader.read_all(layer)
    pack = loader.options.pack(window.group)
    if window.channels_in == window.group == window.channels_out:
        turned = loader.take("workspace", (window.group * window.taps,))
        if pack > 1:
            loader.heap.burst(2 * STRUCTURES["Packing"] + PARAMETERS)
            loader.take("repacked weights", (window.group // pack, window.taps), 4 * pack)
            loader.give(turned)
        else:
            loader.heap.move("workspace", "repacked weights", turned.nbytes)
        loader.original(arrays[0], stays=False)
        return Made("depthwise")
    return Made("unmodelled")


@rule("MultiHeadAttention")
def _attention(loader: Loader, layer: Layer) -> Made:
    arrays = loader.read_all(layer)
    embedded = layer.number("embed_dim")
    query = layer.number("weight_data_size") // max(1, embedded)
    depths = (query, layer.number("kdim"), layer.number("vdim"))
    loader.helper("Softmax")
    made = Made("attention")
    for weights, depth in zip(arrays[0:6:2], depths, strict=False):
        loader.helper("Gemm")
        made.groups.append(create_gemm(loader, embedded, 0, depth, weights, None, None))
    for _ in range(3):
        loader.helper("Gemm")
    made.groups.append(create_gemm(loader, 0, query, embedded, None, arrays[6], None))
    return made


@rule("LSTM")
def _lstm(loader: Loader, layer: Layer) -> Made:
    options = loader.options
    directions = 2 if layer.number("direction") == 2 else 1
    hidden, out = layer.number("hidden_size"), layer.number("num_output")
    size = layer.number("weight_data_size") // directions // hidden // 4
    shapes = ((directions, hidden * 4, size), (directions, 4, hidden), (directions, hidden * 4, out), (directions, out, hidden))
    arrays = []
    for weight, shape in zip(layer.weights, shapes, strict=False):
        held = loader.read(weight)
        if shape[1] * shape[2] * 4 % 16 and held.nbytes:
            copy = loader.take("weights", shape)
            loader.give(held)
            held = copy
        arrays.append(held)
    rows, element = (hidden // 2 + hidden % 2, 32) if options.lanes >= 8 else (hidden, 16)
    loader.take("repacked weights", (directions, rows, size), element)
    loader.take("repacked weights", (directions, 1, hidden), 16)
    loader.take("repacked weights", (directions, rows, out), element)
    loader.parallel()
    for held in arrays[:3]:
        loader.original(held, stays=False)
    return Made("lstm")
