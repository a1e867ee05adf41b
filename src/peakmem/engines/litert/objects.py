"""LiteRT's own structures: tensors, operators, their data, lists of the arena planner, tables of the delegate.

From tflite/core/subgraph.cc, interpreter_builder.cc, arena_planner.cc and delegates/xnnpack/xnnpack_delegate.cc of
LiteRT f674577 (2026-08-21); sizes of structures are those of ai-edge-litert 2.3.0 for x86-64 (its calls of malloc, told
apart by their callers), maps and sets those of libstdc++.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from peakmem.engines.litert.arena import RESERVED, Planned
from peakmem.engines.litert.define import Defined
from peakmem.engines.litert.delegate import Subset
from peakmem.engines.litert.model import Model, Part
from peakmem.engines.litert.support import kind
from peakmem.frontends.tflite.census import Call

POINTER = 8
TENSOR = 112
# TfLiteTensor
NODE = 168
# TfLiteNode and TfLiteRegistration
TENSORS, NODES, MORE_NODES = 128, 128, 10
# kTensorsReservedCapacity, of both lists
HEADROOM = 16
# kTensorsCapacityHeadroom
GROWTH = 1.1
# kTensorCapacityInc
BUCKETS = (1, 13, 29, 59, 127, 257, 541, 1109, 2357, 5087, 10273, 20753, 42043, 85229, 172933)
# of a hash table that grows one by one
TREE_NODE = 40
# std::map<int, int>
SHORT = 15
# bytes that a string holds in itself

FIXED: Mapping[str, int] = {"xnnpack": 59852, "builtin": 57420, "reference": 53638}
# what is the same for every model: the list of kernels (112 B for each version of an operator), interpreter, wrapper
CPUINFO = 672
# of the library that asks the processor, which the delegate and fully connected operators begin
SHARED = 496 + 40
# the kernels' context with its thread pool, and a list: absent where the caller adds the delegate with options
CONVOLUTION_COUNTER = 56
# eigen_support's user counter, once a convolution is there

PARSED: Mapping[str, int] = {
    "ADD": 8, "SUB": 8, "MUL": 4, "DIV": 4, "CONV_2D": 28, "DEPTHWISE_CONV_2D": 28, "AVERAGE_POOL_2D": 40,
    "MAX_POOL_2D": 40, "L2_POOL_2D": 40, "RESHAPE": 36, "FULLY_CONNECTED": 32, "SOFTMAX": 4, "MEAN": 1, "SUM": 1,
    "REDUCE_MAX": 1, "REDUCE_MIN": 1, "CONCATENATION": 8, "TRANSPOSE_CONV": 20, "STRIDED_SLICE": 24, "SPLIT": 4,
    "RESIZE_BILINEAR": 2, "RESIZE_NEAREST_NEIGHBOR": 2, "LEAKY_RELU": 4, "GELU": 1, "BATCH_MATMUL": 3, "PACK": 8,
    "UNPACK": 8, "GATHER": 8, "DEPTH_TO_SPACE": 4, "SPACE_TO_DEPTH": 4, "SQUEEZE": 36, "SVDF": 12, "CAST": 8,
    "ARG_MAX": 4, "ARG_MIN": 4, "SHAPE": 4, "MIRROR_PAD": 4, "UNIDIRECTIONAL_SEQUENCE_LSTM": 16,
    "LOCAL_RESPONSE_NORMALIZATION": 16,
}  # fmt: skip
# bytes of parameters read from the file (tflite/core/c/builtin_op_data.h)
MADE: Mapping[str, int] = {
    "CONV_2D": 160, "DEPTHWISE_CONV_2D": 104, "FULLY_CONNECTED": 88, "RESHAPE": 16, "MEAN": 16, "SUM": 16,
    "REDUCE_MAX": 16, "REDUCE_MIN": 16, "SOFTMAX": 104, "ADD": 52, "SUB": 52, "MUL": 20, "HARD_SWISH": 20,
    "MAX_POOL_2D": 16, "AVERAGE_POOL_2D": 16, "LOGISTIC": 1044, "TANH": 1044, "LEAKY_RELU": 1060, "PRELU": 1064,
    "TRANSPOSE_CONV": 136, "BATCH_MATMUL": 48, "DIV": 20, "SQUARED_DIFFERENCE": 40, "QUANTIZE": 32, "DEQUANTIZE": 16,
    "UNIDIRECTIONAL_SEQUENCE_LSTM": 368, "ELU": 1044, "SVDF": 28, "GELU": 1044,
    "RELU": 1052, "RELU6": 1052, "RELU_N1_TO_1": 1052, "RELU_0_TO_1": 1052,
}  # fmt: skip
# bytes that Init makes (OpData of each kernel)
ADDED: Mapping[str, int] = {
    "FULLY_CONNECTED": 6,
    "MEAN": 4,
    "SUM": 4,
    "REDUCE_MAX": 4,
    "REDUCE_MIN": 4,
    **RESERVED,
}
# tensors that Prepare adds
REDUCTIONS = ("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN")


def ints(count: int) -> int:
    """TfLiteIntArray."""
    return 4 + 4 * count


def buckets(count: int) -> int:
    """The table of an unordered set or map with `count` entries, each a node of its own."""
    return 0 if not count else POINTER * next((one for one in BUCKETS[1:] if one >= count), count)


def grown(count: int, width: int) -> int:
    """A vector that was filled one by one."""
    room = 1
    while room < count:
        room *= 2
    return room * width if count else 0


@dataclass(frozen=True, slots=True)
class Step:
    """An entry of the plan by which the interpreter runs: an operator, or a delegate's part."""

    inputs: Sequence[int]
    outputs: Sequence[int]
    temporaries: int = 0


