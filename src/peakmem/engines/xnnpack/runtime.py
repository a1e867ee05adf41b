"""What an XNNPACK runtime holds for a subgraph.

From src/runtime.c and src/subgraph.c of XNNPACK 75db3c0 (2026-08-21), the state of the sources at which ai-edge-litert
2.3.0 was built, as near as is known; sizes of structures are those of 64-bit builds.
"""

from __future__ import annotations

import math

from peakmem.engines.prediction import Holding, Processor, Unmodelled
from peakmem.engines.xnnpack.configs import ALIGNMENT
from peakmem.engines.xnnpack.held import Held
from peakmem.engines.xnnpack.operators import operator
from peakmem.engines.xnnpack.optimise import optimise
from peakmem.engines.xnnpack.planner import Step, plan, rounded
from peakmem.engines.xnnpack.sizes import Held as Own
from peakmem.engines.xnnpack.sizes import NoRule, Where
from peakmem.engines.xnnpack.subgraph import Subgraph
from peakmem.engines.xnnpack.work import Tensor, Work

RUNTIME = 96
# struct xnn_runtime
OPERATOR_DATA = 240
# struct xnn_operator_data, of each node
RUNTIME_VALUE = 160
# struct xnn_runtime_value
VALUE = 224
# struct xnn_value
NODE = 232
# struct xnn_node
SUBGRAPH = 40
# struct xnn_subgraph
WORKSPACE = 32
# struct xnn_workspace
RECORD = 32
# struct xnn_usage_record
QUANTISED = 8
# struct xnn_quantization_params
SPARE_PARAMETERS = 15
# XNN_EXTRA_QUANTIZATION_PARAMS


def hold(
    subgraph: Subgraph, processor: Processor, threads: int = 1, *, shared_workspace: bool = False, fuse: bool = True,
    inline_packing: bool = True, transient_indirection: bool = False, weights_cache: bool = False,
    packed: set[tuple[object, ...]] | None = None, values: int | None = None, nodes: int | None = None,
) -> Held:  # fmt: skip
    """What xnn_create_runtime, xnn_reshape_runtime and xnn_setup_runtime leave on the heap.

    Args:
        subgraph: as its caller defines it, all shapes whole.
        processor: whose kernels are taken.
        threads: of the thread pool that the runtime is given.
        shared_workspace: the caller made the workspace (xnn_create_workspace); its structure is the caller's then, and
            of several runtimes only the largest `Held.workspace` counts.
        fuse: without XNN_FLAG_NO_OPERATOR_FUSION and XNN_FLAG_SLOW_CONSISTENT_ARITHMETIC.
        inline_packing: without XNN_FLAG_NO_INLINED_LHS_PACKING.
        transient_indirection: XNN_FLAG_TRANSIENT_INDIRECTION_BUFFER.
        weights_cache: packed weights go into the caller's cache, and are told apart.
        packed: weights that runtimes before this one put into the same cache; this one's are added.
        values: entries that the caller reserved in the table of values; those it defines where None.
        nodes: likewise of nodes.
    """
    work = optimise(subgraph, processor, fuse=fuse, inline=inline_packing)
    where = Where(work, processor, threads, transient_indirection)
    missing: list[Unmodelled] = []
    owned: list[Own] = []
    cached = 0
    for call in work.calls:
        own = Own(0)
        if call.valid:
            try:
                own = operator(call, where)
            except NoRule as reason:
                name = call.node.name or f"{call.type} {' '.join(str(one) for one in call.outputs)}"
                tensors = [work.values[at] for at in (*call.inputs[1:], *call.outputs)]
                nbytes = sum(one.nbytes for one in tensors if one.value.static or one.internal)
                missing.append(Unmodelled(name, str(reason), nbytes))
        if weights_cache and own.packed:
            key = (call.type, *(work.values[at].value.key for at in call.inputs[1:]), own.packed)
            seen = None not in key and packed is not None and key in packed
            cached += 0 if seen else own.packed
            if packed is not None:
                packed.add(key)
            own.packed = 0
        owned.append(own)
    tables = RUNTIME + OPERATOR_DATA * len(work.calls) + RUNTIME_VALUE * len(work.values)
    tables += 0 if shared_workspace else WORKSPACE
    created = _named(
        Holding("repacked weights", sum(one.packed for one in owned), "weights packed for XNNPACK's kernels"),
        Holding("repacked weights", cached, "weights packed for XNNPACK's kernels, in a cache"),
        Holding("weights", sum(one.owned for one in work.values), "tables and zeros that XNNPACK makes"),
        Holding("workspace", sum(one.buffers for one in owned), "rows of zeros around images, tables"),
        Holding("objects", sum(one.objects for one in owned), "XNNPACK's operators"),
        Holding("objects", tables, "tables of XNNPACK's runtime"),
    )
    total, alive, workspace = _planned(work, owned, processor)
    planned = _named(
        Holding("activations", alive, "tensors and operators' scratch that live at once"),
        Holding("pools", workspace - alive, "gaps that XNNPACK's planner leaves, and the end of its workspace"),
        Holding("workspace", sum(one.indirection for one in owned), "pointers to pixels (indirection)"),
        Holding("workspace", sum(one.late for one in owned), "rows of zeros, and weights of pixels"),
    )
    room = VALUE * max(values or 0, work.table) + NODE * _room(nodes or 0, len(subgraph.nodes)) + SUBGRAPH
    creating = room + max((one.transient for one in owned), default=0)
    return Held(
        created=created, planned=planned, creating=creating,
        planning=RECORD * (len(work.values) + len(work.calls)) + total,
        workspace=workspace, tensors=alive, unmodelled=tuple(missing),
    )  # fmt: skip


def _named(*holdings: Holding) -> tuple[Holding, ...]:
    return tuple(one for one in holdings if one.nbytes)


def _room(room: int, count: int) -> int:
    while room < count:
        room = max(min(room * 2, room + 512), room + 64)
    return room


def _planned(work: Work, owned: list[Own], processor: Processor) -> tuple[int, int, int]:
    """(lists of the planner, most bytes at once, the workspace)."""
    alignment = ALIGNMENT.get(processor.architecture, 16)
    sizes = {at: reserved(one, alignment) for at, one in enumerate(work.values) if one.internal}
    exact = {at: one.nbytes for at, one in enumerate(work.values)}
    single = {at: one.first_consumer for at, one in enumerate(work.values) if one.consumers == 1}
    steps = [
        Step(call.type, call.inputs, call.outputs, own.workspace) for call, own in zip(work.calls, owned, strict=True)
    ]
    found = plan(steps, sizes, exact, single, len(work.values), alignment)
    if not found.nbytes:
        return 0, 0, 0
    placed = sum(1 for one in found.records if one.nbytes)
    return len(found.records) * 8 + placed * 16, found.fullest, found.nbytes + 2 * 16


def reserved(tensor: Tensor, alignment: int) -> int:
    """Bytes that the planner sets apart, of values quantised while it runs with their parameters and sums."""
    nbytes = rounded(tensor.nbytes, alignment)
    if tensor.value.datatype in ("qdint8", "qduint8"):
        shape = tensor.value.shape
        batch = math.prod(shape[: len(shape) - tensor.value.nonbatch])
        nbytes += rounded((batch + SPARE_PARAMETERS) * QUANTISED, alignment)
        nbytes += rounded((batch + SPARE_PARAMETERS) * 4, alignment)
    return nbytes
