"""Workspace of products of matrices: tiles of what is not constant, gates, scores of attention.

Sources: `src/layer/x86/gemm_x86.cpp` (gemm_x86, gemm_AT_x86, gemm_BT_x86, gemm_AT_BT_x86), `innerproduct_x86.cpp`,
`multiheadattention_x86.cpp`, `lstm_x86.cpp`, `src/layer/matmul.cpp`, commit a4d2ea1d (2026-07-22).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from peakmem.engines.ncnn import tiles
from peakmem.engines.ncnn.forward import flattened, forward
from peakmem.engines.ncnn.mat import Mat
from peakmem.engines.ncnn.run import Call, release


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
    tile_m, tile_n, tile_k = tiles.gemm(m, n, k, options, scalar=scalar)
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


@forward("Gemm")
def _gemm(call: Call, bottoms: Sequence[Mat]) -> list[Mat]:
    layer, values = call.layer, call.layer.values
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
    top = call.top()
    pack = layer.number("output_elempack") or call.options.pack(top[0])
    short = call.options.bf16_storage
    made = call.new(top, 2 if short and layer.number("output_elemtype") != 1 else 4, pack, call.blob)
    added = (
        layer.number("constant_broadcast_type_C") == 3
        if values.get("constantC")
        else any(len(mat.sizes) == 2 and mat.sizes == (m, n) for mat in given)
    )
    multiply(
        call, m, n, k, constant_a=constant_a, constant_b=constant_b, transposed=bool(values.get("output_transpose")),
        added=added, scalar=2 if short else 4,
    )  # fmt: skip
    return [made]


@forward("MultiHeadAttention")
def _attention(call: Call, bottoms: Sequence[Mat]) -> list[Mat]:
    layer = call.layer
    embedded, heads = layer.number("embed_dim"), max(1, layer.number("num_heads", 1))
    query = bottoms[0]
    key = bottoms[1] if len(bottoms) > 1 else query
    value = bottoms[2] if len(bottoms) > 2 else key
    part, source, target = embedded // heads, query.sizes[0], key.sizes[0]

    def projected(mat: Mat) -> Mat:
        made = call.new((embedded, mat.sizes[0]), 4, 1, call.blob)
        multiply(call, embedded, mat.sizes[0], mat.sizes[1], constant_a=True)
        return made

    queries, keys = projected(query), projected(key)
    scores = call.new((source * heads, target), 4, 1, call.blob)
    for _ in range(heads):
        multiply(call, source, target, part, threads=1, added=bool(layer.values.get("attn_mask")))
    release(queries)
    release(keys)
    values = projected(value)
    mixed = call.new((embedded, source), 4, 1, call.blob)
    for _ in range(heads):
        multiply(call, source, part, target, threads=1, transposed=True)
    release(values)
    top = call.top()
    made = call.new(top, 4, call.options.pack(top[0]), call.blob)
    multiply(call, source, top[-1], embedded, constant_b=True)
    release(mixed)
    release(scores)
    return [made]


@forward("LSTM")
def _lstm(call: Call, _: Sequence[Mat]) -> list[Mat]:
    layer = call.layer
    hidden, out = layer.number("hidden_size"), layer.number("num_output")
    directions = 2 if layer.number("direction") == 2 else 1
    told = len(layer.tops) == 3
    where = call.blob if told else call.work
    state = call.new((directions, out), 4, 1, where)
    cell = call.new((directions, hidden), 4, 1, where)
    made = call.new(call.top(), 4, 1, call.blob)
    halves = [call.raw(call.top()[0], out) for _half in range(2)] if directions == 2 else []
    for _direction in range(directions):
        gates = call.raw(hidden, 4)
        if out != hidden:
            release(call.raw(hidden))
        release(gates)
    for half in reversed(halves):
        release(half)
    if told:
        return [made, state, cell]
    release(cell)
    release(state)
    return [made]


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
