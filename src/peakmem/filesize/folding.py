"""Batch norms made part of the convolution or product in front of them, as exporters and converters do.

A norm is folded where it is the only reader of a result that a convolution with a stored weight makes. The
convolution gets the norm's shift as its bias, unless it has one; the norm's four vectors are dropped. Norms in front
of a convolution stay.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from peakmem.ir.graph import Graph, Operator
from peakmem.ir.kinds import CONVOLUTIONS, PRODUCTS, key

NORM = "BatchNormalization"
_INPUTS = 5
# of a norm: what is normalised, scale, shift, mean, variance


@dataclass(frozen=True, slots=True)
class Folded:
    """A graph with its batch norms folded."""

    graph: Graph
    folded: int
    # norms that are gone
    left: int
    # norms that stay, because nothing that can take them stands in front


def fold_batch_norms(graph: Graph, *, products: bool = False) -> Folded:
    """`graph` without the batch norms that the operator in front of them can take.

    Args:
        products: into matrix products, too; else into convolutions, plain and transposed.
    """
    readers = graph.consumers()
    makers = graph.producers()
    outputs = set(graph.outputs)
    gone: set[int] = set()
    changed: dict[int, Operator] = {}
    left = 0
    for step, norm in enumerate(graph.operators):
        if key(norm) != NORM:
            continue
        given = norm.inputs[0] if norm.inputs else ""
        at = makers.get(given)
        taker = None if at is None else changed.get(at, graph.operators[at])
        alone = len(readers.get(given, ())) == 1 and given not in outputs and len(norm.inputs) >= _INPUTS
        if taker is None or at is None or not alone or not _takes(graph, taker, given, products=products):
            left += 1
        else:
            changed[at] = _taken(taker, norm)
            gone.add(step)
    if not gone:
        return Folded(graph, 0, left)
    operators = tuple(changed.get(step, one) for step, one in enumerate(graph.operators) if step not in gone)
    return Folded(_without_unread(graph, operators, gone), len(gone), left)


def _takes(graph: Graph, operator: Operator, result: str, *, products: bool) -> bool:
    kind = key(operator)
    if kind not in CONVOLUTIONS and not (products and kind in PRODUCTS):
        return False
    weight = graph.tensors.get(operator.inputs[1]) if len(operator.inputs) > 1 else None
    return weight is not None and weight.role == "constant" and operator.outputs[0] == result


def _taken(operator: Operator, norm: Operator) -> Operator:
    """`operator` with the norm inside: its bias is the norm's shift where it had none."""
    inputs = operator.inputs
    if len(inputs) < 3 or not inputs[2]:
        inputs = (*inputs[:2], norm.inputs[2], *inputs[3:])
    return replace(operator, inputs=inputs, outputs=(norm.outputs[0], *operator.outputs[1:]))


def _without_unread(graph: Graph, operators: tuple[Operator, ...], gone: set[int]) -> Graph:
    """The graph of `operators` without what only the norms that are gone read and made."""
    needed = {name for one in operators for name in (*one.reads, *one.outputs)} | {*graph.inputs, *graph.outputs}
    dropped = {name for step in gone for name in graph.operators[step].reads} | {
        counter for step in gone for counter in _counters(graph, graph.operators[step])
    }
    tensors = {name: tensor for name, tensor in graph.tensors.items() if name not in dropped or name in needed}
    return replace(graph, tensors=tensors, operators=operators)


def _counters(graph: Graph, norm: Operator) -> tuple[str, ...]:
    """PyTorch's count of batches beside the statistics of `norm`, which nothing reads."""
    beside = norm.inputs[3].rpartition(".")[0]
    name = f"{beside}.num_batches_tracked"
    return (name,) if beside and name in graph.tensors else ()
