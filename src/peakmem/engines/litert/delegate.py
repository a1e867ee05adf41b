"""What LiteRT's XNNPACK delegate takes of a subgraph, in which parts, and what it defines for XNNPACK.

From tflite/delegates/xnnpack/xnnpack_delegate.cc (PrepareOpsToDelegate, Subgraph::Create, Visit*Node) and
tflite/graph_info.cc of LiteRT f674577 (2026-08-21).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from peakmem.engines.litert.model import Part
from peakmem.engines.litert.support import FLOATS, Unknown, View, kind, taken

EXTRA = 16
# XNN_EXTRA_BYTES behind what is unpacked
PRODUCTS = ("FULLY_CONNECTED", "CONV_2D", "DEPTHWISE_CONV_2D")
# whose weights are widened from fp16 while XNNPACK packs them


@dataclass(frozen=True, slots=True)
class Chosen:
    """What the delegate makes of the operators."""

    nodes: frozenset[int]
    # that it takes
    skipped: frozenset[int]
    # of them those whose result it has already: constants that are unpacked
    unpacked: dict[int, int]
    # bytes of constants that it keeps unpacked, by tensor
    halves: dict[int, int]
    # fp32 tensors in whose place an fp16 constant is used
    unknown: tuple[tuple[int, str], ...]
    # operators of which that is not known, with the reason; taken for not taken


def choose(part: Part) -> Chosen:
    """PrepareOpsToDelegate."""
    users: dict[int, list[int]] = {}
    for at, call in enumerate(part.calls):
        for tensor in call.inputs:
            users.setdefault(tensor, []).append(at)
    nodes: set[int] = set()
    skipped: set[int] = set()
    makers: dict[int, int] = {}
    halves: dict[int, int] = {}
    wanted: set[int] = set()
    unknown: list[tuple[int, str]] = []
    for at, call in enumerate(part.calls):
        if call.op_type == "DEQUANTIZE" and len(call.inputs) == len(call.outputs) == 1 and _constant(part, at, makers):
            source, result = call.inputs[0], call.outputs[0]
            if kind(part.tensors[source]) == "float16" and _in_products(part, users.get(result, []), result):
                halves[result] = source
            skipped.add(at)
            makers[result] = at
            if not part.tensors[source].stored:
                wanted.add(source)
            continue
        if call.op_type == "DENSIFY":
            unknown.append((at, "sparse weights that are unpacked"))
        view = View(part, call, part.versions[at], frozenset(makers), frozenset(halves))
        try:
            there = taken(view)
        except Unknown as reason:
            unknown.append((at, str(reason)))
            there = False
        if not there:
            skipped.difference_update(makers[tensor] for tensor in call.inputs if tensor in makers)
            continue
        wanted.update(tensor for tensor in call.inputs if tensor in makers)
        nodes.add(at)
    width = {"float32": 4, "float16": 2, "int8": 1}
    unpacked = {
        tensor: part.tensors[tensor].count * width.get(kind(part.tensors[tensor]), 4) + EXTRA
        for tensor in sorted(wanted, key=lambda one: makers[one])
        if tensor not in halves
    }
    return Chosen(frozenset(nodes | skipped), frozenset(skipped), unpacked, halves, tuple(unknown))


def _constant(part: Part, at: int, makers: dict[int, int]) -> bool:
    call = part.calls[at]
    source, result = part.tensors[call.inputs[0]], part.tensors[call.outputs[0]]
    side = part.sides[call.inputs[0]]
    if side.sparse or not (source.stored or call.inputs[0] in makers) or kind(result) != "float32":
        return False
    return kind(source) == "float16" or (kind(source) == "int8" and side.scales > 0)


def _in_products(part: Part, users: Sequence[int], tensor: int) -> bool:
    return all(
        part.calls[at].op_type in PRODUCTS and not (part.calls[at].inputs and part.calls[at].inputs[0] == tensor)
        for at in users
    )


@dataclass(frozen=True, slots=True)
class Subset:
    """Operators that run together."""

    delegated: bool
    nodes: tuple[int, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def partition(part: Part, nodes: frozenset[int], *, greedy: bool = True, apart: bool = False) -> list[Subset]:
    """PartitionGraphIntoIndependentNodeSubsets.

    Args:
        part: the subgraph.
        nodes: those for the delegate.
        greedy: operators for the delegate are moved together (clustering).
        apart: every operator is a part of its own.
    """
    ready = dict.fromkeys(range(len(part.tensors)), -2)
    for call in part.calls:
        for tensor in call.outputs:
            ready[tensor] = -1
    done = [False] * len(part.calls)
    kinds: list[bool] = []
    members: list[list[int]] = []
    inputs: list[set[int]] = []
    outputs: list[set[int]] = []

    def place(at: int) -> bool:
        call = part.calls[at]
        if done[at] or (apart and members[-1]) or any(ready[one] == -1 for one in call.inputs if one >= 0):
            return False
        if not members[-1]:
            kinds[-1] = at in nodes
        elif kinds[-1] != (at in nodes):
            return False
        epoch = len(members) - 1
        done[at] = True
        members[-1].append(at)
        for tensor in call.outputs:
            ready[tensor] = epoch
        for tensor in call.inputs:
            if tensor >= 0 and ready[tensor] != epoch:
                inputs[-1].add(tensor)
                if ready[tensor] >= 0:
                    outputs[ready[tensor]].add(tensor)
        return True

    while not all(done):
        kinds.append(False)
        members.append([])
        inputs.append(set())
        outputs.append(set())
        again = True
        while again:
            again = False
            for at in range(len(part.calls)):
                if place(at):
                    again = True
                elif again and not greedy:
                    again = False
                    break
        if not members[-1]:
            break
    for tensor in part.outputs:
        if ready[tensor] >= 0:
            outputs[ready[tensor]].add(tensor)
    return [
        Subset(kinds[at], tuple(members[at]), tuple(sorted(inputs[at])), tuple(sorted(outputs[at])))
        for at in range(len(members))
        if members[at]
    ]


def mixed(part: Part, at: int) -> bool:
    """Whether weights of a few bits meet floating-point activations: those are quantised while it runs."""
    call = part.calls[at]
    first = 2 if call.op_type == "TRANSPOSE_CONV" else 0
    return kind(part.tensors[call.inputs[first]]) in FLOATS and kind(part.tensors[call.inputs[1]]) in (
        "int8", "int4", "int2",
    )  # fmt: skip
