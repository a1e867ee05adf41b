"""Merge each convolution, product or norm with the pointwise work that follows it.

From the result of an anchor the pass grows a region of pointwise operators that read only the
region and constants and keep its shape. The longest prefix of the region from which exactly one
tensor leaves becomes one operator. That covers conv + norm + activation as well as activations
that exporters write out in parts (x·sigmoid(x), the erf form of GELU).
"""

from __future__ import annotations

from dataclasses import replace
from heapq import heappop, heappush

from peakmem.ir.graph import Graph, Operator
from peakmem.ir.kinds import BINARY, CONVOLUTIONS, ELEMENTWISE, NORMALIZATIONS, PRODUCTS, key

_ANCHORS = CONVOLUTIONS | PRODUCTS | NORMALIZATIONS | BINARY
_POINTWISE = ELEMENTWISE | {"BatchNormalization", "Identity", "Dropout"}
_LONGEST = 32
# operators in one region; longer chains are cut, which never makes the result wrong


def fuse_pointwise(graph: Graph) -> Graph:
    """`graph` with pointwise tails merged into their anchors."""
    consumers = graph.consumers()
    outputs = set(graph.outputs)
    gone: set[int] = set()
    operators: list[Operator] = []
    for step, operator in enumerate(graph.operators):
        if step in gone:
            continue
        if key(operator) in _ANCHORS and operator.outputs and operator.outputs[0]:
            tail = _tail(graph, step, consumers, outputs, gone)
            if tail:
                gone.update(tail)
                operator = _merged(graph, operator, [graph.operators[at] for at in tail])
        operators.append(operator)
    return replace(graph, operators=tuple(operators)) if gone else graph


def _tail(graph: Graph, step: int, consumers: dict[str, list[int]], outputs: set[str], gone: set[int]) -> list[int]:
    """Steps of the pointwise operators that merge into the operator at `step`."""
    first = graph.operators[step].outputs[0]
    result = graph.tensors[first]
    if result.shape is None:
        return []
    # For each tensor of the region: how many readers outside of it there are.
    outside = {first: len(consumers.get(first, ())) + (first in outputs)}
    taken: list[int] = []
    best = 0
    waiting: list[int] = []
    seen: set[int] = set()

    def offer(name: str) -> None:
        for reader in consumers.get(name, ()):
            if reader not in seen:
                seen.add(reader)
                heappush(waiting, reader)

    offer(first)
    while waiting and len(taken) < _LONGEST:
        at = heappop(waiting)
        operator = graph.operators[at]
        if at in gone or not _joins(graph, operator, outside, first):
            continue
        taken.append(at)
        for name in dict.fromkeys(operator.reads):
            if name in outside:
                outside[name] -= 1
        made = operator.outputs[0]
        outside[made] = len(consumers.get(made, ())) + (made in outputs)
        if sum(1 for count in outside.values() if count) == 1 and outside[made]:
            best = len(taken)
        offer(made)
    return taken[:best]


def _joins(graph: Graph, operator: Operator, region: dict[str, int], first: str) -> bool:
    if key(operator) not in _POINTWISE or sum(1 for name in operator.outputs if name) != 1 or operator.subgraphs:
        return False
    made, base = graph.tensors[operator.outputs[0]], graph.tensors[first]
    if made.shape != base.shape or made.dtype is None or base.dtype is None or made.dtype.bits != base.dtype.bits:
        return False
    return all(
        name in region or (name in graph.tensors and graph.tensors[name].role == "constant")
        for name in operator.inputs
        if name
    )


def _merged(graph: Graph, anchor: Operator, tail: list[Operator]) -> Operator:
    constants = [
        name
        for operator in tail
        for name in (*operator.inputs, *operator.absorbed)
        if name and name in graph.tensors and graph.tensors[name].role == "constant"
    ]
    return replace(
        anchor,
        outputs=(tail[-1].outputs[0], *anchor.outputs[1:]),
        fused=(*anchor.fused, *(operator.op_type for operator in tail)),
        absorbed=(*anchor.absorbed, *dict.fromkeys(constants)),
    )