def model_objects(model: Model, part: Part) -> int:
    """What the file's lists become when it is read."""
    held = sum(_quantisation(part, at) for at in range(len(part.tensors)))
    read_only = sum(one.stored for one in part.tensors)
    for one, side in zip(part.tensors, part.sides, strict=True):
        held += ints(len(one.shape)) + (0 if one.stored else ints(side.signature))
    held += 24 * read_only + buckets(read_only)
    held += sum(_operator(one) for one in part.calls)
    held += grown(len(part.calls), 4)
    held += CONVOLUTION_COUNTER * any(one.op_type == "CONV_2D" for one in part.calls)
    for name, nbytes in model.metadata:
        held += 96 + (len(name) + 1) * (len(name) > SHORT) + (nbytes + 1) * (nbytes > SHORT)
    held += 136 * len(model.signatures)
    for signature in model.signatures:
        names = (*signature.inputs, *signature.outputs)
        held += 72 * len(names) + sum(len(name) + 1 for name in (*names, signature.key) if len(name) > SHORT)
    return held


def _quantisation(part: Part, at: int) -> int:
    side = part.sides[at]
    if not side.scales:
        return 0
    return 24 + ints(side.scales) + ints(max(side.zero_points, 1))


def _operator(call: Call) -> int:
    arrays = ints(len(call.inputs)) + ints(len(call.outputs)) + ints(len(call.intermediates)) + ints(0)
    return arrays + PARSED.get(call.op_type, 0) + MADE.get(call.op_type, 0)


def prepared(part: Part, at: int, own: int, *, reference: bool, turned: bool = False) -> int:
    """What Prepare of an operator leaves: its list of `own` temporary tensors, their shapes, its data.

    `turned`: the one of a convolution is its weights, turned.
    """
    call = part.calls[at]
    held = 4 * own
    if call.op_type in REDUCTIONS:
        held += 3 * ints(1)
    elif own:
        held += own * ints(4)
        if turned or (call.op_type == "TRANSPOSE_CONV" and not reference):
            held -= ints(4) - ints(2)
    given = part.tensors[call.inputs[0]] if call.inputs and call.inputs[0] >= 0 else None
    if call.op_type == "UNIDIRECTIONAL_SEQUENCE_LSTM":
        held -= own * (ints(4) - ints(2))
        if given is not None and kind(given) == "int8":
            held += 8 * 4 * part.tensors[call.inputs[4]].shape[0]
    if call.op_type == "TRANSPOSE_CONV":
        given = part.tensors[call.inputs[2]]
    if (
        call.op_type in ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV")
        and given is not None
        and kind(given) in ("int8", "uint8", "int16")
    ):
        held += 2 * 4 * part.tensors[call.outputs[0]].shape[-1]
    if call.op_type == "FULLY_CONNECTED" and part.sides[call.inputs[1]].scales > 1:
        held += 2 * 4 * part.sides[call.inputs[1]].scales
    if call.op_type == "SOFTMAX" and given is not None and kind(given) in ("int8", "uint8") and not reference:
        held += 1024
    return held


