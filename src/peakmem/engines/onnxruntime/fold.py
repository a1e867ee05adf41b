"""What is computed while the session is made: constants, and shapes that the file fixes.

onnxruntime/core/optimizer/constant_folding.cc: a node whose inputs are constant is computed once, and so is Shape where
all sizes are known; random operators, operators with bodies and DequantizeLinear stay (the latter so that it can go
into the operators around it). An If with a constant condition is replaced by its branch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from peakmem.ir.graph import Graph, Operator, Tensor
from peakmem.passes.fold import fold_constants

KEPT = frozenset({"DequantizeLinear"})
RANDOM = frozenset({
    "RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Multinomial", "Bernoulli",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Folded:
    """A graph after folding, and what was made on the way."""

    graph: Graph
    made: tuple[tuple[int, int], ...] = ()
    # (bytes of the inputs, bytes of the results) of each computed node with weights, in its order


def folded(graph: Graph, open_values: frozenset[str] = frozenset()) -> Folded:
    """`graph` without what the engine computes at load.

    Args:
        open_values: tensors whose sizes the file leaves open: nothing that needs their shape is computed.
    """
    graph = _with_branches(graph)
    tensors = dict(graph.tensors)
    kept: list[Operator] = []
    made: list[tuple[int, int]] = []
    for operator in graph.operators:
        if not _foldable(operator, tensors, open_values):
            kept.append(operator)
            continue
        given = [tensors[name] for name in operator.inputs if name]
        for name in operator.outputs:
            if name:
                tensors[name] = replace(tensors[name], role="constant", storage="", parameter=False)
        stored = sum(tensor.nbytes or 0 for tensor in given if tensor.role == "constant")
        made.append((stored, sum(tensors[name].nbytes or 0 for name in operator.outputs if name)))
    return Folded(replace(graph, tensors=tensors, operators=tuple(kept)), tuple(made))


def _foldable(operator: Operator, tensors: dict[str, Tensor], open_values: frozenset[str]) -> bool:
    if operator.op_type in KEPT or operator.op_type in RANDOM or operator.subgraphs:
        return False
    outputs = [tensors.get(name) for name in operator.outputs if name]
    if not outputs or any(tensor is None or tensor.nbytes is None for tensor in outputs):
        return False
    given = [name for name in operator.inputs if name]
    if operator.op_type == "Shape" and not operator.domain:
        return given[0] not in open_values
    return all(name in tensors and tensors[name].role == "constant" for name in given)


def _with_branches(graph: Graph) -> Graph:
    """Every If whose condition is known, replaced by its branch."""
    if not any(operator.op_type == "If" for operator in graph.operators):
        return graph
    plain = fold_constants(graph)
    left = {operator.name for operator in plain.operators if operator.op_type == "If"}
    chosen = [operator for operator in graph.operators if operator.op_type == "If" and operator.name not in left]
    return plain if chosen else graph
