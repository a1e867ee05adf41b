"""XNNPACK's workspace as the XNNPACK inside of ExecuTorch 1.4.1 plans it (1adaa7c, 2026-03-11).

Its planner is older than the one in `peakmem.engines.xnnpack.planner`: find_value_alloc_offset of src/memory-planner.c
never looks at the gap in front of the first block, and puts a value behind a block that lives alone with it. Products
of batches take the wide kernel for any number of columns, and four structures are smaller. All else is the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from peakmem.engines.prediction import Processor
from peakmem.engines.xnnpack import runtime, sizes
from peakmem.engines.xnnpack.operators import operator
from peakmem.engines.xnnpack.optimise import optimise
from peakmem.engines.xnnpack.planner import Record, Step, joined, plan
from peakmem.engines.xnnpack.sizes import Held, NoRule, Where
from peakmem.engines.xnnpack.subgraph import Subgraph
from peakmem.engines.xnnpack.work import Call

EXTRA = 2 * 16
# XNN_EXTRA_BYTES and what aligns the first value
FINGERPRINT = 107_396
# what the first deconvolution of a process packs to compare kernels with a cache's, and gives back; measured on AVX-512
RECORD = 32
# struct xnn_usage_record
OPERATOR, GEMM = 24, 16
# what struct xnn_operator (496 B) and struct gemm_op_context (672 B) are smaller
VALUE, NODE = 16, 8
# likewise struct xnn_value (208 B) and struct xnn_node (224 B)
_WITH_GEMM = frozenset(
    base + sizes.GEMM_KERNELS + sizes.GEMM + parameters
    for base in (
        sizes.OPERATOR + 2 * sizes.COMPUTE, sizes.OPERATOR + 3 * sizes.COMPUTE,
        sizes.OPERATOR + 2 * sizes.COMPUTE + sizes.CONVOLUTION,
    )
    for parameters in (0, sizes.PARAMETERS)
)  # fmt: skip
# bytes of operators that multiply matrices


@dataclass(frozen=True, slots=True)
class Workspace:
    """What one runtime works with."""

    nbytes: int
    # of the workspace; what an operator without a rule works with is not in it
    records: int
    # of the list of live ranges, which is there while a larger workspace takes the place of a smaller one
    less: int
    # bytes that structures are smaller than in the newer XNNPACK
    creating: int
    # of the subgraph, whose tables grow by copies, until the runtime is made
    behind: int
    # the most bytes at once while operators are created, beside what all of them hold; 0 where that is at the end


def workspace(subgraph: Subgraph, creating: int, processor: Processor, threads: int) -> Workspace:
    """The workspace of `subgraph`'s runtime; `creating` is Held.creating, by the newer XNNPACK's sizes."""
    work = optimise(subgraph, processor)
    where = Where(work, processor, threads)
    steps = []
    less = transient = most = held = 0
    for call in work.calls:
        scratch = 0
        if call.valid:
            try:
                own = operator(call, where)
            except NoRule:
                own = Held(0)  # told with the runtime
            scratch = _product(call, where) or own.workspace
            parts = {"concatenate": len(call.inputs), "even_split": len(call.outputs)}.get(call.type, 1)
            smaller = OPERATOR * parts + (GEMM if own.objects in _WITH_GEMM else 0)
            if call.type == "deconvolution_2d":
                most = max(most, held + FINGERPRINT)
            held += own.objects - smaller + own.packed + own.buffers
            most, transient = max(most, held + own.transient), max(transient, own.transient)
            less += smaller
        steps.append(Step(call.type, call.inputs, call.outputs, scratch))
    creating -= transient
    nodes = (creating - runtime.SUBGRAPH - runtime.VALUE * work.table) // runtime.NODE
    creating -= VALUE * work.table + NODE * nodes
    asked = {at: runtime.reserved(one, where.alignment) for at, one in enumerate(work.values) if one.internal}
    exact = {at: one.nbytes for at, one in enumerate(work.values)}
    single = {at: one.first_consumer for at, one in enumerate(work.values) if one.consumers == 1}
    records = plan(steps, asked, exact, single, len(work.values), where.alignment).records
    total = _placed(records)
    return Workspace(total + EXTRA if total else 0, RECORD * len(records), less, creating, most - held)


def _product(call: Call, where: Where) -> int:
    """Room for a right side that is packed while it runs, in columns of the wide kernel, however few there are."""
    if call.type != "batch_matrix_multiply":
        return 0
    right = where.work.values[call.inputs[1]].value
    if right.static or right.datatype != "fp32" or where.work.values[call.inputs[0]].value.datatype != "fp32":
        return 0
    turned = "transpose weights" in call.node.flags
    columns, depth = (right.shape[-2], right.shape[-1]) if turned else (right.shape[-1], right.shape[-2])
    kernel = where.kernel("f32 gemm")
    return math.prod(right.shape[:-2]) * -(-columns // kernel.nr) * kernel.nr * 4 * (depth + 1)


def _placed(records: Sequence[Record]) -> int:
    """Bytes that `records`, whose live ranges are known, take."""
    placed: list[tuple[int, Record]] = []
    total = 0
    for one in sorted((one for one in records if one.nbytes), key=lambda one: -one.nbytes):
        blocks = [
            (at, at + other.nbytes) for at, other in placed if other.first <= one.last and one.first <= other.last
        ]
        at = _offset(blocks, one.nbytes)
        total = max(total, at + one.nbytes)
        placed.append((at, one))
    return total


def _offset(blocks: list[tuple[int, int]], nbytes: int) -> int:
    """find_value_alloc_offset: behind the block in front of the smallest gap that fits, else behind the last."""
    if not blocks:
        return 0
    taken = joined(blocks)
    gaps = [(start - end, end) for (_, end), (start, _) in pairwise(taken) if start - end >= nbytes]
    return min(gaps)[1] if gaps else taken[-1][1]
