"""Matrices that the built-in kernels' products pack: Eigen's while a product runs, ruy's for good.

On x86 products of float32 run in Eigen and those of 8 bits in ruy (tflite/kernels/cpu_backend_gemm.h of LiteRT f674577,
2026-08-21). Eigen's blocks are those of GeneralBlockPanelKernel.h (evaluateProductBlockingSizesHeuristic) with SSE
packets and without fused multiplication, as the wheel is built; ruy's those of ruy/allocator.cc with tiles of 16.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from peakmem.engines.litert.model import Part
from peakmem.engines.litert.objects import CPUINFO
from peakmem.engines.litert.support import kind
from peakmem.engines.prediction import Processor
from peakmem.frontends.tflite.census import Call

ROWS, COLUMNS = 8, 4
# Traits::mr and Traits::nr of float with SSE packets
PEELING = 8
# k_peeling
SMALLEST = 48
# products below are not split
ON_STACK = 131072
# EIGEN_STACK_ALLOCATION_LIMIT
DEEPEST, SLICES = 320, 2
# of blocks that several threads share, and how many are packed at once
OVERSHARDING = ((4, 8.0), (8, 4.0), (16, 2.0), (32, 1.0), (64, 0.8), (math.inf, 0.6))
# threads, and blocks for each from which on a thread packs for itself
ALIGNED = 64
# that Eigen asks for beside a block
ALIASING = 1024
# that ruy adds to a packed matrix, so that its rows lie apart from the other's
TILE, DEPTH = 16, 4
# of ruy's kernels
CONTEXT = 496
# CpuBackendContext and ruy's, made by the first product
RUY = 176
# ruy's tuning and allocator


@dataclass(frozen=True, slots=True)
class Products:
    """What products take beside the arena."""

    kept: int
    # ruy's packed matrices, from the first run on
    transient: int
    # Eigen's blocks, at most
    at: str
    # of which operator
    context: int
    growing: int = 0
    # beside all that is kept, in the first run: ruy's next block beside those that it replaces


@dataclass(slots=True)
class _Ruy:
    """ruy::Allocator: one block; what does not fit is asked for apart, and the block grows by that afterwards."""

    size: int = 0
    most: int = 0

    def run(self, *blocks: int) -> None:
        used = missing = 0
        for block in blocks:
            nbytes = -(-block // ALIGNED) * ALIGNED
            if used + nbytes <= self.size:
                used += nbytes
            else:
                missing += nbytes
        self.size += missing
        self.most = max(self.most, self.size + missing)


def products(
    part: Part, nodes: Sequence[int], apart: Collection[int], processor: Processor, threads: int, *, reference: bool
) -> Products:
    """What the products among `nodes` take, in their order; those of `apart` are run by several threads."""
    if reference:
        return Products(0, 0, "", CONTEXT * any(_asks(part, part.calls[one], reference=True) for one in nodes))
    ruy = _Ruy()
    transient, at = 0, ""
    seen = False
    for node in nodes:
        call = part.calls[node]
        seen = seen or _asks(part, call, reference=False)
        if node in apart:
            filters, out = part.tensors[call.inputs[1]].shape, part.tensors[call.outputs[0]].shape
            nbytes = shared(filters[0], math.prod(out[:3]), math.prod(filters[1:]), threads, processor)
            if nbytes > transient:
                transient, at = nbytes, f"{call.op_type}_{node}"
            continue
        shape = _shape(part, call)
        if shape is None:
            continue
        rows, columns, depth = shape
        name = kind(part.tensors[call.inputs[1]])
        if call.op_type == "FULLY_CONNECTED" and kind(part.tensors[call.inputs[0]]) != name:
            # quantised while it runs: vector by vector
            continue
        if name == "float32":
            nbytes = eigen(rows, columns, depth, processor.l1_data_bytes, processor.l2_bytes)
            if nbytes > transient:
                transient, at = nbytes, f"{call.op_type}_{node}"
        elif name in ("int8", "uint8") and not _column(call, rows, columns, depth):
            left, right = (-(-one // TILE) * TILE for one in (rows, columns))
            padded = -(-depth // DEPTH) * DEPTH
            ruy.run(left * padded + ALIASING, 4 * left, right * padded + ALIASING, 4 * right)
    objects = CONTEXT * seen
    if ruy.size:
        objects += RUY
        if not any(one.op_type == "FULLY_CONNECTED" for one in part.calls):
            objects += CPUINFO
    return Products(ruy.size, transient, at, objects, ruy.most - ruy.size)


def _asks(part: Part, call: Call, *, reference: bool) -> bool:
    """Whether a kernel asks for the context that all share."""
    if call.op_type == "FULLY_CONNECTED":
        return not reference or kind(part.tensors[call.inputs[1]]) != "float32"
    if reference:
        return call.op_type == "MIRROR_PAD"
    return call.op_type in ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "MIRROR_PAD")


def _column(call: Call, rows: int, columns: int, depth: int) -> bool:
    """cpu_backend_gemm_custom_gemv.h: a matrix by one column has a kernel that packs nothing."""
    return call.op_type == "FULLY_CONNECTED" and columns == 1 and rows >= 4 and depth >= 8


def _shape(part: Part, call: Call) -> tuple[int, int, int] | None:
    """(channels, pixels, depth) of a product; None of another operator, and of one with a single column."""
    if call.op_type == "TRANSPOSE_CONV":
        filters, image = part.tensors[call.inputs[1]].shape, part.tensors[call.inputs[2]].shape
        return math.prod(filters[:3]), image[1] * image[2], filters[3]
    if call.op_type not in ("CONV_2D", "FULLY_CONNECTED"):
        return None
    filters, out = part.tensors[call.inputs[1]].shape, part.tensors[call.outputs[0]]
    rows, depth = filters[0], math.prod(filters[1:])
    if call.op_type == "CONV_2D" and part.tensors[call.inputs[0]].shape[3] != filters[3]:
        # grouped: the reference kernel
        return None
    return rows, out.count // rows, depth


def eigen(rows: int, columns: int, depth: int, l1: int, l2: int) -> int:
    """Bytes of the two blocks on the heap."""
    if columns == 1 or rows == 1:
        return 0
    high, wide, deep = blocks(rows, columns, depth, l1, l2)
    return sum(4 * size + ALIGNED for size in (high * deep, deep * wide) if 4 * size > ON_STACK)


def shared(channels: int, pixels: int, depth: int, threads: int, processor: Processor) -> int:
    """Blocks of a convolution that several threads run (TensorContractionThreadPool.h): all of two slices of depth.

    Channels are Eigen's rows there and pixels its columns.
    """
    other, main = channels, pixels
    if not _by_columns(other, main, threads):
        other, main = main, other
    high, wide, deep = shared_blocks(other, main, depth, threads, processor)
    left, right = (-(-4 * one * deep // ALIGNED) * ALIGNED for one in (high, wide))
    count = -(-main // wide)
    nbytes = min(-(-depth // deep), SLICES) * (-(-other // high) * left + count * right) + ALIGNED
    if count >= next(factor for most, factor in OVERSHARDING if threads <= most) * threads:
        # each thread packs for itself
        nbytes += threads * right + ALIGNED
    return nbytes


def _by_columns(rows: int, columns: int, threads: int) -> bool:
    """Which dimension threads share (shardByCol)."""
    each = columns // threads
    uneven = columns % (threads * COLUMNS) != 0
    if rows // threads >= COLUMNS and (
        each < COLUMNS or (each < 4 * COLUMNS and uneven and (rows % (threads * COLUMNS) == 0 or rows // columns >= 6))
    ):
        return False
    return not (each < 16 * COLUMNS and rows > columns * 32)


def shared_blocks(rows: int, columns: int, depth: int, threads: int, processor: Processor) -> tuple[int, int, int]:
    """(rows, columns, depth) of a block for threads that share columns (evaluateProductBlockingSizesHeuristic)."""
    l1, l2, l3 = processor.l1_data_bytes, processor.l2_bytes, processor.l3_bytes
    most = min((l1 - ROWS * COLUMNS * 4) // (ROWS * 4 + COLUMNS * 4), DEEPEST)
    deep = most - most % PEELING if most < depth else depth
    fit, each = (l2 - l1) // (COLUMNS * 4 * deep), -(-columns // threads)
    wide = fit - fit % COLUMNS if fit <= each else min(columns, -(-each // COLUMNS) * COLUMNS)
    high = rows
    if l3 > l2:
        fit, each = (l3 - l2) // (4 * deep * threads), -(-rows // threads)
        high = fit - fit % ROWS if ROWS <= fit < each else min(rows, -(-each // ROWS) * ROWS)
    return high, max(wide, 1), deep


def blocks(rows: int, columns: int, depth: int, l1: int, l2: int) -> tuple[int, int, int]:
    """(rows, columns, depth) of a block."""
    if max(depth, rows, columns) < SMALLEST:
        return rows, columns, depth
    spare, large = ROWS * COLUMNS * 4, l2 * 3 // 2
    most = max((l1 - spare) // (ROWS * 4 + COLUMNS * 4) // PEELING * PEELING, 1)
    deep = depth
    if depth > most:
        left = depth % most
        deep = most if not left else most - PEELING * ((most - 1 - left) // (PEELING * (depth // most + 1)))
    free = l1 - spare - rows * deep * 4
    limit = free // (deep * 4) if free >= COLUMNS * 4 * deep else 3 * large // (2 * 2 * deep * 4)
    wide = min(large // (2 * deep * 4), limit) // COLUMNS * COLUMNS
    if columns > wide:
        left = columns % wide
        wide = wide if not left else wide - COLUMNS * ((wide - left) // (COLUMNS * (columns // wide + 1)))
        return rows, wide, deep
    if deep != depth:
        return rows, columns, deep
    size = deep * columns * 4
    room, most_rows = large, rows
    if size <= 1024:
        room = l1
    elif size <= 32768:
        most_rows = min(576, rows)
        room = l2
    high = min(room // (3 * deep * 4), most_rows)
    if high > ROWS:
        high -= high % ROWS
    if not high:
        return rows, columns, deep
    left = rows % high
    return (high if not left else high - ROWS * ((high - left) // (ROWS * (rows // high + 1)))), columns, deep
