"""Tile sizes of products of matrices, by cache of level 2, threads and width of registers; Winograd's preferences.

The counterpart of each function is named with its file; commit a4d2ea1d (2026-07-22). Divisions of ints are C++'s, of
positive numbers; floats are single there and double here, which differs only where a root falls on a whole number.
"""

from __future__ import annotations

import json
import math
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

from peakmem.engines.ncnn.options import Options

WINOGRAD = {"winograd23": (2, 16), "winograd43": (4, 36), "winograd63": (6, 64)}
# side of an output tile, elements of a transformed one


class Tiles(NamedTuple):
    """Sizes of a tile of a product of (m, k) by (k, n)."""

    m: int
    n: int
    k: int


def up(value: int, step: int) -> int:
    """`value` rounded up to a multiple of `step`."""
    return -(-value // step) * step


def parts(size: int, tile: int) -> int:
    """How many tiles `size` takes."""
    return -(-size // tile)


def even(tile: int, size: int, step: int) -> int:
    """`tile`, or less where as many smaller ones of equal size do."""
    return min(tile, up(parts(size, parts(size, tile)), step))


def _for_threads(tile: int, size: int, step: int, options: Options) -> int:
    tile = even(tile * min(options.threads, options.cores), size, step)
    if options.threads > 1:
        tile = min(tile, up(max(1, tile // options.threads), step))
    return tile


def convolution(m: int, n: int, k: int, options: Options, *, scalar: int = 4) -> Tiles:
    """convolution_im2col_gemm_get_optimal_tile_mnk of x86/convolution_im2col_gemm.h, and of …_bf16s.h for `scalar` 2.

    `n` is 0 where weights are transformed, before sizes are known.
    """
    lanes = options.lanes
    cached = options.l2_bytes // scalar
    step_n = {16: 16, 8: 12 if scalar == 4 else 4, 4: 4}[lanes]
    divisor = 16 if lanes == 16 else 8
    tile_k = even(max(lanes, (cached - 4 * lanes) // divisor // lanes * lanes), k, lanes)
    tile_m = max(lanes, up(parts(m, parts(m, 4 * lanes)), lanes))
    tile_m = _for_threads(tile_m, m, lanes, options)
    tile_n = 0
    if n > 0:
        left = cached - tile_m * tile_k
        size = cut(left, tile_k if tile_k >= k else tile_m + tile_k)
        tile_n = max(step_n, even(max(step_n, cut(size, step_n) * step_n), n, step_n))
    return Tiles(tile_m, tile_n, tile_k)


def winograd(m: int, n: int, k: int, options: Options) -> Tiles:
    """get_optimal_tile_mnk of x86/convolution_3x3_winograd.h."""
    lanes = options.lanes
    cached = options.l2_bytes / 4
    step_n = 12 if lanes == 8 else lanes
    tile_m = max(lanes, int(math.sqrt(cached / 3)) // lanes * lanes)
    tile_m = _for_threads(tile_m, m, lanes, options)
    tile_k = even(max(lanes, cut(int(math.sqrt(cached) - tile_m), lanes) * lanes), k, lanes)
    tile_n = 0
    if n > 0:
        size = int((cached - tile_m * tile_k) / (tile_m + tile_k))
        tile_n = even(max(step_n, cut(size, step_n) * step_n), n, step_n)
    return Tiles(tile_m, tile_n, tile_k)


def convolution_int8(m: int, n: int, k: int, options: Options) -> Tiles:
    """convolution_im2col_gemm_get_optimal_tile_mnk_int8 of x86/convolution_im2col_gemm_int8.h."""
    lanes = options.lanes
    step_k, cached = max(8, lanes), options.l2_bytes
    tile_k = even(max(step_k, (cached - 4 * lanes) // (16 if lanes == 16 else 8) // step_k * step_k), k, step_k)
    tile_m = max(lanes, up(parts(m, parts(m, 4 * lanes)), lanes))
    tile_m = _for_threads(tile_m, m, lanes, options)
    tile_n = 0
    if n > 0:
        size = cut(cached - tile_m * tile_k, tile_k if tile_k >= k else tile_m * 4 + tile_k)
        tile_n = even(max(15 if lanes == 16 else lanes, cut(size, lanes) * lanes), n, lanes)
    return Tiles(tile_m, tile_n, tile_k)


def winograd_int8(m: int, n: int, k: int, options: Options) -> Tiles:
    """get_optimal_tile_mnk_int8 of x86/convolution_3x3_winograd_int8.h: eight at a time need AVX2."""
    lanes = options.lanes if options.avx2 or options.lanes != 8 else 4
    cached = options.l2_bytes // 2
    tile_m = max(lanes, int(math.sqrt(cached / 3)) // lanes * lanes)
    tile_m = _for_threads(tile_m, m, lanes, options)
    step_k = max(8, lanes)
    # 4 in the commit, 8 in 1.0.20261020 without AVX2: measured
    tile_k = even(max(step_k, cut(int(math.sqrt(cached) - tile_m), step_k) * step_k), k, step_k)
    tile_n = 0
    if n > 0:
        size = cut(cached - tile_m * tile_k, tile_m * 2 + tile_k)
        tile_n = even(max(4, cut(size, 4) * 4), n, 4)
    return Tiles(tile_m, tile_n, tile_k)


def gemm(
    m: int, n: int, k: int, options: Options, constant: tuple[int, int, int] = (0, 0, 0), *, scalar: int = 4
) -> Tiles:
    """get_optimal_tile_mnk of x86/gemm_x86.cpp; for `scalar` 2 …_bf16 of gemm_bf16s.h, for 1 …_int8 of gemm_int8.h.

    A size of 0 is not known yet.
    """
    lanes = options.lanes
    step_n = 16 if lanes == 16 else lanes if scalar < 4 else 4
    side = int(math.sqrt(options.l2_bytes / (2 * scalar + 4)))
    tile_m = tile_k = max(lanes, side // lanes * lanes)
    tile_n = max(step_n, side // step_n * step_n)
    if k > 0:
        count = parts(k, tile_k)
        tile_k = even(tile_k, k, lanes)
        if count == 1:
            side = int(options.l2_bytes / 2 / scalar / tile_k)
            tile_m = max(lanes, side // lanes * lanes)
            tile_n = max(step_n, side // step_n * step_n)
    tile_m *= min(options.threads, options.cores)
    if m > 0:
        tile_m = even(tile_m, m, lanes)
    if n > 0:
        tile_n = even(tile_n, n, step_n)
    if options.threads > 1:
        tile_m = min(tile_m, up(max(1, tile_m // options.threads), lanes))
    if constant[0] > 0:
        tile_m = up(constant[0], lanes)
    if constant[1] > 0:
        tile_n = up(constant[1], step_n)
    if constant[2] > 0:
        tile_k = up(constant[2], lanes)
    return Tiles(tile_m, tile_n, tile_k)


def cut(left: int, right: int) -> int:
    """left / right towards zero."""
    return left // right if left >= 0 else -(-left // right)


@cache
def _preferences() -> Any:
    return json.loads(files("peakmem.engines.ncnn").joinpath("winograd.json").read_text(encoding="utf-8"))


def prefers(tile: str, channels_in: int, channels_out: int, smaller_side: int) -> bool:
    """Whether Winograd's F(6,3) ("63") or F(2,3) ("23") is preferred to F(4,3)."""
    table = _preferences()
    bound = next((bound for bound in table["channels in"][tile] if channels_in >= bound), None)
    for least_in, least_out, ranges in table[tile]:
        if least_in == bound and channels_out >= least_out:
            return any(low <= smaller_side <= high for low, high in ranges)
    return False