def added(part: Part, at: int, own: int) -> int:
    """Tensors that Prepare of an operator adds."""
    return max(own, ADDED.get(part.calls[at].op_type, 0))


def rooms(count: int, more: Sequence[int]) -> tuple[int, int]:
    """Entries that the list of tensors has room for when it is loaded, and while it runs."""
    room = max(TENSORS, count)
    for one in more:
        if count + HEADROOM > room:
            room = max(count + HEADROOM, int(room * GROWTH))
        count += one
        room = max(room, count)
    running = max(count + HEADROOM, int(room * GROWTH)) if count + HEADROOM > room else room
    return room, running


def running(part: Part, nodes: Sequence[int], more: Sequence[int]) -> int:
    """What the first run adds: room for tensors, and sums whose sizes are computed."""
    before, after = rooms(len(part.tensors), more)
    return (after - before) * TENSOR + sum(40 for at in nodes if part.calls[at].op_type in ("MEAN", "SUM"))


def lists(part: Part, steps: Sequence[Step], more: Sequence[int], found: Planned, parts: int) -> int:
    """Lists that grow with tensors and operators.

    Args:
        part: the subgraph.
        steps: the plan, in order.
        more: tensors that each step's Prepare adds.
        found: the arena.
        parts: delegates' parts among the steps.
    """
    count = len(part.tensors) + sum(more)
    room, _ = rooms(len(part.tensors), more)
    nodes = max(NODES, len(part.calls))
    while nodes < len(part.calls) + parts:
        nodes += MORE_NODES
    held = room * TENSOR + nodes * NODE
    held += TREE_NODE * len({one for step in steps for one in (*step.inputs, *step.outputs) if one >= 0})
    held += count * (32 + 3 * 4)
    held += 56 * len(steps)
    for at, step in enumerate(steps):
        entries = {*step.outputs} | ({*part.inputs} if not at else set())
        variables = sum(one.variable for one in part.tensors) if not at else 0
        total = len(entries) + variables + step.temporaries
        held += 16 * total + buckets(max(total, 1) if total else 0)
    held += grown(len(found.offsets), 32) + grown(found.lasting, 32)
    held += 16 * len(found.shared) + buckets(len(found.shared))
    return held


def delegate_objects(part: Part, subsets: Sequence[Subset], defined: Sequence[Defined]) -> int:
    """The delegate's parts: parameters, nodes, numbers of tensors in XNNPACK."""
    held = POINTER
    # delegates_applied_
    held += 4 * len(part.calls)
    # pre_delegation_execution_plan_
    held += 4
    last = max((at for at, one in enumerate(subsets) if one.delegated), default=-1)
    held += 4 * _before(subsets, last) if last >= 0 else 0
    for subset, one in zip((one for one in subsets if one.delegated), defined, strict=True):
        held += 32 + ints(len(subset.nodes)) + 2 * ints(len(subset.inputs)) + 2 * ints(len(subset.outputs))
        held += 2 * ints(0)
        # intermediates and temporaries of its node
        held += 280 + 16 * one.tensors + buckets(one.tensors)
        held += grown(one.inputs, 4) + grown(one.outputs, 4)
        held += 24 * one.externals + buckets(one.externals) + one.scales
    return held


def _before(subsets: Sequence[Subset], last: int) -> int:
    return sum(1 if one.delegated else len(one.nodes) for one in subsets[:last])


def eigen_threads(threads: int) -> int:
    """Eigen's pool, once a convolution of several threads runs: each has a queue of 1024 tasks."""
    return 424 + 42343 * threads if threads > 1 else 0


def threads_of(count: int) -> int:
    """The thread pool (pthreadpool: 832 B, 256 B a thread, and 368 B of libc a thread it starts); one has none."""
    return 832 + 256 * count + 368 * (count - 1) if count > 1 else 0
