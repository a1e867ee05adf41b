"""Arm of 64 bits: convolutions with blobs of single precision, fp16 and bf16, and tiles. Read, never measured.

Sources: `src/layer/arm/convolution_arm.cpp` and `convolution_arm_asimdhp.cpp` (create_pipeline, …_fp16s, …_bf16s),
`convolution_im2col_gemm*.h`, `convolution_3x3_winograd*.h`, `convolutiondepthwise_arm*.cpp`, `gemm_arm.cpp`,
`gemm_arm_asimdhp.cpp`; the sets of layers: `support_packing` and `support_fp16_storage` in `src/layer/*.cpp` and
`src/layer/arm/*_arm.cpp`; commit a4d2ea1d (2026-07-22), __aarch64__ with NCNN_ARM82, NCNN_BF16, NCNN_GNU_INLINE_ASM.
"""

from __future__ import annotations

import math

from peakmem.engines.ncnn import tiles
from peakmem.engines.ncnn.layers import STRUCTURES
from peakmem.engines.ncnn.load import PARAMETERS, Held, Loader, Made
from peakmem.engines.ncnn.options import Options
from peakmem.engines.ncnn.tiles import Tiles, cut, even, parts, up
from peakmem.engines.ncnn.window import Window

PACKED = frozenset((
    "AbsVal", "BatchNorm", "BinaryOp", "Cast", "Clip", "Concat", "Convolution", "Convolution1D",
    "ConvolutionDepthWise", "Crop", "Deconvolution", "DeconvolutionDepthWise", "DeepCopy", "Dequantize", "Dropout",
    "ELU", "Eltwise", "Erf", "Flatten", "GELU", "Gemm", "GroupNorm", "HardSigmoid", "HardSwish", "InnerProduct",
    "InstanceNorm", "Interp", "LayerNorm", "Mish", "MultiHeadAttention", "Noop", "PReLU", "Packing", "Padding",
    "PixelShuffle", "Pooling", "Quantize", "RMSNorm", "ReLU", "Requantize", "Reshape", "SELU", "Scale",
    "ShuffleChannel", "Sigmoid", "Slice", "Softmax", "Split", "Swish", "TanH", "UnaryOp",
))  # fmt: skip
# they accept packed blobs
SHORT = PACKED - {"AbsVal", "DeepCopy", "Dropout", "Requantize", "Scale"} | {
    "GRU", "LSTM", "MatMul", "RNN", "RotaryEmbed", "SDPA",
}  # fmt: skip
# they accept blobs of fp16, and of bf16
OTHERWISE = frozenset((
    "Convolution1D", "Deconvolution", "DeconvolutionDepthWise", "DeformableConv2D", "GRU", "GridSample", "LSTM",
    "MatMul", "MultiHeadAttention", "RNN", "SDPA",
))  # fmt: skip
# their layers for Arm have not been read: the rules of x86_64 stand in
THREE, FIVE, SEVEN, ONE, FOUR = (3, 3), (5, 5), (7, 7), (1, 1), (4, 4)


