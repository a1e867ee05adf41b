"""Workspace of products of matrices: tiles of what is not constant, scores of attention.

Sources: `src/layer/x86/gemm_x86.cpp` (gemm_x86, gemm_AT_x86, gemm_BT_x86, gemm_AT_BT_x86), `innerproduct_x86.cpp`,
`multiheadattention_x86.cpp`, `src/layer/matmul.cpp`, commit a4d2ea1d (2026-07-22).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from peakmem.engines.ncnn import tiles
from peakmem.engines.ncnn.arm import product_tiles
from peakmem.engines.ncnn.forward import flattened, forward
from peakmem.engines.ncnn.layers import Layer
from peakmem.engines.ncnn.mat import Mat
from peakmem.engines.ncnn.run import Call, release, share


@forward("InnerProduct")
def _inner_product(call: Call, bottoms: Sequence[Mat]) -> list[Mat]:
    mat, layer = bottoms[0], call.layer
    out = layer.number("num_output")
    columns = layer.number("weight_data_size") // out
    if len(mat.sizes) == 2 and mat.sizes[1] == columns:
        return [call.new((mat.sizes[0], out), mat.scalar, mat.pack, call.blob)]
    flat = flattened(call, mat, call.work)
    made = call.new((out,), mat.scalar, call.options.pack(out), call.blob)
    release(flat)
    return [made]


def multiply(
    call: Call,
    m: int,
    n: int,
    k: int,
    *,
    constant_a: bool = False,
    constant_b: bool = False,
    transposed: bool = False,
    added: bool = False,
    threads: int = 0,
    scalar: int = 4,
) -> None:
    """A product of (m, k) by (k, n): B in tiles, then A, all of it or a tile for each thread.

    `transposed` for a result written the other way round, `added` for a C of the result's sizes.
    """  # fmt: skip
    options = call.options if not threads else replace(call.options, threads=threads)
    tile_m, tile_n, tile_k = product_tiles(m, n, k, options, scalar=scalar)
    count_m, count_n, count_k = tiles.parts(m, tile_m), tiles.parts(n, tile_n), tiles.parts(k, tile_k)
    inner = None if constant_b else call.raw(count_n, count_k, tile_k * tile_n, scalar=scalar)
    result = None
    if k > tile_k or added or transposed or scalar == 2:
        result = call.raw(options.threads, 1, tile_n * tile_m)
    if not constant_a:
        count = count_m if options.threads > count_m else options.threads
        release(call.raw(count, count_k, tile_k * tile_m, scalar=scalar))
    release(result)
    release(inner)


@dataclass(frozen=True, slots=True)
class Product:
    """What one Gemm computes: (m, k) by (k, n), and its C."""

    m: int
    n: int
    k: int
    constant_a: bool
    constant_b: bool
    added: Mat | None


def product_of(layer: Layer, bottoms: Sequence[Mat]) -> Product:
    """Sizes of a product whose operands may be constant."""
    values = layer.values
    constant_a, constant_b = bool(values.get("constantA")), bool(values.get("constantB"))
    given = list(bottoms)
    a = None if constant_a else given.pop(0)
    b = None if constant_b else given.pop(0)
    m, n, k = (layer.number(f"constant{side}") for side in "MNK")
    if a is not None:
        rows, columns = a.sizes[0], a.sizes[-1]
        m, k = (columns, rows) if values.get("transA") else (rows, columns)
    if b is not None:
        rows, columns = b.sizes[0], b.sizes[-1]
        n, k = (rows, columns) if values.get("transB") else (columns, rows)
    return Product(m, n, k, constant_a, constant_b, given[0] if given else None)


@forward("Gemm")
def _gemm(call: Call, bottoms: Sequence[Mat]) -> list[Mat]:
    layer, values, top = call.layer, call.layer.values, call.top()
    one = product_of(layer, bottoms)
    pack = layer.number("output_elempack") or call.options.pack(top[0])
    short = call.options.bf16_storage
    c = one.added
    scaled = call.new(c.sizes, 4, c.pack, call.work) if c is not None and values.get("beta", 1.0) != 1.0 else None
    made = call.new(top, 2 if short and layer.number("output_elemtype") != 1 else 4, pack, call.blob)
    added = (
        layer.number("constant_broadcast_type_C") == 3
        if values.get("constantC")
        else c is not None and len(c.sizes) == 2 and c.sizes == (one.m, one.n)
    )
    multiply(
        call, one.m, one.n, one.k, constant_a=one.constant_a, constant_b=one.constant_b,
        transposed=bool(values.get("output_transpose")), added=added, scalar=2 if short else 4,
    )  # fmt: skip
    release(scaled)
    return [made]


@forward("Gemm int8")
def _gemm_int8(call: Call, bottoms: Sequence[Mat]) -> list[Mat]:
    """Gemm_x86::forward_int8."""
    layer, options, top = call.layer, call.options, call.top()
    one = product_of(layer, bottoms)
    made = call.new(top, 4, layer.number("output_elempack") or options.pack(top[0]), call.blob)
    multiply_int8(call, one.m, one.n, one.k, constant_a=one.constant_a, constant_b=one.constant_b)
    return [made]


def multiply_int8(
    call: Call, m: int, n: int, k: int, *, constant_a: bool = False, constant_b: bool = False, threads: int = 0
) -> None:
    """A product of (m, k) by (k, n) in int8: a scale for each row, sums in 32 bits."""
    options = call.options if not threads else replace(call.options, threads=threads)
    tile_m, tile_n, tile_k = tiles.gemm(m, n, k, options, scalar=1)
    count_m, count_n, count_k = tiles.parts(m, tile_m), tiles.parts(n, tile_n), tiles.parts(k, tile_k)
    held = []
    if not constant_b:
        held.append(call.raw(count_n, count_k, tile_k * tile_n, scalar=1))
    if not constant_a:
        held.append(call.raw(m))
    held.append(call.raw(m))
    held.append(call.raw(options.threads, 1, tile_n * tile_m))
    if not constant_a:
        count = count_m if options.threads > count_m else options.threads
        held.append(call.raw(count, count_k, (tile_k + options.shift(tile_m, tile_k)) * tile_m, scalar=1))
    for mat in reversed(held):
        release(mat)


@forward("Gemm blocks")
def _gemm_blocks(call: Call, bottoms: Sequence[Mat]) -> list[Mat]:
    """Weights in blocks: of 8 bits with the rows quantised by block, of 4 and 6 one by one; from requests."""
    layer, options = call.layer, call.options
    one, top = product_of(layer, bottoms), call.top()
    if layer.block_bits != 8:
        return [call.new(top, 4, 1, call.blob)]
    scalar = 2 if options.bf16_storage and layer.number("output_elemtype") != 1 else 4
    made = call.new(top, scalar, layer.number("output_elempack") or options.pack(top[0]), call.blob)
    tile_m, tile_n, _ = tiles.gemm(one.m, 0, one.k, options, scalar=1)
    tile_m, tile_n = min(one.m, tile_m), min(one.n, tiles.even(tile_n, one.n, 8 if options.lanes == 16 else 4))
    rows = tiles.parts(one.m, tile_m) * tile_m
    held = [
        call.raw(options.threads * tile_m, tile_n),
        call.raw(rows, one.k, scalar=1),
        call.raw(rows, tiles.parts(one.k, layer.block_size)),
    ]
    for mat in reversed(held):
        release(mat)
    return [made]


@forward("MultiHeadAttention", "MultiHeadAttention int8")
def _attention(call: Call, bottoms: Sequence[Mat]) -> list[Mat]:
    layer = call.layer
    embedded, heads = layer.number("embed_dim"), max(1, layer.number("num_heads", 1))
    cached, masked = bool(layer.values.get("kv_cache")), bool(layer.values.get("attn_mask"))
    given = list(bottoms)
    if cached and len(given) > 2:
        given = given[:-2]
    mask = given.pop() if masked and len(given) > 1 else None
    query, key, value = given[0], given[min(1, len(given) - 1)], given[-1]
    part, source, target = embedded // heads, query.sizes[0], key.sizes[0]

    int8 = layer.int8

    def projected(mat: Mat) -> Mat:
        made = call.new((embedded, mat.sizes[0]), mat.scalar, 1, call.blob)
        if int8:
            multiply_int8(call, embedded, mat.sizes[0], mat.sizes[1], constant_a=True)
        else:
            multiply(call, embedded, mat.sizes[0], mat.sizes[1], constant_a=True, scalar=mat.scalar)
        return made

    loose = call.packing(mask, 1, call.blob) if mask is not None and mask.pack > 1 else mask
    queries, keys = projected(query), projected(key)
    scores = call.new((source * heads, target), 4, 1, call.blob)
    for _ in range(heads):
        single = call.raw(*mask.sizes[-2:]) if mask is not None and mask.scalar == 2 else None
        if int8:
            multiply_int8(call, source, target, part, threads=1)
        else:
            multiply(call, source, target, part, threads=1, added=masked, scalar=queries.scalar)
        release(single)
    release(queries)
    release(keys)
    values = projected(value)
    floats = call.cast(values, 4, call.blob) if values.scalar == 2 else share(values)
    mixed = call.new((embedded, source), 4, 1, call.blob)
    for _ in range(heads):
        if int8:
            multiply_int8(call, source, part, target, threads=1)
        else:
            multiply(call, source, part, target, threads=1, transposed=True)
    release(floats)
    release(values)
    top = call.top()
    made = call.new(top, 4, 1 if int8 else call.options.pack(top[0]), call.blob)
    if int8:
        multiply_int8(call, source, top[-1], embedded, constant_b=True)
    else:
        multiply(call, source, top[-1], embedded, constant_b=True)
    release(mixed)
    release(scores)
    if loose is not mask:
        release(loose)
    extra = [call.new(call.top(at), 4, 1, call.blob) for at in range(1, len(layer.tops))]
    return [made, *extra]


@forward("MatMul")
def _matmul(call: Call, bottoms: Sequence[Mat]) -> list[Mat]:
    """One product after another, of what the first axes list."""
    a, b = bottoms
    made = call.new(call.top(), a.scalar, 1, call.blob)
    m, k = (1, a.sizes[0]) if len(a.sizes) == 1 else a.sizes[-2:]
    columns = b.sizes[-2:] if len(b.sizes) > 1 else (b.sizes[0], 1)
    n = columns[0] if len(b.sizes) > 1 and call.layer.values.get("transB") else columns[1]
    for _ in range(max(math.prod(mat.sizes[:-2]) for mat in bottoms)):
        multiply(call, m, n, k)
    return [made]
