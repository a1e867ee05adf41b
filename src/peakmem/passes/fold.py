"""Compute at load what does not depend on the inputs: constant folding and branches known ahead.

Every engine does this, so operators on constants alone, shape arithmetic included, are not part
of what runs; PyTorch does not, and computes such tensors in every call. A folded tensor that only
rearranges a stored one keeps its storage, because the original is dropped; one that is made larger
gets a storage of its own.
"""

from __future__ import annotations

from dataclasses import replace

from peakmem.ir.graph import Graph, Operator, Tensor
from peakmem.ir.kinds import RANDOM, key

_REARRANGING = frozenset(
    {
        "Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Cast", "CastLike", "Slice",
        "Gather", "Split", "DequantizeLinear", "Neg", "Sqrt", "Mul", "Add", "Sub", "Div", "Dropout",
    }
)  # fmt: skip


def fold_constants(graph: Graph) -> Graph:
    """`graph` without the operators whose results are known before it runs."""
    tensors = dict(graph.tensors)
    kept: list[Operator] = []
    folded = 0
    for operator in graph.operators:
        branch = _chosen_branch(operator, tensors)
        if branch is not None:
            _inline(operator, branch, tensors, kept)
            folded += 1
            continue
        if operator.subgraphs:
            operator = replace(operator, subgraphs=tuple(fold_constants(subgraph) for subgraph in operator.subgraphs))
            kept.append(operator)
            continue
        if not _foldable(operator, tensors):
            kept.append(operator)
            continue
        folded += 1
        for name in operator.outputs:
            if name:
                tensors[name] = _folded(operator, tensors[name], tensors)
    if not folded:
        return replace(graph, operators=tuple(kept))
    return replace(graph, tensors=tensors, operators=tuple(kept))


def _foldable(operator: Operator, tensors: dict[str, Tensor]) -> bool:
    outputs = [tensors[name] for name in operator.outputs if name]
    if outputs and all(tensor.values is not None for tensor in outputs):
        return True
    if key(operator) in RANDOM or operator.domain == "aten":
        return False
    if any(tensor.nbytes is None for tensor in outputs):
        return False
    given = [name for name in operator.inputs if name]
    return all(name in tensors and tensors[name].role == "constant" for name in given) and bool(given)


def _folded(operator: Operator, tensor: Tensor, tensors: dict[str, Tensor]) -> Tensor:
    """`tensor` as a constant made at load."""
    storage = ""
    if key(operator) in _REARRANGING or operator.aliases:
        # The largest stored input is what is rearranged; scales and indices beside it are small.
        sources = [tensors[name] for name in operator.inputs if name and name in tensors]
        sources = [source for source in sources if source.role == "constant" and source.nbytes]
        if sources:
            root = max(sources, key=lambda source: source.nbytes or 0)
            if (tensor.count or 0) <= (root.count or 0):
                storage = root.storage or root.name
    parameter = bool(storage) and tensors[storage].parameter
    generated = operator.op_type == "ConstantOfShape" and tensor.dtype is not None and tensor.dtype.kind == "float"
    return replace(tensor, role="constant", storage=storage, parameter=parameter or generated)


def _chosen_branch(operator: Operator, tensors: dict[str, Tensor]) -> Graph | None:
    """The branch an If takes in every run, when its condition is a known constant."""
    if operator.op_type != "If" or operator.domain or not operator.inputs:
        return None
    condition = tensors.get(operator.inputs[0])
    if condition is None or not condition.values:
        return None
    wanted = "then_branch" if condition.values[0] else "else_branch"
    return next((body for body in operator.subgraphs if body.name == wanted), None)


def _inline(operator: Operator, body: Graph, tensors: dict[str, Tensor], kept: list[Operator]) -> None:
    """Put the operators of `body` in the place of `operator`, its outputs under the outer names."""
    body = fold_constants(body)
    rename = {
        name: f"{operator.name}/{name}" for name in body.tensors if name in tensors
    }  # a body may reuse a name of the outer graph
    passed: list[tuple[str, str]] = []
    for inner, outer in zip(body.outputs, operator.outputs, strict=False):
        if not outer:
            continue
        if inner in body.tensors and body.tensors[inner].role == "activation" and inner not in dict(passed):
            rename[inner] = outer
        passed.append((inner, outer))
    for name, tensor in body.tensors.items():
        there = rename.get(name, name)
        storage = rename.get(tensor.storage, tensor.storage) if tensor.storage else ""
        tensors[there] = replace(tensor, name=there, storage=storage)
    for inner_operator in body.operators:
        kept.append(
            replace(
                inner_operator,
                name=f"{operator.name}/{inner_operator.name}",
                inputs=tuple(rename.get(name, name) for name in inner_operator.inputs),
                outputs=tuple(rename.get(name, name) for name in inner_operator.outputs),
            )
        )
    for inner, outer in passed:
        source = rename.get(inner, inner)
        if source != outer:
            kept.append(Operator(f"{operator.name}/{outer}", "Identity", (source,), (outer,)))
            given = tensors.get(source)
            if given is not None:
                tensors[outer] = replace(given, name=outer, role="activation", storage="")