def convolution(m: int, n: int, k: int, options: Options) -> Tiles:
    """convolution_im2col_gemm_get_optimal_tile_mnk, …_fp16sa, …_bf16s."""
    scalar = 2 if options.bf16_storage else 4
    cached = options.l2_bytes // scalar
    tile_k = even(max(8, (cached - 32) // 12 // 8 * 8), k, 8)
    rows = 64 if options.arithmetic else 32
    tile_m = _for_threads(max(8, up(parts(m, parts(m, rows)), 8)), m, options)
    return Tiles(tile_m, _columns(n, k, tile_m, tile_k, cached, scalar == 2 and not options.arithmetic), tile_k)


def winograd(m: int, n: int, k: int, options: Options) -> Tiles:
    """conv3x3s1_winograd_get_optimal_tile_mnk, …_fp16."""
    cached = options.l2_bytes // (2 if options.arithmetic else 4)
    tile_k = even(max(8, (cached - 32) // 12 // 8 * 8), k, 8)
    tile_m = max(8, _for_threads(8, m, options))
    return Tiles(tile_m, _columns(n, k, tile_m, tile_k, cached, False), tile_k)


def _for_threads(tile: int, size: int, options: Options) -> int:
    tile = even(tile * min(options.threads, options.cores), size, 8)
    return min(tile, up(max(1, tile // options.threads), 8)) if options.threads > 1 else tile


def _columns(n: int, k: int, tile_m: int, tile_k: int, cached: int, wide: bool) -> int:
    if n <= 0:
        return 0
    left = cached - tile_m * tile_k
    size = cut(left, tile_k if tile_k >= k else tile_m * (2 if wide else 1) + tile_k)
    return max(4, even(max(4, cut(size, 4) * 4), n, 4))


def gemm(m: int, n: int, k: int, options: Options, scalar: int) -> Tiles:
    """get_optimal_tile_mnk of gemm_arm.cpp, …_fp16sa, and …_bf16s of gemm_bf16s.h."""
    divisor = 3 * scalar if scalar == 4 or options.arithmetic else 8
    side = int(math.sqrt(options.l2_bytes / divisor))
    tile_m, tile_n, tile_k = max(8, side // 8 * 8), max(4, side // 4 * 4), max(8, side // 8 * 8)
    if k > 0:
        count = parts(k, tile_k)
        tile_k = even(tile_k, k, 8)
        if count == 1:
            side = int(options.l2_bytes / 2 / scalar / tile_k)
            tile_m, tile_n = max(8, side // 8 * 8), max(4, side // 4 * 4)
    tile_m *= min(options.threads, options.cores)
    tile_m = even(tile_m, m, 8) if m > 0 else tile_m
    tile_n = even(tile_n, n, 4) if n > 0 else tile_n
    if options.threads > 1:
        tile_m = min(tile_m, up(max(1, tile_m // options.threads), 8))
    return Tiles(tile_m, tile_n, tile_k)


def product_tiles(m: int, n: int, k: int, options: Options, *, scalar: int = 4) -> Tiles:
    """Tiles of a product of matrices, on whichever processor."""
    return gemm(m, n, k, options, scalar) if options.arm else tiles.gemm(m, n, k, options, scalar=scalar)


def wants_winograd(window: Window, options: Options) -> bool:
    """Whether a convolution is computed through transformed weights: of fp16 only where it computes in fp16."""
    any_tile = options.winograd23 or options.winograd43 or options.winograd63
    least = 16 if options.fp16 else 8
    large = window.channels_in >= least or window.channels_out >= least
    allowed = options.arithmetic or not options.fp16
    return allowed and options.winograd and any_tile and large and window.three_by_three


def winograd_tile(window: Window, options: Options) -> str:
    """Which one; shapes are not looked at."""
    both = (window.channels_in, window.channels_out)
    if options.winograd63 and max(both) <= 128:
        return "winograd63"
    return "winograd43" if options.winograd43 and min(both) >= (16 if options.fp16 else 8) else "winograd23"


def _kernel(window: Window, options: Options) -> bool:
    """Whether convolution_arm*.cpp has a kernel written for this window and these packings."""
    pair = (options.pack(window.channels_in), options.pack(window.channels_out))
    if window.dilation != ONE or window.stride not in (ONE, (2, 2)):
        return False
    kernel, twice = window.kernel, window.stride == (2, 2)
    wide = options.widest
    if pair == (wide, wide) and (wide == 8 or not options.fp16):
        return kernel == FIVE or (kernel == THREE and (twice or wide == 8))
    if pair == (1, wide) and (wide == 8 or not options.fp16):
        return kernel == THREE or (kernel == SEVEN and twice)
    if options.arithmetic:
        return (pair == (4, 4) and kernel == THREE and not twice) or (pair == (1, 4) and kernel == THREE)
    return False


def wants_gemm(window: Window, options: Options) -> bool:
    """Whether a convolution is computed as a product of matrices."""
    if options.fp16 and not options.arithmetic:
        return False
    if window.kernel == ONE:
        return True
    product = window.channels_in * window.channels_out * window.taps * 2
    for factor in (*window.dilation, *window.stride):
        product *= factor
    preferred = product > options.l2_bytes // (2 if options.bf16_storage else 4)
    preferred = preferred or window.channels_in > 16 or window.channels_out > 16
    if _kernel(window, options):
        wide = options.widest
        twice = window.stride == (2, 2)
        both = options.pack(window.channels_in) == options.pack(window.channels_out) == wide
        least = {THREE: (64, 128) if wide == 8 else (4, 32), FIVE: (16, 88) if wide == 8 else (8, 44)}
        into, out = least.get(window.kernel, (0, 0))
        large = window.channels_in >= into and window.channels_out >= out
        preferred = preferred and both and twice and large
        # those of stride 1, and of unpacked inputs, are never left for it
    return options.sgemm and preferred


def create_convolution(loader: Loader, window: Window, weights: Held) -> Made:
    """create_pipeline of Convolution_arm after its activation."""
    options = loader.options
    short = 2 if options.bf16_storage else 4
    depth = window.channels_in * window.taps
    if wants_winograd(window, options):
        name = winograd_tile(window, options)
        elements = tiles.WINOGRAD[name][1]
        scalar = 2 if options.arithmetic else 4
        m, _, k = winograd(window.channels_out, 0, window.channels_in, options)
        passing = loader.take("workspace", (options.threads, 1, elements * m * k), scalar)
        loader.take(
            "repacked weights", (parts(window.channels_out, m), parts(window.channels_in, k), elements, k * m), scalar
        )
        loader.give(passing)
    elif wants_gemm(window, options):
        name = "gemm"
        m, _, k = convolution(window.channels_out, 0, depth, options)
        view = rows = None
        if window.taps > 1:
            if depth * 4 % 16:
                view = loader.take("workspace", (window.channels_out, window.channels_in, window.taps))
            rows = loader.take("workspace", (window.channels_out, depth), short)
        elif short == 2:
            rows = loader.take("workspace", (window.channels_out, depth), short)
        loader.take("repacked weights", (parts(window.channels_out, m), parts(depth, k), k * m), short)
        loader.give(rows, view)
    else:
        name = "packed"
        into, out = options.pack(window.channels_in), options.pack(window.channels_out)
        if _kernel(window, options):
            sizes = (window.channels_out // out, window.channels_in // into, window.taps)
            loader.take("repacked weights", sizes, short * into * out)
        elif short == 4 and (into, out) == (1, 1) and _as_they_are(window):
            return Made(name)
        else:
            sizes = packed_weights(window)
            loader.take("repacked weights", sizes, short)
    loader.parallel()
    if options.arithmetic and weights.nbytes and window.bias:
        loader.take("repacked weights", (window.channels_out,), 2)
    loader.original(weights)
    return Made(name)


def _as_they_are(window: Window) -> bool:
    """Unpacked windows whose kernels read the weights as the file has them."""
    if window.dilation != ONE:
        return False
    single, twice = window.stride == ONE, window.stride == (2, 2)
    return (window.kernel in (FIVE, SEVEN) and (single or twice)) or (window.kernel == FOUR and window.stride == FOUR)


def packed_weights(window: Window) -> tuple[int, int, int]:
    """The sizes of weights that convolution_transform_kernel_packed of convolution_packed*.h makes."""

    def rest(count: int) -> tuple[int, int]:
        first = next(step for step in (8, 4, 2, 1) if count >= step)
        total, step = 0, first
        while step:
            total, count, step = total + count // step, count % step, step // 2
        return total, first

    out, wide = rest(window.channels_out)
    into, deep = rest(window.channels_in)
    return (out, into, wide * deep * window.taps)


def create_depthwise(loader: Loader, window: Window, weights: Held) -> Made | None:
    """create_pipeline of ConvolutionDepthWise_arm; None where it becomes a convolution for each group."""
    options = loader.options
    pack = options.pack(window.group)
    short = options.bf16_storage
    if pack == 1 and not short and not (
        window.kernel in (THREE, FIVE) and window.dilation == ONE and window.stride in (ONE, (2, 2))
    ):  # fmt: skip
        return None
    if pack == 1 and not short:
        return Made("depthwise")
    loader.heap.burst(2 * STRUCTURES["Packing"] + PARAMETERS)
    sizes = (window.group // pack, window.taps)
    passing = loader.take("workspace", sizes, 4 * pack) if short and pack > 1 else None
    loader.take("repacked weights", sizes, (2 if short else 4) * pack)
    loader.give(passing)
    if options.fp16 and window.bias:
        loader.take("repacked weights", (window.channels_out,), 2)
    loader.parallel()
    loader.original(weights)
    return Made("depthwise")
