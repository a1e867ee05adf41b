"""Scaled dot products of queries with keys and values: packed copies, a tile for each thread, the cache of a decoder.

Sources: `src/layer/x86/sdpa_x86.cpp`, `sdpa_prefill.h`, `sdpa_decode.h`, `sdpa_prefill_bf16s.h` and `sdpa_kvcache.h` as
they are after commit a4d2ea1d (2026-07-22): Tencent/ncnn 60bfa400 and 00a9bd9d, nihui/ncnn 9f13b3ed (2026).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from peakmem.engines.ncnn.forward import forward
from peakmem.engines.ncnn.forward_products import multiply_int8
from peakmem.engines.ncnn.mat import Mat, step_bytes
from peakmem.engines.ncnn.options import Options
from peakmem.engines.ncnn.pools import System
from peakmem.engines.ncnn.run import Call, release, share
from peakmem.engines.ncnn.tiles import parts, up

FIRST_RESERVE, LEAST_RESERVE = 256, 16
# positions that a new cache has beyond what it holds at most, and that a growing one has at least
REUSED = {16: 6, 8: 8, 4: 12}
# how often values are read before they are spread into floats for it, by floats in a register
REUSED_BF16 = 3
# the same of bf16; measured with heads of 64 and 128


@forward("SDPA int8")
def _attention_int8(call: Call, bottoms: Sequence[Mat]) -> list[Mat]:
    """SDPA_x86::forward with int8_scale_term: all scores, a product in int8 for each head."""
    layer = call.layer
    query, _, value = bottoms[:3]
    masked = bool(layer.values.get("attn_mask"))
    past = bottoms[4 if masked else 3 :] if layer.values.get("kv_cache") else ()
    heads, source, depth = query.sizes
    target, width = (past[0].sizes[1] if past else 0) + value.sizes[1], value.sizes[2]
    caches = [_grown(call, one, current, target) for one, current in zip(past, bottoms[1:3], strict=False)]
    made = call.new((heads, source, width), 4, 1, call.blob)
    scores = call.raw(heads, source, target)
    for _ in range(heads):
        multiply_int8(call, source, target, depth, threads=1)
    for _ in range(heads):
        multiply_int8(call, source, width, target, threads=1)
    release(scores)
    return [made, *caches]


@dataclass(frozen=True, slots=True)
class Heads:
    """What one call computes."""

    queries: int
    groups: int
    # heads of keys and values
    source: int
    target: int
    depth: int
    width: int
    # of a value
    scalar: int
    masked: int
    # heads of the mask, 0 for none

    def tile(self, rows: int, options: Options, value: int = 0) -> int:
        """sdpa_prefill_get_optimal_tile_n: positions of a tile of `rows` queries."""
        lanes = options.lanes
        fixed = rows * (self.depth * self.scalar + self.width * 4)
        each = self.depth * self.scalar + self.width * (value or self.scalar)
        each += rows * (4 + (self.scalar if self.masked else 0))
        size = min(max(0, options.l2_bytes - fixed) // each, self.target)
        tile = max(lanes, size // lanes * lanes)
        return up(parts(self.target, parts(self.target, tile)), lanes)


@forward("SDPA")
def _attention(call: Call, bottoms: Sequence[Mat]) -> list[Mat]:
    """SDPA_x86::forward."""
    layer, options = call.layer, call.options
    query, _, value = bottoms[:3]
    mask = bottoms[3] if layer.values.get("attn_mask") else None
    cached = bool(layer.values.get("kv_cache"))
    past = bottoms[3 if mask is None else 4 :] if cached else ()
    before = past[0].sizes[1] if past else 0
    of_mask = 0 if mask is None else mask.sizes[0] if len(mask.sizes) == 3 else 1
    heads = Heads(
        query.sizes[0], value.sizes[0], query.sizes[1], before + value.sizes[1], query.sizes[2], value.sizes[2],
        query.scalar, of_mask,
    )  # fmt: skip
    made = call.new((heads.queries, heads.source, heads.width), 4, 1, call.blob)
    caches = [_grown(call, one, current, heads.target) for one, current in zip(past, bottoms[1:3], strict=False)]
    if heads.source == 1:
        _decode(call, heads, cached=cached)
    else:
        _prefill(call, heads, options, cached=cached)
    return [made, *caches]


def _grown(call: Call, cache: Mat, current: Mat, target: int) -> Mat:
    """sdpa_create_or_grow_kvcache: the cache itself where it has room and is not of a pool, else a larger one."""
    groups, _, depth = current.sizes
    scalar, lanes = current.scalar, call.options.lanes
    room = step_bytes(cache.sizes, cache.scalar) // cache.scalar // depth if cache.nbytes else 0
    own = cache.memory is not None and isinstance(cache.memory.allocator, System | None)
    if own and target <= room:
        return share(cache)
    capacity = max(room, target)
    reserve = max(LEAST_RESERVE, capacity // 2) if room else min(FIRST_RESERVE, max(16 - capacity, capacity))
    capacity = up(capacity + reserve, max(lanes, 16 // scalar))
    made = call.new((groups, capacity, depth), scalar, 1, System(call.heap, "state"))
    made.sizes = (groups, target, depth)
    return made


def _prefill(call: Call, heads: Heads, options: Options, *, cached: bool) -> None:
    """sdpa_prefill and sdpa_prefill_packed: several queries at once."""
    lanes, short = options.lanes, heads.scalar == 2
    blocks = parts(heads.source, lanes)
    reuse = blocks * (heads.queries // heads.groups)
    capacity = up(heads.target, lanes)
    often = REUSED_BF16 if short else REUSED[lanes]
    if not short:
        often += -2 if heads.width >= 128 else 4 if heads.width < 32 else 0
    spread = reuse >= often
    held = []
    if not cached:
        held.append(call.raw(heads.groups, capacity, heads.depth, scalar=heads.scalar))
        if not (short and spread):
            held.append(call.raw(heads.groups, capacity, heads.width, scalar=heads.scalar))
    tile = heads.tile(lanes, options, 4 if short else 0)
    if spread:
        held.append(call.raw(heads.groups, parts(heads.target, tile), heads.width * tile))
    work = lanes * heads.depth * heads.scalar + 4 * lanes * (tile + heads.width + 1)
    held.append(call.raw(options.threads, 1, parts(work, 4)))
    if heads.masked:
        held.append(call.raw(heads.masked, blocks, heads.target * lanes, scalar=heads.scalar))
    call.team()
    for one in reversed(held):
        release(one)


def _decode(call: Call, heads: Heads, *, cached: bool) -> None:
    """sdpa_decode and sdpa_decode_kvcache: one query."""
    options = call.options
    each = heads.queries // heads.groups
    rows = next(step for step in (16, 8, 4, 2, 1) if step <= each and step <= options.lanes)
    tasks = heads.groups * parts(each, rows)
    tile = up(heads.tile(rows, options), options.lanes)
    work = rows * tile * 4 + rows * heads.width * 4
    if rows >= 4:
        work += rows * heads.depth * heads.scalar + rows * 4
        if heads.masked and cached:
            work += rows * heads.target * heads.scalar
    release(call.raw(min(options.threads, tasks), 1, up(work, 64) // 4))
    call.team()
